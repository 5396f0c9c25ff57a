"""Optimisers go uphill along dW, and Adam counts its steps from 1."""

import numpy as np
import pytest

from plasticity.learning import Optimiser, Pace
from plasticity.runs import run, training
from plasticity.runs.options import RunOptions

RATE, B1, B2, EPSILON = 1e-2, 0.9, 0.999, 1e-8


def textbook(changes, steps):
    """Kingma & Ba 2015, algorithm 1, uphill: what a weight of 0 becomes."""
    w = m = v = 0.0
    for t, g in zip(steps, changes, strict=True):
        m, v = B1 * m + (1 - B1) * g, B2 * v + (1 - B2) * g * g
        w = w + RATE * (m / (1 - B1**t)) / (np.sqrt(v / (1 - B2**t)) + EPSILON)
    return w


def test_adam_is_the_textbooks_over_many_steps():
    changes = np.random.default_rng(0).standard_normal((6, 5))
    weights = {"a": {"weight": np.zeros(5)}}
    optimiser = Optimiser.start(Pace(RATE), weights)
    for step, dW in enumerate(changes, 1):
        optimiser.ascend(weights, {"a": {"weight": dW}}, step)
    np.testing.assert_allclose(weights["a"]["weight"], textbook(changes, range(1, 7)), rtol=1e-9)


def test_a_run_counts_the_steps_of_adam_from_one():
    """Weights after three steps of training are those of the textbook with t = 1, 2, 3."""
    options = RunOptions(width=0.03, layers=1, batch=4, crop=32, dtype="float64", device="cpu",
                         prediction_steps=1, lr=RATE)  # fmt: skip
    state, met = run.begin(options), []
    start = state.weights["conv1"]["weight"].copy()
    for step in range(3):
        watch = lambda seen: met.append(seen.layers[0].changes["weight"].copy())  # noqa: E731
        training.learn_batch(state, state.batch(step), watch)
    wanted = start + textbook(met, (1, 2, 3))
    np.testing.assert_allclose(state.weights["conv1"]["weight"], wanted, rtol=1e-9)


def test_the_plain_optimiser_adds_rate_times_dW():
    weights = {"a": {"weight": np.array([1.0, 2.0])}}
    optimiser = Optimiser.start(Pace(0.5, "plain"), weights)
    for step in (1, 2):
        optimiser.ascend(weights, {"a": {"weight": np.array([1.0, -4.0])}}, step)
    np.testing.assert_array_equal(weights["a"]["weight"], [2.0, -2.0])


@pytest.mark.parametrize("optimiser", ["adam", "plain"])
def test_learning_lowers_the_loss_of_a_batch(optimiser):
    options = RunOptions(width=0.05, layers=1, batch=8, crop=40, device="cpu", rule="clapp_s",
                         prediction_steps=2, lr=1e-3, optimiser=optimiser)  # fmt: skip
    state, losses = run.begin(options), []
    batch = state.batch(0)
    for _ in range(25):
        losses.append(float(training.learn_batch(state, batch)["loss"][0]))
    assert losses[-1] < losses[0]


def test_every_step_has_draws_and_crops_of_its_own():
    options = RunOptions(width=0.03, layers=2, batch=8, crop=40, device="cpu", rule="clapp")
    state = run.begin(options.changed(prediction_steps=2))
    first, second = state.batch(0), state.batch(1)
    for name in ("index", "top", "left", "flip"):
        assert not np.array_equal(getattr(first, name), getattr(second, name)), name
    for a, b in zip(first.draws, second.draws, strict=True):
        assert not np.array_equal(a.pred[0].target, b.pred[0].target)
        assert not np.array_equal(a.retro[0].target, b.retro[0].target)
    one, other = first.draws
    assert not np.array_equal(one.pred[0].target, other.pred[0].target)
