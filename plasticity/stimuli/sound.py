"""Sound: crops of utterances, whose frames follow each other in every map."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from plasticity import fields, seeds
from plasticity.arrays import Array
from plasticity.data import speech
from plasticity.data.utterances import HOP, Speech
from plasticity.errors import UserError
from plasticity.events import Layout
from plasticity.fields import option
from plasticity.learning import Reading
from plasticity.network import Network
from plasticity.stimuli.images import order
from plasticity.stimuli.stimulus import Batch

FIRST = 20  # the sample in the middle of frame 0 of the published network's highest map
# (x + 22.22) / 2064.57 of 16-bit samples, as Loewe et al. 2019 normalise: one scale for all.
SCALE, SHIFT, SPREAD = 65536, 1456218.75, 135303504


@dataclass(frozen=True)
class Waves(Batch):
    """Crops of utterances.

    Attributes:
        samples: int16 at 16 kHz `(B, samples)`; start: of the whole batch the first sample of each
            in its utterance, int64 `(B,)`.
    """

    samples: np.ndarray = None
    start: np.ndarray = None


@dataclass(frozen=True)
class Sound:
    """Random crops of utterances, a frame of a map an encoding (Illing et al. 2021, appendix B.2).

    The first axis of every map is time, finer in the lower layers. No frame is skipped between a
    context and its first target.

    Attributes:
        samples: length of a crop at 16 kHz; it starts at a multiple of 160 samples, 10 ms.
        frames: contexts and their futures come from so many consecutive frames, drawn for each
            loss; 0 takes them all.
        alignment: label j is read at frame j + alignment of the highest map, see `probes.phones`;
            2 is that of GIM's code.
    """

    source: Speech
    samples: int = option(20480, "Length of a crop at 16 kHz.", flag="samples", least=1, most=2**31)
    frames: int = option(
        128,
        "Contexts come from so many consecutive frames of a map; 0: from all.",
        flag="frames",
        least=0,
        most=2**31,
    )
    alignment: int = option(
        2,
        "Label j is read at frame j + N of the highest map; 2 is that of GIM's code.",
        flag="alignment",
        least=0,
    )

    name: ClassVar[str] = "sound"
    example: ClassVar[str] = "utterance"
    dims: ClassVar[int] = 1
    usual: ClassVar[Mapping[str, Any]] = {
        "batch": 8,
        "prediction_steps": 12,
        "negatives": 10,
        "negatives_from": "all",
        "epsilon": 0.0,
    }
    first_look: ClassVar[Mapping[str, Any]] = {"steps": 24}
    reading: ClassVar[Reading] = Reading(time="map")
    read_out: ClassVar[Reading] = Reading(time="map")
    channels: ClassVar[int] = 1
    sets: ClassVar[tuple[str, ...]] = ("sample", *speech.SETS)
    tasks: ClassVar[tuple[str, ...]] = ("phones", "speakers")
    figures: ClassVar[tuple[str, ...]] = ("utterance", "confusions")

    def __post_init__(self) -> None:
        fields.check(self)

    @staticmethod
    def learns_from(labelled: bool) -> str:
        """The split to learn from."""
        return "train"

    @staticmethod
    def task(source: Speech) -> str:
        """Phones, or where none is known the speakers."""
        return "phones" if source.label_counts.any() else "speakers"

    def open(self, name: str, split: str, data_dir: str | None, skip_damaged: bool) -> Speech:
        """A split of a set of speech, of utterances that are long enough for a crop.

        Raises:
            UserError: as `data.speech.open_speech`.
        """
        return self._opened(name, data_dir).split(split)

    def open_splits(self, name: str, data_dir: str | None) -> dict[str, Speech]:
        """The splits of a set of speech that have an utterance."""
        found, splits = self._opened(name, data_dir), {}
        for split, testing in (("train", False), ("test", True)):
            if (found.testing == testing).any():
                splits[split] = found.split(split)
        return splits

    def _opened(self, name: str, data_dir: str | None) -> Speech:
        name = "speech" if name == "sample" else name
        return speech.open_speech(name, data_dir, shortest=self.samples)

    def described(self, name: str, data_dir: str | None) -> list[str]:
        """Lines that say what a set holds, and what is amiss in it."""
        return speech.described(self._opened(name, data_dir))

    @property
    def space(self) -> tuple[int, ...]:
        return (self.samples,)

    def layout(self, count: int) -> Layout:
        """One frame, as long as no map says how many it has."""
        return Layout(1, count, 1, skip=0, window=self.frames)

    def batch(self, step: int, seed: int, size: int, share: slice = slice(None)) -> Waves:
        """The batch of one step: a function of the seed and the step alone.

        Each epoch takes the utterances in a new order, a crop of each; what does not fill a batch
        is left out. Only the utterances of `share` are read.
        """
        epoch, place = divmod(step, len(self.source) // size)
        index = order(seed, epoch, len(self.source))[place * size : (place + 1) * size]
        start = self._starts(index, seeds.generator(seed, seeds.AUGMENT, step))
        return self._waves(step, index, start, share)

    def in_order(
        self, indices: np.ndarray, size: int, rng: np.random.Generator | None = None
    ) -> Iterator[Waves]:
        """Crops of the named utterances in batches, at their middle, or at random by `rng`."""
        start = self._starts(indices, rng)
        for step, at in enumerate(range(0, len(indices), size)):
            part = slice(at, at + size)
            yield self._waves(step, indices[part], start[part])

    def _starts(self, index: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
        room = (self.source.lengths[index] - self.samples) // HOP
        return HOP * (room // 2 if rng is None else rng.integers(0, room + 1))

    def _waves(
        self, step: int, index: np.ndarray, start: np.ndarray, share: slice = slice(None)
    ) -> Waves:
        own = zip(index[share], start[share], strict=True)
        samples = np.stack([self.source.samples(i, s, s + self.samples) for i, s in own])
        return Waves(step, index, None, (), samples, start)

    def inputs(self, batch: Waves, dtype: np.dtype) -> Array:
        """The waves `(B, samples, 1)`, normalised."""
        return normalised(batch.samples, dtype)

    def labels(self, batch: Waves, network: Network, layer: int, layout: Layout) -> np.ndarray:
        """The phone of each frame of a layer `(T, B)`, -1 where it has none.

        A frame has the label that is read nearest to it, see `alignment`.
        """
        hop, middle = timing(network)[layer]
        found = np.full((layout.time, layout.samples), -1)
        for column, (i, start) in enumerate(zip(batch.index, batch.start, strict=True)):
            phones = self.source.phones(int(i)).astype(int)
            at = label_of(start + middle + hop * np.arange(layout.time), self.alignment)
            known = (at >= 0) & (at < len(phones))
            found[known, column] = phones[at[known]]
        return found

    @staticmethod
    def labelled(source: Speech, rule: str) -> Speech:
        """The utterances that have phones.

        Raises:
            UserError: there are none.
        """
        if not source.label_counts.any():
            raise UserError(
                f"{rule} learns from labels, and no utterance of {source.name} has phones: give it "
                "converted_aligned_phones.txt, or take another --rule"
            )
        return source.labelled()

    def where(self, batch: Batch, layout: Layout, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Index of the utterance in its set, and frame of the layer's map."""
        frame, utterance, _ = np.unravel_index(rows, layout.shape)
        return {"utterance": batch.index[utterance], "frame": frame}


def timing(network: Network) -> list[tuple[int, float]]:
    """For each layer the samples from frame to frame, and the sample in the middle of frame 0."""
    hop, middle, found = 1, 0.0, []
    for layer in network.layers:
        if not layer.recurrent:
            kernel, stride, padding, pool, step = (
                getattr(layer.geometry, name)[0]
                for name in ("kernel", "stride", "padding", "pool", "pool_stride")
            )
            middle += hop * ((kernel - 1) / 2 - padding)
            hop *= stride
            middle += hop * (pool - 1) / 2
            hop *= step
        found.append((hop, middle))
    return found


def label_at(label: np.ndarray, alignment: int) -> np.ndarray:
    """The sample at which labels of 10 ms are read: `160 (j + alignment) + 20` of label j.

    In the published network that is the middle of frame j + alignment of the highest map. GIM's
    code has alignment 2; at 1 the frame's middle is nearest to that of the label's window, at 0 the
    last two frames have no label.
    """
    return HOP * (label + alignment) + FIRST


def label_of(sample: np.ndarray, alignment: int) -> np.ndarray:
    """The label that is read nearest to a sample, the earlier one of two: see `label_at`."""
    return np.ceil((sample - FIRST) / HOP - 0.5).astype(np.int64) - alignment


def normalised(samples: Array, dtype: np.dtype) -> Array:
    """Samples int16 `(..., S)` as a network takes them, `(..., S, 1)`."""
    scaled = (samples.astype(float) * SCALE + SHIFT) / SPREAD
    return scaled.astype(dtype)[..., None]
