"""What a first look tells of batches to come, by hand and beside the step that training takes."""

import numpy as np
import pytest

from plasticity import inspection
from plasticity.events import AllPairs, Events
from plasticity.inspection import foresight
from plasticity.rule import Role
from plasticity.runs import run, training
from plasticity.runs.options import RunOptions


def fresh(**values):
    small = {"width": 0.04, "batch": 2, "dtype": "float64"}
    return inspection.fresh(RunOptions(**{**small, "device": "cpu", "layers": 2, **values}), 2.0)


def test_positive_and_negative_samples_count_half_each():
    y = np.array([1, 1, -1, -1, -1, -1])
    events = Events(1, np.arange(6), np.arange(6), y, np.array([1, 1, 0.5, 0.5, 0.5, 0]))
    u = np.array([0.2, -0.2, -3, -3, 3, 3])  # one of two; two of three, the last takes no part
    role = Role("target", events, u, u, u[:, None], np.arange(6))
    assert foresight.right((role,)) == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_of_all_pairs_the_diagonal_is_the_future():
    one = np.full(2, 0.5)
    events = AllPairs(1, np.arange(2), one, one, offset=1)
    u = np.array([[2.0, -1.0], [1.0, -2.0]])  # one future told of two, one of two others
    assert foresight.right((Role("target", events, u, u, u, None),)) == pytest.approx(1 / 2)


@pytest.mark.parametrize("rule", ["clapp", "cpc"])
def test_the_loss_ahead_is_that_of_the_step_to_come_and_moves_nothing(rule):
    state = fresh(rule=rule)
    before = {u: {n: w.copy() for n, w in own.items()} for u, own in state.weights.items()}
    ahead = foresight.foresee(state)
    for unit, own in before.items():
        for name, w in own.items():
            np.testing.assert_array_equal(w, state.weights[unit][name])
    found = training.learn_batch(state, state.batch(0))
    np.testing.assert_allclose(ahead.loss, [float(v) for v in found["loss"]], rtol=1e-12)
    assert (ahead.told is None) == (rule == "cpc")


def test_both_ends_meet_the_same_batches_and_the_start_is_the_seeds():
    state = fresh()
    training.learn_batch(state, state.batch(0))
    learned = foresight.learned(state, batches=2)
    start = run.begin(state.options)
    start.step = 1
    np.testing.assert_array_equal(learned.start.loss, foresight.foresee(start, 2).loss)
    np.testing.assert_array_equal(learned.now.loss, foresight.foresee(state, 2).loss)
    assert learned.as_dict()["examples"] == 4


def test_a_rule_without_a_loss_foresees_nothing():
    assert foresight.learned(fresh(rule="oja")) is None
