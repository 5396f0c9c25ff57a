"""Files are written whole or not at all."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from tempfile import TemporaryFile

from plasticity.errors import UserError

MARK = ".writing"  # a file under way: NAME.PID.writing
FULL = (errno.ENOSPC, errno.EDQUOT)


def make_folder(folder: Path) -> None:
    """The folder of a file to be written.

    Raises:
        UserError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"the folder {folder} cannot be made: {error.strerror}") from error


def check_writable(path: Path, *, makes: bool = False) -> None:
    """Refuse a file that cannot be written, before anything is computed for it.

    Args:
        makes: its folder is made where it is missing.

    Raises:
        UserError: a folder of its name, no folder for it, or one that cannot be written to.
    """
    path = Path(path)
    if not path.name or path.is_dir():
        raise UserError(f"{shown(path)} is a folder: expected the name of a file to write")
    folder = path.parent
    while makes and not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        what = "is no folder" if folder.exists() else "is not there: make it first"
        raise UserError(f"{shown(path)} could not be written: the folder {shown(folder)} {what}")
    try:
        with TemporaryFile(dir=folder):  # rights alone do not tell of a disk that is read-only
            pass
    except OSError as error:
        if error.errno not in FULL:  # room may be made in the meantime
            reason = f"{shown(folder)}: {error.strerror}"
            raise UserError(f"{shown(path)} could not be written: {reason}") from error


def check_private(path: Path) -> None:
    """Refuse what others could have written, where it decides which code runs.

    Raises:
        OSError: it is not there, belongs to another user, or others may write to it.
    """
    status = path.stat()
    if not hasattr(os, "geteuid"):
        return
    if status.st_uid != os.geteuid():
        raise PermissionError(f"{path} belongs to another user")
    if status.st_mode & 0o022:
        raise PermissionError(f"{path} can be written by other users")


def shown(name: str | Path) -> str:
    """A name that can be printed, even where it is not UTF-8."""
    return str(name).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` to write to, which takes its place when all is written.

    A killed process leaves at most its temporary file, which the next writer removes. Where
    anything fails, the file that stood before stands. Write to it by Python's own functions: a
    library that meets a full disk may hide what happened, HDF5 crashes later on.

    Raises:
        UserError: a full disk, or a folder that cannot be written to.
    """
    path = Path(path)
    if not path.name:
        raise UserError(f"{path} is no name of a file: expected a file to write to")
    _sweep(path)
    part = path.with_name(f"{path.name}.{os.getpid()}{MARK}")
    try:
        yield part
        with open(part, "rb+") as written:
            os.fsync(written.fileno())
        os.replace(part, path)
    except OSError as error:
        size = _remove(part)
        reason = os.strerror(error.errno) if error.errno else str(error)
        if error.errno in FULL:
            needed = f", more than {size:,} bytes are needed" if size else ""
            reason = f"the disk is full{needed}: make room there"
        stands = "; the file that stood there before is untouched" if path.is_file() else ""
        raise UserError(f"{path} could not be written: {reason}{stands}") from error
    except BaseException:
        _remove(part)
        raise


def _remove(part: Path) -> int:
    """Remove what was written of a file; its bytes."""
    size = 0
    with suppress(OSError):  # it may never have come to be
        size = part.stat().st_size
        part.unlink()
    return size


def _sweep(path: Path) -> None:
    """Remove what processes that no longer live have left beside `path`."""
    for part in path.parent.glob(f"{escape(path.name)}.*{MARK}"):
        pid = part.name[len(path.name) + 1 : -len(MARK)]
        if pid.isdigit() and not lives(int(pid)):
            part.unlink(missing_ok=True)


def lives(pid: int) -> bool:
    """Whether a process of this machine is there."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
