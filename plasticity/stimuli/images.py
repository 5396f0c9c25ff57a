"""Images: crops of them, cut into patches that overlap by half, with time down their rows."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from plasticity import data, fields, kernels, seeds
from plasticity.arrays import Array, array_module
from plasticity.data import ImageSet
from plasticity.errors import UserError
from plasticity.events import Layout
from plasticity.fields import option
from plasticity.learning import Reading
from plasticity.network import Network
from plasticity.stimuli.stimulus import Batch


@dataclass(frozen=True)
class Crops(Batch):
    """Images and where to crop them.

    `pixels` uint8 `(B, h, w)`, or `(B, h, w, 3)` in colour; `top`, `left` int64 and `flip` bool,
    `(B,)`.
    """

    pixels: np.ndarray = None
    top: np.ndarray = None
    left: np.ndarray = None
    flip: np.ndarray = None


@dataclass(frozen=True)
class Images:
    """Random crops of images, flipped half of the time, as patches that overlap by half.

    Every patch goes through the network on its own, and its encoding is the mean over its map.
    Time runs down the rows of patches; one row is skipped between a context and its first target,
    since neighbours overlap.

    Attributes:
        crop, patch: sides in pixels; colour: three channels instead of the luma.
    """

    source: ImageSet
    crop: int = option(64, "Side of the crop, pixels.", flag="crop", least=1, most=10**5)
    patch: int = option(16, "Side of a patch, pixels.", flag="patch", least=1, most=10**5)
    colour: bool = option(
        False, "Three channels, red, green and blue; otherwise grey.", flag="colour"
    )

    name: ClassVar[str] = "images"
    example: ClassVar[str] = "image"
    dims: ClassVar[int] = 2
    usual: ClassVar[Mapping[str, Any]] = {"batch": 32}
    first_look: ClassVar[Mapping[str, Any]] = {"steps": 12, "probe": False}
    reading: ClassVar[Reading] = Reading()
    read_out: ClassVar[Reading] = Reading()
    sets: ClassVar[tuple[str, ...]] = tuple(data.SETS)
    tasks: ClassVar[tuple[str, ...]] = ("classes",)
    figures: ClassVar[tuple[str, ...]] = ("kernels", "patches")

    def __post_init__(self) -> None:
        fields.check(self)
        if self.patch % 2:
            raise UserError(
                f"--patch must be even, since patches overlap by half, got {self.patch}"
            )
        if self.patch > self.crop:
            raise UserError(
                f"a patch of {self.patch}x{self.patch} does not fit a crop of "
                f"{self.crop}x{self.crop}: take a smaller --patch or a larger --crop"
            )
        if self.source is not None:
            crops(0, self.source.side, self.crop)  # says if an image is too small

    @staticmethod
    def learns_from(labelled: bool) -> str:
        """The split to learn from."""
        return "train" if labelled else "unlabelled"

    @staticmethod
    def task(source: ImageSet) -> str:
        """The classes of images."""
        return "classes"

    def open(self, name: str, split: str, data_dir: str | None, skip_damaged: bool) -> ImageSet:
        """A split of a set of images: see `data.open_set`."""
        how = {"skip_damaged": skip_damaged, "colour": self.colour}
        return data.open_set(name, split, data_dir, **how)

    @staticmethod
    def open_splits(name: str, data_dir: str | None) -> dict[str, ImageSet]:
        """The splits of a set of images that are there."""
        return data.open_splits(name, data_dir)

    @staticmethod
    def described(name: str, data_dir: str | None) -> list[str]:
        """Lines that say what a set holds, and what was passed over."""
        return data.described(name, data_dir)

    @property
    def channels(self) -> int:
        return 3 if self.colour else 1

    @property
    def rows(self) -> int:
        """Patches along a side of the crop."""
        return (self.crop - self.patch) // (self.patch // 2) + 1

    @property
    def space(self) -> tuple[int, ...]:
        return self.patch, self.patch

    def layout(self, count: int) -> Layout:
        """Rows of patches are time, their columns are lanes."""
        return Layout(self.rows, count, self.rows)

    def batch(self, step: int, seed: int, size: int, share: slice = slice(None)) -> Crops:
        """The batch of one step: a function of the seed and the step alone.

        Each epoch takes the images in a new order; what does not fill a batch is left out. Only the
        images of `share` are read.
        """
        epoch, place = divmod(step, len(self.source) // size)
        index = order(seed, epoch, len(self.source))[place * size : (place + 1) * size]
        rng = seeds.generator(seed, seeds.AUGMENT, step)
        drawn = (values[share] for values in crops(size, self.source.side, self.crop, rng))
        index[share], pixels = self.source.sound(index[share])
        labels = None if self.source.labels is None else self.source.labels[index]
        return Crops(step, index, labels, (), pixels, *drawn)

    def in_order(
        self, indices: np.ndarray, size: int, rng: np.random.Generator | None = None
    ) -> Iterator[Crops]:
        """The named images in batches, cropped at the centre, or at random where `rng` is given."""
        drawn = crops(len(indices), self.source.side, self.crop, rng)
        for step, at in enumerate(range(0, len(indices), size)):
            part = slice(at, at + size)
            pixels = self.source.pixels(indices[part])
            yield Crops(step, indices[part], None, (), pixels, *(values[part] for values in drawn))

    def inputs(self, batch: Crops, dtype: np.dtype) -> Array:
        """The patches of a batch, `(N, patch, patch, channels)`."""
        pixels, xp = batch.pixels, array_module(batch.pixels)
        planes = [pixels] if pixels.ndim == 3 else [pixels[..., i] for i in range(pixels.shape[3])]
        cut = [
            kernels.extract_patches(
                xp.ascontiguousarray(plane),
                batch.top,
                batch.left,
                batch.flip,
                crop=self.crop,
                patch=self.patch,
                mean=mean,
                std=std,
                dtype=np.dtype(dtype),
            )
            for plane, mean, std in zip(planes, self.source.mean, self.source.std, strict=True)
        ]
        return cut[0] if len(cut) == 1 else xp.concatenate(cut, axis=-1)

    def labels(self, batch: Crops, network: Network, layer: int, layout: Layout) -> np.ndarray:
        """The class of each image `(B,)`."""
        return batch.labels

    @staticmethod
    def labelled(source: ImageSet, rule: str) -> ImageSet:
        """The images, if they have labels of two classes.

        Raises:
            UserError: they have not.
        """
        if source.labels is None:
            raise UserError(
                f"{rule} learns from labels, and the images of {source.name} have none: sort "
                "them into a folder for each class, or take another --rule"
            )
        if (source.labels == source.labels[0]).all():
            raise UserError(
                f"{rule} needs images of two classes at least: the {len(source)} images of "
                f"{source.name} are all '{source.classes[source.labels[0]]}'"
            )
        return source

    def where(self, batch: Batch, layout: Layout, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Index of the image in its set, row (time) and column of the patch in the crop."""
        row, image, column = np.unravel_index(rows, layout.shape)
        return {"image": batch.index[image], "row": row, "column": column}

    def box(self, patch: np.ndarray) -> np.ndarray:
        """Where patches of the centre crop lie in an image: left, top `(..., 2)`, in its pixels.

        Args:
            patch: their numbers in the crop, row times columns plus column.
        """
        top, left, _ = crops(1, self.source.side, self.crop)
        row, column = np.divmod(patch, self.rows)
        step = self.patch // 2
        return np.stack([left[0] + step * column, top[0] + step * row], axis=-1)


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
    """The order of the examples in one epoch."""
    return seeds.generator(seed, seeds.ORDER, epoch).permutation(count)
