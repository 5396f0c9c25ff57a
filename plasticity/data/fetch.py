"""Fetching published archives: resumed after a break, checked, and unpacked safely."""

import hashlib
import os
import shutil
import tarfile
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from plasticity.errors import UserError

CHUNK = 1 << 18
TIMEOUT = 60  # seconds without a byte

Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Archive:
    """Where an archive is, its MD5, and the folder it unpacks to."""

    url: str
    md5: str
    folder: str


ARCHIVES = {
    "stl10": Archive(
        "http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz",
        "91f7769df0f17e558f3565bffb0c7dfb",
        "stl10_binary",
    ),
    "cifar10": Archive(
        "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
        "c32a1d4ab5d03f1284b67883e8d87530",
        "cifar-10-batches-bin",
    ),
}


def fetch(name: str, where: Path, archive: Archive, report: Report) -> Path:
    """Download, check and unpack an archive into `where`; what is there already is kept.

    Args:
        report: called with what is going on, how many bytes are done, of how many (0: unknown).

    Returns:
        The folder that now holds the data set.

    Raises:
        UserError: no connection, a wrong checksum, an unsafe archive or a full disk. What has been
            downloaded stays, and the next call goes on from there, unless its checksum is wrong.
    """
    goal = where / archive.folder
    if goal.is_dir():
        return goal
    part = where / f"{name}.tar.gz.part"
    try:
        where.mkdir(parents=True, exist_ok=True)
        _download(archive.url, part, report)
        _check(part, archive.md5, report)
        _unpack(part, goal, report)
        part.unlink()
    except OSError as error:
        raise UserError(
            f"{archive.url} could not be fetched into {where}: {error}; "
            "the same command goes on from what has arrived"
        ) from error
    return goal


def _download(url: str, part: Path, report: Report) -> None:
    """Append to `part` what it still lacks of the file at `url`."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing is left: the whole file is here
            return
        raise
    with answer:
        goes_on = answer.status == 206
        have = have if goes_on else 0
        total = have + int(answer.headers.get("Content-Length") or 0)
        with open(part, "ab" if goes_on else "wb") as file:
            while chunk := answer.read(CHUNK):
                file.write(chunk)
                have += len(chunk)
                report("downloading", have, total)
    if have < total:
        raise OSError(f"the connection broke after {have} of {total} bytes")


def _check(part: Path, md5: str, report: Report) -> None:
    digest, size, done = hashlib.md5(usedforsecurity=False), part.stat().st_size, 0
    with open(part, "rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            done += len(chunk)
            report("checking", done, size)
    if digest.hexdigest() != md5:
        part.unlink()
        raise UserError(
            f"what arrived has MD5 {digest.hexdigest()}, expected {md5}: it was removed; "
            "run the same command again"
        )


def _unpack(part: Path, goal: Path, report: Report) -> None:
    """Unpack beside the goal, then rename: the folder is there whole or not at all.

    Plain files alone, written by their content: that is safe in every Python, old ones whose
    tarfile has no filters included.
    """
    with tempfile.TemporaryDirectory(dir=goal.parent, prefix=f"{goal.name}.") as scratch:
        try:
            with tarfile.open(part) as tar:
                members = tar.getmembers()
                for done, member in enumerate(members, 1):
                    if not member.isdir():
                        _write(tar, member, Path(scratch).resolve())
                    report("unpacking", done, len(members))
        except (tarfile.TarError, EOFError) as error:
            raise UserError(f"{part} is refused: {error}") from error
        inner = Path(scratch) / goal.name
        if not inner.is_dir():
            raise UserError(f"{part} does not hold the folder {goal.name} that was expected")
        shutil.move(inner, goal)
        os.sync()


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    """Write a plain file of the archive below `folder`.

    Raises:
        tarfile.TarError: a path that leads out of the folder, or a link or device.
    """
    path = (folder / member.name).resolve()
    if not member.isfile() or not path.is_relative_to(folder):
        raise tarfile.TarError(f"'{member.name}' is no plain file of its own folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tar.extractfile(member) as source, open(path, "wb") as file:
        shutil.copyfileobj(source, file)
