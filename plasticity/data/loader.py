"""Batches, made in the background while the last ones are learned from."""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from plasticity import seeds
from plasticity.data.image_set import ImageSet
from plasticity.errors import UserError


@dataclass(frozen=True)
class Batch:
    """Grey images and where to crop them.

    `pixels` uint8 `(B, h, w)`; `top`, `left` int64 and `flip` bool, `(B,)`; `index` says which
    images of the set they are; `labels` int64 `(B,)`, or None where the set has none. Where several
    processes learn together, `index` and `labels` are of the whole batch, and the others of this
    process's share alone.
    """

    step: int
    index: np.ndarray
    pixels: np.ndarray
    top: np.ndarray
    left: np.ndarray
    flip: np.ndarray
    labels: np.ndarray | None = None


def crops(
    count: int, side: int, crop: int, rng: np.random.Generator | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Top, left and flip of `count` crops: random, or at the centre where there is no `rng`.

    Raises:
        UserError: a crop larger than the image.
    """
    room = side - crop
    if room < 0:
        raise UserError(f"--crop {crop} is larger than the images, which are {side}x{side}")
    if rng is None:
        middle = np.full(count, room // 2)
        return middle, middle, np.zeros(count, bool)
    top, left = rng.integers(0, room + 1, (2, count))
    return top, left, rng.random(count) < 0.5


def order(seed: int, epoch: int, count: int) -> np.ndarray:
    """The order of the images in one epoch."""
    return seeds.generator(seed, seeds.ORDER, epoch).permutation(count)


def learning_batch(
    images: ImageSet, batch: int, crop: int, seed: int, step: int, share: slice = slice(None)
) -> Batch:
    """The batch of one step: a function of the seed and the step alone.

    Each epoch takes the images in a new order; what does not fill a batch is left out. Only the
    images of `share` are read.
    """
    each = len(images) // batch
    epoch, place = divmod(step, each)
    index = order(seed, epoch, len(images))[place * batch : (place + 1) * batch]
    rng = seeds.generator(seed, seeds.AUGMENT, step)
    drawn = (values[share] for values in crops(batch, images.side, crop, rng))
    index[share], pixels = images.sound(index[share])
    labels = None if images.labels is None else images.labels[index]
    return Batch(step, index, pixels, *drawn, labels)


class Batches:
    """An iterator over batches that a thread makes ahead of need; close it when done.

    `waited` is how long, in seconds, the consumer has waited for batches in all.
    """

    def __init__(self, make: Callable[[int], Batch], start: int, stop: int, ahead: int) -> None:
        self.waited = 0.0
        self._left = stop - start
        self._queue: queue.Queue = queue.Queue(maxsize=ahead)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._fill, args=(make, start, stop), daemon=True)
        self._thread.start()

    def _fill(self, make: Callable[[int], Batch], start: int, stop: int) -> None:
        for step in range(start, stop):
            try:
                made: object = make(step)
            except BaseException as error:  # for the consumer to raise
                made = error
            while not self._closed.is_set():
                try:
                    self._queue.put(made, timeout=0.1)
                    break
                except queue.Full:
                    continue
            if self._closed.is_set() or isinstance(made, BaseException):
                return

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        if self._left <= 0:
            raise StopIteration
        start = time.perf_counter()
        made = self._queue.get()
        self.waited += time.perf_counter() - start
        if isinstance(made, BaseException):
            self._left = 0
            raise made
        self._left -= 1
        return made

    def close(self) -> None:
        """Stop the thread and wait until it has."""
        self._closed.set()
        self._thread.join()

    def __enter__(self) -> "Batches":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def batches(
    images: ImageSet,
    *,
    batch: int,
    crop: int,
    seed: int,
    start: int = 0,
    stop: int,
    ahead: int = 3,
    share: slice = slice(None),
) -> Batches:
    """The batches of the steps from `start` to `stop`, made up to `ahead` ahead of need.

    Raises:
        UserError: a set smaller than a batch, or a crop larger than its images.
    """
    if len(images) < batch:
        raise UserError(f"--batch {batch} is more than the {len(images)} images of {images.name}")
    crops(0, images.side, crop)
    return Batches(
        lambda step: learning_batch(images, batch, crop, seed, step, share), start, stop, ahead
    )


def in_order(
    images: ImageSet,
    indices: np.ndarray,
    *,
    batch: int,
    crop: int,
    rng: np.random.Generator | None = None,
) -> Iterator[Batch]:
    """The named images in batches, cropped at the centre, or at random where `rng` is given."""
    drawn = crops(len(indices), images.side, crop, rng)
    for step, at in enumerate(range(0, len(indices), batch)):
        part = slice(at, at + batch)
        index = indices[part]
        yield Batch(step, index, images.gray(index), *(values[part] for values in drawn))
