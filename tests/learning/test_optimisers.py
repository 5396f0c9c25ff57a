"""Optimisers go uphill along dW, and Adam counts its steps from 1."""

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from plasticity.cli import main
from torch.optim import lr_scheduler as scheduler

from plasticity import runs
from plasticity.errors import UserError
from plasticity.learning import Optimiser, Pace, Schedule
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


def torchs(kind, start, changes, rate, decay, schedule):
    """The same by torch: the weight after every step, and the rate that each one had."""
    w = torch.tensor(start.copy(), requires_grad=True)
    optimiser = {"adam": torch.optim.Adam, "plain": torch.optim.SGD}[kind](
        [w], lr=rate, weight_decay=decay
    )
    scheduler, found, rates = schedule(optimiser), [], []
    for dW in changes:
        w.grad = torch.tensor(-dW)
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        scheduler.step()
        found.append(w.detach().numpy().copy())
    return found, rates


def linear(optimiser, steps):
    return scheduler.LinearLR(optimiser, 1 / steps, 1.0, steps - 1)


SCHEDULES = {
    "constant": (Schedule(), lambda o: scheduler.ConstantLR(o, 1.0)),
    "warm-up": (Schedule(warm_up=4), lambda o: linear(o, 4)),
    "step": (
        Schedule("step", at=(3, 7), factor=0.2),
        lambda o: scheduler.MultiStepLR(o, [3, 7], 0.2),
    ),
    "cosine": (Schedule("cosine", steps=12), lambda o: scheduler.CosineAnnealingLR(o, 12)),
    "cosine after a warm-up": (
        Schedule("cosine", warm_up=3, steps=12),
        lambda o: scheduler.SequentialLR(
            o, [linear(o, 3), scheduler.CosineAnnealingLR(o, 9)], milestones=[3]
        ),
    ),
}


@pytest.mark.filterwarnings("ignore:The epoch parameter")
@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("kind", ["adam", "plain"])
@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_schedules_and_weight_decay_are_torchs(kind, decay, name):
    """Of weights and biases alike; decay goes through Adam's moments and is not decoupled."""
    ours, theirs = SCHEDULES[name]
    rng = np.random.default_rng(1)
    start, changes = rng.standard_normal(5), rng.standard_normal((12, 5))
    wanted, rates = torchs(kind, start, changes, 0.05, decay, theirs)
    weights = {"a": {"weight": start.copy(), "bias": start.copy()}}
    optimiser = Optimiser.start(Pace(0.05, kind, decay), weights, ours)
    for step, dW in enumerate(changes, 1):
        assert 0.05 * ours(step) == pytest.approx(rates[step - 1], rel=1e-12)
        optimiser.ascend(weights, {"a": {"weight": dW, "bias": dW}}, step)
        for w in weights["a"].values():
            np.testing.assert_allclose(w, wanted[step - 1], rtol=1e-9)


def test_what_has_no_change_does_not_decay():
    weights = {"a": {"weight": np.ones(2), "running_mean": np.ones(2)}}
    optimiser = Optimiser.start(Pace(0.5, "plain", 0.5), weights)
    optimiser.ascend(weights, {"a": {"weight": np.zeros(2)}}, 1)
    np.testing.assert_array_equal(weights["a"]["weight"], 0.75)
    np.testing.assert_array_equal(weights["a"]["running_mean"], 1.0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"schedule": "step"}, "--schedule step needs --schedule-at"),
        ({"schedule_at": "3"}, "--schedule-at is for --schedule step, and here it is constant"),
        ({"schedule": "step", "schedule_at": "3;7"}, "--schedule-at 3;7: expected steps such as"),
        ({"schedule": "step", "schedule_at": "0"}, "from 1 on"),
        ({"schedule_factor": 0.5}, "--schedule-factor is for --schedule step"),
        ({"schedule": "step", "schedule_at": "3", "schedule_steps": 4}, "is for --schedule cosine"),
        ({"schedule": "cosine", "schedule_steps": 4, "steps": 9}, "comes to 0 at step 4, and the"),
        ({"schedule": "cosine", "warm_up": 9, "steps": 9}, "--warm-up 9 leaves nothing of the"),
        ({"schedule": "linear"}, "unknown --schedule 'linear': expected constant, step or cosine"),
    ],
)
def test_schedules_that_mean_nothing_are_refused(options, said):
    with pytest.raises(UserError, match=said):
        RunOptions(**options).schedule_object()


def test_a_scheduled_run_resumes_bit_for_bit_and_ends_with_its_cosine(tmp_path):
    def call(*args):
        return CliRunner().invoke(main, ["run", *map(str, args)])

    how = ["--width", "0.03", "--batch", "4", "--layers", "2", "--lr", "0.01", "--no-probe"]
    cosine = [*how, "--schedule", "cosine", "--warm-up", "2", "--weight-decay", "0.01"]
    assert call(*cosine, "--steps", 6, "--out", tmp_path / "whole").exit_code == 0
    part = call(*cosine, "--steps", 3, "--schedule-steps", 6, "--out", tmp_path / "parts")
    assert part.exit_code == 0, part.output
    done = call("--resume", tmp_path / "parts", "--steps", 6)
    assert done.exit_code == 0, done.output
    a, b = (runs.load(runs.checkpoint_path(tmp_path / n)) for n in ("whole", "parts"))
    assert a.options["schedule_steps"] == b.options["schedule_steps"] == 6
    for layer, own in a.params.items():
        assert all(np.array_equal(w, b.params[layer][n]) for n, w in own.items())
    done = call("--resume", tmp_path / "whole", "--steps", 7)
    assert done.exit_code == 2 and "the cosine comes to 0 at step 6" in done.output
    assert call(*how, "--steps", 6, "--out", tmp_path / "plain").exit_code == 0
    plain = runs.load(runs.checkpoint_path(tmp_path / "plain")).params["conv1"]["weight"]
    assert not np.array_equal(plain, a.params["conv1"]["weight"])
