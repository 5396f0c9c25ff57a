"""Speech is made by flite as it says, the same from the same seed, in LibriSpeech's layout."""

import os
import shutil

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from plasticity.cli import main

from plasticity.data import synthesis
from plasticity.data.speech import open_speech
from plasticity.data.synthesis import PHONES, frame_labels, make_speech, read_words, speak
from plasticity.data.utterances import LABELS, label_count
from plasticity.errors import UserError
from tests.data.speech import write_wav

FLITE = shutil.which("flite")


@pytest.fixture
def voice(monkeypatch):
    """Stands for flite: every word is one phone and one silence, 1000 samples each."""
    calls = []

    def spoken(voice, text, stretch):
        calls.append((voice, text, stretch))
        count = len(text.split())
        phones = np.array([PHONES.index(w) for word in text.split() for w in (word, "pau")])
        sound = np.repeat(np.tile([1000, 0], count), 1000).astype(np.int16)
        return sound, phones, 1000 * np.arange(1, 2 * count + 1)

    monkeypatch.setattr(synthesis, "_flite", spoken)
    monkeypatch.setattr(synthesis, "_program", lambda: "flite")
    return calls


@pytest.fixture
def words(tmp_path):
    place = tmp_path / "words.txt"
    place.write_text("aa, B! ch: dh'\n")
    return place


def test_labels_are_the_phones_at_the_middle_of_each_window():
    labels = frame_labels(1400, np.array([5, 7, 9]), np.array([200, 841, 1300]))
    middles = [200, 360, 520, 680, 840, 1000, 1160]
    told = [5 if m < 200 else 7 if m < 841 else 9 for m in middles]
    assert labels.tolist() == told and labels.dtype == np.uint8
    assert frame_labels(5000, np.array([3]), np.array([100])).tolist() == [3] * label_count(5000)


def test_the_layout_is_read_as_librispeech(voice, words, tmp_path):
    told = []
    out = make_speech(tmp_path / "made", 60 / 3600, 1, words, 2, lambda *what: told.append(what))
    speech = open_speech(str(out), str(tmp_path))
    assert speech.notes == () and speech.phone_names == PHONES
    assert 60 <= speech.seconds < 62 and told[-1] == ("speaking", 60, 60)
    assert speech.speakers == ("1", "2", "3", "4")
    assert speech.testing.sum() == len(speech) // 5
    for i in range(len(speech)):
        phones, middles = speech.phones(i), 160 * np.arange(len(speech.phones(i))) + 200
        loud = speech.samples(i)[middles] > 0
        assert np.array_equal(phones > 0, loud)
    transcript = next(out.rglob("1-0.trans.txt")).read_text().splitlines()[0].split()
    assert transcript[0] == "1-0-0000" and set(transcript[1:]) <= {"AA", "B", "CH", "DH"}


def test_an_utterance_depends_on_seed_and_number_alone(voice, words, tmp_path):
    def labels(name, hours, seed, processes):
        made = make_speech(tmp_path / name, hours, seed, words, processes)
        return (made / LABELS).read_text().splitlines()

    one = labels("a", 20 / 3600, 3, 1)
    assert labels("b", 40 / 3600, 3, 3)[: len(one)] == one
    assert labels("c", 20 / 3600, 4, 1) != one


def test_voices_take_turns_and_tempo_varies(voice, words):
    vocabulary = read_words(words)
    spoken = [speak(number, 0, vocabulary) for number in range(100)]
    assert [s.speaker for s in spoken[:5]] == [1, 2, 3, 4, 1]
    counts = [len(text.split()) for _, text, _ in voice]
    tempi = [stretch for _, _, stretch in voice]
    assert set(counts) == {5, 6, 7, 8, 9, 10}
    assert 0.85 <= min(tempi) < 0.9 and 1.15 < max(tempi) <= 1.2


def test_words_come_from_the_package_or_a_file(words, tmp_path):
    assert len(read_words()) > 1000
    assert read_words(words) == ("aa", "b", "ch", "dh")
    words.write_text("123 ...")
    with pytest.raises(UserError, match="holds no word"):
        read_words(words)
    words.write_bytes(b"\xff")
    for bad in (words, tmp_path, tmp_path / "none"):
        with pytest.raises(UserError, match="cannot be read as text"):
            read_words(bad)


def test_bad_wishes_are_one_sentence(voice, words, tmp_path):
    for hours in (0, -1, float("nan"), 1e9):
        with pytest.raises(UserError, match="hours of speech"):
            make_speech(tmp_path / "made", hours, 0, words)
    with pytest.raises(UserError, match="0 processes"):
        make_speech(tmp_path / "made", 1, 0, words, 0)
    with pytest.raises(UserError, match="-1: expected a seed"):
        make_speech(tmp_path / "made", 1, -1, words)
    with pytest.raises(UserError, match="is there already"):
        make_speech(tmp_path, 1, 0, words)
    with pytest.raises(UserError, match="could not be written"):
        make_speech(words / "made", 1, 0, words)


def test_an_interruption_leaves_nothing(voice, words, tmp_path):
    def stop(*told):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_speech(tmp_path / "made", 1, 0, words, 1, stop)
    assert list(tmp_path.iterdir()) == [words]


@pytest.mark.parametrize(
    ("script", "told"),
    [
        (None, "apt-get install flite"),
        ("echo VOICE >&2; exit 3", "status 3: VOICE"),
        ("exit 0", "made no sound"),
        ('eval "out=\\${$#}"; echo RIFF > $out', "made no sound"),
    ],
)
def test_a_flite_that_fails_is_one_sentence(script, told, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    if script:
        (tmp_path / "flite").write_text(f"#!/bin/sh\n{script}\n")
        os.chmod(tmp_path / "flite", 0o755)
    with pytest.raises(UserError, match=told):
        speak(0, 0, ("word",))


def test_times_are_rounded_to_the_nearest_sample(tmp_path, monkeypatch):
    """A phone that ends 0.6 samples after a window's middle is that window's."""
    write_wav(tmp_path / "said.wav", np.zeros(800, np.int16))
    script = f'#!/bin/sh\neval "out=\\${{$#}}"\n/bin/cp {tmp_path}/said.wav $out\n'
    (tmp_path / "flite").write_text(f"{script}echo pau:{360.6 / 16000:.7f} aa:0.05\n")
    os.chmod(tmp_path / "flite", 0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert speak(0, 0, ("word",)).labels.tolist() == [0, 0, PHONES.index("aa")]


@pytest.mark.skipif(FLITE is None, reason="flite is not installed")
@pytest.mark.parametrize("number", range(4))
def test_flite_itself_speaks_where_its_times_say(number):
    spoken = speak(number, 0, read_words())
    again = speak(number, 0, read_words())
    assert np.array_equal(spoken.samples, again.samples)
    assert len(spoken.labels) == label_count(len(spoken.samples))
    starts = 160 * np.arange(len(spoken.labels)) + 120
    frames = np.array([spoken.samples[s : s + 160].astype(float).std() for s in starts])
    silent = spoken.labels == 0
    assert silent[0] and np.median(frames[~silent]) > 20 * np.median(frames[silent])


@pytest.mark.skipif(FLITE is None, reason="flite is not installed")
def test_flac_holds_what_was_spoken(tmp_path):
    made = make_speech(tmp_path / "made", 1 / 3600)
    (flac,) = made.rglob("*.flac")
    samples, rate = soundfile.read(flac, dtype="int16")
    assert rate == 16000 and np.array_equal(samples, speak(0, 0, read_words()).samples)


def test_the_command_makes_what_the_loader_finds(voice, words, tmp_path):
    made = ["data", "--data-dir", str(tmp_path), "make", "speech", "--words", str(words)]
    done = CliRunner().invoke(main, [*made, "--hours", "0.01"])
    assert done.exit_code == 0 and str(tmp_path / "flite") in done.output
    assert open_speech("flite", str(tmp_path)).seconds == pytest.approx(36, abs=2)
    again = CliRunner().invoke(main, [*made, "--hours", "0.01"])
    assert again.exit_code == 2 and "is there already" in again.output
    for bad in (["--hours", "nan"], ["--seed", "-1"], ["--processes", "0"]):
        failed = CliRunner().invoke(main, [*made, "--out", str(tmp_path / "x"), *bad])
        assert failed.exit_code == 2 and bad[1] in failed.output
