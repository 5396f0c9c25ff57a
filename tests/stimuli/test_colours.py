"""Colours at random: beside formulas in floating point and the standard library's hues."""

import colorsys

import numpy as np
import pytest
from PIL import Image

from plasticity.runs import sets
from plasticity.stimuli.colours import Variation, turned
from tests.stimuli.test_film import net, options  # noqa: F401

RNG = np.random.default_rng(0)
FRAME = RNG.integers(30, 140, (9, 7, 3), np.uint8)
LUMA = np.array([0.299, 0.587, 0.114])


def only(change, factor, channel=-1):
    """A variation of one frame that changes one thing alone."""
    factors = np.ones(3)
    if change < 3:
        factors[change] = factor
    hue = factor if change == 3 else 0.0
    return Variation(np.array(channel), factors, np.array(hue), np.array([change]))


@pytest.mark.parametrize("factor", [0.5, 1.3])
def test_brightness_contrast_and_saturation_blend_with_black_the_mean_and_grey(factor):
    frame = FRAME.astype(float)
    mean, grey = (frame @ LUMA).mean(), (frame @ LUMA)[..., None]
    for change, other in enumerate((0, mean, grey)):
        wanted = (other + factor * (frame - other)).clip(0, 255)
        # The other end is rounded to whole numbers, and so is what comes out.
        assert np.abs(only(change, factor).of(FRAME) - wanted).max() <= 1 + abs(1 - factor)


def test_hues_turn_as_those_of_the_standard_library():
    bright = np.array([[[250, 20, 30], [10, 240, 60], [40, 30, 230]]], np.uint8)
    found = np.asarray(turned(Image.fromarray(bright), 0.25)) / 255
    for pixel, now in zip(bright[0] / 255, found[0], strict=True):
        h, s, v = colorsys.rgb_to_hsv(*pixel)
        wanted = colorsys.hsv_to_rgb((h + 0.25) % 1, s, v)
        # A step of 1/256 of hue, saturation or value moves a channel by 6/256 at most.
        np.testing.assert_allclose(now, wanted, atol=8 / 256)


def test_one_channel_becomes_the_grey_of_a_frame():
    found = only(0, 1.0, channel=2).of(FRAME)
    np.testing.assert_array_equal(found, np.repeat(FRAME[..., 2:], 3, axis=2))


def test_chances_are_the_published_ones_and_frames_are_drawn_one_by_one():
    drawn = Variation.drawn((50, 40), np.random.default_rng(1))
    counts = np.array([(drawn.channel == c).mean() for c in (-1, 0, 1, 2)])
    wanted = np.array([1 / 2, 1 / 6, 1 / 6, 1 / 6])
    assert (np.abs(counts - wanted) < 5 * np.sqrt(wanted * (1 - wanted) / 2000)).all()
    for values, low, high in ((drawn.factors, 0.5, 1.5), (drawn.hue, -0.25, 0.25)):
        spare = (high - low) / 100
        assert low <= values.min() < low + spare and high - spare < values.max() <= high
    assert (np.sort(drawn.order, axis=-1) == np.arange(4)).all()
    assert len(np.unique(drawn.order.reshape(-1, 4), axis=0)) == 24


def test_training_varies_colours_by_seed_and_step_and_a_share_meets_its_own(net):  # noqa: F811
    plain, varied = (sets.stimulus(options(net, vary_colours=on)) for on in (False, True))
    before, batch, again = (s.batch(3, 1, 3) for s in (plain, varied, varied))
    np.testing.assert_array_equal(batch.pixels, again.pixels)
    np.testing.assert_array_equal(batch.start, before.start)
    part = varied.batch(3, 1, 3, slice(1, 3))
    np.testing.assert_array_equal(part.pixels, batch.pixels[1:])
    grey = (batch.pixels.max(axis=-1) == batch.pixels.min(axis=-1)).all(axis=(2, 3))
    assert 0 < grey.sum() < grey.size and (batch.pixels != before.pixels).any(axis=(2, 3, 4)).all()


def test_clips_that_probes_see_keep_their_colours(net):  # noqa: F811
    plain, varied = (sets.stimulus(options(net, vary_colours=on)) for on in (False, True))
    (a,), (b,) = (s.in_order(np.array([4]), 1) for s in (plain, varied))
    np.testing.assert_array_equal(a.pixels, b.pixels)
