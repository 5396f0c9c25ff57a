"""A folder of speech: LibriSpeech in its published layout, or audio files of any other."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from plasticity.data.decoded import SUFFIXES, decoded
from plasticity.data.download import Report
from plasticity.data.utterances import (
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
SPLIT_FOLDERS = {"train": False, "training": False, "test": True, "testing": True}
LIKE_SPLITS = {"val", "valid", "validation", "dev", "eval", "unlabelled", "unlabeled"}
PUBLISHED_ID = re.compile(r"(\d+)-\d+-\d+")  # speaker, chapter, utterance


def read_folder(name: str, base: Path, caches: list[Path], report: Report) -> Speech:
    """A folder of audio, with lists, labels and names of phones if they are there.

    Args:
        caches: folders for decoded audio; see `decoded`.

    Raises:
        UserError: no audio in it, or lists or labels that cannot be read.
    """
    lists, table = _lists(base), _label_table(base)
    files, notes = _listed(_audio_files(base), lists)
    if not files:
        raise UserError(f"no audio file of use in {base}" + "".join(f"; {n}" for n in notes))
    store, lengths = decoded(base, list(files.values()), caches, report)
    ids = np.array(list(files), object)
    damaged = lengths < 0
    lengths = np.maximum(lengths, 0)
    inside = [path.relative_to(base).parts[:-1] for path in files.values()]
    testing = None
    if lists is not None:
        testing = np.array([i in lists["test"] for i in ids], bool)
    else:
        testing, inside = _split_folders(base, inside)
    speakers, speaker = _speakers(list(files), inside)
    if testing is None:
        testing = _every_fifth(speaker, len(ids))
    given = [table.get(i, NO_LABELS) for i in ids]
    counts = np.array([len(labels) for labels in given], np.int64)
    right = counts == label_count(lengths)
    wrong = ~right & (counts > 0) & ~damaged
    loose = np.array([speaker is None and any(inside) and not parts for parts in inside])
    for what, which in (
        ("files cannot be decoded", damaged),
        ("utterances have more or fewer labels than 10 ms frames", wrong),
        ("utterances have no labels", (counts == 0) & bool(table)),
        ("files lie beside the folders of speakers, hence none is known", loose),
    ):
        notes.append(Note(what, tuple(ids[which]), len(ids)))
    counts = np.where(right, counts, 0)
    found = Speech(
        name=name,
        place=base,
        ids=tuple(ids),
        speakers=speakers,
        speaker=speaker,
        starts=starts(lengths),
        lengths=lengths,
        store=store,
        label_starts=starts(counts),
        label_counts=counts,
        labels=np.concatenate([NO_LABELS, *(g for g, r in zip(given, right, strict=True) if r)]),
        phone_names=_phone_names(base, table),
        testing=testing,
        notes=tuple(note for note in notes if note.ids),
    )
    return found.pick(np.flatnonzero(~damaged))


def _listed(
    files: dict[str, Path], lists: dict[str, set[str]] | None
) -> tuple[dict[str, Path], list[Note]]:
    """The files that the lists name, all without lists; and which are missing or too many."""
    if lists is None:
        return files, []
    wanted = sorted(lists["train"] | lists["test"])
    missing = tuple(i for i in wanted if i not in files)
    unlisted = tuple(sorted(files.keys() - set(wanted)))
    return {i: files[i] for i in wanted if i in files}, [
        Note("utterances of the lists have no file", missing, len(wanted)),
        Note("files are in no list and are left out", unlisted, len(files)),
    ]


def _audio_files(base: Path) -> dict[str, Path]:
    """Audio files below a folder by their ids, in order; links to folders are followed once.

    An id is the name without its ending, or the path without it where two names are equal.
    """
    found, seen = [], set()

    def refuse(error: OSError) -> None:
        raise UserError(f"{error.filename} cannot be read: {error.strerror}") from error

    for root, folders, names in os.walk(base, onerror=refuse, followlinks=True):
        place = os.path.realpath(root)
        folders[:] = sorted(f for f in folders if not f.startswith(".") and f != "__MACOSX")
        if place in seen:
            folders[:] = []
            continue
        seen.add(place)
        found += [Path(root, n) for n in names if not n.startswith(".")]
    found = sorted(p for p in found if p.suffix.lower() in SUFFIXES)
    ids = [p.stem for p in found]
    if len(set(ids)) < len(ids):
        ids = [p.relative_to(base).with_suffix("").as_posix() for p in found]
    if len(set(ids)) < len(ids):
        twice = next(i for i in ids if ids.count(i) > 1)
        raise UserError(f"{base} has two audio files for '{twice}': keep one format of each")
    return dict(sorted(zip(ids, found, strict=True)))


def _split_folders(base: Path, inside: list[tuple[str, ...]]) -> tuple[np.ndarray | None, list]:
    """Which files lie in a folder for testing, if folders are splits; and the folders in those."""
    first = [parts[0].lower() if parts else "" for parts in inside]
    named = sorted(set(first) & (SPLIT_FOLDERS.keys() | LIKE_SPLITS))
    if not named:
        return None, inside
    testing = [SPLIT_FOLDERS.get(name) for name in first]
    if set(testing) != {True, False}:
        raise UserError(
            f"{base} has a folder '{named[0]}': expected all files in the folders train and test, "
            f"or else the lists {' and '.join(LISTS.values())}"
        )
    return np.array(testing), [parts[1:] for parts in inside]


def _speakers(
    ids: list[str], inside: list[tuple[str, ...]]
) -> tuple[tuple[str, ...], np.ndarray | None]:
    """Speakers by LibriSpeech's ids, or else by the folders that the files lie in."""
    matches = [PUBLISHED_ID.fullmatch(i) for i in ids]
    if all(matches):
        names = [match[1] for match in matches]
    elif all(inside):
        names = [parts[0] for parts in inside]
    else:
        return (), None
    speakers = sorted(set(names), key=lambda n: (not n.isdigit(), int(n) if n.isdigit() else 0, n))
    number = {name: k for k, name in enumerate(speakers)}
    return tuple(speakers), np.array([number[name] for name in names], np.int64)


def _every_fifth(speaker: np.ndarray | None, count: int) -> np.ndarray:
    """The last of every five utterances of each speaker, bool `(count,)`."""
    testing = np.zeros(count, bool)
    speaker = np.zeros(count, np.int64) if speaker is None else speaker
    for one in np.unique(speaker):
        testing[np.flatnonzero(speaker == one)[4::5]] = True
    return testing


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
