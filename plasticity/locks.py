"""A folder's lock: one process at a time holds it, and the system lets go of it when that ends."""

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from plasticity.errors import UserError

if TYPE_CHECKING:
    from filelock import FileLock, SoftFileLock

LOCK = ".lock"
UNKNOWN = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # to a file system without locks


@contextmanager
def locked(folder: Path, busy: Callable[[], str] | None) -> Iterator[None]:
    """Hold the folder's lock: the system's own, or where it has none, that of a file's being.

    Args:
        busy: the sentence for the case that another process holds it; None waits instead.

    Raises:
        UserError: another process holds it, or the folder cannot be written to.
    """
    try:
        lock = _taken(folder, 0 if busy else -1)
    except TimeoutError as error:
        raise UserError(busy()) from error
    except OSError as error:
        raise UserError(f"{folder} cannot be written to: {error.strerror}") from error
    try:
        yield
    finally:
        with suppress(OSError):
            lock.release()


def _taken(folder: Path, timeout: float) -> "FileLock | SoftFileLock":
    from filelock import FileLock, SoftFileLock

    for kind in (FileLock, SoftFileLock):
        lock = kind(str(folder / LOCK), timeout=timeout)
        try:
            lock.acquire()
            return lock
        except NotImplementedError:
            continue
        except OSError as error:
            if error.errno not in UNKNOWN:
                raise
    raise OSError(errno.ENOLCK, "its file system knows neither locks nor files")
