"""Archives from elsewhere: unpacked within limits, plain files alone, inside one folder."""

import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import BinaryIO

from plasticity.data.download import Report
from plasticity.errors import UserError

try:
    from lzma import LZMAError
except ImportError:  # a Python that was built without it
    LZMAError = zlib.error

METADATA = 1 << 20  # bytes that a tar archive may want read at once; contents are copied in pieces
DAMAGE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    LZMAError,
    EOFError,
    ValueError,  # a name with a NUL, numbers that are none
    OverflowError,
    NotImplementedError,  # a compression that zipfile does not know
    RuntimeError,  # a zip file with a password
    ImportError,  # a compression that this Python was built without
)
PLAIN = 0o100000  # the type of a plain file in the mode that a zip archive keeps

# Name, bytes, and how to read it; None for a folder.
Member = tuple[str, int, Callable[[], BinaryIO] | None]


def unpack(archive: Path, folder: Path, most: int, files: int, report: Report) -> None:
    """Write the plain files of a tar (.gz, .bz2, .xz) or zip archive below `folder`.

    Written by their content: that is safe in every Python, old ones whose tarfile has no filters
    included.

    Args:
        most, files: bytes and members that the archive may hold, unpacked.
        report: called with the activity, bytes of the archive done, and its bytes.

    Raises:
        UserError: a damaged archive, one beyond the limits, a link or a device in it, or a path
            that leads out of the folder.
        OSError: a full disk.
    """
    folder, size, left = folder.resolve(), archive.stat().st_size, most
    try:
        with open(archive, "rb") as packed:
            kind = _zip if packed.read(2) == b"PK" else _tar
            packed.seek(0)
            for number, (name, length, read) in enumerate(kind(packed, most, files), 1):
                if number > files:
                    raise UserError(f"{archive} is refused: it holds more than {files} files")
                left -= length
                if left < 0 or length < 0:
                    raise UserError(f"{archive} is refused: it unpacks to more than {most} bytes")
                if read is not None:
                    _write(folder, name, length, read)
                report("unpacking", packed.tell(), size)
    except (*DAMAGE, OSError) as error:
        if getattr(error, "errno", None) is not None:  # the disk, not the archive
            raise
        raise UserError(f"{archive} is refused: {error or type(error).__name__}") from error


def _write(folder: Path, name: str, length: int, read: Callable[[], BinaryIO]) -> None:
    path = (folder / name).resolve()
    if not path.is_relative_to(folder) or path == folder:
        raise ValueError(f"{name!r} leads out of its folder")
    if path.exists():
        raise ValueError(f"{name!r} is in it twice")
    path.parent.mkdir(parents=True, exist_ok=True)
    with read() as source, open(path, "wb") as file:
        shutil.copyfileobj(source, file)
        if file.tell() != length:
            raise EOFError(f"{name!r} has {file.tell()} bytes of {length}")


class _Limited:
    """What tarfile reads from: it fails beyond `most` bytes, or when much is wanted at once."""

    def __init__(self, file: BinaryIO, most: int):
        self.file, self.most, self.tell = file, most, file.tell

    def read(self, size: int) -> bytes:
        if size > METADATA:
            raise tarfile.ReadError(f"a header of {size} bytes")
        data = self.file.read(size)
        if self.tell() > self.most:
            raise tarfile.ReadError(f"it unpacks to more than {self.most} bytes")
        return data

    def seek(self, place: int) -> int:
        if place > self.most:
            raise tarfile.ReadError(f"it unpacks to more than {self.most} bytes")
        return self.file.seek(place)


def _tar(packed: BinaryIO, most: int, files: int) -> Iterator[Member]:
    head = packed.read(2)
    packed.seek(0)
    library = {b"\x1f\x8b": "gzip", b"BZ": "bz2", b"\xfd7": "lzma"}.get(head)
    content = import_module(library).open(packed) if library else packed
    overhead = files * 4 * tarfile.BLOCKSIZE + METADATA  # headers and padding
    limited = _Limited(content, most + overhead)
    with tarfile.open(fileobj=limited, mode="r:") as tar:
        for member in tar:
            plain = member.isfile() and not member.issparse()
            if not plain and not member.isdir():
                raise tarfile.TarError(f"{member.name!r} is no plain file of its own folder")
            read = partial(tar.extractfile, member) if plain else None
            yield member.name, member.size, read
    while limited.read(METADATA):  # to the end, where checksums are compared
        pass


def _zip(packed: BinaryIO, _most: int, _files: int) -> Iterator[Member]:
    with zipfile.ZipFile(packed) as archive:
        for member in archive.infolist():
            kind = (member.external_attr >> 16) & 0o170000
            if not member.is_dir() and kind not in (0, PLAIN):
                raise zipfile.BadZipFile(f"{member.filename!r} is no plain file of its own folder")
            read = None if member.is_dir() else partial(archive.open, member)
            yield member.filename, member.file_size, read
