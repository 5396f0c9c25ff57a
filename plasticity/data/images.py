"""One image file as a square, grey or in colour."""

import logging
import warnings
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from plasticity.errors import UserError

# fmt: off
SUFFIXES = {
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".dib", ".gif", ".tif", ".tiff", ".webp",
    ".pbm", ".pgm", ".ppm", ".pnm", ".jp2", ".j2k", ".avif", ".tga",
}
# Pillow goes by the content, not by the suffix. Others of its formats start other programs
# (EPS), or are no pictures.
FORMATS = (
    "PNG", "JPEG", "MPO", "BMP", "DIB", "GIF", "TIFF", "WEBP", "PPM", "JPEG2000", "AVIF", "TGA"
)
# fmt: on
PIXELS = 100_000_000
"""An image of more pixels is refused: it would take 400 MB to decode."""

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What brings an image upright, by its EXIF orientation."""

ORIENTATION = 0x0112
PHOTOMETRIC, BITS, SAMPLE_FORMAT, SUBFILE = 262, 258, 339, 254  # tags of TIFF
RANGES = ((340, 341), (280, 281))  # pairs of them that declare the smallest and largest value

# Pillow warns of large images, which are refused here, and of metadata that nobody reads.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").addHandler(logging.NullHandler())


class DamagedError(UserError):
    """An image file that cannot be used, at `place`, for a `reason`."""

    def __init__(self, place: Path, reason: str) -> None:
        super().__init__(f"{place} cannot be used as an image: {reason}")
        self.place, self.reason = place, reason


def square(place: Path, side: int, colour: bool = False) -> np.ndarray:
    """An image upright, scaled until it covers a square, cropped at the centre.

    Values of more than 8 bits are scaled by the range that the file declares. Transparent pixels
    show white paper.

    Returns:
        uint8 `(side, side)`, ITU-R 601 luma of colours; or with `colour` `(side, side, 3)`.

    Raises:
        DamagedError: a file that cannot be read or decoded, is too large, holds several pages, or
            values whose range it does not declare.
    """
    try:
        with Image.open(place, formats=_formats()) as image:
            width, height = image.size
            if width * height > PIXELS:
                raise _UnfitError(f"it has {width}x{height} pixels, at most {PIXELS:,} are read")
            if (pages := _pages(image)) > 1:
                raise _UnfitError(f"it holds {pages} pages: save each as a file of its own")
            image.load()
            read = _plain(image, "RGB" if colour else "L")
            return centre(_upright(read, _orientation(image)), side)
    except Exception as error:  # Pillow lets through whatever a damaged file makes it meet
        raise DamagedError(place, _reason(error)) from error


class _UnfitError(Exception):
    """An image that is whole, but cannot be used."""


@cache
def _formats() -> list[str]:
    """Those of `FORMATS` that this Pillow knows."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _reason(error: Exception) -> str:
    if isinstance(error, _UnfitError):
        return str(error)
    if isinstance(error, UnidentifiedImageError):
        return "its content is no image of a known format"
    if isinstance(error, MemoryError):
        return "there is not enough memory to decode it"
    if isinstance(error, Image.DecompressionBombError):
        return f"it has more than {PIXELS:,} pixels"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = " ".join(str(error).split())
    return f"it is damaged ({text or type(error).__name__})"


def _pages(image: Image.Image) -> int:
    """Pages or frames, without the previews that cameras and viewers add."""
    frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    if image.format != "TIFF" or frames == 1:
        return frames
    previews = 0
    for frame in range(1, frames):
        image.seek(frame)
        previews += image.tag_v2.get(SUBFILE, 0) & 1
    image.seek(0)
    return frames - previews


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(ORIENTATION, 1)
    except Exception:  # metadata that cannot be read says nothing of the pixels, which can be
        return 1


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    return image.transpose(TURNS[orientation]) if orientation in TURNS else image


def _plain(image: Image.Image, mode: str) -> Image.Image:
    """The image in mode L or RGB."""
    tags = image.tag_v2 if image.format == "TIFF" else {}
    signed = set(np.ravel(tags.get(SAMPLE_FORMAT, 1))) - {1, 4}
    if image.mode.startswith("I") or image.mode == "F" or signed:
        return _scaled(image, tags).convert(mode)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert(mode)


def _scaled(image: Image.Image, tags: dict) -> Image.Image:
    """An image of more than 8 bits, scaled to 8 by the range that its file declares."""
    values = np.asarray(image)
    low, high = _range(image, tags)
    if not np.isfinite(values).all():
        raise _UnfitError("it holds values that are not finite")
    scaled = np.clip((values.astype(np.float64) - low) * (255 / (high - low)), 0, 255)
    grey = np.rint(scaled).astype(np.uint8)
    if tags.get(PHOTOMETRIC) == 0:  # white is zero
        grey = 255 - grey
    if isinstance(hidden := image.info.get("transparency"), int):
        grey[values == hidden] = 255
    return Image.fromarray(grey)


def _range(image: Image.Image, tags: dict) -> tuple[float, float]:
    """The values that stand for black and white."""
    for pair in RANGES:
        if all(tag in tags for tag in pair):
            low, high = (float(np.ravel(tags[tag])[0]) for tag in pair)
            if low < high:
                return low, high
    formats, bits = (int(np.ravel(tags.get(tag, 1))[0]) for tag in (SAMPLE_FORMAT, BITS))
    if image.format == "TIFF" and formats == 1 and bits <= 16:
        return 0, 2**bits - 1
    if image.format in ("PNG", "PPM", "JPEG2000"):  # Pillow scales these to 16 bits
        return 0, 2**16 - 1
    kind = {1: "unsigned", 2: "signed", 3: "floating-point"}.get(formats, "unusual")
    raise _UnfitError(
        f"it holds {kind} values of {bits} bits and does not declare their range: save it with 8 "
        "or 16 bits"
    )


def centre(image: Image.Image, side: int) -> np.ndarray:
    """The square in the middle, scaled so that the shorter side has `side` pixels, uint8."""
    ratio = side / min(image.size)
    box = []
    for size in image.size:
        whole = max(side, round(size * ratio))
        start = (whole - side) // 2
        box.append((start * size / whole, min(size, (start + side) * size / whole)))
    (left, right), (top, bottom) = box
    # Only the square is scaled: of 1x40000 pixels all would be 350 million.
    middle = (left, top, right, bottom)
    return np.asarray(image.resize((side, side), Image.Resampling.BILINEAR, box=middle))
