"""A folder of images: which classes and splits it holds, and which files are passed over.

    FOLDER/CLASS/IMAGE            every fifth image of a class is for tests
    FOLDER/train/CLASS/IMAGE      with test/ or val/ beside it, or without either (as above)
    FOLDER/unlabelled/IMAGE       beside train/: learned from in its stead
    FOLDER/IMAGE                  no labels

Whatever could be understood in two ways is refused, and whatever is passed over is told.
"""

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from plasticity.data.tree import IMAGES, Branch, Kind, Passed, few
from plasticity.errors import UserError
from plasticity.files import shown

SPELLINGS = {
    "train": "train training trn",
    "test": "test testing tst",
    "val": "val valid validation dev eval evaluation",
    "unlabelled": "unlabelled unlabeled unlabel unsupervised",
}
KINDS = {word: kind for kind, words in SPELLINGS.items() for word in words.split()}
FILLERS = {
    *("set", "sets", "data", "dataset", "image", "images", "img", "imgs"),
    *("picture", "pictures", "split", "folder"),
}
FIFTH = 5


@dataclass(frozen=True)
class Split:
    """Files of one purpose, in the order of their paths; labels int64 `(n,)` or None."""

    files: list[Path]
    sizes: list[int]
    labels: np.ndarray | None

    def only(self, pick: np.ndarray) -> "Split":
        """Some of them."""
        labels = None if self.labels is None else self.labels[pick]
        return Split([self.files[i] for i in pick], [self.sizes[i] for i in pick], labels)


@dataclass(frozen=True)
class Folder:
    """What a folder of images (or of another kind of files) holds.

    Attributes:
        classes: their names, numbered once for all splits; empty where no split has labels.
        splits: by `unlabelled` (to learn from), `train` and `test` (for probes).
        remarks: sentences on what was passed over or is amiss.
    """

    path: Path
    classes: tuple[str, ...]
    splits: dict[str, Split]
    remarks: tuple[str, ...]

    def identity(self, split: str) -> str:
        """The number of a split's files, and a digest of their names, sizes and classes."""
        found = self.splits[split]
        told = hashlib.sha256(repr(self.classes).encode())
        above = len(self.path.parts)
        for file, size in zip(found.files, found.sizes, strict=True):
            told.update(os.fsencode("/".join(file.parts[above:])) + b"\0%d\n" % size)
        return f"{len(found.files)} images, {told.hexdigest()[:32]}"


def read(path: Path, kind: Kind = IMAGES) -> Folder:
    """Find the classes and splits of a folder of images, or of another kind; no file is opened.

    Links are followed. Hidden folders and files, and runs of this program, are passed over.

    Raises:
        UserError: no such file; a folder that cannot be read; splits or classes that could be
            understood in two ways.
    """
    passed = Passed(path, kind)
    root = passed.walk(path)
    if not root.count:
        raise UserError(
            f"{shown(path)} holds no {kind.one}: expected files such as {kind.example}"
            + passed.in_brackets()
        )
    root = _unwrapped(root, passed)
    if root.path != path:
        passed.remark(f"the set is read from {shown(root.path)}")
    if parts := _parts(root, passed):
        return _by_splits(path, parts, passed)
    base = _base(root, passed)
    names = tuple(sorted(one.name for one in base.classes))
    whole = _split(base, names)
    splits = {"unlabelled": whole, **fifths(whole, names, passed)}
    return Folder(path, names, splits, passed.sentences())


def _by_splits(path: Path, parts: dict[str, Branch], passed: Passed) -> Folder:
    """A folder whose subfolders are splits."""
    parts = dict(parts)
    unlabelled = parts.pop("unlabelled", None)
    bases = {kind: _base(part, passed) for kind, part in parts.items()}
    held = {kind: {one.name for one in base.classes} for kind, base in bases.items()}
    tests = "test" if "test" in bases else "val"
    if tests in held and "test" not in held:
        passed.remark(f"'{parts['val'].name}' serves as the test {passed.kind.many}")
    elif "val" in held:
        passed.remark(
            f"'{parts['val'].name}' ({bases['val'].count} {passed.kind.many}) is neither learned "
            "from nor tested on"
        )
    train, test = held.get("train", set()), held.get(tests, set())
    _compare(path, train, test, passed, labelled="train" in held and tests in held)
    names = tuple(sorted(train | test))
    splits: dict[str, Split] = {}
    if "train" in bases:
        splits["unlabelled"] = splits["train"] = _split(bases["train"], names)
    if tests in bases:
        splits["test"] = _split(bases[tests], names)
    elif "train" in splits:
        splits |= fifths(splits["train"], names, passed)
        passed.remark(
            f"there is no test folder: every fifth training {passed.kind.one} is for tests"
        )
    if unlabelled:
        splits["unlabelled"] = _split(unlabelled, ())
    return Folder(path, names, splits, passed.sentences())


def _compare(path: Path, train: set, test: set, passed: Passed, *, labelled: bool) -> None:
    """Say which classes a split lacks, and refuse splits that share none."""
    if not labelled or train == test:
        return
    many, group = passed.kind.many, passed.kind.group
    if train and test and not train & test and not passed.kind.disjoint:
        raise UserError(
            f"the splits of {path} share no {group}: training has {few(sorted(train))}, the test "
            f"{few(sorted(test))}"
        )
    for kind, own, other in (("training", train, test), ("test", test, train)):
        if not own:
            passed.remark(f"the {kind} {many} have no {group} folders, hence no labels")
        elif other - own:
            passed.remark(f"there are no {kind} {many} of {few(sorted(other - own))}")


def fifths(whole: Split, names: Sequence[str], passed: Passed) -> dict[str, Split]:
    """Every fifth file of each class for tests, the others for training."""
    labels = np.zeros(len(whole.files), int) if whole.labels is None else whole.labels
    place = np.empty(len(labels), int)
    for label in np.unique(labels):
        mine = labels == label
        place[mine] = np.arange(mine.sum())
    tests = place % FIFTH == FIFTH - 1
    lacking = [name for i, name in enumerate(names) if not tests[labels == i].any()]
    if lacking:
        passed.remark(
            f"there are no test {passed.kind.many} of {few(lacking)}: fewer than {FIFTH} in all"
        )
    return {
        "train": whole.only(np.flatnonzero(~tests)),
        "test": whole.only(np.flatnonzero(tests)),
    }


def _split(base: Branch, names: Sequence[str]) -> Split:
    """The files of the class folders, or where there are none, the loose ones."""
    number = {name: i for i, name in enumerate(names)}
    labelled = bool(base.classes and names)
    found = [
        (file, size, number[one.name] if labelled else 0)
        for one in (base.classes if labelled else [base])
        for file, size in one.all()
    ]
    found.sort(key=lambda file: file[0].parts)
    files, sizes, labels = (list(column) for column in zip(*found, strict=True))
    return Split(files, sizes, np.array(labels, np.int64) if labelled else None)


def _base(part: Branch, passed: Passed) -> Branch:
    """Where the class folders of a split lie; loose files beside them are passed over."""
    while len(part.classes) == 1 and not part.files and _is_filler(part.classes[0].name):
        part = part.classes[0]
    if not part.classes:
        return part
    many, group = passed.kind.many, passed.kind.group
    for one in part.classes:
        inside = {_kind(child.name) for child in one.classes} - {None}
        if len(inside) > 1:
            raise UserError(
                f"the {group} folder {one.path} holds splits ({few(c.name for c in one.classes)}): "
                f"expected train/ and test/ at the top, each with a folder for each {group}"
            )
    loose = len(part.files)
    if loose > part.count - loose:
        raise UserError(
            f"{part.path} holds {loose} {many}, and {part.count - loose} in folders "
            f"({few(one.name for one in part.classes)}): sort all into {group} folders, or move "
            "the folders away"
        )
    for file, _ in part.files:
        passed.over(f"{many} beside the {group} folders", file)
    return Branch(part.path, [], part.folders)


def _unwrapped(branch: Branch, passed: Passed) -> Branch:
    """The folder itself, or the one that alone in it holds folders of files."""
    while len(branch.classes) == 1 and _kind(branch.classes[0].name) is None:
        inner = branch.classes[0]
        if not inner.classes or len(branch.files) > inner.count:
            break
        for file, _ in branch.files:
            passed.over(f"{passed.kind.many} beside the set", file)
        branch = inner
    return branch


def _parts(root: Branch, passed: Passed) -> dict[str, Branch]:
    """The folders that are splits, or nothing where all folders are classes."""
    found: dict[str, Branch] = {}
    others = []
    for one in root.classes:
        kind = _kind(one.name)
        if kind in found:
            raise UserError(
                f"'{found[kind].name}' and '{one.name}' in {root.path} are both read as '{kind}': "
                "keep one of them"
            )
        if kind is None:
            others.append(one)
        else:
            found[kind] = one
    _refuse_lookalikes(root.path, others)
    group = passed.kind.group
    if not found or (set(found) == {"train"} and others and not found["train"].classes):
        return {}  # trains are a class, beside others
    named, beside = few(one.name for one in found.values()), few(one.name for one in others)
    whole = {"train", "test"} <= set(found) or {"train", "val"} <= set(found)
    if others and not (whole and found["train"].classes):
        raise UserError(
            f"{root.path} holds {named}, which looks like a split, beside {beside}: expected "
            f"{group} folders alone, or train/ and test/ with {group} folders in each"
        )
    if "train" not in found and "unlabelled" not in found:
        raise UserError(
            f"{root.path} holds {named} alone: expected train/ beside it, to learn from"
        )
    for one in others:
        passed.over(f"{passed.kind.many} beside the splits", one.path, one.count)
    for file, _ in root.files:
        passed.over(f"{passed.kind.many} beside the splits", file)
    return found


def _words(name: str) -> list[str]:
    """The words of a name: `TrainImages_2017` is train, images."""
    words = re.findall(r"[^\W\d_]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower())
    return [word[:-3] if word[-3:] == "set" and word[:-3] in KINDS else word for word in words]


def _kind(name: str) -> str | None:
    """The split that a folder's name stands for, None if it is that of a class."""
    words = [word for word in _words(name) if word not in FILLERS]
    return KINDS.get(words[0]) if len(words) == 1 else None


def _is_filler(name: str) -> bool:
    """Whether a folder's name says no more than that it holds data."""
    return all(word in FILLERS for word in _words(name))


def _refuse_lookalikes(where: Path, branches: list[Branch]) -> None:
    """Refuse `train-clean` beside `test-clean`: nobody names classes so."""
    seen: dict[tuple[str, ...], dict[str, str]] = {}
    for one in branches:
        words = _words(one.name)
        for i, word in enumerate(words):
            if kind := KINDS.get(word):
                alike = seen.setdefault((*words[:i], "", *words[i + 1 :]), {})
                alike[kind] = one.name
                if len(alike) > 1:
                    raise UserError(
                        f"{few(sorted(alike.values()))} in {where} look like splits: name them "
                        "train and test"
                    )
