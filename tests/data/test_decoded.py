"""Audio is decoded once, whole, and goes on after a break."""

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from plasticity.data import decoded as decoding
from plasticity.data.decoded import decoded, read_audio
from plasticity.errors import UserError
from tests.data.speech import noise, write_wav

SOUNDS = [noise(n, n) for n in (500, 0, 7, 900, 31)]


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.setattr(decoding, "BATCH", 2)
    paths = [tmp_path / "in" / f"{k}.wav" for k in range(len(SOUNDS))]
    for path, samples in zip(paths, SOUNDS, strict=True):
        write_wav(path, samples)
    return paths


def run(files, tmp_path, report=lambda *told: None, caches=None):
    return decoded(tmp_path / "in", files, caches or [tmp_path / "cache"], report)


def test_all_samples_one_after_another(files, tmp_path):
    told = []
    samples, lengths = run(files, tmp_path, lambda *what: told.append(what))
    assert np.array_equal(samples, np.concatenate(SOUNDS))
    assert lengths.tolist() == [len(s) for s in SOUNDS]
    assert told == [("decoding", done, 5) for done in (0, 2, 4, 5)]


def test_the_second_time_nothing_is_decoded(files, tmp_path, monkeypatch):
    first, _ = run(files, tmp_path)
    monkeypatch.setattr(decoding, "AUDIO", replace(decoding.AUDIO, read=lambda file: 1 / 0))
    again, _ = run(files, tmp_path)
    assert np.array_equal(first, again)


def test_a_changed_file_is_decoded_anew(files, tmp_path):
    run(files, tmp_path)
    write_wav(files[0], noise(500, 77))
    samples, _ = run(files, tmp_path)
    assert np.array_equal(samples[:500], noise(500, 77))


@pytest.mark.parametrize("cut", [0, 3, 1001, 10**6])
def test_a_decoding_goes_on_where_it_was_killed(files, tmp_path, cut):
    def kill(_, done, total):
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(files, tmp_path, kill)
    (store,) = (tmp_path / "cache").glob("*/samples.int16")
    data = store.read_bytes()
    assert len(data) == 2 * 1407
    store.write_bytes(data[:cut] if cut < 10**6 else data + b"half a file")
    with open(store.with_name("lengths.txt"), "a") as journal:
        journal.write("12")  # a line that was not finished
    told = []
    samples, lengths = run(files, tmp_path, lambda *what: told.append(what[1]))
    assert np.array_equal(samples, np.concatenate(SOUNDS))
    assert lengths.tolist() == [len(s) for s in SOUNDS]
    assert told[0] == {0: 0, 3: 0, 1001: 2, 10**6: 4}[cut]


def test_samples_are_on_the_disk_before_their_lengths(files, tmp_path, monkeypatch):
    flushed, flush = [], decoding._flush
    watched = lambda file: (flushed.append(Path(file.name).name), flush(file))  # noqa: E731
    monkeypatch.setattr(decoding, "_flush", watched)
    run(files, tmp_path)
    assert flushed == ["samples.int16", "lengths.txt"] * 3  # batches of two files


def test_one_decodes_while_others_wait(files, tmp_path):
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(run(files, tmp_path)[0])) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4 and all(np.array_equal(f, np.concatenate(SOUNDS)) for f in found)


def test_a_damaged_file_is_marked(files, tmp_path):
    files[3].write_bytes(b"RIFF")
    samples, lengths = run(files, tmp_path)
    assert lengths.tolist() == [500, 0, 7, -1, 31] and len(samples) == 538


def test_a_folder_that_cannot_be_written_to(files, tmp_path):
    blocked = tmp_path / "blocked"
    blocked.write_text("")
    samples, _ = run(files, tmp_path, caches=[blocked / "cache", tmp_path / "other"])
    assert len(samples) == 1438 and any((tmp_path / "other").iterdir())
    with pytest.raises(UserError, match=r"could not be kept in .*blocked"):
        run(files, tmp_path, caches=[blocked / "cache"])


def test_a_full_disk_is_told(files, tmp_path, monkeypatch):
    def full(file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(decoding, "_flush", full)
    with pytest.raises(UserError, match="No space left on device; it goes on from there"):
        run(files, tmp_path)


def test_without_the_library_a_hint(files, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "soundfile", None)
    with pytest.raises(UserError, match="pip install soundfile"):
        run(files, tmp_path)


def test_channels_are_averaged(tmp_path):
    left, right = noise(300, 1), noise(300, 2)
    write_wav(tmp_path / "a.wav", np.stack([left, right], 1))
    mean = (left.astype(float) + right) / 2
    assert np.abs(read_audio(tmp_path / "a.wav") - mean).max() <= 0.5


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_other_rates_are_resampled(tmp_path, rate):
    time = np.arange(rate) / rate
    write_wav(tmp_path / "a.wav", np.rint(9000 * np.sin(2 * np.pi * 440 * time)), rate)
    samples = read_audio(tmp_path / "a.wav")
    wanted = 9000 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    assert len(samples) == 16000
    assert np.abs(samples - wanted)[500:-500].max() < 30


@pytest.mark.parametrize("subtype", ["PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_other_depths_keep_their_scale(tmp_path, subtype):
    true = noise(400)
    soundfile.write(tmp_path / "a.wav", true / 32768, 16000, subtype=subtype)
    assert np.array_equal(read_audio(tmp_path / "a.wav"), true)
    loud = np.array([2.0, -2.0, 0.5])
    soundfile.write(tmp_path / "b.wav", loud, 16000, subtype="FLOAT")
    assert read_audio(tmp_path / "b.wav").tolist() == [32767, -32768, 16384]


def test_no_numbers_are_refused(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.array([0.0, np.nan]), 16000, subtype="FLOAT")
    with pytest.raises(UserError, match="samples that are no numbers"):
        read_audio(tmp_path / "a.wav")


def test_a_length_that_is_declared_alone_takes_no_memory(tmp_path):
    soundfile.write(tmp_path / "a.flac", noise(2000), 16000)
    flac = bytearray((tmp_path / "a.flac").read_bytes())
    flac[21] |= 0x0F  # the number of samples, 36 bits
    flac[22:26] = b"\xff" * 4
    (tmp_path / "a.flac").write_bytes(flac)
    with pytest.raises(UserError, match="cannot be read as audio"):
        read_audio(tmp_path / "a.flac")


@pytest.mark.parametrize("rate", [1, 3999, 768_001, 2**31 - 1])
def test_a_rate_beyond_sense_is_refused(tmp_path, rate):
    write_wav(tmp_path / "a.wav", noise(2000), rate)
    with pytest.raises(UserError, match=f"{rate} samples a second, expected 4000 to 768000"):
        read_audio(tmp_path / "a.wav")


def test_a_file_too_long_for_an_utterance_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(decoding, "LONGEST", 1)
    write_wav(tmp_path / "a.wav", noise(16001))
    with pytest.raises(UserError, match="longer than"):
        read_audio(tmp_path / "a.wav")
    write_wav(tmp_path / "a.wav", noise(16000))
    assert len(read_audio(tmp_path / "a.wav")) == 16000


@pytest.mark.parametrize("kind", ["FLAC", "WAV", "OGG", "AIFF"])
def test_damaged_files_are_read_or_refused_in_one_sentence(tmp_path, kind):
    draw = np.random.default_rng(5)
    whole = tmp_path / "whole"
    soundfile.write(whole, np.stack([noise(900), noise(900, 1)], 1), 22050, format=kind)
    for k in range(60):
        data = np.frombuffer(whole.read_bytes(), np.uint8).copy()
        places = draw.integers(0, 60 if k % 2 else len(data), draw.integers(1, 9))
        data[places] = draw.integers(0, 256, len(places))
        (tmp_path / "a").write_bytes(data[: draw.integers(0, len(data)) if k % 5 == 0 else None])
        try:
            samples = read_audio(tmp_path / "a")
        except UserError as error:
            assert "cannot be read as audio" in str(error)
        else:
            assert samples.dtype == np.int16 and samples.ndim == 1
