"""A folder that one process at a time writes to; a claim ends with the process that holds it."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def claimed(folder: Path, wait: bool) -> Iterator[bool]:
    """Claim a folder, which is made if it is not there.

    Args:
        wait: for a claim of another process to end; False is yielded otherwise.

    Raises:
        OSError: the folder cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "claim", "a") as claim:
        try:
            fcntl.flock(claim, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        except OSError:  # a file system without locks
            pass
        yield True
