"""One image file: how values, transparency and orientation are read, and what is refused."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from plasticity.data import images
from plasticity.data.images import DamagedError, square
from plasticity.errors import UserError

SIDE = 96
RAMP = np.tile(np.linspace(0, 1, SIDE), (SIDE, 1))  # from black on the left to white
EIGHT = np.rint(RAMP * 255).astype(np.uint8)


def tiff(values, bits, *, kind=1, white_is_zero=False, big=False, tags=()):
    """An uncompressed grey TIFF, byte by byte (TIFF 6.0): `bits` wide, `kind` of sample format."""
    order = ">" if big else "<"
    entries = sorted([
        (256, 3, SIDE), (257, 3, SIDE), (258, 3, bits), (259, 3, 1), (262, 3, 1 - white_is_zero),
        (273, 4, 0), (277, 3, 1), (278, 3, SIDE), (279, 4, len(values)), (339, 3, kind), *tags,
    ])  # fmt: skip
    start = 14 + 12 * len(entries)
    packed = (b"MM" if big else b"II") + struct.pack(f"{order}HIH", 42, 8, len(entries))
    for tag, form, value in entries:
        value = start if tag == 273 else value
        field = {3: "HH", 4: "I", 11: "f"}[form]
        packed += struct.pack(f"{order}HHI{field}", tag, form, 1, value, *[0] * (form == 3))
    return packed + struct.pack("I", 0) + values


def twelve_bits(values):
    """Pairs of 12-bit values in three bytes."""
    a, b = values.ravel()[::2].astype(int), values.ravel()[1::2].astype(int)
    return np.stack([a >> 4, (a & 15) << 4 | b >> 8, b & 255], 1).astype(np.uint8).tobytes()


def of(top, dtype, values=RAMP):
    return np.rint(values * top).astype(dtype).tobytes()


def png_of(width, height):
    """A PNG that declares a size and holds next to nothing."""

    def chunk(name, content):
        checked = name + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rest = chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + rest


def saved(image, suffix, **how):
    content = io.BytesIO()
    image.save(content, Image.registered_extensions()[suffix], **how)
    return content.getvalue()


DEPTHS = {
    "16 bits, PNG": saved(Image.fromarray(np.rint(RAMP * 65535).astype(np.uint16)), ".png"),
    "16 bits, PGM": b"P5 96 96 65535\n" + of(65535, ">u2"),
    "12 bits, PGM": b"P5 96 96 4095\n" + of(4095, ">u2"),
    "7 bits, PGM": b"P5 96 96 100\n" + of(100, "u1"),
    "16 bits, TIFF": tiff(of(65535, "<u2"), 16),
    "16 bits, big-endian TIFF": tiff(of(65535, ">u2"), 16, big=True),
    "12 bits, TIFF": tiff(twelve_bits(np.rint(RAMP * 4095)), 12),
    "16 bits of which 12 are declared": tiff(
        of(4095, "<u2"), 16, tags=[(280, 3, 0), (281, 3, 4095)]
    ),
    "16 bits, white is zero": tiff(of(65535, "<u2", 1 - RAMP), 16, white_is_zero=True),
    "floats whose range is declared": tiff(
        RAMP.astype("<f4").tobytes(), 32, kind=3, tags=[(340, 11, 0.0), (341, 11, 1.0)]
    ),
}


@pytest.mark.parametrize("content", DEPTHS.values(), ids=DEPTHS)
def test_values_of_any_depth_are_scaled_by_the_range_that_the_file_declares(tmp_path, content):
    place = tmp_path / "a.img"
    place.write_bytes(content)
    assert np.abs(square(place, SIDE).astype(int) - EIGHT).max() <= 2


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (tiff(of(32767, "<i2"), 16, kind=2), "signed values of 16 bits"),
        (tiff(of(127, "i1"), 8, kind=2), "signed values of 8 bits"),
        (tiff(of(65535, "<u4"), 32), "unsigned values of 32 bits"),
        (tiff(RAMP.astype("<f4").tobytes(), 32, kind=3), "floating-point values of 32 bits"),
    ],
)
def test_values_without_a_declared_range_are_refused(tmp_path, content, said):
    place = tmp_path / "a.tif"
    place.write_bytes(content)
    with pytest.raises(DamagedError, match=f"{said} and does not declare their range"):
        square(place, SIDE)


@pytest.mark.parametrize("size", [(96, 96), (30, 40), (500, 375), (28, 28), (1, 50)])
def test_an_image_is_scaled_whole_and_cropped_at_the_centre(tmp_path, size):
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0]), np.uint8)
    image = Image.fromarray(pixels)
    image.save(tmp_path / "a.png")
    ratio = SIDE / min(size)
    width, height = (max(SIDE, round(n * ratio)) for n in size)
    left, top = (width - SIDE) // 2, (height - SIDE) // 2
    whole = image.resize((width, height), Image.Resampling.BILINEAR)
    wanted = whole.crop((left, top, left + SIDE, top + SIDE))
    np.testing.assert_array_equal(square(tmp_path / "a.png", SIDE), np.asarray(wanted))


def test_a_strip_is_never_scaled_whole(tmp_path, monkeypatch):
    """A strip of 1x40000 pixels would have 350 million."""
    Image.fromarray(np.zeros((40_000, 1), np.uint8)).save(tmp_path / "a.png")
    asked, resize = [], Image.Image.resize

    def watched(image, size, *how, **named):
        asked.append(size)
        return resize(image, size, *how, **named)

    monkeypatch.setattr(Image.Image, "resize", watched)
    square(tmp_path / "a.png", SIDE)
    assert asked == [(SIDE, SIDE)]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp"])
@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (3, lambda a: a[::-1, ::-1]),
        (6, lambda a: np.rot90(a, -1)),
        (8, lambda a: np.rot90(a)),
        (5, lambda a: a.T),
    ],
)
def test_photographs_are_turned_upright(tmp_path, suffix, orientation, upright):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(EIGHT).save(tmp_path / f"a{suffix}", exif=exif)
    found = square(tmp_path / f"a{suffix}", SIDE)
    assert np.abs(found.astype(int) - upright(EIGHT)).max() <= 6  # JPEG and WebP lose some


def half_hidden(mode):
    """Black above, and below a colour that transparency hides."""
    pixels = np.full((SIDE, SIDE), 0, np.uint8)
    pixels[SIDE // 2 :] = 1 if mode == "P" else 77
    image = Image.fromarray(pixels)
    if mode in ("RGBA", "LA"):
        image = image.convert(mode)
        image.putalpha(Image.fromarray(np.where(pixels == 0, 255, 0).astype(np.uint8)))
    elif mode == "P":
        image = Image.frombytes("P", image.size, pixels.tobytes())
        image.putpalette([0, 0, 0, 50, 60, 70])
    return image


@pytest.mark.parametrize(
    ("mode", "how"),
    [("RGBA", {}), ("LA", {}), ("P", {"transparency": 1}), ("L", {"transparency": 77})],
)
def test_transparent_pixels_show_white_paper(tmp_path, mode, how):
    half_hidden(mode).save(tmp_path / "a.png", **how)
    found = square(tmp_path / "a.png", SIDE)
    assert (found[: SIDE // 2] == 0).all() and (found[SIDE // 2 :] == 255).all()


@pytest.mark.parametrize("suffix", [".tif", ".gif", ".png", ".webp"])
def test_stacks_are_refused(tmp_path, suffix):
    first, second = Image.fromarray(EIGHT), Image.fromarray(255 - EIGHT)
    first.save(tmp_path / f"a{suffix}", save_all=True, append_images=[second])
    with pytest.raises(DamagedError, match="holds 2 pages: save each"):
        square(tmp_path / f"a{suffix}", SIDE)


def test_the_preview_that_a_camera_adds_is_no_page(tmp_path):
    image = Image.fromarray(EIGHT)
    image.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[image.resize((8, 8))])
    assert np.abs(square(tmp_path / "a.jpg", SIDE).astype(int) - EIGHT).max() <= 6


GOOD = saved(Image.fromarray(EIGHT), ".png")
DAMAGED = {
    "empty": b"",
    "text": b"hello",
    "cut in the header": GOOD[:20],
    "cut in the pixels": GOOD[: len(GOOD) // 2],
    "a bit in the pixels": GOOD[:60] + bytes([GOOD[60] ^ 255]) + GOOD[61:],
    "a program in PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
    "a bomb": png_of(60_000, 60_000),
    "a small bomb": png_of(11_000, 10_000),
    "no width": png_of(0, 10),
}


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_damage_of_any_kind_is_a_sentence_with_the_path(tmp_path, content):
    place = tmp_path / "a.png"
    place.write_bytes(content)
    with pytest.raises(DamagedError, match=r"a\.png cannot be used as an image: \w+"):
        square(place, SIDE)


@pytest.mark.filterwarnings("ignore::UserWarning")  # pytest undoes the package's own filter
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".gif", ".bmp", ".webp", ".jp2"])
def test_bytes_changed_at_random_never_end_in_a_traceback(tmp_path, suffix):
    content, rng = saved(Image.fromarray(EIGHT), suffix), np.random.default_rng(0)
    told = 0
    for _ in range(60):
        changed = bytearray(content)
        for place in rng.integers(0, min(len(content), 300), 4):
            changed[place] = rng.integers(0, 256)
        (tmp_path / "a").write_bytes(changed)
        try:
            assert square(tmp_path / "a", SIDE).shape == (SIDE, SIDE)
        except UserError:
            told += 1
    assert told > 0


@pytest.mark.parametrize(
    ("error", "said"),
    [(MemoryError(), "not enough memory"), (PermissionError(13, "Permission denied"), "denied")],
)
def test_lack_of_memory_or_rights_is_told(tmp_path, monkeypatch, error, said):
    def fails(*how, **named):
        raise error

    monkeypatch.setattr(images.Image, "open", fails)
    with pytest.raises(DamagedError, match=said):
        square(tmp_path / "a.png", SIDE)
