"""Utterances of speech: samples, phones, speakers and splits, wherever they come from."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from plasticity import seeds
from plasticity.data.decoded import RATE
from plasticity.errors import UserError

HOP, WINDOW = 160, 400  # samples from one label to the next, and samples that a label covers
LISTS = {"train": "train_split.txt", "test": "test_split.txt"}
LABELS = "converted_aligned_phones.txt"
PHONE_NAMES = "phone_names.txt"
DAMAGED = "files cannot be decoded"
LIST_FOLDER = "LibriSpeech100_labels_split"


def label_count(samples: np.ndarray) -> np.ndarray:
    """How many labels utterances of so many samples have: one for each 10 ms with a window."""
    return np.maximum(0, (np.asarray(samples) - WINDOW) // HOP + 1)


def starts(lengths: np.ndarray) -> np.ndarray:
    """Where each begins of parts that lie one after another, `(count,)`."""
    return np.cumsum(lengths) - lengths


@dataclass(frozen=True)
class Note:
    """Utterances that something is wrong with, said before they are used."""

    what: str
    ids: tuple[str, ...]
    total: int

    def __str__(self) -> str:
        more = ", ..." if len(self.ids) > 3 else ""
        return f"{len(self.ids)} of {self.total} {self.what}: {', '.join(self.ids[:3])}{more}"


@dataclass(frozen=True)
class Speech:
    """Utterances, one after another in one array of samples.

    Attributes:
        ids: of the utterances; speakers: names, in the order of their numbers.
        speaker: int64 `(count,)`, a number into `speakers`, or None where no speaker is known.
        starts, lengths: int64 `(count,)`, samples of each utterance in `store`.
        store: int16 at 16 kHz, mapped or in memory.
        label_starts, label_counts: int64 `(count,)`; a count of 0 is an utterance without labels.
        labels: uint8, a phone for each 10 ms: label j covers samples 160 j to 160 j + 400.
        phone_names: a name for each number of a phone; () without labels.
        testing: bool `(count,)`, which utterances are for testing.
        notes: utterances that are missing, left out or without labels; part: the split, if any;
            whole: its identity, where only some of its utterances are here.
    """

    name: str
    place: Path
    ids: tuple[str, ...]
    speakers: tuple[str, ...]
    speaker: np.ndarray | None
    starts: np.ndarray
    lengths: np.ndarray
    store: np.ndarray
    label_starts: np.ndarray
    label_counts: np.ndarray
    labels: np.ndarray
    phone_names: tuple[str, ...]
    testing: np.ndarray
    notes: tuple[Note | str, ...] = ()
    part: str = ""
    whole: str = ""

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def damaged(self) -> tuple[str, ...]:
        """Ids of files that are left out because they cannot be decoded."""
        notes = (note for note in self.notes if isinstance(note, Note))
        return tuple(i for note in notes if note.what == DAMAGED for i in note.ids)

    def samples(self, i: int, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Samples `start` to `stop` of utterance i, int16; fewer where the utterance ends."""
        first, length = self.starts[i], int(self.lengths[i])
        stop = length if stop is None else min(stop, length)
        return self.store[first + min(start, stop) : first + stop]

    def phones(self, i: int) -> np.ndarray:
        """The phones of utterance i, uint8, one for each 10 ms; empty where it has no labels."""
        return self.labels[self.label_starts[i] : self.label_starts[i] + self.label_counts[i]]

    @property
    def seconds(self) -> float:
        return float(self.lengths.sum()) / RATE

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of its phones."""
        return self.phone_names

    @property
    def identity(self) -> str:
        """The number of its split's utterances, and a digest of their names and lengths."""
        if self.whole:
            return self.whole
        told = "\n".join(f"{i} {n}" for i, n in zip(self.ids, self.lengths, strict=True))
        return f"{len(self)} utterances, {hashlib.sha256(told.encode()).hexdigest()[:32]}"

    @property
    def left_out(self) -> dict[str, str]:
        """The files that cannot be decoded, and what is wrong with them."""
        return dict.fromkeys(self.damaged, "cannot be decoded")

    def drawn(self, count: int, seed: int) -> "Speech":
        """`count` of the utterances, drawn by the seed; all of them where it has no more."""
        if count >= len(self):
            return self
        chosen = seeds.generator(seed, seeds.SUBSET).permutation(len(self))[:count]
        return replace(self.pick(np.sort(chosen)), whole=self.identity)

    def usable(self, indices: np.ndarray) -> np.ndarray:
        """The utterances of these indices: those that cannot be decoded are left out already."""
        return indices

    def pick(self, indices: np.ndarray) -> "Speech":
        """The utterances of these indices; speakers and phones keep their numbers."""
        indices = np.asarray(indices, np.int64)
        arrays = ("starts", "lengths", "label_starts", "label_counts", "testing")
        return replace(
            self,
            ids=tuple(self.ids[i] for i in indices),
            speaker=None if self.speaker is None else self.speaker[indices],
            **{name: getattr(self, name)[indices] for name in arrays},
        )

    def split(self, split: str) -> "Speech":
        """The utterances for training (`train`) or testing (`test`).

        Raises:
            UserError: there is none.
        """
        if split not in LISTS:
            raise UserError(f"unknown split '{split}': expected {' or '.join(LISTS)}")
        found = np.flatnonzero(self.testing == (split == "test"))
        if not len(found):
            raise UserError(f"{self.place} has no utterance for '{split}'")
        return replace(self.pick(found), part=split)

    def labelled(self) -> "Speech":
        """The utterances that have phones."""
        return replace(self.pick(np.flatnonzero(self.label_counts > 0)), whole=self.identity)
