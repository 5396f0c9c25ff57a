"""Speech is read as published, and whatever is wrong with it is counted and named."""

import os

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from plasticity.cli import main

from plasticity.data.packed import mu_law_values, pack, unpacked
from plasticity.data.speech import open_speech
from plasticity.data.utterances import LABELS, LIST_FOLDER, label_count
from plasticity.errors import UserError
from tests.data.speech import librispeech, noise, write_wav

LENGTHS = {"10-1-0000": 2000, "10-1-0001": 400, "9-2-0000": 1679, "9-2-0001": 30000}


@pytest.fixture
def corpus(tmp_path):
    """A small corpus below a data folder; its samples by id."""
    base = tmp_path / "data" / "librispeech"
    base.mkdir(parents=True)
    return base, librispeech(base, LENGTHS, testing={"9-2-0001"})


def opened(corpus, **options):
    return open_speech("librispeech", str(corpus[0].parent), **options)


def notes(speech):
    return [str(note) for note in speech.notes]


def test_the_published_layout(corpus):
    speech = opened(corpus)
    assert speech.ids == ("10-1-0000", "10-1-0001", "9-2-0000", "9-2-0001")
    assert speech.speakers == ("9", "10") and speech.speaker.tolist() == [1, 1, 0, 0]
    assert speech.notes == () and speech.lengths.tolist() == list(LENGTHS.values())
    for i, name in enumerate(speech.ids):
        assert np.array_equal(speech.samples(i), corpus[1][name])
    assert speech.phones(0).tolist() == list(range(11))
    assert speech.phones(1).tolist() == [1] and speech.phones(3)[:3].tolist() == [3, 4, 5]
    assert len(speech.phone_names) == 41
    assert isinstance(speech.store, np.memmap) and speech.store.dtype == np.int16


def test_a_label_for_each_window_of_400_samples_at_steps_of_160():
    counted = [len(range(0, n - 399, 160)) for n in range(1500)]
    assert label_count(np.arange(1500)).tolist() == counted


def test_samples_of_a_part(corpus):
    speech = opened(corpus)
    whole = corpus[1]["9-2-0000"]
    assert np.array_equal(speech.samples(2, 160, 480), whole[160:480])
    assert np.array_equal(speech.samples(2, 1600, 9999), whole[1600:])
    assert len(speech.samples(2, 5000, 6000)) == 0


def test_splits_keep_the_numbers_of_speakers(corpus):
    train, test = (opened(corpus).split(split) for split in ("train", "test"))
    assert train.ids == ("10-1-0000", "10-1-0001", "9-2-0000") and test.ids == ("9-2-0001",)
    assert test.speakers == train.speakers and test.speaker.tolist() == [0]
    assert np.array_equal(test.samples(0), corpus[1]["9-2-0001"])
    assert len(test.phones(0)) == label_count(30000)
    with pytest.raises(UserError, match="unknown split 'valid'"):
        train.split("valid")
    with pytest.raises(UserError, match="no utterance for 'test'"):
        train.split("test")


def test_what_is_missing_short_damaged_or_mislabelled_is_counted_and_named(corpus):
    base, _ = corpus
    audio = base / "LibriSpeech" / "train-clean-100"
    (audio / "9/2/9-2-0001.flac").unlink()
    (audio / "10/1/10-1-0001.flac").write_bytes(b"fLaC and no more")
    soundfile.write(audio / "9/2/9-2-0007.flac", noise(900), 16000)
    labels = (base / LABELS).read_text().replace("9-2-0000 2", "9-2-0000 2 2")
    (base / LABELS).write_text(labels)
    speech = opened(corpus, shortest=1680)
    assert speech.ids == ("10-1-0000",)
    assert notes(speech) == [
        "1 of 4 utterances of the lists have no file: 9-2-0001",
        "1 of 4 files are in no list and are left out: 9-2-0007",
        "1 of 3 files cannot be decoded: 10-1-0001",
        "1 of 3 utterances have more or fewer labels than 10 ms frames: 9-2-0000",
        "1 of 2 utterances are shorter than 1680 samples: 9-2-0000",
    ]
    assert len(opened(corpus).labelled()) == 1
    with pytest.raises(UserError, match=r"no utterance in .* can be used: .*shorter than 9999"):
        opened(corpus, shortest=9999)


def test_without_labels_and_lists_the_audio_serves(corpus):
    base, _ = corpus
    (base / LABELS).unlink()
    for file in (base / LIST_FOLDER).iterdir():
        file.unlink()
    speech = opened(corpus)
    assert len(speech) == 4 and speech.phone_names == ()
    assert notes(speech) == ["there are no test audio files of 9, 10: fewer than 5 in all"]
    assert len(speech.phones(0)) == 0 and not speech.testing.any()


@pytest.mark.parametrize(
    ("file", "text", "told"),
    [
        (LABELS, "9-2-0000 1 x 3\n", "line 1: expected an id and phones"),
        (LABELS, "9-2-0000 1 256\n", "line 1: expected an id and phones"),
        (LABELS, "9-2-0000 -1\n", "line 1: expected an id and phones"),
        (LABELS, f"9-2-0000 {'9' * 40}\n", "line 1: expected an id and phones"),
        (LABELS, "9-2-0000 1\n\n9-2-0000 1\n", "line 3: '9-2-0000' is there twice"),
        (LABELS, b"\xff\xfe", "cannot be read as text"),
        (f"{LIST_FOLDER}/test_split.txt", "10-1-0000\n", "1 ids are in the lists of both"),
        (f"{LIST_FOLDER}/test_split.txt", b"\xff", "cannot be read as text"),
        (f"{LIST_FOLDER}/test_split.txt", None, "no test_split.txt beside it"),
        ("phone_names.txt", "pau\naa\n", "names 2 phones, the labels have 41"),
    ],
)
def test_a_bad_text_file_is_one_sentence(corpus, file, text, told):
    place = corpus[0] / file
    if text is None:
        place.unlink()
    else:
        place.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=told):
        opened(corpus)


def test_names_of_phones(corpus):
    (corpus[0] / "phone_names.txt").write_text("\n".join(f"p{k}" for k in range(42)))
    assert opened(corpus).phone_names[41] == "p41"


def test_a_folder_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.setenv("PLASTICITY_DATA", str(tmp_path / "data"))
    mine = tmp_path / "my speech"
    sounds = {f"{who}/{k}.wav": noise(3000, k) for who in ("ann", "bob") for k in range(6)}
    for name, samples in sounds.items():
        write_wav(mine / name, samples)
    write_wav(mine / ".hidden" / "x.wav", noise(10))
    (mine / "ann" / "notes.txt").write_text("no audio")
    speech = open_speech(str(mine))
    assert speech.speakers == ("ann", "bob") and speech.speaker.tolist() == [0] * 6 + [1] * 6
    assert speech.ids[0] == "ann/0" and speech.split("test").ids == ("ann/4", "bob/4")
    for i, name in enumerate(speech.ids):
        assert np.array_equal(speech.samples(i), sounds[f"{name}.wav"])


def test_phones_have_numbers_up_to_255(tmp_path, monkeypatch):
    monkeypatch.setenv("PLASTICITY_DATA", str(tmp_path / "data"))
    write_wav(tmp_path / "a.wav", noise(800))
    (tmp_path / LABELS).write_text("a 255 0 2\n")
    speech = open_speech(str(tmp_path))
    assert speech.phones(0).tolist() == [255, 0, 2] and len(speech.phone_names) == 256


def test_a_drawn_part_comes_from_anywhere_in_the_set_and_differs_by_seed():
    whole = open_speech("speech").split("train")
    drawn = [whole.drawn(20, seed).ids for seed in range(4)]
    assert whole.drawn(20, 0).ids == drawn[0] and len(set(drawn)) == 4
    places = [[whole.ids.index(i) for i in ids] for ids in drawn]
    assert all(own == sorted(set(own)) and len(own) == 20 for own in places)
    assert np.max(places) > 0.9 * len(whole) > 20


def test_files_side_by_side_have_no_speakers(tmp_path, monkeypatch):
    monkeypatch.setenv("PLASTICITY_DATA", str(tmp_path / "data"))
    write_wav(tmp_path / "a.wav", noise(800))
    (tmp_path / LABELS).write_text("a 3 1 2\n")
    speech = open_speech(str(tmp_path))
    assert speech.speaker is None and speech.speakers == ()
    assert speech.phones(0).tolist() == [3, 1, 2] and len(speech.phone_names) == 4
    soundfile.write(tmp_path / "a.flac", noise(800), 16000)
    with pytest.raises(UserError, match="two audio files for 'a'"):
        open_speech(str(tmp_path))


def test_folders_named_as_splits_are_no_speakers(tmp_path, monkeypatch):
    monkeypatch.setenv("PLASTICITY_DATA", str(tmp_path / "data"))
    for k, place in enumerate(("Train/ann/a", "Train/bob/b", "test/ann/c")):
        write_wav(tmp_path / "set" / f"{place}.wav", noise(800, k))
    speech = open_speech(str(tmp_path / "set"))
    assert speech.speakers == ("ann", "bob") and speech.testing.tolist() == [False, False, True]
    assert speech.split("test").ids == ("c",)
    write_wav(tmp_path / "set" / "val" / "ann" / "d.wav", noise(800))
    assert "'val' (1 audio files) is neither" in notes(open_speech(str(tmp_path / "set")))[0]
    os.rename(tmp_path / "set" / "val", tmp_path / "set" / "carl")
    told = notes(open_speech(str(tmp_path / "set")))
    assert "passed over, audio files beside the splits: 1 (carl)" in told
    for split in ("Train", "test", "carl"):
        os.rename(tmp_path / "set" / split, tmp_path / f"old {split}")
    write_wav(tmp_path / "set" / "unlabelled" / "a.wav", noise(800))
    with pytest.raises(UserError, match="expected train/ beside it"):
        open_speech(str(tmp_path / "set"))


def test_speakers_for_tests_may_be_others_than_for_training(tmp_path, monkeypatch):
    monkeypatch.setenv("PLASTICITY_DATA", str(tmp_path / "data"))
    for place in ("train/ann/a", "test/bob/b"):
        write_wav(tmp_path / "set" / f"{place}.wav", noise(800))
    speech = open_speech(str(tmp_path / "set"))
    assert speech.speakers == ("ann", "bob") and speech.split("test").speaker.tolist() == [1]


def test_lists_go_before_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("PLASTICITY_DATA", str(tmp_path / "data"))
    for place in ("ann/a", "bob/b", "bob/c"):
        write_wav(tmp_path / "set" / f"{place}.wav", noise(800))
    (tmp_path / "set" / "train_split.txt").write_text("a\n")
    (tmp_path / "set" / "test_split.txt").write_text("b\nd\n")
    speech = open_speech(str(tmp_path / "set"))
    assert speech.split("test").ids == ("b",) and speech.speaker.tolist() == [0, 1]
    assert [note.ids for note in speech.notes] == [("d",), ("c",)]
    (tmp_path / "set" / "test_split.txt").write_text("d\n")
    (tmp_path / "set" / "train_split.txt").write_text("e\n")
    with pytest.raises(UserError, match="can be used: 2 of 2 utterances of the lists have no file"):
        open_speech(str(tmp_path / "set"))


def test_a_file_beside_the_speakers_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("PLASTICITY_DATA", str(tmp_path / "data"))
    for place in ("ann/a", "bob/b", "stray"):
        write_wav(tmp_path / "set" / f"{place}.wav", noise(800))
    speech = open_speech(str(tmp_path / "set"))
    assert speech.ids == ("a", "b")
    assert "passed over, audio files beside the speaker folders: 1 (stray.wav)" in notes(speech)


def test_a_link_in_a_circle_ends(tmp_path, monkeypatch):
    monkeypatch.setenv("PLASTICITY_DATA", str(tmp_path / "data"))
    write_wav(tmp_path / "set" / "ann" / "a.wav", noise(800))
    os.symlink(tmp_path / "set", tmp_path / "set" / "ann" / "again")
    write_wav(tmp_path / "elsewhere" / "b.wav", noise(800))
    os.symlink(tmp_path / "elsewhere", tmp_path / "set" / "bob")
    assert open_speech(str(tmp_path / "set")).ids == ("a", "b")


def test_no_set_and_no_audio_are_told(tmp_path):
    with pytest.raises(UserError, match="plasticity data fetch librispeech"):
        open_speech("librispeech", str(tmp_path))
    with pytest.raises(UserError, match="unknown speech 'libri'"):
        open_speech("libri")
    with pytest.raises(UserError, match=r"holds no audio file: expected files such as \.flac"):
        open_speech(str(tmp_path), str(tmp_path))


def test_the_shipped_sample():
    speech = open_speech("speech")
    assert speech.seconds == pytest.approx(360, abs=5) and len(speech.speakers) == 4
    assert all(len(speech.phones(i)) == label_count(speech.lengths[i]) for i in range(len(speech)))
    assert set(np.concatenate([speech.phones(i) for i in range(len(speech))])) == set(range(41))
    for split in ("train", "test"):
        assert set(speech.split(split).speaker) == {0, 1, 2, 3}
    silence, sound = [], []
    for i in range(len(speech)):
        for j, phone in enumerate(speech.phones(i)):
            frame = speech.samples(i, 160 * j + 120, 160 * j + 280).astype(float)
            (silence if phone == 0 else sound).append(frame.std())
    assert np.median(sound) > 50 * np.median(silence)  # labels lie where the speech is
    assert speech.place.stat().st_size < 4e6


def test_companded_values_are_those_of_mu_law():
    """Forwards as telephony has it, F(x) = sign x ln(1 + 255 |x|) / ln 256, in steps of 1/127."""
    values = mu_law_values()
    assert values.dtype == np.int16 and (values == -values[::-1]).all()
    x = values[127:] / 32767
    np.testing.assert_allclose(np.log(1 + 255 * x) / np.log(256), np.arange(128) / 127, atol=1e-3)


def test_packed_speech_is_what_it_was(corpus, tmp_path):
    speech = opened(corpus)
    pack(speech, tmp_path / "packed.npz")
    again = unpacked(tmp_path / "packed.npz")
    assert again.ids == speech.ids and again.speakers == speech.speakers
    for i in range(len(speech)):
        true, found = speech.samples(i).astype(float), again.samples(i)
        assert np.array_equal(again.phones(i), speech.phones(i))
        assert 10 * np.log10((true**2).mean() / ((found - true) ** 2).mean()) > 37  # decibels
    assert np.array_equal(again.testing, speech.testing)


@pytest.mark.data
def test_real_librispeech():
    try:
        speech = open_speech("librispeech")
    except UserError as error:
        pytest.skip(str(error))
    labelled = speech.labelled()
    assert len(labelled) > 0 and len(speech.phone_names) == 41
    assert not any("labels than" in note for note in notes(speech))
    for i in range(min(len(labelled), 20)):
        assert len(labelled.phones(i)) == (labelled.lengths[i] - 400) // 160 + 1
    assert all(name.split("-")[0] in speech.speakers for name in speech.ids)


def test_the_command_lists_and_checks_speech(corpus):
    def told(*names):
        where = ["data", "--data-dir", str(corpus[0].parent)]
        done = CliRunner().invoke(main, [*where, *names], env={"COLUMNS": "300"})
        return done.exit_code, done.output

    code, listed = told()
    assert code == 0 and str(corpus[0]) in listed and "run 'plasticity data make speech'" in listed
    code, said = told("librispeech")
    assert code == 0
    assert "Utterances of librispeech: train 3, test 1; 0.0 minutes; 2 speakers; 41 phones" in said
    assert told(str(corpus[0]))[0] == 0
    assert "train 98, test 24; 6.1 minutes; 4 speakers; 41 phones in 122" in told("speech")[1]
    next(corpus[0].rglob("9-2-0000.flac")).write_bytes(b"fLaC")
    code, said = told("librispeech")
    assert code == 1 and "1 of 4 files cannot be decoded: 9-2-0000" in said
