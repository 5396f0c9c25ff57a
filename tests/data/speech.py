"""Small sets of speech, written for tests."""

import wave
from pathlib import Path

import numpy as np
import soundfile

from plasticity.data.utterances import LABELS, LIST_FOLDER, LISTS


def noise(length: int, seed: int = 0) -> np.ndarray:
    """Int16 samples `(length,)`."""
    return np.random.default_rng(seed).integers(-3000, 3000, length).astype(np.int16)


def write_wav(place: Path, samples: np.ndarray, rate: int = 16000) -> None:
    """By the standard library: int16 `(n,)` or `(n, channels)`."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(place), "wb") as file:
        file.setparams((samples.shape[1] if samples.ndim > 1 else 1, 2, rate, 0, "NONE", ""))
        file.writeframes(samples.astype("<i2").tobytes())


def librispeech(base: Path, lengths: dict[str, int], testing: set[str] = frozenset()) -> dict:
    """LibriSpeech's layout with one label for each 10 ms; the samples by id."""
    samples = {}
    lists = {"train": [], "test": []}
    lines = []
    for seed, (name, length) in enumerate(lengths.items()):
        speaker, chapter, _ = name.split("-")
        folder = base / "LibriSpeech" / "train-clean-100" / speaker / chapter
        folder.mkdir(parents=True, exist_ok=True)
        samples[name] = noise(length, seed)
        soundfile.write(folder / f"{name}.flac", samples[name], 16000)
        lists["test" if name in testing else "train"].append(name)
        labels = [(seed + start // 160) % 41 for start in range(0, length - 399, 160)]
        lines.append(" ".join(map(str, [name, *labels])))
    (base / LIST_FOLDER).mkdir()
    for split, names in lists.items():
        (base / LIST_FOLDER / LISTS[split]).write_text("\n".join(names))
    (base / LABELS).write_text("\n".join(lines) + "\n")
    return samples
