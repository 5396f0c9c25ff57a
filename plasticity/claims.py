"""A run's folder belongs to one process at a time: that which writes to it."""

import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from plasticity import runs
from plasticity.errors import UserError
from plasticity.files import MARK, whole
from plasticity.locks import LOCK, locked

OWNER = "running.json"
"""Who holds the folder, to be read."""


@contextmanager
def held(folder: Path) -> Iterator[Path]:
    """Hold the folder for as long as it is written to; what has ended holds nothing any more.

    Raises:
        UserError: another process holds it, or the folder cannot be written to.
    """
    folder = Path(folder)
    with locked(folder, lambda: f"{folder} is being written to{_owner(folder)}"):
        try:
            with whole(folder / OWNER) as part:
                part.write_text(json.dumps(_me(), indent=2) + "\n", encoding="utf-8")
            yield folder
        finally:
            with suppress(OSError):
                (folder / OWNER).unlink(missing_ok=True)


@contextmanager
def new(folder: Path, numbered: bool = False) -> Iterator[Path]:
    """Make a folder for a new run and hold it; it goes again if nothing has been written to it.

    So do the folders above it that were made for it.

    Args:
        numbered: take `folder-2`, `folder-3`, ... where others have been quicker.

    Raises:
        UserError: a folder that holds something already, or cannot be made.
    """
    parents = [one for one in Path(folder).absolute().parents if not one.exists()]
    folder, made = _make(Path(folder), numbered)
    try:
        with held(folder):
            if not empty(folder):
                raise UserError(
                    f"{folder} holds something already: name another --out, or go on with it by "
                    "--resume"
                )
            yield folder
    finally:
        if made and empty(folder):
            with suppress(OSError):
                (folder / LOCK).unlink(missing_ok=True)
                folder.rmdir()
                for parent in parents:  # from the inside; one that others use is not empty
                    parent.rmdir()


def empty(folder: Path) -> bool:
    """Whether a folder holds nothing but a claim and what was never written to its end."""
    return all(p.name in (LOCK, OWNER) or p.name.endswith(MARK) for p in folder.iterdir())


def _make(folder: Path, numbered: bool) -> tuple[Path, bool]:
    """The folder, and whether it was made here."""
    number, wanted = 1, folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        while True:
            try:
                wanted.mkdir()
                return wanted, True
            except FileExistsError:
                if not numbered:
                    if not wanted.is_dir():
                        raise
                    return wanted, False
            number += 1
            wanted = folder.with_name(f"{folder.name}-{number}")
    except OSError as error:
        raise UserError(f"the run folder {wanted} cannot be made: {error.strerror}") from error


def _me() -> dict[str, object]:
    return {
        "host": socket.gethostname(),
        "process": os.getpid(),
        "since": datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": " ".join(sys.argv),
    }


def _owner(folder: Path) -> str:
    """Who holds the folder, in words, as far as it has said so."""
    try:
        who = runs.read_json(folder / OWNER)
        by = f" by process {who['process']} on {who['host']} since {who['since']}"
    except (UserError, KeyError, TypeError):
        by = ""
    return (
        f"{by}: wait until it has ended, or end it; a copy of the folder can be resumed beside it"
    )
