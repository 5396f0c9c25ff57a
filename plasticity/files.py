"""Files are written whole or not at all."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from plasticity.errors import UserError

MARK = ".writing"  # a file under way: NAME.PID.writing


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` to write to, which takes its place when all is written.

    A killed process leaves at most its temporary file, which the next writer removes. Where
    anything fails, the file that stood before stands.

    Raises:
        UserError: a full disk, or a folder that cannot be written to.
    """
    path = Path(path)
    _sweep(path)
    part = path.with_name(f"{path.name}.{os.getpid()}{MARK}")
    try:
        yield part
        with open(part, "rb+") as written:
            os.fsync(written.fileno())
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        full = error.errno in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error)
        reason = "the disk is full" if full else error.strerror or str(error)
        stands = "; the file that stood there before is untouched" if path.exists() else ""
        raise UserError(f"{path} could not be written: {reason}{stands}") from error
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _sweep(path: Path) -> None:
    """Remove what processes that no longer live have left beside `path`."""
    for part in path.parent.glob(f"{path.name}.*{MARK}"):
        pid = part.name[len(path.name) + 1 : -len(MARK)]
        if pid.isdigit() and not _lives(int(pid)):
            part.unlink(missing_ok=True)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
