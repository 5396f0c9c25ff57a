"""Folders: which classes and splits they hold, and that nothing is passed over without a word."""

import os

import pytest

from plasticity import runs
from plasticity.data import folders, tree
from plasticity.errors import UserError


@pytest.fixture
def make(tmp_path):
    """Makes `count` files named as images in each folder: reading a folder opens none of them."""

    def made(*names, count=5, suffix=".png"):
        for name in names:
            (tmp_path / name).mkdir(parents=True, exist_ok=True)
            for i in range(count):
                (tmp_path / name / f"{i}{suffix}").write_bytes(b"image")
        return tmp_path

    return made


def counts(found):
    return {split: len(part.files) for split, part in found.splits.items()}


def refused(where, said):
    with pytest.raises(UserError, match=said):
        folders.read(where)


def test_classes_are_numbered_once_for_all_splits(make):
    found = folders.read(make("train/a", "train/b", "train/c", "test/b", "test/c"))
    assert found.classes == ("a", "b", "c")
    assert found.splits["test"].labels.tolist() == [1] * 5 + [2] * 5
    assert found.remarks == ("there are no test images of a",)


def test_one_image_of_a_class_changes_no_label_of_another(make):
    make("train/a", "train/b", "test/b")
    before = folders.read(make()).splits["test"].labels.tolist()
    found = folders.read(make("test/a", count=1))
    assert found.splits["test"].labels.tolist() == [0, *before] == [0, 1, 1, 1, 1, 1]


def test_splits_that_share_no_class_are_refused(make):
    refused(make("train/a", "train/b", "test/c"), "share no class: training has a, b, the test c")


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train", "test"),
        ("Train", "TEST"),
        ("training", "testing"),
        ("train", "val"),
        ("train", "Valid"),
        ("training_set", "validation_set"),
        ("TrainImages", "DevImages"),
        ("train2017", "val2017"),
        ("inner/train", "inner/test"),
        ("inner/deeper/train", "inner/deeper/valid"),
    ],
)
def test_usual_spellings_of_splits_are_known(make, train, test):
    found = folders.read(make(*(f"{split}/{name}" for split in (train, test) for name in "ab")))
    assert found.classes == ("a", "b")
    assert {file.parent.parent.name for file in found.splits["unlabelled"].files} == {
        train.split("/")[-1]
    }
    assert counts(found) == {"unlabelled": 10, "train": 10, "test": 10}


@pytest.mark.parametrize("name", ["unlabelled", "unlabeled", "Unlabeled_images"])
def test_unlabelled_images_are_those_to_learn_from(make, name):
    found = folders.read(make("train/a", "train/b", "test/a", "test/b", f"{name}/all"))
    assert found.classes == ("a", "b") and found.splits["unlabelled"].labels is None
    assert counts(found) == {"unlabelled": 5, "train": 10, "test": 10}


def test_beside_test_images_those_for_validation_are_left_alone_with_a_word(make):
    found = folders.read(make("train/a", "val/a", "test/a"))
    assert counts(found) == {"unlabelled": 5, "train": 5, "test": 5}
    assert found.remarks == ("'val' (5 images) is neither learned from nor tested on",)


def test_without_a_test_folder_every_fifth_image_of_a_class_is_for_tests(make):
    for where in (make("a", "b", count=10), make("other/train/a", "other/train/b") / "other"):
        found = folders.read(where)
        total = len(found.splits["unlabelled"].files)
        assert counts(found) == {
            "unlabelled": total, "train": total * 4 // 5, "test": total // 5
        }  # fmt: skip
        assert not set(found.splits["train"].files) & set(found.splits["test"].files)
        assert sorted(set(found.splits["test"].labels.tolist())) == list(range(len(found.classes)))


def test_a_class_too_small_to_be_tested_is_named(make):
    make("a")
    found = folders.read(make("b", count=4))
    assert found.remarks == ("there are no test images of b: fewer than 5 in all",)


def test_trains_may_be_a_class(make):
    assert folders.read(make("bus", "car", "train")).classes == ("bus", "car", "train")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("cat", "dog", "test"), "holds test, which looks like a split, beside cat, dog"),
        (("cat", "validation"), "holds validation, which looks like a split, beside cat"),
        (("trainval/a", "test/a"), "holds test, which looks like a split, beside trainval"),
        (("test/a", "test/b"), "holds test alone: expected train/ beside it"),
        (("train/a", "Training/a", "test/a"), "are both read as 'train'"),
        (("train-clean", "test-clean"), "test-clean, train-clean in .* look like splits"),
        (("trainA", "trainB", "testA", "testB"), "testA, trainA in .* look like splits"),
        (("a/train", "a/test", "b/train", "b/test"), "the class folder .*/a holds splits"),
    ],
)
def test_what_could_be_understood_in_two_ways_is_refused(make, names, said):
    refused(make(*names), said)


@pytest.mark.parametrize(
    "name",
    [
        ".ipynb_checkpoints",
        "__MACOSX/a",
        ".git/objects",
        "@eaDir",
        "a/@eaDir/0.png",
        "$RECYCLE.BIN",
    ],
)
def test_hidden_folders_are_no_classes(make, name):
    make("a", "b")
    found = folders.read(make(name))
    assert found.classes == ("a", "b") and len(found.splits["unlabelled"].files) == 10
    hidden = name.removesuffix("/a").removesuffix("/objects").removesuffix("/0.png")
    assert found.remarks == (f"passed over, hidden: 1 ({hidden})",)


def test_hidden_files_are_no_images(make):
    where = make("a", "b")
    (where / "a" / "._0.png").write_bytes(b"\0\5\x16\7")
    found = folders.read(where)
    assert len(found.splits["unlabelled"].files) == 10
    assert found.remarks == ("passed over, hidden: 1 (a/._0.png)",)


def test_runs_in_the_folder_are_no_images(make):
    where = make("a", "b", "runs/first")
    (where / "runs" / "first" / tree.RUN).write_bytes(b"")
    assert folders.read(where).classes == ("a", "b") and tree.RUN == runs.NAME


def test_a_stray_image_beside_the_classes_takes_no_labels_away(make):
    make("a", "b")
    found = folders.read(make(".", count=1))
    assert found.classes == ("a", "b") and found.splits["train"].labels is not None
    assert found.remarks == ("passed over, images beside the class folders: 1 (0.png)",)


def test_many_images_beside_few_in_folders_are_refused(make):
    make("examples", count=3)
    refused(make(".", count=50), "holds 50 images, and 3 in folders")


def test_loose_images_have_no_labels(make):
    for where in (make("."), make("more/images") / "more"):
        found = folders.read(where)
        assert found.classes == () and found.splits["unlabelled"].labels is None


def test_links_are_followed_but_not_for_ever(make):
    where = make("set/a") / "set"
    outside = make("outside/b") / "outside" / "b"
    os.symlink(outside, where / "b")
    os.symlink(where, where / "a" / "again")
    os.symlink("/nowhere", where / "c")
    os.symlink("/nowhere.png", where / "a" / "9.png")
    found = folders.read(where)
    assert found.classes == ("a", "b") and len(found.splits["unlabelled"].files) == 10
    assert set(found.remarks) == {
        "passed over, links to a folder above: 1 (a/again)",
        "passed over, links that lead nowhere: 2 (a/9.png, c)",
    }


def test_other_suffixes_of_images_are_known_and_other_files_are_counted(make):
    make("a", suffix=".jfif")
    where = make("b", suffix=".JPEG")
    (where / "c").mkdir()
    (where / "c" / "photo.heic").write_bytes(b"")
    (where / "notes.txt").write_text("")
    found = folders.read(where)
    assert found.classes == ("a", "b")
    assert found.remarks == (
        "passed over, folders without images: 1 (c)",
        "passed over, files of other kinds: 2 (.heic 1, .txt 1)",
    )


def test_a_folder_without_images_says_what_it_holds(make):
    where = make()
    refused(where, "holds no image: expected files such as .png or .jpg$")
    (where / "table.csv").write_text("")
    refused(where, r"files of other kinds: 1 \(.csv 1\)")


def test_a_folder_without_rights_is_told(make, monkeypatch):
    where, listed = make("a", "b"), os.scandir

    def denied(path):
        if path.name == "b":
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr(os, "scandir", denied)
    refused(where, "the folder .*/b cannot be read: Permission denied")


def test_names_that_are_not_utf_8_can_be_printed(make):
    where = make("a")
    try:
        (where / os.fsdecode(b"caf\xe9")).mkdir()
    except OSError:
        pytest.skip("this file system knows UTF-8 alone")
    found = folders.read(where)
    assert found.remarks == ("passed over, folders without images: 1 (caf\\xe9)",)


def test_a_set_is_the_same_wherever_it_lies_and_another_after_any_change(make):
    where = make("set/a", "set/b") / "set"
    before = folders.read(where).identity("train")
    moved = where.rename(where.with_name("moved"))
    assert folders.read(moved).identity("train") == before
    (moved / "a" / "0.png").write_bytes(b"a longer image")
    replaced = folders.read(moved).identity("train")
    (moved / "a" / "1.png").unlink()
    removed = folders.read(moved).identity("train")
    (moved / "c").mkdir()
    (moved / "c" / "0.png").write_bytes(b"image")
    added = folders.read(moved).identity("train")
    assert len({before, replaced, removed, added}) == 4
    assert before.startswith("8 images, ")
