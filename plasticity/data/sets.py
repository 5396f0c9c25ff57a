"""The data sets: what an image set is, and how each format is read."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from plasticity.errors import UserError

SPLITS = ("unlabelled", "train", "test")
SAMPLE_SIDE = 64
CIFAR_SIDE = 72  # 32x32 images, scaled up so that a 64x64 crop can move
FOLDER_SIDE = 96
SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm"}


@dataclass(frozen=True)
class ImageSet:
    """Grey images of one size, some of them with labels.

    Attributes:
        read: from indices `(B,)` to grey uint8 `(B, h, w)`; side: h = w.
        labels: int64 `(count,)`, counted from 0, or None.
        mean, std: of grey values between 0 and 1, for normalisation.
    """

    name: str
    split: str
    count: int
    side: int
    read: Callable[[np.ndarray], np.ndarray]
    labels: np.ndarray | None
    classes: tuple[str, ...]
    mean: float
    std: float
    place: Path

    def __len__(self) -> int:
        return self.count

    def gray(self, indices: np.ndarray) -> np.ndarray:
        """The images of these indices, grey, uint8 `(B, h, w)`."""
        return self.read(np.asarray(indices))

    def first(self, count: int) -> "ImageSet":
        """The set with its first `count` images alone (all, if it has fewer)."""
        labels = None if self.labels is None else self.labels[:count]
        return replace(self, count=min(count, self.count), labels=labels)


def luma(rgb: np.ndarray) -> np.ndarray:
    """ITU-R 601 luma of `(..., 3)` uint8, in Pillow's integer arithmetic: uint8 `(...)`."""
    r, g, b = (rgb[..., i].astype(np.uint32) for i in range(3))
    return ((19595 * r + 38470 * g + 7471 * b + 0x8000) >> 16).astype(np.uint8)


def scale(images: np.ndarray, side: int) -> np.ndarray:
    """Grey images `(B, h, w)` scaled to `(B, side, side)`, bilinear."""
    found = np.empty((len(images), side, side), np.uint8)
    for image, out in zip(images, found, strict=True):
        out[...] = Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR)
    return found


def user_folder() -> Path:
    """Where this user's data sets are kept if nothing else is said."""
    import platformdirs

    return Path(platformdirs.user_data_dir("plasticity", appauthor=False)) / "data"


def data_folder(data_dir: str | Path | None = None) -> Path:
    """`data_dir`, or `PLASTICITY_DATA`, or the user's own folder."""
    return Path(data_dir or os.environ.get("PLASTICITY_DATA") or user_folder())


def open_set(name: str, split: str, data_dir: str | Path | None = None) -> ImageSet:
    """Open a data set by name (`sample`, `stl10`, `cifar10`), or a folder of images by its path.

    Args:
        split: `unlabelled` (for learning), `train` or `test` (for probes).
        data_dir: the folder that holds data sets, see `data_folder`.

    Raises:
        UserError: an unknown name, or files that are missing or damaged.
    """
    if split not in SPLITS:
        raise UserError(f"unknown split '{split}': expected {', '.join(SPLITS)}")
    if name in SETS:
        return SETS[name](split, data_folder(data_dir))
    if Path(name).is_dir():
        return folder(Path(name), split)
    near = get_close_matches(name.lower().replace("-", ""), SETS, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"expected {', '.join(SETS)}"
    raise UserError(f"unknown data set '{name}': {hint}, or the path of a folder of images")


def sample(split: str, _: Path) -> ImageSet:
    """Fashion-MNIST (Xiao, Rasul & Vollgraf 2017): the excerpt that the package ships."""
    place = Path(__file__).with_name("sample.npz")
    with np.load(place) as stored:
        kind = "test" if split == "test" else "train"
        images, labels = stored[f"{kind}_images"], stored[f"{kind}_labels"].astype(np.int64)
        mean, std = (float(v) for v in stored["mean_std"])
        classes = tuple(str(c) for c in stored["classes"])

    def read(indices: np.ndarray) -> np.ndarray:
        return scale(images[indices], SAMPLE_SIDE)

    return ImageSet(
        "sample", split, len(images), SAMPLE_SIDE, read, labels, classes, mean, std, place
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
STL10_CLASSES = "airplane bird car cat deer dog horse monkey ship truck"


def stl10(split: str, where: Path) -> ImageSet:
    """STL-10 (Coates, Ng & Lee 2011): 96x96 colour images in planes that run down columns."""
    place = _find(where, "stl10_binary", STL10_IMAGES[split])
    planes = _records(place, 3 * 96 * 96)
    labels = None
    if split in STL10_LABELS:
        file = _find(where, "stl10_binary", STL10_LABELS[split])
        labels = _records(file, 1)[:, 0].astype(np.int64) - 1
        if len(labels) != len(planes):
            raise UserError(f"{file} has {len(labels)} labels, {place} has {len(planes)} images")
        if labels.min() < 0 or labels.max() > 9:
            raise UserError(f"{file} holds labels outside 1 to 10: it is not STL-10's")

    def read(indices: np.ndarray) -> np.ndarray:
        return luma(planes[indices].reshape(-1, 3, 96, 96).transpose(0, 3, 2, 1))

    classes = tuple(STL10_CLASSES.split())
    return ImageSet("stl10", split, len(planes), 96, read, labels, classes, 0.4120, 0.2570, place)


def stl10_folds(where: Path) -> list[np.ndarray]:
    """The ten published folds of the training images, from `fold_indices.txt`."""
    place = _find(where, "stl10_binary", "fold_indices.txt")
    try:
        lines = place.read_text(encoding="ascii").splitlines()
        return [np.array(line.split(), np.int64) for line in lines if line.strip()]
    except ValueError as error:
        raise UserError(f"{place}: expected lines of image numbers ({error})") from error


# Mean and deviation of the grey values of 10,000 training images, scaled as below.
CIFAR10_GREY = (0.4823, 0.2342)
CIFAR10_CLASSES = "airplane automobile bird cat deer dog frog horse ship truck"


def cifar10(split: str, where: Path) -> ImageSet:
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
    if labels.max() > 9:
        raise UserError(f"{files[0]} holds labels above 9: it is not CIFAR-10's binary format")
    names = files[0].parent / "batches.meta.txt"
    classes = tuple(names.read_text().split() if names.is_file() else CIFAR10_CLASSES.split())

    def read(indices: np.ndarray) -> np.ndarray:
        rows = np.empty((len(indices), 3072), np.uint8)
        which = np.searchsorted(starts, indices, side="right") - 1
        for number, part in enumerate(parts):
            mine = which == number
            rows[mine] = part[indices[mine] - starts[number], 1:]
        return scale(luma(rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)), CIFAR_SIDE)

    return ImageSet(
        "cifar10",
        split,
        int(starts[-1]),
        CIFAR_SIDE,
        read,
        labels,
        classes,
        *CIFAR10_GREY,
        files[0],
    )


def folder(where: Path, split: str) -> ImageSet:
    """A folder of images, by class in subfolders if it has any.

    With subfolders `train` and `test` these are the splits (and `unlabelled`, or else `train`, is
    what is learned from); otherwise every fifth image of each class is for testing. Images are
    scaled and cropped at the centre to 96x96.

    Raises:
        UserError: no image in it, or one that cannot be read.
    """
    parts = {name: where / name for name in SPLITS if (where / name).is_dir()}
    if parts and {"train", "test"} <= set(parts):
        base, whole = parts.get(split, parts["train"]), True
    else:
        base, whole = where, False
    files = sorted(p for p in base.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    inside = [p.relative_to(base).parts for p in files]
    classes = tuple(sorted({parts[0] for parts in inside if len(parts) > 1}))
    labelled = bool(classes) and all(len(parts) > 1 for parts in inside)
    number = {name: i for i, name in enumerate(classes)}
    labels = np.array([number[parts[0]] for parts in inside], np.int64) if labelled else None
    if not whole and split != "unlabelled":
        seen: dict[int, int] = {}
        order = []
        for label in labels if labels is not None else np.zeros(len(files), np.int64):
            order.append(seen.setdefault(int(label), 0))
            seen[int(label)] += 1
        pick = [i for i, place in enumerate(order) if (place % 5 == 4) == (split == "test")]
        files = [files[i] for i in pick]
        labels = None if labels is None else labels[pick]
    if not files:
        raise UserError(f"no image for '{split}' in {base}: expected files such as .png or .jpg")

    def read(indices: np.ndarray) -> np.ndarray:
        return np.stack([_open(files[i]) for i in indices])

    return ImageSet(
        str(where),
        split,
        len(files),
        FOLDER_SIDE,
        read,
        labels,
        classes if labelled else (),
        0.4120,
        0.2570,
        where,
    )


def _open(place: Path) -> np.ndarray:
    """One image as a grey square, uint8 `(96, 96)`."""
    try:
        with Image.open(place) as image:
            grey = image.convert("L")
    except (OSError, UnidentifiedImageError, ValueError) as error:
        raise UserError(f"{place} cannot be read as an image ({error})") from error
    ratio = FOLDER_SIDE / min(grey.size)
    width, height = (max(FOLDER_SIDE, round(n * ratio)) for n in grey.size)
    grey = grey.resize((width, height), Image.Resampling.BILINEAR)
    left, top = (width - FOLDER_SIDE) // 2, (height - FOLDER_SIDE) // 2
    return np.asarray(grey.crop((left, top, left + FOLDER_SIDE, top + FOLDER_SIDE)))


SETS = {"sample": sample, "stl10": stl10, "cifar10": cifar10}
