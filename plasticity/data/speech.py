"""Sets of speech by name: the sample that comes with the package, LibriSpeech, a folder."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from plasticity import places
from plasticity.data.corpus import AUDIO, read_folder
from plasticity.data.download import Report
from plasticity.data.packed import SHIPPED, unpacked
from plasticity.data.sets import SPEECH, data_folder
from plasticity.data.tree import IMAGES, Passed
from plasticity.data.utterances import WINDOW, Note, Speech
from plasticity.errors import UserError
from plasticity.files import shown

MADE = "flite"  # the set that plasticity.data.synthesis makes
SETS = SPEECH


def open_speech(
    name: str,
    data_dir: str | None = None,
    shortest: int = WINDOW,
    report: Report | None = None,
) -> Speech:
    """A set of speech: `speech` (shipped), `librispeech`, `flite` (made), or the path of a folder.

    A folder is LibriSpeech in its published layout, or any folder of audio files; of what
    `train_split.txt` and `test_split.txt`, `converted_aligned_phones.txt` (an id and its labels a
    line) and `phone_names.txt` (a name a line) say, it has what is there. Speakers are the first
    number of LibriSpeech's ids, or else the subfolders. Without lists every fifth utterance of each
    speaker is for testing.

    Args:
        data_dir: where data sets and decoded audio are, as `plasticity.data.data_folder` has it.
        shortest: samples that an utterance must have; shorter ones are left out.
        report: called while audio is decoded: the activity, files done, files in all.

    Raises:
        UserError: no such set, no usable utterance in it, lists or labels that cannot be read.
    """
    place, caches = place_of(name, data_dir), _caches(data_dir)
    found = unpacked() if place == SHIPPED else read_folder(name, place, caches, report)
    short = found.lengths < shortest
    if short.any():
        ids = tuple(np.array(found.ids, object)[short])
        note = Note(f"utterances are shorter than {shortest} samples", ids, len(found))
        found = replace(found.pick(np.flatnonzero(~short)), notes=(*found.notes, note))
    if not len(found):
        raise UserError(
            f"no utterance in {found.place} can be used: {'; '.join(map(str, found.notes))}"
        )
    return found


def _caches(data_dir: str | None) -> list[Path]:
    """Where decoded audio may be kept: with the data, or else in a folder of the user's."""
    return [data_folder(data_dir) / "decoded", places.cache() / "decoded"]


def is_speech(name: str) -> bool:
    """Whether a name or folder is a set of speech: one with more audio files than images."""
    path = Path(name).expanduser()
    if name in SETS or not path.is_dir():
        return name in SETS
    audio, images = (Passed(path, kind).walk(path).count for kind in (AUDIO, IMAGES))
    return audio > images


def described(speech: Speech) -> list[str]:
    """Lines that say what a set of speech holds, and what is amiss in it."""
    tests = int(speech.testing.sum())
    labelled = int((speech.label_counts > 0).sum())
    phones = f"{len(speech.phone_names)} phones in {labelled}" if labelled else "no phones"
    speakers = f"{len(speech.speakers)} speakers" if speech.speakers else "no speakers"
    return [
        f"Utterances of {shown(speech.name)}: train {len(speech) - tests}, test {tests}; "
        f"{speech.seconds / 60:.1f} minutes; {speakers}; {phones}",
        *(f"  {note}" for note in speech.notes),
    ]


def place_of(name: str, data_dir: str | None = None) -> Path:
    """The file or folder of a set of speech.

    Raises:
        UserError: it is not there.
    """
    if name == "speech":
        return SHIPPED
    where = data_folder(data_dir)
    if name == MADE:
        if not (where / name).is_dir():
            raise UserError(f"{where / name} is not there: run 'plasticity data make speech'")
        return where / name
    if name == "librispeech":
        for base in (where / name, where):
            if (base / "LibriSpeech").is_dir():
                return base
        raise UserError(
            f"the folder LibriSpeech is neither in {where / name} nor in {where}: put it there, "
            "name another folder by --data-dir or PLASTICITY_DATA, or run "
            "'plasticity data fetch librispeech'"
        )
    base = Path(name).expanduser()
    if not base.is_dir():
        raise UserError(
            f"unknown speech '{name}': expected speech, librispeech, {MADE} or the path of a "
            "folder with audio files"
        )
    return base.absolute()
