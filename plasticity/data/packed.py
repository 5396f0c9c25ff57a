"""The sample of speech that comes with the package: one file, 8 bits a sample.

Samples are companded by mu-law (mu = 255), as telephones do: of 16 bits 8 remain, and the error is
about 38 dB below the speech; differences of the bytes, modulo 256, are deflated. All else (lengths,
phones, speakers, splits) is kept as it is.
"""

from pathlib import Path

import numpy as np

from plasticity.data.utterances import Speech, label_count, starts
from plasticity.files import whole

SHIPPED = Path(__file__).with_name("speech.npz")


def mu_law_values() -> np.ndarray:
    """The 255 sample values of mu-law companding, int16 `(255,)`, ascending, 0 in the middle."""
    steps = np.arange(-127, 128) / 127
    values = np.sign(steps) * np.expm1(np.abs(steps) * np.log(256)) / 255
    return np.rint(32767 * values).astype(np.int16)


def companded(samples: np.ndarray) -> np.ndarray:
    """The numbers of the nearest values, uint8, of int16 samples."""
    values = mu_law_values().astype(np.int32)
    return np.searchsorted((values[1:] + values[:-1]) / 2, samples).astype(np.uint8)


def pack(speech: Speech, place: Path) -> None:
    """Write labelled speech as one file."""
    each = range(len(speech))
    sound = np.concatenate([companded(speech.samples(i)) for i in each])
    with whole(place) as part, open(part, "wb") as file:
        np.savez_compressed(
            file,
            ids=np.array(speech.ids),
            speakers=np.array(speech.speakers),
            speaker=speech.speaker.astype(np.uint8),
            lengths=speech.lengths.astype(np.int32),
            values=mu_law_values(),
            samples=np.diff(sound, prepend=np.uint8(0)),
            labels=np.concatenate([speech.phones(i) for i in each]),
            phone_names=np.array(speech.phone_names),
            testing=speech.testing,
        )


def unpacked(place: Path = SHIPPED) -> Speech:
    """The speech of such a file, in memory."""
    with np.load(place) as stored:
        held = {key: stored[key] for key in stored.files}
    lengths = held["lengths"].astype(np.int64)
    counts = label_count(lengths)
    return Speech(
        name="speech",
        place=place,
        ids=tuple(map(str, held["ids"])),
        speakers=tuple(map(str, held["speakers"])),
        speaker=held["speaker"].astype(np.int64),
        starts=starts(lengths),
        lengths=lengths,
        store=held["values"][np.cumsum(held["samples"], dtype=np.uint8)],
        label_starts=starts(counts),
        label_counts=counts,
        labels=held["labels"],
        phone_names=tuple(map(str, held["phone_names"])),
        testing=held["testing"],
    )
