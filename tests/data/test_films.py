"""Films on disk, written here: UCF-101's layout, folders, what is damaged, missing or short."""

import sys

import numpy as np
import pytest
from click.testing import CliRunner
from plasticity.cli import main

from plasticity.data import films
from plasticity.data.films import open_films, read_film
from plasticity.errors import UserError

av = pytest.importorskip("av", reason="films are written and read by the package av")


def colour(i, t):
    """The colour of frame t of film i, far from others, so that no codec mixes them up."""
    return np.array([40 + 50 * (i % 4), 40 + 40 * (t % 5), 200 - 60 * (i % 3)], np.uint8)


def write(place, i, count, size=(32, 24)):
    """A film of `count` frames, each of one colour."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(place), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.bit_rate = 4_000_000
        for t in range(count):
            pixels = np.broadcast_to(colour(i, t), (size[1], size[0], 3))
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


CLASSES = ("Archery", "BaseballPitch")
FRAMES = {"v_Archery_g01_c01": 12, "v_Archery_g02_c01": 9, "v_BaseballPitch_g01_c01": 10,
          "v_BaseballPitch_g02_c01": 11}  # fmt: skip


@pytest.fixture
def ucf(tmp_path, monkeypatch):
    """Four films of two classes, the first group of each for tests; decoded frames beside them."""
    for i, (name, count) in enumerate(FRAMES.items()):
        write(tmp_path / "UCF-101" / name.split("_")[1] / f"{name}.avi", i, count)
    lists = tmp_path / "ucfTrainTestlist"
    lists.mkdir()
    (lists / "classInd.txt").write_text("1 Archery\n2 BaseballPitch\n")
    (lists / "trainlist01.txt").write_text(
        "Archery/v_Archery_g02_c01.avi 1\nBaseballPitch/v_BaseballPitch_g02_c01.avi 2\n"
    )
    (lists / "testlist01.txt").write_text(
        "Archery/v_Archery_g01_c01.avi\nBaseballPitch/v_BaseballPitch_g01_c01.avi\n"
    )
    return tmp_path


def opened(where, frames=4, every=1, **more):
    return open_films("ucf101", str(where), 16, every, frames, **more)


def test_frames_are_those_of_the_file_and_every_so_many_th(tmp_path):
    write(tmp_path / "a.avi", 2, 11)
    for every in (1, 3):
        found = read_film(tmp_path / "a.avi", 16, every)
        times = range(0, 11, every)
        assert found.shape == (len(times), 16, 16, 3)
        for frame, t in zip(found, times, strict=True):
            assert np.abs(frame.astype(int) - colour(2, t)).max() < 24, t  # what MPEG-4 loses


def test_the_published_lists_say_classes_and_splits(ucf):
    found = opened(ucf)
    assert set(found) == {"train", "test"} and found["train"].classes == CLASSES
    train, test = found["train"], found["test"]
    assert train.files == ("v_Archery_g02_c01", "v_BaseballPitch_g02_c01")
    assert train.labels.tolist() == test.labels.tolist() == [0, 1]
    assert train.lengths.tolist() == [9, 11] and test.lengths.tolist() == [12, 10]
    assert train.side == 17 and not train.notes  # 16 * 240 / 224
    (clip,) = train.frames(np.array([1]), np.array([3]), 4)
    for frame, t in zip(clip, range(3, 7), strict=True):
        assert np.abs(frame.astype(int) - colour(3, t)).max() < 24


def test_films_are_decoded_once_with_progress(ucf, monkeypatch):
    told = []
    opened(ucf, report=lambda *what: told.append(what))
    assert told[0] == ("decoding", 0, 4) and told[-1] == ("decoding", 4, 4)
    monkeypatch.setattr(films, "read_film", lambda *a, **k: 1 / 0)
    assert len(opened(ucf)["train"]) == 2


def test_a_set_is_checked_film_by_film_and_nothing_is_kept(ucf):
    (ucf / "UCF-101/Archery/v_Archery_g01_c01.avi").write_bytes(b"no film")
    done = CliRunner().invoke(main, ["data", "--data-dir", str(ucf), "ucf101"])
    assert done.exit_code == 1
    lines = " ".join(done.output.split())
    assert "Films of ucf101: train 2, test 2; classes: 2 (Archery, BaseballPitch)" in lines
    assert "frames: 9 to 11" in lines and "v_Archery_g01_c01.avi: cannot be read as a film" in lines
    assert not (ucf / "decoded").exists()
    folder = CliRunner().invoke(main, ["data", str(ucf / "UCF-101" / "BaseballPitch")])
    assert folder.exit_code == 0 and "classes: none; frames: 10 to 11" in folder.output


def test_the_sets_of_film_are_listed(ucf):
    found = " ".join(CliRunner().invoke(main, ["data", "--data-dir", str(ucf)]).output.split())
    assert "motions" in found and "ucf101" in found and "UCF-101 is neither" not in found


def test_a_run_shows_how_far_its_films_are_decoded(ucf):
    how = ["--net", "vgg5_video", "--data", "ucf101", "--data-dir", str(ucf), "--steps", "1"]
    how += ["--clip-frames", "9", "--side", "16", "--layers", "1", "--width", "0.02"]
    how += ["--batch", "2", "--prediction-steps", "1", "--no-probe", "--out"]
    done = CliRunner().invoke(main, ["run", *how, str(ucf / "run")])
    assert done.exit_code == 0, done.output
    assert "decoding: 4/4" in done.output
    again = CliRunner().invoke(main, ["run", *how, str(ucf / "other")])
    assert again.exit_code == 0 and "decoding" not in again.output, "once and for all"


def test_short_damaged_and_missing_films_are_counted_and_named(ucf):
    (ucf / "UCF-101/Archery/v_Archery_g01_c01.avi").write_bytes(b"no film")
    (ucf / "UCF-101/BaseballPitch/v_BaseballPitch_g01_c01.avi").unlink()
    found = opened(ucf, frames=10)
    assert set(found) == {"train"} and found["train"].files == ("v_BaseballPitch_g02_c01",)
    notes = "; ".join(found["train"].notes)
    assert "1 of 4 films of the lists have no file: v_BaseballPitch_g01_c01" in notes
    assert "1 of 3 files cannot be decoded, and are left out: v_Archery_g01_c01" in notes
    assert "1 of 3 films have fewer than 10 frames, and are left out: v_Archery_g02_c01" in notes


def test_a_short_film_may_end_with_its_last_frame_repeated(ucf):
    train = opened(ucf, frames=10, short="pad")["train"]
    assert len(train) == 2 and train.lengths.tolist() == [10, 11]
    (clip,) = train.frames(np.array([0]), np.array([0]), 10)
    np.testing.assert_array_equal(clip[9], clip[8])
    assert "end with their last one repeated: v_Archery_g02_c01" in "; ".join(train.notes)


def test_a_folder_has_a_class_in_each_subfolder_and_every_fifth_film_for_tests(tmp_path):
    for name in ("jump", "walk"):
        for i in range(5):
            write(tmp_path / "mine" / name / f"{i}.mp4", i, 6)
    found = open_films(str(tmp_path / "mine"), str(tmp_path), 16, 1, 4)
    assert found["train"].classes == ("jump", "walk")
    assert found["train"].labels.tolist() == [0] * 4 + [1] * 4
    assert found["test"].files == ("4", "4")
    assert found["train"].identity != found["test"].identity


@pytest.mark.parametrize(
    "file, text, told",
    [
        ("classInd.txt", "1 Archery\n3 BaseballPitch\n", r"classInd.txt, line 2: expected '2 CL"),
        ("trainlist01.txt", "Archery/v_Archery_g02_c01.avi 2\n", r"the number of Archery is 1"),
        ("testlist01.txt", "Dance/v_Dance_g01_c01.avi\n", r"line 1: expected CLASS/FILM.avi"),
    ],
)
def test_a_list_that_is_wrong_is_named_with_its_line(ucf, file, text, told):
    (ucf / "ucfTrainTestlist" / file).write_text(text)
    with pytest.raises(UserError, match=told):
        opened(ucf)


def test_what_is_not_there_is_told_in_a_sentence(tmp_path, ucf, monkeypatch):
    with pytest.raises(UserError, match="the folder UCF-101 is neither in"):
        opened(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"trainlist02.txt is neither in"):
        open_films("ucf101-2", str(ucf), 16, 1, 4)
    with pytest.raises(UserError, match=r"no film in .* can be used: .* fewer than 99 frames"):
        opened(ucf, frames=99)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UserError, match=r"package av, which is missing .*\[video\]"):
        open_films("ucf101", str(ucf), 24, 1, 4)


def test_a_network_learns_from_films_and_is_probed(ucf):
    (ucf / "net.py").write_text(
        "from plasticity.network import Conv, Network\n\n\ndef build(width=1.0):\n"
        "    return Network('n', (Conv('a', 3, 4, (1, 5, 5), (1, 2, 2), 0),"
        " Conv('b', 4, 4, (3, 3, 3), 1, (0, 1, 1))))\n"
    )
    how = ["--net", str(ucf / "net.py"), "--data", "ucf101", "--data-dir", str(ucf)]
    sizes = ["--clip-frames", "8", "--side", "16", "--batch", "2", "--set", "steps=2"]
    done = CliRunner().invoke(
        main, ["run", "--rule", "clapp_s", *how, *sizes, "--steps", "2", "--out", str(ucf / "run")]
    )
    assert done.exit_code == 0, done.output
    assert "Clips of ucf101: train 2, test 2; classes: 2" in done.output
    assert "2 training, 2 test clips, 2 classes" in done.output
