"""Batches: what they hold, and that they come ahead of need."""

import itertools
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from plasticity.cli import main

from plasticity import data
from plasticity.errors import UserError
from plasticity.runs import sets
from plasticity.runs.options import RunOptions
from plasticity.stimuli import Batches, Images
from plasticity.stimuli.images import crops


@pytest.fixture
def images():
    return data.open_set("sample", "unlabelled").drawn(50, 0)


def batches(images, *, batch, crop, seed, start=0, stop):
    """The batches of steps, made ahead of need."""
    stimulus = Images(images, crop)
    return Batches(lambda step: stimulus.batch(step, seed, batch), start, stop)


def test_an_epoch_shows_every_image_once_and_the_next_in_another_order(images):
    with batches(images, batch=10, crop=64, seed=1, stop=10) as made:
        index = [batch.index for batch in made]
    first, second = np.concatenate(index[:5]), np.concatenate(index[5:])
    assert sorted(first) == sorted(second) == list(range(50))
    assert not np.array_equal(first, second)


def test_a_batch_depends_on_seed_and_step_alone(images):
    with batches(images, batch=8, crop=48, seed=3, start=0, stop=9) as made:
        whole = list(made)
    with batches(images, batch=8, crop=48, seed=3, start=7, stop=9) as made:
        resumed = list(made)
    for a, b in zip(whole[7:], resumed, strict=True):
        assert a.step == b.step
        for name in ("index", "pixels", "top", "left", "flip"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    other = Images(images, 48).batch(7, 4, 8)
    assert not np.array_equal(other.index, resumed[0].index)


def test_a_share_of_a_batch_is_part_of_it(images):
    whole, share = Images(images, 48).batch(3, 1, 8), slice(2, 5)
    part = Images(images, 48).batch(3, 1, 8, share)
    for name in ("pixels", "top", "left", "flip"):
        np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[share])


def test_crops_stay_inside_and_flips_are_fair():
    top, left, flip = crops(10000, 96, 64, np.random.default_rng(0))
    for place in (top, left):
        assert place.min() == 0 and place.max() == 32
    assert abs(flip.mean() - 0.5) < 0.03
    assert [a[0] for a in crops(1, 96, 64)] == [16, 16, False]


def test_in_order_keeps_the_order_and_the_last_short_batch(images):
    made = list(Images(images).in_order(np.array([4, 2, 9]), 2))
    assert [b.index.tolist() for b in made] == [[4, 2], [9]]
    np.testing.assert_array_equal(made[1].pixels, images.pixels(np.array([9])))


@pytest.fixture
def coloured(tmp_path):
    """A folder of six images in colour, in two classes, with their pixels."""
    pixels = np.random.default_rng(0).integers(0, 256, (10, 96, 96, 3), np.uint8)
    for i, image in enumerate(pixels):
        place = tmp_path / "ab"[i % 2] / f"{i // 2}.png"
        place.parent.mkdir(exist_ok=True)
        Image.fromarray(image).save(place)
    return tmp_path, pixels[np.r_[0:10:2, 1:10:2]]  # by class, then by name


def test_patches_in_colour_are_each_channels_own_normalised_by_itself(coloured):
    where, pixels = coloured
    stimulus = sets.stimulus(RunOptions(data=str(where), colour=True, batch=4, crop=32))
    batch = stimulus.batch(0, 3, 4)
    made = stimulus.inputs(batch, np.float64)
    assert made.shape == (3 * 4 * 3, 16, 16, 3)
    for b, (index, top, left, flip) in enumerate(
        zip(batch.index, batch.top, batch.left, batch.flip, strict=True)
    ):
        crop = pixels[index, top : top + 32, left : left + 32]
        crop = crop[:, ::-1] if flip else crop
        values = (crop / 255 - stimulus.source.mean) / stimulus.source.std
        for row, column in np.ndindex(3, 3):
            patch = made.reshape(3, 4, 3, 16, 16, 3)[row, b, column]
            here = values[8 * row : 8 * row + 16, 8 * column : 8 * column + 16]
            np.testing.assert_allclose(patch, here, rtol=1e-12)


@pytest.mark.parametrize("net", ["vgg6", "resnet50"])
def test_a_network_takes_the_channels_of_its_stimulus(net):
    assert RunOptions(net=net).network().layers[0].inputs == 1
    assert RunOptions(net=net, colour=True).network().layers[0].inputs == 3


def test_a_network_of_grey_images_alone_is_refused_colours(tmp_path):
    text = "from plasticity.network import Conv, Network\n\n\ndef build(width{}):\n"
    text += "    return Network('mine', (Conv('a', {}, 4),))\n"
    (tmp_path / "grey.py").write_text(text.format("", 1))
    (tmp_path / "both.py").write_text(text.format(", channels=1", "channels"))
    with pytest.raises(
        UserError, match=r"takes inputs of 1 channels, and there are 3 of images here"
    ):
        RunOptions(net=str(tmp_path / "grey.py"), colour=True).network()
    assert RunOptions(net=str(tmp_path / "both.py"), colour=True).network().layers[0].inputs == 3


def test_a_run_in_colour_learns_probes_and_draws(coloured, tmp_path):
    where, _ = coloured
    how = ["--data", str(where), "--colour", "--width", "0.04", "--layers", "2", "--batch", "4"]
    done = CliRunner().invoke(
        main, ["run", *how, "--steps", "2", "--crop", "64", "--out", str(tmp_path / "run")]
    )
    assert done.exit_code == 0, done.output
    done = CliRunner().invoke(main, ["plot", str(tmp_path / "run"), "kernels", "patches"])
    assert done.exit_code == 0, done.output
    done = CliRunner().invoke(
        main, ["inspect", str(tmp_path / "run"), "--layer", "1", "--synapse", "0,2,1,1"]
    )
    assert done.exit_code == 0, done.output


def test_batches_are_made_while_the_last_one_is_used(images):
    """Who holds a batch and asks for no other finds the next ones read."""
    count, third = itertools.count(1), threading.Event()

    def read(indices):
        if next(count) == 3:
            third.set()
        return images.read(indices)

    with batches(replace(images, read=read), batch=10, crop=64, seed=0, stop=8) as made:
        next(made)
        assert third.wait(60)


def test_the_time_spent_waiting_is_counted(images):
    """A batch that is held back until somebody waits for it."""
    go = threading.Event()

    def read(indices):
        go.wait(60)
        return images.read(indices)

    with batches(replace(images, read=read), batch=10, crop=64, seed=0, stop=1) as made:
        assert made.waited == 0
        release = threading.Timer(0.2, go.set)
        start = time.perf_counter()
        release.start()
        next(made)
        assert 0 < made.waited <= time.perf_counter() - start


def test_closing_early_stops_the_thread(images):
    before = threading.active_count()
    with batches(images, batch=10, crop=64, seed=0, stop=10**6) as made:
        next(made)
    assert threading.active_count() == before


def test_an_error_while_loading_reaches_the_consumer(images):
    def broken(indices):
        raise UserError("image 7 is broken")

    bad = replace(images, read=broken)
    with (
        batches(bad, batch=10, crop=64, seed=0, stop=3) as made,
        pytest.raises(UserError, match="image 7 is broken"),
    ):
        next(made)


def test_what_does_not_fit_is_said(images):
    with pytest.raises(UserError, match="--batch 51 is more than the 50 images"):
        sets.stimulus(RunOptions(batch=51, images=50))
    with pytest.raises(UserError, match="--crop 97 is larger than the images"):
        Images(images, 97)
