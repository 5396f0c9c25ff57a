"""Folders of images through the command line: what is said, what is refused, what goes on."""

import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from plasticity.cli import main

SMALL = ("--width", 0.03, "--layers", 1, "--batch", 4, "--device", "cpu")


def call(*arguments):
    done = CliRunner().invoke(main, [str(a) for a in arguments])
    assert "Traceback" not in done.output, done.output
    return done


def train(where, *more, steps=2):
    return call("run", *SMALL, "--no-probe", "--data", where, "--steps", steps, *more)


def resume(folder, *more):
    return call("run", "--resume", folder, "--no-probe", *more)


@pytest.fixture
def images(tmp_path):
    """A folder of two classes of ten images: cats are dark, dogs are bright."""
    sort(tmp_path / "images" / "cat", 0, 60)
    sort(tmp_path / "images" / "dog", 190, 256)
    return tmp_path / "images"


def sort(where, darkest, brightest):
    """Ten images of noise."""
    where.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(10):
        pixels = rng.integers(darkest, brightest, (32, 32), np.uint8)
        Image.fromarray(pixels).save(where / f"{i}.png")


def weights(folder):
    import h5py

    with h5py.File(folder / "checkpoint.h5") as file:
        return file["weights/conv1/weight"][()]


def test_a_run_says_first_what_its_set_holds(images, tmp_path):
    (images / "notes.txt").write_text("")
    done = train(images, "--out", tmp_path / "run")
    assert done.exit_code == 0, done.output
    first, second, *_ = done.output.splitlines()
    assert first == (f"Images of {images}: unlabelled 20, train 16, test 4; classes: 2 (cat, dog)")
    assert second == "  passed over, files of other kinds: 1 (.txt 1)"


@pytest.mark.parametrize("name", ["", "  "])
def test_an_empty_name_is_not_the_current_folder(images, monkeypatch, tmp_path, name):
    monkeypatch.chdir(images)
    done = train(name, "--out", tmp_path / "run")
    assert done.exit_code == 2 and "the name of the data set is empty" in done.output
    assert not (tmp_path / "run").exists()


def test_a_run_finds_its_images_from_another_folder(images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert train("images", "--out", tmp_path / "run").exit_code == 0
    (tmp_path / "other" / "images" / "cat").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "other")
    done = resume(tmp_path / "run", "--steps", 3)
    assert done.exit_code == 0 and f"data {images}" in done.output.replace("\n", "")


def test_a_run_finds_its_data_folder_from_another_folder(tmp_path, monkeypatch):
    records = np.zeros((8, 3073), np.uint8)
    records[:, 0] = np.arange(8)
    (tmp_path / "sets").mkdir()
    for name in ("data_batch_1.bin", "test_batch.bin"):
        records.tofile(tmp_path / "sets" / name)
    monkeypatch.chdir(tmp_path)
    assert train("cifar10", "--data-dir", "sets", "--out", tmp_path / "run").exit_code == 0
    monkeypatch.chdir(tmp_path / "run")
    assert resume(tmp_path / "run", "--steps", 3).exit_code == 0


def test_agreeing_to_changes_goes_with_resuming(images, tmp_path):
    done = train(images, "--changed-data", "--out", tmp_path / "run")
    assert done.exit_code == 2 and "--changed-data goes with --resume" in done.output
    assert not (tmp_path / "run").exists()


def test_moved_images_go_on_bit_for_bit_and_others_do_not(images, tmp_path):
    assert train(images, "--out", tmp_path / "whole", steps=4).exit_code == 0
    assert train(images, "--out", tmp_path / "run").exit_code == 0
    other = shutil.copytree(images, tmp_path / "other")
    (other / "cat" / "0.png").unlink()
    moved = images.rename(tmp_path / "moved")
    gone = resume(tmp_path / "run", "--steps", 4)
    assert gone.exit_code == 2 and "name their folder by --data" in gone.output
    refused = resume(tmp_path / "run", "--steps", 4, "--data", other)
    assert refused.exit_code == 2 and "19 images instead of 20 images" in refused.output
    assert resume(tmp_path / "run", "--steps", 4, "--data", moved).exit_code == 0
    np.testing.assert_array_equal(weights(tmp_path / "run"), weights(tmp_path / "whole"))


def added(images):
    shutil.copy(images / "cat" / "0.png", images / "cat" / "new.png")


def removed(images):
    (images / "dog" / "5.png").unlink()


def replaced(images):
    Image.fromarray(np.zeros((50, 50), np.uint8)).save(images / "dog" / "5.png")


@pytest.mark.parametrize(
    "command", [("probe", "--train", 8, "--test", 4), ("inspect", "--layer", 1)]
)
def test_whoever_looks_at_a_run_finds_moved_images(images, tmp_path, command):
    assert train(images, "--out", tmp_path / "run", "--rule", "supervised").exit_code == 0
    moved = images.rename(tmp_path / "moved")
    name, *how = command
    gone = call(name, tmp_path / "run", *how)
    assert gone.exit_code == 2 and "is not there: if the images were moved" in gone.output
    done = call(name, tmp_path / "run", *how, "--data-dir", moved)
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize("change", [added, removed, replaced])
def test_images_that_changed_are_noticed(images, tmp_path, change):
    assert train(images, "--out", tmp_path / "run").exit_code == 0
    change(images)
    for done in (
        resume(tmp_path / "run", "--steps", 3),
        call("probe", tmp_path / "run", "--train", 8, "--test", 4),
    ):
        assert done.exit_code == 2 and "are not those that the run began with" in done.output
    assert resume(tmp_path / "run", "--steps", 3, "--changed-data").exit_code == 0
    assert resume(tmp_path / "run", "--steps", 4).exit_code == 0


def test_a_damaged_image_stops_a_run_that_is_saved_first(images, tmp_path):
    where = tmp_path / "run"
    (images / "dog" / "5.png").write_bytes(b"damaged")
    done = train(images, "--out", where, steps=20)
    assert done.exit_code == 2
    assert "dog/5.png cannot be used as an image" in done.output and "--skip-damaged" in done.output
    said = int(done.output.split("saved at step ")[1].split(":")[0])
    again = resume(where)
    assert again.exit_code == 2 and f"saved at step {said}" in again.output
    done = resume(where, "--skip-damaged")
    assert done.exit_code == 0, done.output
    assert "Damaged images that were left out: 1" in done.output and "dog/5.png: " in done.output
    summary = json.loads((where / "summary.json").read_text())
    assert summary["steps"] == 20 and list(summary["damaged"]) == [str(images / "dog" / "5.png")]


def test_damaged_images_are_left_out_of_learning_and_probes(images, tmp_path):
    for name in ("cat/4.png", "dog/1.png"):  # the fifth of a class is for tests
        (images / name).write_bytes(b"")
    done = call("run", *SMALL, "--data", images, "--steps", 6, "--skip-damaged",
                "--probe-train", 0, "--probe-test", 0, "--out", tmp_path / "run")  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "Damaged images that were left out: 2" in done.output
    probe = json.loads((tmp_path / "run" / "summary.json").read_text())["probe"]
    assert (probe["train_images"], probe["test_images"]) == (15, 3)


def test_a_set_is_checked_beforehand(images):
    done = call("data", images)
    assert done.exit_code == 0 and "Every image can be decoded" in done.output
    (images / "cat" / "3.png").write_bytes(b"damaged")
    done = call("data", images)
    assert done.exit_code == 1
    assert "cat/3.png: its content is no image" in done.output.replace("\n", "")
    assert "classes: 2 (cat, dog)" in done.output.replace("\n", " ")


@pytest.mark.parametrize("name", ["sample", "no-such-set", "cifar-10"])
def test_a_name_is_checked_or_unknown(name):
    done = call("data", name)
    known = name == "sample"
    assert done.exit_code == (0 if known else 2)
    assert ("6000" if known else "unknown data set") in done.output


def test_probes_of_two_folders_of_one_name_are_kept_apart(images, tmp_path):
    other = shutil.copytree(images, tmp_path / "other" / "images")
    assert train(images, "--out", tmp_path / "run").exit_code == 0
    for where in (images, other):
        done = call("probe", tmp_path / "run", "--data", where, "--train", 8, "--test", 4)
        assert done.exit_code == 0, done.output
    assert len(list((tmp_path / "run").glob("probe-regularised-images-*.json"))) == 2


def test_classes_that_the_test_lacks_shift_no_label(images, tmp_path):
    """Dark cats and bright dogs are told apart beside a class `a` that the test does not have."""
    for split in ("train", "test"):
        shutil.copytree(images, tmp_path / "set" / split)
    sort(tmp_path / "set" / "train" / "a", 100, 150)
    done = train(tmp_path / "set", "--out", tmp_path / "run")
    assert done.exit_code == 0 and "there are no test images of a" in done.output
    done = call("probe", tmp_path / "run", "--train", 0, "--test", 0, "--json", tmp_path / "p.json")
    assert done.exit_code == 0, done.output
    assert max(json.loads((tmp_path / "p.json").read_text())["trained"]) >= 0.9
