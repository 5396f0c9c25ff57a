"""Film: clips, whose frames follow each other in every map."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from plasticity import fields, seeds
from plasticity.arrays import Array
from plasticity.data.clips import ClipSet
from plasticity.data.films import open_films
from plasticity.data.motions import COUNTS, motions
from plasticity.data.sets import FILM
from plasticity.data.tree import few
from plasticity.errors import UserError
from plasticity.events import Layout
from plasticity.fields import option
from plasticity.files import shown
from plasticity.learning import Reading
from plasticity.network import Network
from plasticity.stimuli.colours import Variation
from plasticity.stimuli.images import order
from plasticity.stimuli.stimulus import Batch


@dataclass(frozen=True)
class Frames(Batch):
    """Frames of clips.

    Attributes:
        pixels: uint8 `(B, T, side, side, 3)`; start: of the whole batch the first frame of each in
            its clip, int64 `(B,)`; mean, std: of the channels `(3,)`, which cross with the batch.
    """

    pixels: np.ndarray = None
    start: np.ndarray = None
    mean: np.ndarray = None
    std: np.ndarray = None


@dataclass(frozen=True)
class Film:
    """Clips from a random frame on, a frame of a map an encoding (Illing et al. 2021, B.3).

    The first axis of every map is time; an encoding is the mean over the positions of a frame. No
    frame is skipped between a context and its first target. Rules that predict read whole frames of
    a map and compare a context with all targets of the batch, as the published video code has it.

    Attributes:
        length: frames of a clip; side: of a frame, in pixels, cropped from wider ones if there are;
            every: one frame of so many is taken; short: what becomes of films with too few;
            vary_colours: of every frame where a clip is varied at random, see `Variation`.
    """

    source: ClipSet
    length: int = option(36, "Frames of a clip.", flag="clip_frames", least=1, most=10**6)
    side: int = option(72, "Side of a frame, pixels.", flag="side", least=8, most=10**4)
    every: int = option(1, "Take one frame of so many.", flag="every", least=1, most=10**4)
    short: str = option(
        "drop",
        "Films with too few frames: drop leaves them out; pad repeats their last one.",
        flag="short_films",
        choices=("drop", "pad"),
    )
    vary_colours: bool = option(
        False,
        "Half of the frames grey, by one of their channels, and brightness, contrast, saturation "
        "and hue of each at random, as published.",
        flag="vary_colours",
    )

    name: ClassVar[str] = "film"
    example: ClassVar[str] = "clip"
    dims: ClassVar[int] = 3
    usual: ClassVar[Mapping[str, Any]] = {
        "batch": 8,
        "prediction_steps": 3,
        "reads": "map",
        "negatives_from": "others",
        "symmetric": True,
        "start": "normal",
        "epsilon": 0.0,
    }
    first_look: ClassVar[Mapping[str, Any]] = {"steps": 24, "probe_train": 200, "probe_test": 100}
    reading: ClassVar[Reading] = Reading(time="map")
    read_out: ClassVar[Reading] = Reading(time="map", positions="keep")
    channels: ClassVar[int] = 3
    sets: ClassVar[tuple[str, ...]] = ("sample", *FILM)
    tasks: ClassVar[tuple[str, ...]] = ("clips",)
    figures: ClassVar[tuple[str, ...]] = ("kernels", "clips")

    def __post_init__(self) -> None:
        fields.check(self)
        if self.source is not None and (short := int((self._room < 0).sum())):
            raise UserError(
                f"{short} of the {len(self.source)} clips of {self.source.name} have fewer than "
                f"the {self.length} frames that --clip-frames asks for: the shortest has "
                f"{self.source.lengths.min()}"
            )

    @property
    def _room(self) -> np.ndarray:
        """How many first frames each clip can begin with, less one."""
        return self.source.lengths - self.length

    @staticmethod
    def learns_from(labelled: bool) -> str:
        """The split to learn from."""
        return "train"

    @staticmethod
    def task(source: ClipSet) -> str:
        """The classes of clips."""
        return "clips"

    def open(self, name: str, split: str, data_dir: str | None, skip_damaged: bool) -> ClipSet:
        """A split of a set of clips.

        Raises:
            UserError: no such set, or a split that it has not.
        """
        found = self.open_splits(name, data_dir)
        if split not in found:
            raise UserError(f"{name} holds no clip for '{split}', but for {', '.join(found)}")
        return found[split]

    def open_splits(self, name: str, data_dir: str | None) -> dict[str, ClipSet]:
        """The splits of a set of clips."""
        if name in ("sample", "motions"):
            return {split: motions(split, self.side, self.every) for split in COUNTS}
        return open_films(name, data_dir, self.side, self.every, self.length, self.short)

    def described(self, name: str, data_dir: str | None) -> list[str]:
        """Lines that say what a set holds."""
        found = self.open_splits(name, data_dir)
        counts = ", ".join(f"{split} {len(one)}" for split, one in found.items())
        one = next(iter(found.values()))
        named = f"{len(one.classes)} ({few(one.classes, most=20)})" if one.classes else "none"
        return [
            f"Clips of {shown(name)}: {counts}; classes: {named}",
            *(f"  {note}" for note in one.notes),
        ]

    @property
    def space(self) -> tuple[int, ...]:
        return self.length, self.side, self.side

    def layout(self, count: int) -> Layout:
        """One frame, as long as no map says how many it has."""
        return Layout(1, count, 1, skip=0)

    def batch(self, step: int, seed: int, size: int, share: slice = slice(None)) -> Frames:
        """The batch of one step: a function of the seed and the step alone.

        Each epoch takes the clips in a new order, each from a random frame on; what does not fill a
        batch is left out. Only the clips of `share` are read.
        """
        epoch, place = divmod(step, len(self.source) // size)
        index = order(seed, epoch, len(self.source))[place * size : (place + 1) * size]
        return self._frames(step, index, seeds.generator(seed, seeds.AUGMENT, step), share)

    def in_order(
        self, indices: np.ndarray, size: int, rng: np.random.Generator | None = None
    ) -> Iterator[Frames]:
        """The named clips in batches, their middle, or varied at random by `rng`."""
        for step, at in enumerate(range(0, len(indices), size)):
            yield self._frames(step, indices[at : at + size], rng)

    def _frames(
        self,
        step: int,
        index: np.ndarray,
        rng: np.random.Generator | None,
        share: slice = slice(None),
    ) -> Frames:
        """Clips from their middle, cropped there; or by `rng` at random, flipped and with other
        colours if they may be."""
        room, wider, B = self._room[index], self.source.side - self.side, len(index)
        if rng is None:
            start, corner, flip = room // 2, np.full((B, 2), wider // 2), np.zeros(B, bool)
        else:
            start, corner = rng.integers(0, room + 1), rng.integers(0, wider + 1, (B, 2))
            flip = (rng.random(B) < 0.5) & self.source.flips
        varied = None
        if rng is not None and self.vary_colours:
            varied = Variation.drawn((B, self.length), rng)[share]
        frames = self.source.frames(index[share], start[share], self.length)
        pixels = np.empty((*frames.shape[:2], self.side, self.side, 3), np.uint8)
        for clip, out, (top, left), turned in zip(
            frames, pixels, corner[share], flip[share], strict=True
        ):
            cut = clip[:, top : top + self.side, left : left + self.side]
            out[...] = cut[:, :, ::-1] if turned else cut
        if varied is not None:
            for place in np.ndindex(pixels.shape[:2]):
                pixels[place] = varied[place].of(pixels[place])
        labels = None if self.source.labels is None else self.source.labels[index]
        of_channels = np.array(self.source.mean), np.array(self.source.std)
        return Frames(step, index, labels, (), pixels, start, *of_channels)

    def inputs(self, batch: Frames, dtype: np.dtype) -> Array:
        """The frames `(B, T, side, side, 3)`, normalised."""
        mean, std = batch.mean.astype(dtype), batch.std.astype(dtype)
        return (batch.pixels.astype(dtype) / 255 - mean) / std

    def labels(self, batch: Frames, network: Network, layer: int, layout: Layout) -> np.ndarray:
        """The class of each clip `(B,)`."""
        return batch.labels

    @staticmethod
    def labelled(source: ClipSet, rule: str) -> ClipSet:
        """The clips, if they have labels of two classes.

        Raises:
            UserError: they have not.
        """
        if source.labels is None or (source.labels == source.labels[0]).all():
            raise UserError(f"{rule} needs clips of two classes at least: see {source.name}")
        return source

    def where(self, batch: Batch, layout: Layout, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Index of the clip in its set, and frame of the layer's map."""
        frame, clip, _ = np.unravel_index(rows, layout.shape)
        return {"clip": batch.index[clip], "frame": frame}
