"""Files decoded once, into one file that is mapped into memory; and how audio is decoded."""

import hashlib
import math
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from math import gcd
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from plasticity.data.download import Report
from plasticity.errors import UserError
from plasticity.files import FULL
from plasticity.locks import locked

if TYPE_CHECKING:
    import soundfile

RATE = 16_000  # samples a second
SUFFIXES = frozenset({".flac", ".wav", ".wave", ".ogg", ".opus", ".mp3", ".aif", ".aiff", ".au"})
RATES = (4_000, 768_000)  # samples a second that a file may have
LONGEST = 3600  # seconds of one file
BLOCK = 1 << 18  # samples read at once
LOUDEST = 1e6  # of floating-point samples, so that sums stay finite
BATCH = 32  # files decoded between two writes
FORMAT = 1  # of the cache; a change of the decoding is a new one

_onlooker: ContextVar[Report] = ContextVar("onlooker", default=lambda what, done, total: None)


@contextmanager
def reporting(report: Report) -> Iterator[None]:
    """Whoever opens a set in here and names no `report` of its own tells this one how it goes on.

    A set is opened far below the command that shows progress.
    """
    before = _onlooker.set(report)
    try:
        yield
    finally:
        _onlooker.reset(before)


@dataclass(frozen=True)
class Decoding:
    """A way of decoding files into units of one size: samples of sound, frames of film.

    Attributes:
        key: of the cache: another decoding, another key; store: the name of the file of units, each
            of `dtype` and `shape`.
        read: a file as units `(n, *shape)`; raises UserError where it cannot be decoded. need: says
            if the library for it is missing. what: is decoded, in words.
    """

    key: str
    store: str
    dtype: type
    shape: tuple[int, ...]
    read: Callable[[Path], np.ndarray]
    need: Callable[[], None]
    what: str

    @property
    def unit(self) -> int:
        """Bytes of one unit."""
        return np.dtype(self.dtype).itemsize * math.prod(self.shape)


def decoded(
    base: Path, files: list[Path], caches: list[Path], report: Report | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The samples of all audio files, int16 at 16 kHz: see `kept`."""
    return kept(AUDIO, base, files, caches, report)


def kept(
    how: Decoding, base: Path, files: list[Path], caches: list[Path], report: Report | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The units of all files, one file after another; decoded once, then mapped.

    The cache is keyed by names, sizes and times of the files. A decoding that was interrupted goes
    on where it stopped; of several processes one decodes and the others wait.

    Args:
        base: the folder that `files` are named relative to.
        caches: folders of caches: one that holds this decoding is taken, or else the first that can
            be written to.
        report: called with the activity, files done and files in all; by default that of
            `reporting`.

    Returns:
        Units `(all, *shape)`, mapped; and how many each file has, int64 `(files,)`, -1 where one
        could not be decoded.

    Raises:
        UserError: a cache that cannot be written, or no library to decode with.
    """
    digest = _digest(how, base, files)
    held = [c for c in caches if len(_lengths(how, c / digest)) == len(files)]
    cache = next(iter(held or filter(_writable, caches)), caches[0])
    folder = cache / digest
    lengths = _lengths(how, folder)
    if len(lengths) < len(files):
        how.need()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with locked(folder, busy=None):
                _decode(how, folder, files, report or _onlooker.get())
        except OSError as error:
            full = "; it goes on from there once there is room" if error.errno in FULL else ""
            raise UserError(
                f"decoded {how.what} could not be kept in {cache}: {error.strerror or error}{full}"
                "; --data-dir or PLASTICITY_DATA names another folder"
            ) from error
        lengths = _lengths(how, folder)
    if not (total := int(np.maximum(lengths, 0).sum())):
        return np.zeros((0, *how.shape), how.dtype), lengths
    return np.memmap(folder / how.store, how.dtype, "r", shape=(total, *how.shape)), lengths


def _digest(how: Decoding, base: Path, files: list[Path]) -> str:
    digest = hashlib.sha256(f"{how.key}\n".encode())
    for file in files:
        about = file.stat()
        name = os.fsencode(file.relative_to(base))
        digest.update(b"%s\0%d\0%d\n" % (name, about.st_size, about.st_mtime_ns))
    return digest.hexdigest()[:24]


def _writable(folder: Path) -> bool:
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    return os.access(there, os.W_OK | os.X_OK)


def _lengths(how: Decoding, folder: Path) -> np.ndarray:
    """Units of the files that are decoded already: whole lines whose units are there."""
    journal, store = folder / "lengths.txt", folder / how.store
    if not journal.is_file() or not store.is_file():
        return np.zeros(0, np.int64)
    lines = journal.read_bytes().split(b"\n")[:-1]
    lengths = np.array([int(line) for line in lines], np.int64)
    ends = how.unit * np.cumsum(np.maximum(lengths, 0))
    return lengths[: np.searchsorted(ends, store.stat().st_size, side="right")]


def _decode(how: Decoding, folder: Path, files: list[Path], report: Report) -> None:
    """Append the units of the files that are not decoded yet, then their lengths."""
    done = _lengths(how, folder)
    with (
        open(folder / how.store, "ab") as store,
        open(folder / "lengths.txt", "ab") as journal,
        ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool,
    ):
        store.truncate(how.unit * int(np.maximum(done, 0).sum()))
        journal.truncate(sum(len(b"%d\n" % length) for length in done))
        for first in range(len(done), len(files), BATCH):
            report("decoding", first, len(files))
            lengths = []
            for units in pool.map(partial(_try, how), files[first : first + BATCH]):
                lengths.append(-1 if units is None else len(units))
                store.write(b"" if units is None else units.tobytes())
            _flush(store)
            journal.write(b"".join(b"%d\n" % length for length in lengths))
            _flush(journal)
        report("decoding", len(files), len(files))


def _flush(file) -> None:
    file.flush()
    os.fsync(file.fileno())


def _try(how: Decoding, file: Path) -> np.ndarray | None:
    try:
        return how.read(file)
    except UserError:
        return None


def read_audio(file: Path) -> np.ndarray:
    """One file as int16 samples `(n,)` at 16 kHz: channels averaged, other rates resampled.

    Raises:
        UserError: the file cannot be decoded.
    """
    import soundfile
    from scipy.signal import resample_poly

    try:
        with soundfile.SoundFile(file) as sound:
            rate = sound.samplerate
            if not RATES[0] <= rate <= RATES[1]:
                raise ValueError(f"{rate} samples a second, expected {RATES[0]} to {RATES[1]}")
            mono = _mono(sound, LONGEST * rate)
    except (soundfile.SoundFileError, OSError, ValueError, TypeError) as error:
        raise UserError(f"{file} cannot be read as audio ({error})") from error
    if rate != RATE and len(mono):
        common = gcd(rate, RATE)
        mono = resample_poly(mono, RATE // common, rate // common)
    return np.clip(np.rint(mono * 32768), -32768, 32767).astype(np.int16)


def _mono(sound: "soundfile.SoundFile", most: int) -> np.ndarray:
    """The mean of the channels, float32 `(n,)`; read by blocks, whatever length is declared."""
    blocks, total = [np.zeros(0, np.float32)], 0
    while len(block := sound.read(BLOCK // sound.channels, dtype="float32", always_2d=True)):
        total += len(block)
        if total > most:
            raise ValueError(f"longer than {LONGEST // 60} minutes")
        if not np.isfinite(block).all():
            raise ValueError("samples that are no numbers")
        blocks.append(np.clip(block, -LOUDEST, LOUDEST).mean(axis=1))
    return np.concatenate(blocks)


def need_soundfile() -> None:
    try:
        import soundfile  # noqa: F401
    except (ImportError, OSError) as error:  # OSError: without libsndfile
        raise UserError(
            f"audio files are read by the package soundfile, which is missing ({error}): "
            "pip install soundfile"
        ) from error


AUDIO = Decoding(
    f"{FORMAT} {RATE}", "samples.int16", np.int16, (), read_audio, need_soundfile, "audio"
)
