"""The data sets by name, and how each format is read."""

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path

import numpy as np
from PIL import Image

from plasticity import places
from plasticity.data import folders
from plasticity.data.image_set import ImageSet
from plasticity.data.images import DamagedError, square
from plasticity.data.tree import few
from plasticity.errors import UserError
from plasticity.files import shown

SPLITS = ("unlabelled", "train", "test")
SPEECH = ("speech", "librispeech", "flite")  # see data/speech.py
FILM = ("motions", "ucf101", "ucf101-2", "ucf101-3")  # see data/motions.py, data/films.py
SAMPLE_SIDE = 64
CIFAR_SIDE = 72  # 32x32 images, scaled up so that a 64x64 crop can move
FOLDER_SIDE = 96


def luma(rgb: np.ndarray) -> np.ndarray:
    """ITU-R 601 luma of `(..., 3)` uint8, in Pillow's integer arithmetic: uint8 `(...)`."""
    r, g, b = (rgb[..., i].astype(np.uint32) for i in range(3))
    return ((19595 * r + 38470 * g + 7471 * b + 0x8000) >> 16).astype(np.uint8)


def scale(images: np.ndarray, side: int) -> np.ndarray:
    """Images `(B, h, w)`, or `(B, h, w, 3)`, scaled to `(B, side, side)`, bilinear."""
    found = np.empty((len(images), side, side, *images.shape[3:]), np.uint8)
    for image, out in zip(images, found, strict=True):
        out[...] = Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR)
    return found


def user_folder() -> Path:
    """Where this user's data sets are kept if nothing else is said."""
    return places.data() / "data"


def data_folder(data_dir: str | Path | None = None) -> Path:
    """`data_dir`, or `PLASTICITY_DATA`, or the user's own folder."""
    named = data_dir or os.environ.get("PLASTICITY_DATA")
    return Path(os.path.expanduser(named)) if named else user_folder()


def open_set(
    name: str,
    split: str,
    data_dir: str | Path | None = None,
    *,
    skip_damaged: bool = False,
    colour: bool = False,
) -> ImageSet:
    """Open a data set by name (`sample`, `stl10`, `cifar10`), or a folder of images by its path.

    Args:
        split: `unlabelled` (for learning), `train` or `test` (for probes).
        data_dir: the folder that holds data sets, see `data_folder`.
        skip_damaged: leave damaged images of a folder out, see `ImageSet.sound`.
        colour: red, green and blue; otherwise grey, the ITU-R 601 luma.

    Raises:
        UserError: an unknown name, a split that is not there, files that are missing or damaged,
            colours of a set that has none.
    """
    if split not in SPLITS:
        raise UserError(f"unknown split '{split}': expected {', '.join(SPLITS)}")
    if name in SETS:
        return _named(name, split, data_dir, colour)
    found = folder(folder_path(name), skip_damaged=skip_damaged, colour=colour)
    if split not in found:
        held = ", ".join(f"{len(one)} for '{other}'" for other, one in found.items())
        raise UserError(f"{name} holds no image for '{split}', but {held}")
    return found[split]


def open_splits(
    name: str, data_dir: str | Path | None = None, *, skip_damaged: bool = False
) -> dict[str, ImageSet]:
    """The splits of a data set that are there, at least one.

    Raises:
        UserError: as `open_set`.
    """
    if name not in SETS:
        return folder(folder_path(name), skip_damaged=skip_damaged)
    found, missing = {}, None
    for split in SPLITS:
        try:
            found[split] = _named(name, split, data_dir)
        except UserError as error:
            missing = error
    if not found and missing:
        raise missing
    return found


def described(name: str, data_dir: str | Path | None = None) -> list[str]:
    """Lines that say what a data set holds, and what was passed over.

    Raises:
        UserError: as `open_set`.
    """
    found = open_splits(name, data_dir)
    counts = ", ".join(f"{split} {len(one)}" for split, one in found.items())
    classes = max((one.classes for one in found.values()), key=len)
    named = f"; classes: {len(classes)} ({few(classes, most=20)})" if classes else "; no labels"
    remarks = next(iter(found.values())).remarks
    return [f"Images of {shown(name)}: {counts}{named}", *(f"  {remark}" for remark in remarks)]


def damaged(name: str, report: Callable[[int, int], None]) -> dict[str, str]:
    """The images of a folder that cannot be decoded, and what is wrong with them.

    A data set by name has none: its files hold plain bytes, and their sizes are checked.

    Args:
        report: called with the number of images decoded, and that of all.
    """
    if name in SETS:
        return {}
    splits = folders.read(folder_path(name)).splits.values()
    files = sorted({file for split in splits for file in split.files})
    found = {}
    for done, file in enumerate(files, 1):
        try:
            square(file, FOLDER_SIDE)
        except DamagedError as error:
            found[shown(file)] = error.reason
        report(done, len(files))
    return found


def absolute(name: str) -> str:
    """The name of a data set, or the absolute path of a folder of images, which stays if it is not
    there: a run must mean the same from everywhere."""
    if name in (*SETS, *SPEECH, *FILM):
        return name
    path = os.path.abspath(os.path.expanduser(name))
    return path if name.strip() and (os.sep in name or os.path.isdir(path)) else name


def folder_path(name: str) -> Path:
    """The folder of images that a name stands for.

    Raises:
        UserError: no such folder, or one that cannot be looked at.
    """
    if not name.strip():
        raise UserError(
            f"the name of the data set is empty: expected {', '.join(SETS)}, or a folder of images"
        )
    try:
        path = Path(os.path.expanduser(name))
        if stat.S_ISDIR(path.stat().st_mode):
            return path
        raise UserError(f"{name} is a file: expected a folder of images, or a data set")
    except PermissionError as error:
        raise UserError(f"{name} cannot be read: {error.strerror}") from error
    except (OSError, ValueError) as error:  # nothing there, or a null byte in the name
        near = get_close_matches(Path(name).name.lower().replace("-", ""), SETS, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"expected {', '.join(SETS)}"
        raise UserError(
            f"unknown data set '{name}': {hint}, or the path of a folder of images"
        ) from error


def _named(name: str, split: str, data_dir: str | Path | None, colour: bool = False) -> ImageSet:
    with _readable():
        return SETS[name](split, data_folder(data_dir), colour)


@contextmanager
def _readable() -> Iterator[None]:
    """Files and folders without rights, or on a broken disk, are told in a sentence."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{error.filename} cannot be read: {error.strerror}") from error


def _identity(files: Iterable[Path]) -> str:
    """The number of a set's files, and a digest of their names and sizes."""
    told = [f"{file.name} {file.stat().st_size}" for file in files]
    digest = hashlib.sha256("\n".join(told).encode()).hexdigest()[:32]
    return f"{len(told)} files, {digest}"


def sample(split: str, _: Path, colour: bool = False) -> ImageSet:
    """Fashion-MNIST (Xiao, Rasul & Vollgraf 2017): the excerpt that the package ships."""
    if colour:
        raise UserError(
            "the images of sample are grey: --colour is for stl10, cifar10 or a folder of images"
        )
    place = Path(__file__).with_name("sample.npz")
    with np.load(place) as stored:
        kind = "test" if split == "test" else "train"
        images, labels = stored[f"{kind}_images"], stored[f"{kind}_labels"].astype(np.int64)
        mean, std = (float(v) for v in stored["mean_std"])
        classes = tuple(str(c) for c in stored["classes"])

    def read(indices: np.ndarray) -> np.ndarray:
        return scale(images[indices], SAMPLE_SIDE)

    shape = len(images), SAMPLE_SIDE
    return ImageSet(
        "sample", split, *shape, read, labels, classes, (mean,), (std,), place, _identity([place])
    )


def _find(where: Path, inner: str, file: str) -> Path:
    """A file in the folder itself or in the folder that its archive makes."""
    for place in (where / file, where / inner / file):
        if place.is_file():
            return place
    name = "stl10" if "stl10" in inner else "cifar10"
    raise UserError(
        f"{file} is neither in {where} nor in {where / inner}: put it there, name another folder "
        f"by --data-dir or PLASTICITY_DATA, or run 'plasticity data fetch {name}'"
    )


def _records(place: Path, length: int) -> np.memmap:
    """A file of records of `length` bytes, mapped into memory `(records, length)`."""
    size = place.stat().st_size
    if size == 0 or size % length:
        raise UserError(
            f"{place} has {size} bytes, expected a whole number of records of {length} bytes: "
            "it is truncated or another file"
        )
    return np.memmap(place, np.uint8, "r", shape=(size // length, length))


STL10_IMAGES = {"unlabelled": "unlabeled_X.bin", "train": "train_X.bin", "test": "test_X.bin"}
STL10_LABELS = {"train": "train_y.bin", "test": "test_y.bin"}
# Means and deviations, as published with GIM's and CLAPP's code: of grey values, and of colours.
STL10_GREY = ((0.4120,), (0.2570,))
STL10_COLOUR = ((0.4313, 0.4156, 0.3663), (0.2683, 0.2610, 0.2687))
STL10_CLASSES = "airplane bird car cat deer dog horse monkey ship truck"


def stl10(split: str, where: Path, colour: bool = False) -> ImageSet:
    """STL-10 (Coates, Ng & Lee 2011): 96x96 colour images in planes that run down columns."""
    place = _find(where, "stl10_binary", STL10_IMAGES[split])
    planes = _records(place, 3 * 96 * 96)
    labels, files = None, [place]
    if split in STL10_LABELS:
        file = _find(where, "stl10_binary", STL10_LABELS[split])
        files.append(file)
        labels = _records(file, 1)[:, 0].astype(np.int64) - 1
        if len(labels) != len(planes):
            raise UserError(f"{file} has {len(labels)} labels, {place} has {len(planes)} images")
        if labels.min() < 0 or labels.max() > 9:
            raise UserError(f"{file} holds labels outside 1 to 10: it is not STL-10's")

    def read(indices: np.ndarray) -> np.ndarray:
        images = planes[indices].reshape(-1, 3, 96, 96).transpose(0, 3, 2, 1)
        return np.ascontiguousarray(images) if colour else luma(images)

    classes = tuple(STL10_CLASSES.split())
    how = *(STL10_COLOUR if colour else STL10_GREY), place, _identity(files)
    return ImageSet("stl10", split, len(planes), 96, read, labels, classes, *how)


def stl10_folds(where: Path) -> list[np.ndarray]:
    """The ten published folds of the training images, from `fold_indices.txt`."""
    try:
        with _readable():
            place = _find(where, "stl10_binary", "fold_indices.txt")
            lines = place.read_text(encoding="ascii").splitlines()
        return [np.array(line.split(), np.int64) for line in lines if line.strip()]
    except ValueError as error:
        raise UserError(f"{place}: expected lines of image numbers ({error})") from error


# Means and deviations of 10,000 training images, scaled as below: of grey values, and of colours.
CIFAR10_GREY = ((0.4823,), (0.2342,))
CIFAR10_COLOUR = ((0.4936, 0.4833, 0.4473), (0.2403, 0.2383, 0.2562))
CIFAR10_CLASSES = "airplane automobile bird cat deer dog frog horse ship truck"


def _class_names(place: Path) -> tuple[str, ...]:
    """CIFAR-10's classes, from its own file if that is there."""
    if not place.is_file():
        return tuple(CIFAR10_CLASSES.split())
    try:
        names = tuple(place.read_text(encoding="utf-8").split())
    except UnicodeDecodeError as error:
        raise UserError(f"{place} is not UTF-8: expected the names of ten classes") from error
    if len(names) != 10:
        raise UserError(f"{place} holds {len(names)} names, expected those of ten classes")
    return names


def cifar10(split: str, where: Path, colour: bool = False) -> ImageSet:
    """CIFAR-10 (Krizhevsky 2009), its binary format: a label, then planes R, G, B of 32x32."""
    inner = "cifar-10-batches-bin"
    if split == "test":
        files = [_find(where, inner, "test_batch.bin")]
    else:
        base = _find(where, inner, "data_batch_1.bin").parent
        files = sorted(base.glob("data_batch_[1-5].bin"))
    parts = [_records(file, 3073) for file in files]
    starts = np.cumsum([0, *(len(part) for part in parts)])
    labels = np.concatenate([part[:, 0] for part in parts]).astype(np.int64)
    for file, part in zip(files, parts, strict=True):
        if part[:, 0].max() > 9:
            raise UserError(f"{file} holds labels above 9: it is not CIFAR-10's binary format")
    classes = _class_names(files[0].parent / "batches.meta.txt")

    def read(indices: np.ndarray) -> np.ndarray:
        rows = np.empty((len(indices), 3072), np.uint8)
        which = np.searchsorted(starts, indices, side="right") - 1
        for number, part in enumerate(parts):
            mine = which == number
            rows[mine] = part[indices[mine] - starts[number], 1:]
        images = rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        return scale(np.ascontiguousarray(images) if colour else luma(images), CIFAR_SIDE)

    return ImageSet(
        "cifar10",
        split,
        int(starts[-1]),
        CIFAR_SIDE,
        read,
        labels,
        classes,
        *(CIFAR10_COLOUR if colour else CIFAR10_GREY),
        files[0],
        _identity(files),
    )


def folder(where: Path, *, skip_damaged: bool = False, colour: bool = False) -> dict[str, ImageSet]:
    """The splits of a folder of images, as `folders.read` understands it, at 96x96 pixels.

    Raises:
        UserError: no image in it, or classes and splits that could be understood in two ways.
    """
    held = folders.read(where)

    def opened(split: str, part: folders.Split) -> ImageSet:
        return ImageSet(
            str(where),
            split,
            len(part.files),
            FOLDER_SIDE,
            lambda indices: np.stack([square(part.files[i], FOLDER_SIDE, colour) for i in indices]),
            part.labels,
            held.classes if part.labels is not None else (),
            *(STL10_COLOUR if colour else STL10_GREY),
            where,
            held.identity(split),
            held.remarks,
            skip_damaged,
        )

    return {split: opened(split, part) for split, part in held.splits.items() if part.files}


SETS = {"sample": sample, "stl10": stl10, "cifar10": cifar10}
