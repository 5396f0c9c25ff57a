"""A folder of speech: LibriSpeech in its published layout, or audio files of any other."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from plasticity.data import folders
from plasticity.data.decoded import SUFFIXES, decoded
from plasticity.data.download import Report
from plasticity.data.folders import Split
from plasticity.data.tree import Kind, Passed
from plasticity.data.utterances import (
    DAMAGED,
    LABELS,
    LIST_FOLDER,
    LISTS,
    PHONE_NAMES,
    Note,
    Speech,
    label_count,
    starts,
)
from plasticity.errors import UserError

NO_LABELS = np.zeros(0, np.uint8)
PUBLISHED_ID = re.compile(r"(\d+)-\d+-\d+")  # speaker, chapter, utterance
AUDIO = Kind(
    "audio file",
    "audio files",
    "speaker",
    ".flac or .wav",
    SUFFIXES,
    beside=frozenset({".txt", LIST_FOLDER}),
    disjoint=True,
)


@dataclass(frozen=True)
class Found:
    """The audio files of a folder, by id, in order; and what is to be said of them.

    Attributes:
        speaker: int64 `(files,)` or None; testing: bool `(files,)`.
    """

    files: dict[str, Path]
    speakers: tuple[str, ...]
    speaker: np.ndarray | None
    testing: np.ndarray
    notes: tuple[str | Note, ...]


def read_folder(name: str, base: Path, caches: list[Path], report: Report | None = None) -> Speech:
    """A folder of audio, with lists, labels and names of phones if they are there.

    Args:
        caches: folders for decoded audio; see `decoded`.

    Raises:
        UserError: no audio in it, or lists or labels that cannot be read.
    """
    lists, table = _lists(base), _label_table(base)
    found = _by_folders(base) if lists is None else _by_lists(base, lists)
    notes = list(found.notes)
    store, lengths = decoded(base, list(found.files.values()), caches, report)
    ids = np.array(list(found.files), object)
    damaged = lengths < 0
    lengths = np.maximum(lengths, 0)
    given = [table.get(i, NO_LABELS) for i in ids]
    counts = np.array([len(labels) for labels in given], np.int64)
    right = counts == label_count(lengths)
    wrong = ~right & (counts > 0) & ~damaged
    for what, which in (
        (DAMAGED, damaged),
        ("utterances have more or fewer labels than 10 ms frames", wrong),
        ("utterances have no labels", (counts == 0) & bool(table)),
    ):
        notes.append(Note(what, tuple(ids[which]), len(ids)))
    counts = np.where(right, counts, 0)
    speech = Speech(
        name=name,
        place=base,
        ids=tuple(ids),
        speakers=found.speakers,
        speaker=found.speaker,
        starts=starts(lengths),
        lengths=lengths,
        store=store,
        label_starts=starts(counts),
        label_counts=counts,
        labels=np.concatenate([NO_LABELS, *(g for g, r in zip(given, right, strict=True) if r)]),
        phone_names=_phone_names(base, table),
        testing=found.testing,
        notes=tuple(note for note in notes if not isinstance(note, Note) or note.ids),
    )
    return speech.pick(np.flatnonzero(~damaged))


def _by_lists(base: Path, lists: dict[str, set[str]]) -> Found:
    """The files that the lists name; their folders say no more than who speaks."""
    passed = Passed(base, AUDIO)
    paths = sorted(file for file, _ in passed.walk(base).all())
    files = dict(zip(_ids(base, paths), paths, strict=True))
    wanted = sorted(lists["train"] | lists["test"])
    kept = {i: files[i] for i in wanted if i in files}
    missing = tuple(i for i in wanted if i not in kept)
    unlisted = tuple(i for i in files if i not in kept)
    notes = (
        Note("utterances of the lists have no file", missing, len(wanted)),
        Note("files are in no list and are left out", unlisted, len(files)),
    )
    if not kept:
        raise UserError(f"no audio file in {base} can be used: {notes[0]}")
    names = _published(kept)
    if names is None:
        inside = [path.relative_to(base).parts for path in kept.values()]
        names = [parts[0] for parts in inside] if min(map(len, inside)) > 1 else None
    testing = np.array([i in lists["test"] for i in kept], bool)
    return Found(kept, *_numbered(names), testing, passed.sentences() + notes)


def _by_folders(base: Path) -> Found:
    """All files: LibriSpeech's by their ids, others by folders of splits and speakers."""
    passed = Passed(base, AUDIO)
    held = sorted(passed.walk(base).all())
    names = _published(file.stem for file, _ in held)
    if held and names is not None:
        speakers, speaker = _numbered(names)
        files, sizes = (list(column) for column in zip(*held, strict=True))
        splits = folders.fifths(Split(files, sizes, speaker), speakers, passed)
        remarks = passed.sentences()
    else:
        folder = folders.read(base, AUDIO)
        speakers, splits, remarks = folder.classes, folder.splits, folder.remarks
        if "train" not in splits:
            raise UserError(f"{base} has a folder of unlabelled audio: expected train/ beside it")
    parts = [splits["train"], splits["test"]]
    paths = [path for part in parts for path in part.files]
    order = sorted(range(len(paths)), key=lambda k: paths[k])
    paths = [paths[k] for k in order]
    speaker = None
    if all(part.labels is not None for part in parts):
        speaker = np.concatenate([part.labels for part in parts])[order]
    testing = np.array(order) >= len(parts[0].files)
    files = dict(zip(_ids(base, paths), paths, strict=True))
    return Found(files, speakers if speaker is not None else (), speaker, testing, remarks)


def _published(ids: Iterable[str]) -> list[str] | None:
    """The speakers of LibriSpeech's ids, None for other ids."""
    matches = [PUBLISHED_ID.fullmatch(i) for i in ids]
    return [match[1] for match in matches] if all(matches) else None


def _numbered(names: list[str] | None) -> tuple[tuple[str, ...], np.ndarray | None]:
    """Speakers in order, and the number of each one of the names."""
    if names is None:
        return (), None
    speakers = sorted(set(names), key=lambda n: (not n.isdecimal(), n.zfill(20), n))
    number = {name: k for k, name in enumerate(speakers)}
    return tuple(speakers), np.array([number[name] for name in names], np.int64)


def _ids(base: Path, files: list[Path]) -> list[str]:
    """Names without their ending, or paths without it where two names are equal."""
    ids = [file.stem for file in files]
    if len(set(ids)) < len(ids):
        ids = [file.relative_to(base).with_suffix("").as_posix() for file in files]
    if len(set(ids)) < len(ids):
        twice = next(i for i in ids if ids.count(i) > 1)
        raise UserError(f"{base} has two audio files for '{twice}': keep one format of each")
    return ids


def _find(base: Path, name: str) -> Path | None:
    places = (base / name, base / LIST_FOLDER / name)
    return next((place for place in places if place.is_file()), None)


def _lines(place: Path) -> Iterator[str]:
    try:
        with open(place, encoding="utf-8") as file:
            yield from file
    except (OSError, ValueError) as error:
        raise UserError(f"{place} cannot be read as text ({error})") from error


def _lists(base: Path) -> dict[str, set[str]] | None:
    """Ids of the splits by the lists, if there are any."""
    places = {split: _find(base, name) for split, name in LISTS.items()}
    if not any(places.values()):
        return None
    for split, place in places.items():
        if place is None:
            raise UserError(f"{base} has a list of one split, but no {LISTS[split]} beside it")
    lists = {split: {i for line in _lines(p) if (i := line.strip())} for split, p in places.items()}
    both = sorted(lists["train"] & lists["test"])
    if both:
        raise UserError(
            f"{base}: {len(both)} ids are in the lists of both splits, '{both[0]}' among them"
        )
    return lists


def _label_table(base: Path) -> dict[str, np.ndarray]:
    """Labels by id, uint8, of all utterances that the file of labels has."""
    place = _find(base, LABELS)
    table: dict[str, np.ndarray] = {}
    for number, line in enumerate(_lines(place) if place else [], 1):
        name, *text = line.split() or [""]
        if not name:
            continue
        try:
            labels = np.array(text, np.int64)
        except (ValueError, OverflowError):
            labels = np.array([-1])
        if len(labels) and not 0 <= labels.min() <= labels.max() <= 255:
            raise UserError(
                f"{place}, line {number}: expected an id and phones, whole numbers from 0 to 255"
            )
        if name in table:
            raise UserError(f"{place}, line {number}: '{name}' is there twice")
        table[name] = labels.astype(np.uint8)
    return table


def _phone_names(base: Path, table: dict[str, np.ndarray]) -> tuple[str, ...]:
    """The names of phones that a file gives, or their numbers; none without labels."""
    phones = 1 + max((int(labels.max()) for labels in table.values() if len(labels)), default=-1)
    place = _find(base, PHONE_NAMES)
    if place is None or not table:
        return tuple(str(k) for k in range(phones))
    names = tuple(line.strip() for line in _lines(place) if line.strip())
    if len(names) < phones:
        raise UserError(f"{place} names {len(names)} phones, the labels have {phones}")
    return names
