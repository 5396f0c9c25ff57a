"""A set of images of one size, grey or in colour."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from plasticity import seeds
from plasticity.data.images import DamagedError
from plasticity.errors import UserError


@dataclass(frozen=True)
class ImageSet:
    """Images of one size, grey or in colour, some of them with labels.

    Attributes:
        read: from indices `(B,)` to uint8 `(B, h, w)`, or `(B, h, w, 3)` in colour; side: h = w.
        labels: int64 `(count,)`, counted from 0, or None.
        mean, std: of values between 0 and 1, for normalisation, one for each channel.
        place: the file or folder that it is read from.
        identity: the number of its images or files, and a digest of their names and sizes.
        remarks: sentences on what its folder holds and was passed over.
        skips: whether damaged images are left out; damaged: those that were met, by index.
    """

    name: str
    split: str
    count: int
    side: int
    read: Callable[[np.ndarray], np.ndarray]
    labels: np.ndarray | None
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    place: Path
    identity: str = ""
    remarks: tuple[str, ...] = ()
    skips: bool = False
    damaged: dict[int, DamagedError] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.count

    @property
    def part(self) -> str:
        """Its split."""
        return self.split

    @property
    def left_out(self) -> dict[str, str]:
        """The damaged images that were met so far, and what is wrong with them."""
        return {str(error.place): error.reason for error in self.damaged.values()}

    @property
    def channels(self) -> int:
        """1 of grey images, 3 of those in colour."""
        return len(self.mean)

    def pixels(self, indices: np.ndarray) -> np.ndarray:
        """The images of these indices, uint8: see `read`.

        Raises:
            DamagedError: an image file that cannot be used.
        """
        return self.read(np.asarray(indices))

    def sound(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As many images to learn from, where a damaged one gives its place to another.

        The next image of the same class takes it (of any class, if that has no sound one), so that
        batches keep their size, and a batch without a damaged image is the same as ever.

        Returns:
            The indices of the images, and the images.

        Raises:
            DamagedError: a damaged image of a set that does not skip any.
            UserError: a set without a single sound image.
        """
        if not self.skips:
            return indices, self.pixels(indices)
        found = [self._sound(int(index)) for index in indices]
        shape = (0, self.side, self.side, *(() if self.channels == 1 else (self.channels,)))
        taken = np.array([index for index, _ in found], np.int64)
        return taken, np.stack([image for _, image in found]) if found else np.zeros(shape, "u1")

    def usable(self, indices: np.ndarray) -> np.ndarray:
        """Those of the images that are not damaged; all, unread, of a set that skips none."""
        if not self.skips:
            return indices
        return np.array([i for i in indices if self._try(int(i)) is not None], np.int64)

    def drawn(self, count: int, seed: int) -> "ImageSet":
        """`count` of the images, drawn by the seed, as evenly over the classes as they allow.

        All of them where it has no more.
        """
        if count >= self.count:
            return self
        order = seeds.generator(seed, seeds.SUBSET).permutation(self.count)
        if self.labels is not None:  # the first of each class, the second of each, and so on
            labels, turn = self.labels[order], np.empty(self.count, np.int64)
            for label in np.unique(labels):
                mine = labels == label
                turn[mine] = np.arange(mine.sum())
            order = order[np.argsort(turn, kind="stable")]
        chosen = np.sort(order[:count])
        labels = None if self.labels is None else self.labels[chosen]
        read = self.read
        return replace(
            self, count=count, labels=labels, read=lambda at: read(chosen[at]), damaged={}
        )

    def _try(self, index: int) -> np.ndarray | None:
        """An image, or None where it is damaged."""
        if index in self.damaged:
            return None
        try:
            return self.pixels(np.array([index]))[0]
        except DamagedError as error:
            self.damaged[index] = error
            return None

    def _sound(self, index: int) -> tuple[int, np.ndarray]:
        for other in self._next(index):
            if (image := self._try(other)) is not None:
                return other, image
        raise UserError(f"every image of {self.name} is damaged, such as {self.damaged[index]}")

    def _next(self, index: int) -> Iterator[int]:
        """An image, those of its class that follow it, round and round, and then all others."""
        yield index
        every = np.roll(np.arange(self.count), -1 - index)[:-1]
        other = np.zeros(len(every), bool)
        if self.labels is not None:
            other = self.labels[every] != self.labels[index]
        yield from (int(i) for i in every[np.argsort(other, kind="stable")])
