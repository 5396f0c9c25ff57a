"""What a stimulus is to the rest: how the examples of a data set meet a network."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np

from plasticity.arrays import Array
from plasticity.events import Layout
from plasticity.learning import Reading
from plasticity.network import Network
from plasticity.rule import Draw


@dataclass(frozen=True)
class Batch:
    """The examples of one step as they lie on disk, on the host or on a device.

    Attributes:
        index: which examples of the source they are `(B,)`; labels: of the examples, or None. Where
            several processes learn together both are of the whole batch, and everything else is of
            this process's share.
        draws: of the step, one for each loss.
        pace: for a GPU what changes in the optimiser, see `learning.Optimiser.at`.
    """

    step: int
    index: np.ndarray
    labels: np.ndarray | None
    draws: tuple[Draw, ...] = ()
    pace: Array | None = field(default=None, kw_only=True)


class Stimulus(Protocol):
    """Batches of examples, and how they are read: a frozen dataclass whose fields are its options.

    Attributes:
        source: the data set; name: of the stimulus, in options and messages; example: one of its
            examples, in a word.
        usual: options of a run, and fields of its rule, that differ from their defaults here.
        first_look: options of a run that is told no length, so that it takes minutes: `steps`, and
            the probe at its end.
        space, channels: of one input of the network.
        reading: how maps become encodings; read_out: how a probe reads them, which takes the mean
            over time; dims: the spatial dimensions of a map.
        sets: the names of the data sets that it knows; any other is a folder's.
        tasks: what probes may tell of it (`probes.PROBES`), the usual one first.
        figures: the figures of a run (`reports.PLOTS`) that are its alone.
    """

    name: ClassVar[str]
    example: ClassVar[str]
    dims: ClassVar[int]
    usual: ClassVar[Mapping[str, Any]]
    first_look: ClassVar[Mapping[str, Any]]
    reading: ClassVar[Reading]
    read_out: ClassVar[Reading]
    sets: ClassVar[tuple[str, ...]]
    tasks: ClassVar[tuple[str, ...]]
    figures: ClassVar[tuple[str, ...]]
    source: Any  # None: as long as nothing is opened

    @staticmethod
    def learns_from(labelled: bool) -> str:
        """The split to learn from, by a rule that reads labels or not."""

    @staticmethod
    def task(source: Any) -> str:
        """The task of a probe, by the labels that a source has."""

    def open(self, name: str, split: str, data_dir: str | None, skip_damaged: bool) -> Any:
        """A split of a data set."""

    def open_splits(self, name: str, data_dir: str | None) -> dict[str, Any]:
        """The splits of a data set that are there."""

    def described(self, name: str, data_dir: str | None) -> list[str]:
        """Lines that say what a data set holds, and what was passed over."""

    @property
    def space(self) -> tuple[int, ...]: ...

    @property
    def channels(self) -> int: ...

    def layout(self, count: int) -> Layout:
        """The order of the encodings of `count` examples; `reading` knows the time of a map."""

    def batch(self, step: int, seed: int, size: int, share: slice = slice(None)) -> Batch:
        """The batch of one step, without draws: a function of the seed and the step alone."""

    def in_order(
        self, indices: np.ndarray, size: int, rng: np.random.Generator | None = None
    ) -> Iterator[Batch]:
        """The named examples in batches, as probes see them, or varied at random by `rng`."""

    def inputs(self, batch: Batch, dtype: np.dtype) -> Array:
        """The inputs of a network `(M, *space, C)`, made where the batch lies."""

    def labels(self, batch: Batch, network: Network, layer: int, layout: Layout) -> np.ndarray:
        """The classes of a batch, as `Draw.labels`: of a layer's encodings in this order."""

    def labelled(self, source: Any, rule: str) -> Any:
        """The examples of a source that a rule can learn classes from.

        Raises:
            UserError: there are none, or none of two classes.
        """

    def where(self, batch: Batch, layout: Layout, rows: np.ndarray) -> dict[str, np.ndarray]:
        """The places of encodings by name: the example's index in its source, and where in it."""
