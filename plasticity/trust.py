"""A rule or network that is a file is code: it runs only where its user has agreed to it.

To name a file is to agree, on the command line or in Python. A file that a run brings along is
another matter, since the run may be somebody else's: it runs if the user has named a file of this
very text on this machine before, or agrees now. What was agreed to is kept by SHA-256, a line each,
in a file of the user's own.
"""

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from plasticity import places
from plasticity.files import check_private

if TYPE_CHECKING:
    from plasticity.runs.options import RunOptions

PLACE = "PLASTICITY_STATE"  # environment variable: another folder for what was agreed to

_agreed: set[str] = set()  # in this process


def place() -> Path:
    """Where this user's agreements are kept."""
    if wanted := os.environ.get(PLACE):
        return Path(wanted).expanduser() / "agreed.txt"
    return places.state() / "agreed.txt"


def agree(digest: str) -> None:
    """Let files of this SHA-256 run in this process."""
    _agreed.add(digest)


def remember(digest: str, path: str) -> None:
    """Let files of this SHA-256 run for this user from now on; where that cannot be kept, now."""
    agree(digest)
    if digest in _kept():
        return
    with suppress(OSError, RuntimeError):
        place().parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(place(), "a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"{digest} {path!r}\n")
        place().chmod(0o600)


def named(options: "RunOptions") -> None:
    """Remember the files that a user has named for a run."""
    for path, digest in options.files.items():
        remember(digest, path)


def agreed(digest: str) -> bool:
    """Whether files of this SHA-256 may run."""
    return digest in _agreed or digest in _kept()


def _kept() -> set[str]:
    """What the user has agreed to before, if nobody else could have written it."""
    try:
        check_private(place())
        lines = place().read_text(encoding="utf-8", errors="replace").splitlines()
    except (OSError, RuntimeError):
        return set()
    return {line.split(" ")[0] for line in lines}
