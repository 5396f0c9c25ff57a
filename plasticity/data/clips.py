"""A set of clips of film: colour frames of one size, wherever they come from."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from plasticity import seeds


@dataclass(frozen=True)
class ClipSet:
    """Clips of film, some of them with labels.

    Attributes:
        read: frames of a clip, uint8 `(frames, height, width, 3)`, from its index, the first frame
            and their number.
        lengths: how many frames each has, int64 `(count,)`; side: the height of a frame, and its
            width; a crop may be smaller.
        labels: int64 `(count,)`, counted from 0, or None; classes: their names.
        mean, std: of red, green and blue between 0 and 1, for normalisation.
        place: the file or folder that they are read from; files: names of the clips, if they are
            files. flips: whether a clip and its mirror image are of one class.
        notes: sentences on clips that are missing or were left out.
    """

    name: str
    split: str
    read: Callable[[int, int, int], np.ndarray]
    lengths: np.ndarray
    side: int
    labels: np.ndarray | None
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    place: Path
    files: tuple[str, ...] = ()
    flips: bool = False
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def part(self) -> str:
        """Its split."""
        return self.split

    @property
    def identity(self) -> str:
        """The number of the clips, and a digest of their names and lengths."""
        names = self.files or (self.name, self.split, str(self.side))
        told = "\n".join([*names, *map(str, self.lengths)])
        return f"{len(self)} clips, {hashlib.sha256(told.encode()).hexdigest()[:32]}"

    @property
    def left_out(self) -> dict[str, str]:
        """Damaged clips that were met while reading: none, they are found when it is opened."""
        return {}

    def usable(self, indices: np.ndarray) -> np.ndarray:
        """Those of the clips that are not damaged."""
        return indices

    def frames(self, index: np.ndarray, start: np.ndarray, count: int) -> np.ndarray:
        """Frames of clips, uint8 `(B, count, height, width, 3)`."""
        pairs = zip(index, start, strict=True)
        return np.stack([self.read(int(i), int(s), count) for i, s in pairs])

    def drawn(self, count: int, seed: int) -> "ClipSet":
        """`count` of the clips, drawn by the seed; all of them where it has no more."""
        if count >= len(self):
            return self
        chosen = np.sort(seeds.generator(seed, seeds.SUBSET).permutation(len(self))[:count])
        return self.only(chosen)

    def only(self, chosen: np.ndarray, split: str = "") -> "ClipSet":
        """Some of the clips, in this order, as a split of this name."""
        read, labels = self.read, self.labels
        return replace(
            self,
            split=split or self.split,
            files=tuple(self.files[i] for i in chosen) if self.files else (),
            read=lambda i, start, count: read(int(chosen[i]), start, count),
            lengths=self.lengths[chosen],
            labels=None if labels is None else labels[chosen],
        )
