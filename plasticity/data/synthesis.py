"""Synthetic speech: random words spoken by flite, with phone times, in LibriSpeech's layout.

flite (Carnegie Mellon University) is a small synthesiser, in Debian the package `flite`; its
`-psdur` tells when each phone ends. The end times are within 4 ms of the audio, but for the last
silence of kal16, which is about 0.1 s shorter than told.
"""

import re
import shutil
import subprocess
import wave
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from plasticity.data.decoded import RATE, need_soundfile
from plasticity.data.utterances import (
    HOP,
    LABELS,
    LIST_FOLDER,
    LISTS,
    PHONE_NAMES,
    WINDOW,
    label_count,
)
from plasticity.errors import UserError

VOICES = ("slt", "awb", "rms", "kal16")  # speakers 1 to 4
# flite's phones of American English; pau is silence.
PHONES = (
    "pau", "aa", "ae", "ah", "ao", "aw", "ax", "ay", "b", "ch", "d", "dh", "eh", "er",
    "ey", "f", "g", "hh", "ih", "iy", "jh", "k", "l", "m", "n", "ng", "ow", "oy",
    "p", "r", "s", "sh", "t", "th", "uh", "uw", "v", "w", "y", "z", "zh",
)  # fmt: skip
WORDS_EACH = (5, 10)  # words of an utterance, at least and at most
STRETCH = (0.85, 1.2)  # of durations
BATCH = 64


@dataclass(frozen=True)
class Spoken:
    """An utterance: speaker 1 to 4, words, int16 samples `(n,)` and a label for each 10 ms."""

    number: int
    speaker: int
    text: str
    samples: np.ndarray
    labels: np.ndarray

    @property
    def id(self) -> str:
        """As in LibriSpeech: speaker, chapter (of a thousand utterances) and utterance."""
        return f"{self.speaker}-{self.number // 1000}-{self.number % 1000:04d}"

    @property
    def testing(self) -> bool:
        return self.number % 5 == 4


def read_words(place: Path | None = None) -> tuple[str, ...]:
    """The different words of a text file, or of the list in the package, sorted.

    Raises:
        UserError: a file that is no text, or holds no English word.
    """
    place = place or Path(__file__).with_name("words.txt")
    try:
        text = place.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UserError(f"{place} cannot be read as text ({error})") from error
    words = sorted({word.strip("'") for word in re.findall(r"[a-z']{1,40}", text.lower())} - {""})
    if not words:
        raise UserError(f"{place} holds no word of the letters a to z")
    return tuple(words)


def speak(number: int, seed: int, words: tuple[str, ...]) -> Spoken:
    """Utterance `number`: 5 to 10 random words, by the voices in turn, at a random tempo.

    It depends on the number, the seed and the words alone.

    Raises:
        UserError: flite is missing, fails, or tells no phones that are known.
    """
    draw = np.random.default_rng([seed, number])
    text = " ".join(draw.choice(words, draw.integers(WORDS_EACH[0], WORDS_EACH[1] + 1)))
    speaker, stretch = number % len(VOICES), draw.uniform(*STRETCH)
    samples, phones, ends = _flite(VOICES[speaker], text, stretch)
    return Spoken(number, speaker + 1, text, samples, frame_labels(len(samples), phones, ends))


def frame_labels(samples: int, phones: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """A label for each 10 ms: the phone at the middle of its window, sample 160 j + 200.

    Args:
        phones: `(p,)`, numbers of the phones; ends: `(p,)`, the sample at which each ends.

    Returns:
        uint8 `(label_count(samples),)`.
    """
    middles = HOP * np.arange(label_count(samples)) + WINDOW // 2
    at = np.searchsorted(ends, middles, side="right").clip(max=len(ends) - 1)
    return phones[at].astype(np.uint8)


def _flite(voice: str, text: str, stretch: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Samples, numbers of phones, and the sample at which each phone ends."""
    with TemporaryDirectory() as scratch:
        file = Path(scratch) / "spoken.wav"
        command = [_program(), "-voice", voice, "--setf", f"duration_stretch={stretch:.3f}"]
        try:
            told = subprocess.run(
                [*command, "-t", text, "-psdur", "-o", file],
                capture_output=True,
                encoding="utf-8",
                errors="replace",
            )
            if told.returncode:
                raise OSError(f"status {told.returncode}: {told.stderr.strip()[:200]}")
            with wave.open(str(file)) as sound:
                shape = (sound.getframerate(), sound.getnchannels(), sound.getsampwidth())
                samples = np.frombuffer(sound.readframes(sound.getnframes()), "<i2")
        except (OSError, EOFError, wave.Error) as error:
            raise UserError(f"flite made no sound of '{text}' ({error})") from error
    if shape != (RATE, 1, 2):
        raise UserError(f"flite's voice {voice} speaks in {shape}, expected {(RATE, 1, 2)}")
    number = {phone: k for k, phone in enumerate(PHONES)}
    try:
        pairs = [item.rsplit(":", 1) for item in told.stdout.split()]
        phones = np.array([number[phone] for phone, _ in pairs], np.int64)
        ends = np.rint(RATE * np.array([float(end) for _, end in pairs])).astype(np.int64)
    except (KeyError, ValueError) as error:
        raise UserError(f"flite told times that are not understood: {told.stdout[:80]}") from error
    if not len(phones):
        raise UserError(f"flite told no phones of '{text}'")
    return samples.astype(np.int16), phones, ends


def _program() -> str:
    found = shutil.which("flite")
    if found is None:
        raise UserError(
            "speech is made by flite, which is not installed: apt-get install flite, or build it "
            "from https://github.com/festvox/flite"
        )
    return found


def utterances(hours: float, seed: int, words: tuple[str, ...], processes: int) -> Iterator[Spoken]:
    """Utterances in order, until they last so long; `processes` of flite at a time."""
    left, first = hours * 3600 * RATE, 0
    with ThreadPoolExecutor(processes) as pool:
        while left > 0:
            batch = range(first, first + BATCH)
            for spoken in pool.map(lambda number: speak(number, seed, words), batch):
                yield spoken
                left -= len(spoken.samples)
                if left <= 0:
                    return
            first += BATCH


def make_speech(
    out: Path,
    hours: float,
    seed: int = 0,
    words: Path | None = None,
    processes: int = 2,
    report: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> Path:
    """Write a set of speech: FLAC, transcripts, labels and lists; every fifth is for testing.

    Args:
        out: a folder that is not there yet; it comes to be whole or not at all.
        words: a text file whose words are spoken; by default the list in the package.
        report: called with the activity, seconds done and seconds in all.

    Raises:
        UserError: `out` is there, hours, seed or processes out of bounds, or flite or soundfile is
            missing.
    """
    if not 0 < hours <= 1000:
        raise UserError(f"{hours} hours of speech: expected more than 0 and 1000 at most")
    if seed < 0:
        raise UserError(f"--seed {seed}: expected a seed of 0 or more")
    if not 1 <= processes <= 1024:
        raise UserError(f"{processes} processes: expected 1 to 1024")
    if out.exists():
        raise UserError(f"{out} is there already: name a new folder")
    need_soundfile()
    _program()
    vocabulary = read_words(words)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=out.parent, prefix=f"{out.name}.") as scratch:
            whole = Path(scratch) / out.name
            made = utterances(hours, seed, vocabulary, processes)
            _write(whole, made, hours * 3600, report)
            whole.rename(out)
    except OSError as error:
        raise UserError(f"{out} could not be written: {error.strerror or error}") from error
    return out


def _write(folder: Path, made: Iterator[Spoken], seconds: float, report: Callable) -> None:
    import soundfile

    (folder / LIST_FOLDER).mkdir(parents=True)
    (folder / PHONE_NAMES).write_text("\n".join(PHONES) + "\n")
    shutil.copy(Path(__file__).with_name("FLITE-LICENSE"), folder / "LICENSE.txt")
    done = 0
    with (
        open(folder / LABELS, "w") as labels,
        open(folder / LIST_FOLDER / LISTS["train"], "w") as train,
        open(folder / LIST_FOLDER / LISTS["test"], "w") as test,
    ):
        for spoken in made:
            chapter = spoken.id.rpartition("-")[0]
            place = folder / "LibriSpeech" / "flite" / chapter.replace("-", "/")
            place.mkdir(parents=True, exist_ok=True)
            flac = BytesIO()
            soundfile.write(flac, spoken.samples, RATE, format="FLAC")
            (place / f"{spoken.id}.flac").write_bytes(flac.getvalue())
            with open(place / f"{chapter}.trans.txt", "a") as transcript:
                transcript.write(f"{spoken.id} {spoken.text.upper()}\n")
            labels.write(f"{spoken.id} {' '.join(map(str, spoken.labels))}\n")
            (test if spoken.testing else train).write(f"{spoken.id}\n")
            done += len(spoken.samples)
            report("speaking", min(round(done / RATE), round(seconds)), round(seconds))
    speakers = "".join(f"{k} | {voice}\n" for k, voice in enumerate(VOICES, 1))
    (folder / "LibriSpeech" / "SPEAKERS.TXT").write_text(f";ID | VOICE OF FLITE\n{speakers}")
