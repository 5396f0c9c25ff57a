"""Made clips: their label is in how things move, and in no single frame."""

import numpy as np
import pytest

from plasticity.data import motions as made
from plasticity.data.motions import MOTIONS, clip, motion, motions
from plasticity.errors import UserError


def test_a_clip_is_a_function_of_its_number_and_a_later_part_goes_on_where_an_earlier_ended():
    whole = clip("train", 3, 0, 12, 40)
    np.testing.assert_array_equal(clip("train", 3, 5, 4, 40), whole[5:9])
    assert whole.shape == (12, 40, 40, 3) and whole.dtype == np.uint8
    assert not np.array_equal(whole, clip("test", 3, 0, 12, 40))
    assert not np.array_equal(whole, clip("train", 13, 0, 12, 40))


def test_each_motion_moves_its_own_and_nothing_else():
    moved = {
        "left": "x", "right": "x", "up": "y", "down": "y", "bounce": "y", "clockwise": "angle",
        "anticlockwise": "angle", "nearer": "size", "farther": "size", "shear": "slant",
    }  # fmt: skip
    assert set(moved) == set(MOTIONS)
    for label, name in enumerate(MOTIONS):
        state = motion(label, np.random.default_rng(label), np.arange(9))
        for what, values in state.items():
            assert (np.ptp(values) > 0.01) == (what == moved[name]), (name, what)


def test_opposites_are_one_another_backwards():
    """Steps of left and right, and so on, are of opposite signs but for where they come round."""
    for one, other in (("left", "right"), ("up", "down"), ("nearer", "farther"),
                       ("clockwise", "anticlockwise")):  # fmt: skip
        a, b = (
            motion(MOTIONS.index(name), np.random.default_rng(0), np.arange(4) / 100)
            for name in (one, other)
        )
        for what in a:
            np.testing.assert_allclose(np.diff(a[what]), -np.diff(b[what]), atol=1e-12)


@pytest.mark.parametrize("label", range(len(MOTIONS)))
def test_at_any_one_time_nothing_tells_the_label(label):
    """Every part of the state is uniform between the same limits, for a motion as for rest."""
    rng = np.random.default_rng(0)
    states = [motion(label, rng, np.array([7.0])) for _ in range(4000)]
    limits = {"x": (0, 1), "y": (0, 1), "angle": (0, 1), "size": (made.SMALLEST, made.LARGEST),
              "slant": (-made.SLANT, made.SLANT)}  # fmt: skip
    for what, (low, high) in limits.items():
        values = (np.array([state[what][0] for state in states]) - low) / (high - low)
        # The largest gap to the uniform distribution, Kolmogorov's at a level of 1e-4.
        gap = np.abs(np.sort(values) - (np.arange(4000) + 0.5) / 4000).max()
        assert gap < 2.23 / 4000**0.5, what


def test_labels_go_round_and_splits_share_no_thing():
    train, test = motions("train"), motions("test")
    assert (len(train), len(test)) == (4000, 1000)
    assert np.bincount(train.labels).tolist() == [400] * 10
    assert train.classes == MOTIONS and train.identity != test.identity
    with pytest.raises(UserError, match="have the splits train and test, not 'unlabelled'"):
        motions("unlabelled")


def test_its_mean_and_deviation_are_those_that_it_states():
    pixels = np.concatenate([clip("train", i, 0, 2, 48) for i in range(0, 400, 2)]) / 255
    assert abs(pixels.mean() - made.MEAN[0]) < 0.02 and abs(pixels.std() - made.STD[0]) < 0.02


def test_what_leaves_at_one_edge_enters_at_the_other():
    """A thing's pixels are as many wherever it is: none is lost at an edge."""
    image = np.zeros((28, 28), np.uint8)
    image[4:24, 6:22] = 255
    how = {"angle": 0.1, "size": 0.8, "slant": 0.2}
    sums = [
        made._placed(image, 64, x=x, y=y, **how).sum(dtype=float)
        for x, y in ((0.5, 0.5), (0.0, 0.5), (0.97, 0.02), (0.25, 0.9))
    ]
    np.testing.assert_allclose(sums, sums[0], rtol=0.01)
