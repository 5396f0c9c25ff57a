"""Films on disk: UCF-101 in its published layout, or a folder of films with one for each class.

    UCF-101/CLASS/v_CLASS_g01_c01.avi, ucfTrainTestlist/{classInd,trainlist01,testlist01}.txt
    FOLDER/CLASS/FILM                  every fifth film of a class is for tests
    FOLDER/train/CLASS/FILM            with test/ or val/ beside it

Films are decoded once into a file that is mapped into memory: one frame of `every`, the middle
square, scaled to what a crop of `side` pixels is cut from.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from plasticity import places
from plasticity.data import folders
from plasticity.data.clips import ClipSet
from plasticity.data.corpus import AUDIO
from plasticity.data.decoded import Decoding, kept
from plasticity.data.download import Report
from plasticity.data.images import centre
from plasticity.data.motions import COUNTS, MOTIONS
from plasticity.data.sets import data_folder
from plasticity.data.tree import IMAGES, Kind, Passed, few
from plasticity.data.utterances import DAMAGED, Note, starts
from plasticity.errors import UserError, installs

SUFFIXES = frozenset({".avi", ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".mpg", ".mpeg", ".ogv"})
FILMS = Kind("film", "films", "class", ".avi or .mp4", SUFFIXES, beside=frozenset({".txt"}))
PUBLISHED = re.compile(r"ucf101(?:-([123]))?")  # the set, and which of its three splits
INNER, LISTS = "UCF-101", "ucfTrainTestlist"
# ImageNet's means and deviations of red, green and blue, as published.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
WIDER = 240 / 224  # of the square that is kept beside the crop, as published
MOST = 100_000  # frames of one film
FORMAT = 1  # of the cache; a change of the decoding is a new one


def read_film(file: Path, side: int, every: int) -> np.ndarray:
    """One frame of so many of a film, uint8 `(n, side, side, 3)`: the middle square, scaled.

    Raises:
        UserError: the film cannot be decoded.
    """
    import av

    found = [np.zeros((0, side, side, 3), np.uint8)]
    try:
        with av.open(str(file)) as container:
            if not container.streams.video:
                raise ValueError("it holds no pictures")
            for number, frame in enumerate(container.decode(video=0)):
                if number >= MOST:
                    raise ValueError(f"it has more than {MOST:,} frames")
                if number % every == 0:
                    image = Image.fromarray(frame.to_ndarray(format="rgb24"))
                    found.append(centre(image, side)[None])
    except (
        av.FFmpegError,
        OSError,
        ValueError,
        MemoryError,
        Image.DecompressionBombError,
    ) as error:
        raise UserError(f"{file} cannot be read as a film ({error})") from error
    if len(found) == 1:
        raise UserError(f"{file} cannot be read as a film (it has no frame)")
    return np.concatenate(found)


def need_av() -> None:
    """Say what is missing to decode films.

    Raises:
        UserError: PyAV is not there.
    """
    try:
        import av  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"films are read by the package av, which is missing ({error}): {installs('video')}"
        ) from error


@dataclass(frozen=True)
class Found:
    """The films of a set: files in order, labels int64 `(files,)` or None, the split of each."""

    base: Path
    files: list[Path]
    labels: np.ndarray | None
    testing: np.ndarray
    classes: tuple[str, ...]
    notes: tuple[Note | str, ...]


def open_films(
    name: str,
    data_dir: str | None,
    side: int,
    every: int,
    frames: int,
    short: str = "drop",
    report: Report | None = None,
) -> dict[str, ClipSet]:
    """The splits of a set of films: `ucf101` (or `ucf101-2`, `ucf101-3`), or a folder by its path.

    Args:
        side: of a crop, in pixels; every: one frame of so many is kept; frames: that a clip needs.
        short: what becomes of films with fewer: `drop` leaves them out, `pad` repeats their last.
        report: called while films are decoded: the activity, files done, files in all.

    Raises:
        UserError: no such set, no film that can be used, lists that cannot be read.
    """
    found = _found(name, data_dir)
    wider = round(side * WIDER)
    how = Decoding(
        f"film {FORMAT} {wider} {every}",
        "frames.uint8",
        np.uint8,
        (wider, wider, 3),
        partial(read_film, side=wider, every=every),
        need_av,
        "films",
    )
    caches = [data_folder(data_dir) / "decoded", places.cache() / "decoded"]
    store, lengths = kept(how, found.base, found.files, caches, report)
    names = np.array([file.stem for file in found.files], object)
    damaged, brief = lengths < 0, (lengths >= 0) & (lengths < frames)
    what = f"films have fewer than {frames} frames" + (
        ", and are left out" if short == "drop" else ", and end with their last one repeated"
    )
    notes = [*found.notes]
    for told, which in ((f"{DAMAGED}, and are left out", damaged), (what, brief)):
        if which.any():
            notes.append(Note(told, tuple(names[which]), len(names)))
    usable = ~damaged & (lengths > 0 if short == "pad" else ~brief)
    begins, lengths = starts(np.maximum(lengths, 0)), np.maximum(lengths, 0)
    if not usable.any():
        raise UserError(f"no film in {found.base} can be used: {'; '.join(map(str, notes))}")

    def read(index: int, start: int, count: int) -> np.ndarray:
        at = np.minimum(np.arange(start, start + count), lengths[index] - 1)
        return store[begins[index] + at]

    whole = ClipSet(
        name=name,
        split="",
        read=read,
        lengths=np.maximum(lengths, frames) if short == "pad" else lengths,
        side=wider,
        labels=found.labels,
        classes=found.classes,
        mean=MEAN,
        std=STD,
        place=found.base,
        files=tuple(map(str, names)),
        flips=True,
        notes=tuple(map(str, notes)),
    )
    parts = {"train": usable & ~found.testing, "test": usable & found.testing}
    return {split: whole.only(np.flatnonzero(w), split) for split, w in parts.items() if w.any()}


def _found(name: str, data_dir: str | None) -> Found:
    if published := PUBLISHED.fullmatch(name):
        return _published(place_of(data_dir), int(published[1] or 1))
    return _folder(Path(name).expanduser())


def are_films(name: str) -> bool:
    """Whether a name or folder is a set of films: one with more films than images or recordings."""
    path = Path(name).expanduser()
    if name == "motions" or PUBLISHED.fullmatch(name) or not path.is_dir():
        return name == "motions" or bool(PUBLISHED.fullmatch(name))
    films, *others = (Passed(path, kind).walk(path).count for kind in (FILMS, AUDIO, IMAGES))
    return films > max(others)


def checked(
    name: str, data_dir: str | None, report: Report = lambda what, done, total: None
) -> tuple[list[str], dict[str, str]]:
    """Decode every film of a set, and keep nothing: lines that say what it holds, and the films
    that cannot be decoded with what is wrong with each.

    Raises:
        UserError: as `open_films`.
    """
    if name == "motions":
        counts = ", ".join(f"{split} {count}" for split, count in COUNTS.items())
        return [f"Clips of motions, made as they are needed: {counts}; classes: {len(MOTIONS)}"], {}
    found = _found(name, data_dir)
    need_av()
    lengths, damaged = [], {}
    for number, file in enumerate(found.files, 1):
        try:
            lengths.append(len(read_film(file, 8, 1)))
        except UserError as error:
            damaged[str(file)] = str(error).removeprefix(f"{file} ")
        report("decoding", number, len(found.files))
    tests = int(found.testing.sum())
    classes = f"{len(found.classes)} ({few(found.classes, most=20)})" if found.classes else "none"
    frames = f"{min(lengths)} to {max(lengths)}" if lengths else "none"
    told = f"Films of {name}: train {len(found.files) - tests}, test {tests}"
    return [f"{told}; classes: {classes}; frames: {frames}", *map(str, found.notes)], damaged


def place_of(data_dir: str | None) -> Path:
    where = data_folder(data_dir)
    for base in (where / "ucf101", where):
        if (base / INNER).is_dir():
            return base
    raise UserError(
        f"the folder {INNER} is neither in {where / 'ucf101'} nor in {where}: put it there with "
        f"{LISTS} beside it, or name another folder by --data-dir or PLASTICITY_DATA"
    )


def _lines(base: Path, name: str) -> Iterator[tuple[Path, int, list[str]]]:
    """The words of each line of a list that is not empty."""
    place = next((p for p in (base / LISTS / name, base / name) if p.is_file()), None)
    if place is None:
        raise UserError(f"{name} is neither in {base / LISTS} nor in {base}: put the lists there")
    try:
        text = place.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UserError(f"{place} cannot be read as text ({error})") from error
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            yield place, number, line.split()


def _published(base: Path, split: int) -> Found:
    """UCF-101 by its lists; ids of classes count from 1."""
    number: dict[str, int] = {}
    for place, line, words in _lines(base, "classInd.txt"):
        if len(words) != 2 or not words[0].isdecimal() or int(words[0]) != len(number) + 1:
            raise UserError(f"{place}, line {line}: expected '{len(number) + 1} CLASS'")
        number[words[1]] = len(number)
    files, labels, testing, missing = [], [], [], []
    for kind in ("train", "test"):
        for place, line, words in _lines(base, f"{kind}list{split:02d}.txt"):
            name = words[0].partition("/")[0]
            given = words[1] if len(words) == 2 else str(number.get(name, -2) + 1)
            if len(words) > 2 or name not in number or given != str(number[name] + 1):
                known = f"{number[name] + 1}" if name in number else "one of classInd.txt"
                raise UserError(
                    f"{place}, line {line}: expected CLASS/FILM.avi and the class's number, got "
                    f"'{' '.join(words)}' (the number of {name} is {known})"
                )
            file = base / INNER / words[0]
            if file.is_file():
                files.append(file)
                labels.append(number[name])
                testing.append(kind == "test")
            else:
                missing.append(file.stem)
    listed = len(files) + len(missing)
    notes = (Note("films of the lists have no file", tuple(missing), listed),) if missing else ()
    if not files:
        raise UserError(f"no film in {base / INNER} can be used: {few(map(str, notes))}")
    return Found(base, files, np.array(labels), np.array(testing), tuple(number), notes)


def _folder(base: Path) -> Found:
    """Films by folders of splits and classes."""
    if not base.is_dir():
        raise UserError(
            f"unknown data set '{base}' of film: expected motions, ucf101 or the path of a folder "
            "of films"
        )
    folder = folders.read(base.absolute(), FILMS)
    parts = [folder.splits[split] for split in ("train", "test") if split in folder.splits]
    if not parts:
        parts = [next(iter(folder.splits.values()))]
    labelled = all(part.labels is not None for part in parts)
    return Found(
        base.absolute(),
        [file for part in parts for file in part.files],
        np.concatenate([part.labels for part in parts]) if labelled else None,
        np.repeat(np.arange(len(parts)) > 0, [len(part.files) for part in parts]),
        folder.classes if labelled else (),
        folder.remarks,
    )
