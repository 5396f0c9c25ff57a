"""Image sets: subsets drawn by the seed, and damaged images left out."""

import numpy as np
import pytest
from PIL import Image

from plasticity import data
from plasticity.errors import UserError
from plasticity.stimuli import Images


@pytest.fixture
def folder(tmp_path):
    """Images 0 to 9 of class a, 10 to 19 of b, 20 to 29 of c, each of one grey value."""
    for c, name in enumerate("abc"):
        (tmp_path / name).mkdir()
        for i in range(10):
            pixels = np.full((8, 8), 10 * c + i, np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{i}.png")
    return tmp_path


def values(images):
    return images[:, 0, 0].tolist()


def test_a_subset_is_drawn_by_the_seed_over_all_classes(folder):
    images = data.open_set(str(folder), "unlabelled")
    few = images.drawn(9, seed=1)
    assert len(few) == 9 and np.bincount(few.labels).tolist() == [3, 3, 3]
    shown = values(few.pixels(np.arange(9)))
    assert [value // 10 for value in shown] == few.labels.tolist()
    assert shown == values(images.drawn(9, seed=1).pixels(np.arange(9)))
    assert shown != values(images.drawn(9, seed=2).pixels(np.arange(9)))


def test_a_subset_of_unlabelled_images_is_drawn_too(tmp_path):
    for i in range(30):
        Image.fromarray(np.full((8, 8), i, np.uint8)).save(tmp_path / f"{i:02}.png")
    shown = values(data.open_set(str(tmp_path), "unlabelled").drawn(10, 0).pixels(np.arange(10)))
    assert len(set(shown)) == 10 and max(shown) > 10


def test_a_subset_of_more_than_all_is_all(folder):
    images = data.open_set(str(folder), "unlabelled")
    assert len(images.drawn(31, 0)) == 30


def opened(folder, **how):
    return data.open_set(str(folder), "unlabelled", **how)


def batch_of(images, step=0):
    return Images(images, 64).batch(step, seed=0, size=30)


def test_a_damaged_image_gives_its_place_to_the_next_of_its_class(folder):
    whole = batch_of(opened(folder))
    (folder / "b" / "9.png").write_bytes(b"damaged")
    images = opened(folder, skip_damaged=True)
    batch = batch_of(images)
    at = whole.index.tolist().index(19)
    assert batch.index[at] == 10 and batch.pixels[at, 0, 0] == 10
    others = np.arange(30) != at
    np.testing.assert_array_equal(batch.pixels[others], whole.pixels[others])
    np.testing.assert_array_equal(batch.labels, whole.labels)
    assert list(images.left_out) == [str(folder / "b" / "9.png")]


def test_a_class_without_a_sound_image_gives_its_places_to_others(folder):
    for place in (folder / "b").iterdir():
        place.write_bytes(b"")
    batch = batch_of(opened(folder, skip_damaged=True))
    assert set(batch.labels) == {0, 2}
    assert (batch.pixels[:, 0, 0] // 10 == batch.labels).all()


def test_a_set_of_damaged_images_alone_is_told(folder):
    for place in folder.glob("*/*.png"):
        place.write_bytes(b"")
    with pytest.raises(UserError, match=r"every image of .* is damaged, such as"):
        batch_of(opened(folder, skip_damaged=True))


def test_probes_do_without_damaged_images(folder):
    (folder / "a" / "3.png").write_bytes(b"")
    images = opened(folder, skip_damaged=True)
    assert images.usable(np.arange(30)).tolist() == [i for i in range(30) if i != 3]


def test_a_damaged_image_stops_whoever_did_not_ask_to_skip_it(folder):
    (folder / "a" / "3.png").write_bytes(b"")
    with pytest.raises(data.DamagedError, match=r"a/3\.png cannot be used as an image"):
        batch_of(opened(folder))
