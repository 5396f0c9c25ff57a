"""The tree of a folder: its files of one kind, the folders in it, and what is passed over."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from plasticity.data.images import SUFFIXES
from plasticity.errors import UserError
from plasticity.files import shown

HIDDEN = {"__macosx", "@eadir", "$recycle.bin", "#recycle", "lost+found", "__pycache__"}
RUN = "checkpoint.h5"  # a folder that holds it is a run of this program
DEEP = 100
EXAMPLES = 3


@dataclass(frozen=True)
class Kind:
    """The files that a data set consists of, and the words for them.

    Attributes:
        group: what a folder of them stands for.
        beside: suffixes of other files, and names of other folders, that belong to such a set.
        disjoint: whether training and tests may share no group.
    """

    one: str
    many: str
    group: str
    example: str
    suffixes: frozenset[str]
    beside: frozenset[str] = frozenset()
    disjoint: bool = False


IMAGES = Kind("image", "images", "class", ".png or .jpg", frozenset(SUFFIXES))


@dataclass
class Branch:
    """A folder on disk that may hold files of the kind looked for, with the folders in it."""

    path: Path
    files: list[tuple[Path, int]] = field(default_factory=list)  # and their sizes in bytes
    folders: list["Branch"] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def classes(self) -> list["Branch"]:
        """The folders that hold files at any depth."""
        return [one for one in self.folders if one.count]

    @property
    def count(self) -> int:
        """Files at any depth."""
        return len(self.files) + sum(one.count for one in self.folders)

    def all(self) -> Iterator[tuple[Path, int]]:
        """The files at any depth, with their sizes."""
        yield from self.files
        for one in self.folders:
            yield from one.all()


class Passed:
    """What is passed over in a folder, and what else is to be said of it."""

    def __init__(self, top: Path, kind: Kind = IMAGES) -> None:
        self.top, self.kind = top, kind
        self.found: dict[str, list[tuple[Path, int]]] = {}
        self.others: Counter[str] = Counter()  # files of other kinds, by suffix
        self.said: list[str] = []

    def over(self, why: str, path: Path, count: int = 1) -> None:
        """Pass over a file, or a folder of so many."""
        self.found.setdefault(why, []).append((path, count))

    def remark(self, sentence: str) -> None:
        self.said.append(sentence)

    def sentences(self) -> tuple[str, ...]:
        """All that is to be said, the most important first."""
        over = []
        for why, paths in self.found.items():
            count = sum(count for _, count in paths)
            names = few(str(path.relative_to(self.top)) for path, _ in paths)
            over.append(f"passed over, {why}: {count} ({names})")
        if self.others.total():
            kinds = ", ".join(f"{name} {n}" for name, n in self.others.most_common(EXAMPLES) if n)
            over.append(f"passed over, files of other kinds: {self.others.total()} ({kinds})")
        return tuple(self.said + over)

    def in_brackets(self) -> str:
        return f" ({'; '.join(said)})" if (said := self.sentences()) else ""

    def walk(self, path: Path, above: tuple[tuple[int, int], ...] = ()) -> Branch:
        """The tree of a folder, with its hidden parts and other files passed over."""
        try:
            with os.scandir(path) as listed:
                entries = sorted(listed, key=lambda entry: entry.name)
            status = os.stat(path)
        except OSError as error:
            raise UserError(
                f"the folder {path} cannot be read: {error.strerror}; make it readable, or move it "
                "out of the set"
            ) from error
        here = status.st_dev, status.st_ino
        if here in above:
            self.over("links to a folder above", path)
            return Branch(path)
        if len(above) >= DEEP:
            raise UserError(f"{path} lies more than {DEEP} folders deep: move it further up")
        branch = Branch(path)
        if above and any(entry.name == RUN for entry in entries):
            self.over("runs of this program", path)
            return branch
        for entry in entries:
            self._sort(entry, branch, (*above, here))
        if above and not branch.count and path.name not in self.kind.beside:
            self.over(f"folders without {self.kind.many}", path)
        return branch

    def _sort(self, entry: os.DirEntry, branch: Branch, above: tuple) -> None:
        """Put an entry where it belongs."""
        place = branch.path / entry.name
        if entry.name.startswith(".") or entry.name.lower() in HIDDEN:
            return self.over("hidden", place)
        try:
            if entry.is_dir():
                branch.folders.append(self.walk(place, above))
            elif entry.is_symlink() and not place.exists():
                self.over("links that lead nowhere", place)
            elif (suffix := place.suffix.lower()) not in self.kind.suffixes:
                self.others[suffix or "without a suffix"] += suffix not in self.kind.beside
            elif not entry.is_file():
                self.over("pipes and devices", place)
            else:
                branch.files.append((place, entry.stat().st_size))
        except OSError as error:
            raise UserError(f"{place} cannot be read: {error.strerror}") from error


def few(names: Iterable[str], most: int = EXAMPLES) -> str:
    """Some names, and how many more there are."""
    names = list(names)
    told = ", ".join(map(shown, names[:most]))
    return f"{told} and {len(names) - most} more" if len(names) > most else told
