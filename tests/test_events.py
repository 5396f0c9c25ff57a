"""Contexts, targets, signs and negatives."""

import numpy as np
import pytest

from plasticity.errors import UserError
from plasticity.events import Layout, draw, events, same_place

LAYOUT = Layout(time=7, samples=4, lanes=7)


def place(patches, layout=LAYOUT):
    return np.unravel_index(patches, layout.shape)


def rng(seed=0):
    return np.random.default_rng(seed)


def test_a_true_future_lies_k_plus_one_rows_below_in_the_same_image_and_column():
    for e in draw(LAYOUT, rng(), coin=False):
        true = e.label > 0
        (t, b, s), (t2, b2, s2) = place(e.context[true]), place(e.target[true])
        assert (t2 - t == e.k + 1).all() and (b2 == b).all() and (s2 == s).all()
        assert true.sum() == (7 - e.k - 1) * 4 * 7


def test_a_negative_of_the_patch_kind_is_another_image_at_the_place_of_the_true_future():
    for e in draw(LAYOUT, rng(), coin=False, negatives=3):
        fake = e.label < 0
        (t, b, s), (t2, b2, s2) = place(e.context[fake]), place(e.target[fake])
        assert (t2 - t == e.k + 1).all() and (b2 != b).all() and (s2 == s).all()


def test_every_other_image_is_drawn_equally_often():
    away = []
    for seed in range(300):
        for e in draw(Layout(7, 4, 1), rng(seed), coin=False):
            fake = e.label < 0
            layout = Layout(7, 4, 1)
            b, b2 = place(e.context[fake], layout)[1], place(e.target[fake], layout)[1]
            away.append((b2 - b) % 4)
    counts = np.bincount(np.concatenate(away), minlength=4) / len(np.concatenate(away))
    np.testing.assert_allclose(counts, [0, 1 / 3, 1 / 3, 1 / 3], atol=0.02)


def test_negatives_of_the_batch_kind_reach_every_target_and_no_other_patch():
    e = draw(Layout(7, 3, 2), rng(), steps=1, negatives=500, negatives_from="batch")[0]
    assert set(e.target[e.label < 0]) == set(range(2 * 3 * 2, 7 * 3 * 2))


def test_negatives_of_all_are_the_last_of_as_many_random_orders_at_every_prediction_step():
    """GIM's audio code: nothing is drawn anew between prediction steps."""
    layout = Layout(6, 3, 1, skip=0)
    drawn = draw(layout, rng(5), steps=2, coin=False, negatives=4, negatives_from="all")
    again = rng(5)
    orders = np.stack([again.permutation(layout.rows) for _ in range(4)], axis=1)
    for e in drawn:
        who = e.target[e.label < 0].reshape(-1, 4)
        np.testing.assert_array_equal(who, orders[layout.rows - len(who) :])
        assert len(who) == (6 - e.k) * 3


def test_a_window_of_time_moves_and_stays_inside():
    layout, starts = Layout(9, 2, 1, skip=0, window=4), set()
    for seed in range(200):
        firsts = {e.first for e in draw(layout, rng(seed), steps=2, coin=False)}
        (first,) = firsts  # one window for all prediction steps
        starts.add(first // 2)
        for e in draw(layout, rng(seed), steps=2, coin=False):
            assert e.context.min() == first and e.context.max() < first + 2 * (4 - e.k)
    assert starts == {0, 1, 2, 3, 4}


def test_a_coin_holds_for_all_prediction_steps_of_an_image():
    signs = {}
    for e in draw(LAYOUT, rng(1), coin=True):
        for image, label in zip(place(e.context)[1], e.label, strict=True):
            assert signs.setdefault(image, label) == label
    assert set(signs.values()) == {1.0, -1.0}


def test_weights_average_over_the_events_of_a_sign_and_over_prediction_steps():
    for coin in (True, False):
        for e in draw(LAYOUT, rng(2), coin=coin, negatives=2):
            for sign in (1, -1):
                assert e.weight[e.label == sign].sum() == pytest.approx(1 / 5)


def test_an_image_pair_by_hand():
    """Two images, one column, three rows: the only context row is 0, its future row 2."""
    layout = Layout(3, 2, 1)
    e = events(layout, 1, 1, np.array([True, False]), np.array([False, True]), np.array([[5], [4]]))
    assert e.context.tolist() == [0, 1]
    assert e.target.tolist() == [4, 4]
    assert e.label.tolist() == [1, -1]
    assert e.weight.tolist() == [1, 1]
    assert same_place(layout, 1, np.array([[1], [0]])).tolist() == [[5], [4]]


def test_what_cannot_be_drawn_is_said_in_a_sentence():
    with pytest.raises(UserError, match="at least 8 time steps"):
        draw(LAYOUT, rng(), steps=6)
    with pytest.raises(UserError, match="batch of at least 2"):
        draw(Layout(7, 1, 7), rng())
