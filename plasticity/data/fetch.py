"""Published data sets: where their archives are, and how one comes to lie unpacked in its place."""

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from plasticity.data.download import CHUNK, Report, download
from plasticity.data.unpack import unpack
from plasticity.errors import UserError
from plasticity.locks import locked

MB = 10**6


@dataclass(frozen=True)
class Archive:
    """An archive, and where its content goes.

    Attributes:
        digest: of the archive, as `md5:...` or another of hashlib's.
        goal: the folder (or file) that it holds, below the data folder: `a/b` is the archive's `b`,
            put into `a`.
        packed, unpacked, files: limits: bytes of the archive, bytes and members unpacked.
    """

    url: str
    digest: str
    goal: str
    packed: int
    unpacked: int
    files: int

    @property
    def name(self) -> str:
        return self.url.rstrip("/").rpartition("/")[2]


# Every set is one or several archives. Limits are the published sizes, rounded up.
ARCHIVES = {
    "stl10": (
        Archive(
            "http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz",
            "md5:91f7769df0f17e558f3565bffb0c7dfb",
            "stl10_binary",
            packed=2_700 * MB,
            unpacked=3_200 * MB,
            files=100,
        ),
    ),
    "cifar10": (
        Archive(
            "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
            "md5:c32a1d4ab5d03f1284b67883e8d87530",
            "cifar-10-batches-bin",
            packed=175 * MB,
            unpacked=200 * MB,
            files=100,
        ),
    ),
    # The audio alone: the lists and labels of phones have no address that a program may fetch from.
    "librispeech": (
        Archive(
            "https://www.openslr.org/resources/12/train-clean-100.tar.gz",
            "md5:2a93770f6d5c6c964bc36631d331a522",
            "librispeech/LibriSpeech",
            packed=6_400 * MB,
            unpacked=7_500 * MB,
            files=60_000,
        ),
    ),
}


def fetch(where: Path, archives: tuple[Archive, ...], report: Report) -> list[Path]:
    """Download, check and unpack archives into `where`; whatever is there already is kept.

    Args:
        report: called with the present activity, how many bytes are done, of how many (0: unknown).

    Returns:
        The places that now hold the content of each archive.

    Raises:
        UserError: no connection, a wrong checksum, an unsafe archive, a full disk, or another fetch
            of the same archive. Bytes that have arrived stay, and the next call goes on from there,
            unless their checksum is wrong.
    """
    return [_fetch(where / archive.goal, archive, report) for archive in archives]


def _fetch(goal: Path, archive: Archive, report: Report) -> Path:
    if goal.exists():
        return goal

    def tell(what: str, done: int, total: int) -> None:
        report(f"{what} {archive.name}" if total or done else what, done, total)

    staging = goal.with_name(f"{goal.name}.part")
    busy = f"another fetch is at work in {staging}: wait until it has ended, or stop it"
    try:
        staging.mkdir(parents=True, exist_ok=True)
        with locked(staging, lambda: busy):
            if not goal.exists():  # nobody has put it there meanwhile
                part = staging / "archive"
                download(archive.url, part, archive.packed, tell)
                _check(part, archive.digest, tell)
                _place(part, staging / "unpacked", goal, archive, tell)
            shutil.rmtree(staging)
    except OSError as error:
        raise UserError(
            f"{archive.url} could not be fetched into {goal.parent}: {error}; "
            "the same command goes on from what has arrived"
        ) from error
    return goal


def _check(part: Path, digest: str, report: Report) -> None:
    kind, _, wanted = digest.partition(":")
    found, size, done = hashlib.new(kind, usedforsecurity=False), part.stat().st_size, 0
    with open(part, "rb") as file:
        while chunk := file.read(CHUNK):
            found.update(chunk)
            done += len(chunk)
            report("checking", done, size)
    if found.hexdigest() != wanted.lower():
        part.unlink()
        raise UserError(
            f"the file that arrived has {kind.upper()} {found.hexdigest()}, expected {wanted}: "
            "it was removed; run the same command again"
        )


def _place(part: Path, scratch: Path, goal: Path, archive: Archive, report: Report) -> None:
    """Unpack beside the goal, then rename: it is there whole or not at all."""
    shutil.rmtree(scratch, ignore_errors=True)  # of a fetch that was killed
    scratch.mkdir()
    try:
        unpack(part, scratch, archive.unpacked, archive.files, report)
        if not (scratch / goal.name).exists():
            raise UserError(f"{archive.url} does not hold '{goal.name}', which was expected")
        os.sync()
        os.rename(scratch / goal.name, goal)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
