"""Data sets, each made here in its published format."""

import numpy as np
import pytest
from PIL import Image

from plasticity import data
from plasticity.data.sets import luma, stl10_folds
from plasticity.errors import UserError


def colours(count, side, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), np.uint8)


@pytest.fixture
def stl10(tmp_path):
    """A small STL-10: for each image its planes R, G, B, each running down its columns."""
    images = colours(3, 96)
    for name in ("unlabeled_X.bin", "train_X.bin", "test_X.bin"):
        images.transpose(0, 3, 2, 1).tofile(tmp_path / name)
    for name in ("train_y.bin", "test_y.bin"):
        np.array([1, 10, 3], np.uint8).tofile(tmp_path / name)
    (tmp_path / "fold_indices.txt").write_text("0 2 \n1 2 \n")
    return tmp_path, images


@pytest.fixture
def cifar10(tmp_path):
    where = tmp_path / "cifar-10-batches-bin"
    where.mkdir()
    images = colours(5, 32)
    records = np.concatenate(
        [
            np.array([[7], [1], [0], [9], [4]], np.uint8),
            images.transpose(0, 3, 1, 2).reshape(5, -1),
        ],
        axis=1,
    )
    records[:3].tofile(where / "data_batch_1.bin")
    records[3:].tofile(where / "data_batch_2.bin")
    records[:2].tofile(where / "test_batch.bin")
    return tmp_path, images


def grey(image):
    return np.asarray(Image.fromarray(image).convert("L"))


def test_luma_is_pillows():
    image = colours(1, 50)[0]
    np.testing.assert_array_equal(luma(image), grey(image))


def test_the_sample_is_there_balanced_and_of_64_pixels():
    for split, count in (("unlabelled", 6000), ("train", 6000), ("test", 1000)):
        found = data.open_set("sample", split)
        assert len(found) == count and found.pixels(np.arange(3)).shape == (3, 64, 64)
        assert np.bincount(found.labels).tolist() == [count // 10] * 10
    values = found.pixels(np.arange(1000)) / 255
    assert abs(values.mean() - found.mean[0]) < 0.01 and abs(values.std() - found.std[0]) < 0.01


def test_stl10_planes_run_down_columns(stl10):
    where, images = stl10
    for split in ("unlabelled", "train", "test"):
        found = data.open_set("stl10", split, where)
        assert len(found) == 3
        np.testing.assert_array_equal(found.pixels(np.array([2, 0]))[0], grey(images[2]))
    assert found.labels.tolist() == [0, 9, 2]
    assert data.open_set("stl10", "unlabelled", where).labels is None
    assert [fold.tolist() for fold in stl10_folds(where)] == [[0, 2], [1, 2]]


def test_cifar10_records_are_a_label_and_three_planes(cifar10):
    where, images = cifar10
    found = data.open_set("cifar10", "train", where)
    assert found.labels.tolist() == [7, 1, 0, 9, 4]
    wanted = Image.fromarray(grey(images[3])).resize((72, 72), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(found.pixels(np.array([3, 0]))[0], np.asarray(wanted))
    assert len(data.open_set("cifar10", "test", where)) == 2


def test_colours_are_those_of_the_file(stl10, cifar10, tmp_path):
    for (where, images), name, side in ((stl10, "stl10", 96), (cifar10, "cifar10", 72)):
        found = data.open_set(name, "train", where, colour=True)
        wanted = Image.fromarray(images[2]).resize((side, side), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(found.pixels(np.array([2]))[0], np.asarray(wanted))
        assert found.channels == len(found.mean) == len(found.std) == 3
    # Luma is linear: the published means of the colours have that of the grey values, to the digit.
    red, green, blue = data.open_set("stl10", "train", stl10[0], colour=True).mean
    assert 0.299 * red + 0.587 * green + 0.114 * blue == pytest.approx(0.4120, abs=0.004)


def test_a_folder_of_images_in_colour(tmp_path):
    image = colours(1, 96)[0]
    Image.fromarray(image).save(tmp_path / "a.png")
    Image.fromarray(grey(image)).save(tmp_path / "b.png")
    found = data.open_set(str(tmp_path), "unlabelled", colour=True).pixels(np.array([0, 1]))
    np.testing.assert_array_equal(found[0], image)
    np.testing.assert_array_equal(found[1], np.repeat(grey(image)[..., None], 3, axis=2))


def test_a_set_without_colours_says_so():
    with pytest.raises(UserError, match="the images of sample are grey: --colour is for stl10"):
        data.open_set("sample", "train", colour=True)


def test_a_folder_with_class_subfolders_has_labels_and_splits(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for i in range(10):
            Image.fromarray(colours(1, 40, i)[0][:, :30]).save(tmp_path / name / f"{i}.png")
    train, test = (data.open_set(str(tmp_path), split) for split in ("train", "test"))
    assert train.classes == ("cat", "dog")
    assert np.bincount(train.labels).tolist() == [8, 8]
    assert np.bincount(test.labels).tolist() == [2, 2]
    assert len(data.open_set(str(tmp_path), "unlabelled")) == 20
    assert train.pixels(np.array([0, 5])).shape == (2, 96, 96)


def test_a_folder_of_loose_images_has_none(tmp_path):
    Image.fromarray(colours(1, 120)[0]).save(tmp_path / "a.jpg")
    assert data.open_set(str(tmp_path), "unlabelled").labels is None


@pytest.mark.parametrize("cut", [1, 27647])
def test_a_file_of_the_wrong_length_is_named(stl10, cut):
    where, _ = stl10
    whole = (where / "train_X.bin").read_bytes()
    (where / "train_X.bin").write_bytes(whole[:-cut])
    with pytest.raises(UserError, match=r"train_X\.bin has \d+ bytes, expected a whole number"):
        data.open_set("stl10", "train", where)


def test_labels_of_another_count_are_named(stl10):
    where, _ = stl10
    np.array([1, 2], np.uint8).tofile(where / "train_y.bin")
    with pytest.raises(UserError, match=r"train_y\.bin has 2 labels"):
        data.open_set("stl10", "train", where)


def test_what_is_missing_is_said(tmp_path):
    with pytest.raises(UserError, match="plasticity data fetch stl10"):
        data.open_set("stl10", "train", tmp_path)
    with pytest.raises(UserError, match="did you mean 'cifar10'"):
        data.open_set("cifar-10", "train", tmp_path)
    with pytest.raises(UserError, match="holds no image"):
        data.open_set(str(tmp_path), "train")
    (tmp_path / "broken.png").write_bytes(b"not an image")
    with pytest.raises(UserError, match=r"broken\.png cannot be used as an image"):
        data.open_set(str(tmp_path), "unlabelled").pixels(np.array([0]))


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"caf\xe9\n" * 10, "is not UTF-8"), (b"cat dog", "holds 2 names"), (b"", "holds 0 names")],
)
def test_damaged_names_of_classes_are_told(cifar10, content, said):
    where, _ = cifar10
    (where / "cifar-10-batches-bin" / "batches.meta.txt").write_bytes(content)
    with pytest.raises(UserError, match=rf"batches\.meta\.txt {said}"):
        data.open_set("cifar10", "train", where)


def test_the_damaged_file_of_several_is_named(cifar10):
    where, _ = cifar10
    place = where / "cifar-10-batches-bin" / "data_batch_2.bin"
    place.write_bytes(b"\xff" + place.read_bytes()[1:])
    with pytest.raises(UserError, match=r"data_batch_2\.bin holds labels above 9"):
        data.open_set("cifar10", "train", where)


@pytest.mark.parametrize("name", ["stl10", "cifar10"])
def test_files_without_rights_are_told(request, monkeypatch, name):
    where, _ = request.getfixturevalue(name)

    def denied(path, *how, **named):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(np, "memmap", denied)
    with pytest.raises(UserError, match=r"\.bin cannot be read: Permission denied"):
        data.open_set(name, "train", where)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "the name of the data set is empty"),
        (" ", "the name of the data set is empty"),
        ("a\0b", "unknown data set"),
        ("x" * 5000, "unknown data set"),
        ("~nobody-has-this-name/images", "unknown data set"),
        (__file__, "is a file: expected a folder of images"),
    ],
)
def test_names_that_name_no_set_are_told(name, said):
    with pytest.raises(UserError, match=said):
        data.open_set(name, "train")


def test_home_is_known_in_paths(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PLASTICITY_DATA", "~/sets")
    assert data.data_folder() == tmp_path / "sets"
    (tmp_path / "images").mkdir()
    assert data.absolute("~/images") == str(tmp_path / "images")


def test_a_set_by_name_stays_the_same_until_a_file_changes(cifar10):
    where, _ = cifar10
    before = data.open_set("cifar10", "train", where).identity
    assert before.startswith("2 files, ")
    (where / "cifar-10-batches-bin" / "data_batch_2.bin").unlink()
    assert data.open_set("cifar10", "train", where).identity != before
