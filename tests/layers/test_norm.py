"""Batch normalisation: what it keeps, who wins, and which way an update goes through it."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from plasticity.arrays import to_device, to_host
from plasticity.errors import UserError
from plasticity.kernels import Pool
from plasticity.layers import Norm, NormConv
from tests import standin

ORDERS = ("conv relu norm pool", "conv norm relu pool")
RNG = np.random.default_rng(0)
X = RNG.standard_normal((5, 4, 9, 7, 3))


def layer(order=ORDERS[0], **norm):
    return NormConv(
        "c", 3, 4, (1, 3, 3), (1, 2, 2), (0, 1, 1), Pool((1, 3, 3), (1, 2, 2)),
        norm=Norm(**norm), order=order,
    )  # fmt: skip


def learned(made, own, error=None):
    y, kept, _ = made.forward(X, {"c": own})
    error = np.random.default_rng(1).standard_normal(y.shape) if error is None else error
    return y, error, made.learn(kept, error, {"c": own}, False)[0][0]


@pytest.mark.parametrize("statistics", ["batch", "running"])
@pytest.mark.parametrize("order", ORDERS)
def test_its_running_statistics_are_those_of_torchs_batch_norm(order, statistics):
    made = layer(order, momentum=0.3, statistics=statistics)
    own, there = made.prepare(RNG), torch.nn.BatchNorm3d(4, momentum=0.3).double()
    for _ in range(3):
        a, _, _ = made.forward(X, {"c": own})[1][1:4]
        met = torch.relu(torch.tensor(a)) if made.relu_first else torch.tensor(a)
        there(met.movedim(-1, 1))
        own |= learned(made, own)[2].state
    np.testing.assert_allclose(own["running_mean"], there.running_mean, rtol=1e-12)
    np.testing.assert_allclose(own["running_var"], there.running_var, rtol=1e-12)


@pytest.mark.parametrize("order", ORDERS)
def test_where_nothing_is_learned_the_running_statistics_normalise(order):
    """As where they are constants, which autograd and torch's norm in `eval` are compared with."""
    batch, running = layer(order), layer(order, statistics="running")
    moved = {"running_mean": RNG.random(4), "running_var": 0.5 + RNG.random(4)}
    own = {"c": batch.prepare(RNG) | moved}
    y, kept, _ = batch.forward(X, own, learning=False)
    assert kept is None and not np.allclose(y, batch.forward(X, own)[0])
    np.testing.assert_array_equal(y, running.forward(X, own)[0])


def test_with_a_negative_gain_the_least_active_neuron_wins():
    made = NormConv("c", 1, 1, (1, 1), padding=0, pool=2)
    x = np.array([[3.0, 1.0], [2.0, 5.0]]).reshape(1, 2, 2, 1)
    own = made.prepare(RNG) | {"weight": np.ones((1, 1, 1, 1)), "bias": np.zeros(1)}
    for gain, place in ((1.0, 3), (-1.0, 1)):
        own["gain"] = np.array([gain])
        *_, winner, _ = made.forward(x, {"c": own})[1]
        assert winner.item() == place


def test_an_update_by_batch_statistics_goes_three_ways_and_by_constants_one():
    for statistics, ways in (("batch", {"direct", "mean", "variance"}), ("running", {"direct"})):
        made = layer(statistics=statistics)
        _, error, seen = learned(made, made.prepare(RNG))
        at = (2, 1, 0, 1, 2)
        parts = seen.parts("weight", at)
        assert parts.keys() == ways
        shares = {n: (seen.through(2, error[..., 2:3]) * p).sum() for n, p in parts.items()}
        assert sum(shares.values()) == pytest.approx(seen.changes["weight"][at], rel=1e-9)
        assert all(shares.values())


@pytest.mark.parametrize("order", ORDERS)
def test_a_neuron_that_is_driven_alone_moves_by_the_activity_of_other_inputs_too(order):
    """By batch statistics an input without any drive has a part in dW; by constants it has none."""
    for statistics, other in (("batch", True), ("running", False)):
        made = layer(order, statistics=statistics)
        own = made.prepare(RNG)
        drive = np.zeros((5, *made.space(X.shape[1:-1]), 4))
        drive[0] = 1.0
        _, _, seen = learned(made, own, drive)
        assert seen.inner[1:].any() == other
        assert seen.inner[0].any()


def test_a_drive_on_all_alike_or_along_the_activity_moves_no_synapse():
    """Batch normalisation takes mean and scale away: what would change these alone is lost."""
    made = NormConv("c", 3, 4, padding=1, norm=Norm(eps=1e-14))
    own = made.prepare(RNG)
    x = X[:, 0]
    y, kept, _ = made.forward(x, {"c": own})
    for drive in (np.ones_like(y), y):
        (seen,), _ = made.learn(kept, drive, {"c": own}, False)
        scale = np.abs(drive).sum() * np.abs(x).max()
        assert np.abs(seen.changes["weight"]).max() < 1e-12 * scale
    assert seen.changes["gain"].min() > 0


class Half:
    """One of two threads that wait for each other wherever a mean over both is taken."""

    size = 2

    def __init__(self, place, board, gate):
        self.place, self.board, self.gate = place, board, gate

    def mean(self, a):
        self.board[self.place] = a
        self.gate.wait()
        found = (self.board[0] + self.board[1]) / 2
        self.gate.wait()
        return found


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("order", ORDERS)
def test_two_that_have_half_a_batch_each_learn_what_one_with_all_of_it_does(order, dtype):
    made = layer(order)
    own = {n: w.astype(dtype) for n, w in made.prepare(RNG).items()}
    x = X[:4].astype(dtype)
    y, kept, _ = made.forward(x, {"c": own})
    error = np.random.default_rng(1).standard_normal(y.shape).astype(dtype)
    (whole,), below = made.learn(kept, error, {"c": own}, True)
    board, gate = [None, None], threading.Barrier(2, timeout=60)

    def half(place):
        part = slice(2 * place, 2 * place + 2)
        peers = Half(place, board, gate)
        found, kept, _ = made.forward(x[part], {"c": own}, peers=peers)
        return found, *made.learn(kept, error[part], {"c": own}, True)

    with ThreadPoolExecutor(2) as pool:
        (y0, (a,), back0), (y1, (b,), back1) = pool.map(half, (0, 1))
    close = {"rtol": 0, "atol": 1e-12 if dtype is np.float64 else 2e-4}
    np.testing.assert_allclose(np.concatenate([y0, y1]), y, **close)
    np.testing.assert_allclose(np.concatenate([back0, back1]), below, **close)
    for name, dW in whole.changes.items():
        np.testing.assert_allclose(a.changes[name] + b.changes[name], dW, **close)
    for name, value in whole.state.items():
        np.testing.assert_allclose(a.state[name], value, **close)
        np.testing.assert_array_equal(a.state[name], b.state[name])


def test_a_bias_that_the_mean_takes_away_does_not_learn():
    for order, statistics, learns in (
        (ORDERS[0], "batch", True),
        (ORDERS[1], "batch", False),
        (ORDERS[1], "running", True),
    ):
        made = layer(order, statistics=statistics)
        own = made.prepare(RNG)
        y, _, seen = learned(made, own)
        assert ("bias" in seen.changes) == learns
        moved = made.forward(X, {"c": own | {"bias": own["bias"] + 0.1}})[0]
        assert np.allclose(moved, y, atol=1e-12) != learns


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: Norm(statistics="mine"), "expected batch or running"),
        (lambda: Norm(momentum=0), "momentum"),
        (lambda: NormConv("c", 1, 1, order="pool"), "order 'pool' of c"),
        (lambda: NormConv("c", 1, 1, linear=True), "not linear"),
    ],
)
def test_what_it_cannot_be_is_said(make, word):
    with pytest.raises(UserError, match=word):
        make()


@pytest.mark.parametrize("order", ORDERS)
def test_on_a_device_it_is_the_definition(order):
    """CuPy's arrays take the definition, and nothing is copied to the host on the way."""
    made = layer(order)
    own = made.prepare(RNG)
    y, kept, _ = made.forward(X, {"c": own})
    error = np.random.default_rng(1).standard_normal(y.shape)
    (here,), below = made.learn(kept, error, {"c": own}, True)
    with standin.installed():
        there = {"c": {n: to_device(w, "cuda:0") for n, w in own.items()}}
        found, kept, _ = made.forward(to_device(X, "cuda:0"), there)
        (seen,), back = made.learn(kept, to_device(error, "cuda:0"), there, True)
        np.testing.assert_allclose(to_host(found), y, atol=1e-12)
        np.testing.assert_allclose(to_host(back), below, atol=1e-11)
        for name, dW in (seen.changes | seen.state).items():
            np.testing.assert_allclose(to_host(dW), (here.changes | here.state)[name], atol=1e-11)
        at = np.array([[1, 0, 0, 2, 2], [3, 2, 0, 1, 0]])
        together = to_host(seen.coactivity(at, to_device(error, "cuda:0")))
        np.testing.assert_allclose(together, here.coactivity(at, error), atol=1e-11)
        assert seen.winners == pytest.approx(here.winners)
        np.testing.assert_allclose(to_host(seen.activity()), here.activity())
        assert seen.on_host().mean.shape == (4,)
