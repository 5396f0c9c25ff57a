"""A GRU learns by explicit rules: e-prop, BPTT and neither, each what autograd would give it."""

import numpy as np
import pytest
import torch

from plasticity import kernels
from plasticity.errors import UserError
from plasticity.layers import Gru
from plasticity.layers.gru import PARAMETERS

SIZES = [(1, 1, 1, 1), (1, 7, 3, 2), (4, 1, 2, 5), (3, 9, 5, 4)]  # M, T, I, H


def made(M, T, inputs, H, credit="eprop", seed=0):
    rng = np.random.default_rng(seed)
    layer = Gru("g", inputs, H, credit)
    weights = {"g": layer.prepare(rng)}
    return layer, weights, rng.standard_normal((M, T, inputs)), rng.standard_normal((M, T, H))


def test_its_parameters_start_as_torchs_do():
    """Uniform within 1/sqrt(H), biases too."""
    for name, w in Gru("g", 50, 64).prepare(np.random.default_rng(0)).items():
        assert np.abs(w).max() <= 1 / 8, name
        assert w.std() == pytest.approx(1 / 8 / 3**0.5, rel=0.1 if w.ndim == 1 else 0.02)


@pytest.mark.parametrize("sizes", SIZES)
def test_its_activity_is_that_of_torchs_gru(sizes):
    layer, weights, x, _ = made(*sizes)
    theirs = torch.nn.GRU(layer.inputs, layer.outputs, batch_first=True).double()
    for name in PARAMETERS:
        getattr(theirs, f"{name}_l0").data = torch.tensor(weights["g"][name])
    wanted = theirs(torch.tensor(x))[0].detach().numpy()
    np.testing.assert_allclose(layer.forward(x, weights)[0], wanted, rtol=0, atol=1e-14)


@pytest.mark.parametrize("sizes", SIZES)
def test_bptt_is_the_gradient_of_torchs_own_gru(sizes):
    layer, weights, x, error = made(*sizes, "bptt")
    theirs = torch.nn.GRU(layer.inputs, layer.outputs, batch_first=True).double()
    for name in PARAMETERS:
        getattr(theirs, f"{name}_l0").data = torch.tensor(weights["g"][name])
    inputs = torch.tensor(x, requires_grad=True)
    (theirs(inputs)[0] * torch.tensor(error)).sum().backward()
    (seen,), below = layer.learn(layer.forward(x, weights)[1], error, weights, True)
    for name in PARAMETERS:
        wanted = getattr(theirs, f"{name}_l0").grad.numpy()
        np.testing.assert_allclose(seen.changes[name], wanted, rtol=0, atol=1e-12)
    np.testing.assert_allclose(below, inputs.grad.numpy(), rtol=0, atol=1e-12)


def test_bptt_is_the_slope_of_its_activity():
    """By finite differences, without torch."""
    layer, weights, x, error = made(3, 6, 4, 3, "bptt")
    (seen,), _ = layer.learn(layer.forward(x, weights)[1], error, weights, False)
    rng, step = np.random.default_rng(1), 1e-6
    for name in PARAMETERS:
        direction, ends = rng.standard_normal(weights["g"][name].shape), []
        for sign in (1, -1):
            moved = {"g": {**weights["g"], name: weights["g"][name] + sign * step * direction}}
            ends.append((layer.forward(x, moved)[0] * error).sum())
        slope = (ends[0] - ends[1]) / (2 * step)
        assert slope == pytest.approx((seen.changes[name] * direction).sum(), rel=1e-8)


@pytest.mark.parametrize("credit", ["eprop", "none"])
@pytest.mark.parametrize("sizes", SIZES)
def test_signals_times_eligibility_traces_add_up_to_dW_of_every_synapse(sizes, credit):
    """Eq. (18) to (21), forward in time, is the reverse form that learns."""
    layer, weights, x, error = made(*sizes, credit)
    (seen,), _ = layer.learn(layer.forward(x, weights)[1], error, weights, False)
    for name in PARAMETERS:
        for index in np.ndindex(seen.changes[name].shape):
            signal = error[..., seen.neuron(index)]
            dW = (signal * seen.pre(name, index)).sum()
            assert dW == pytest.approx(seen.changes[name][index], rel=1e-12, abs=1e-13)


@pytest.mark.parametrize("credit", kernels.CREDITS)
def test_a_drive_that_all_times_share_is_that_drive_at_each_of_them(credit):
    layer, weights, x, error = made(2, 5, 3, 4, credit)
    kept = layer.forward(x, weights)[1]
    (one,), below = layer.learn(kept, error[:, 0], weights, True)
    (each,), same = layer.learn(kept, np.repeat(error[:, :1], 5, axis=1), weights, True)
    np.testing.assert_array_equal(below, same)
    for name in PARAMETERS:
        np.testing.assert_array_equal(one.changes[name], each.changes[name])


def test_credit_in_time_is_what_the_three_differ_in():
    """With one step of time they are one rule; with more each is another."""
    for T, same in ((1, True), (5, False)):
        found = []
        for credit in kernels.CREDITS:
            layer, weights, x, error = made(2, T, 3, 4, credit)
            (seen,), _ = layer.learn(layer.forward(x, weights)[1], error, weights, False)
            found.append(seen.changes["weight_ih"])
        for a, b in ((0, 1), (0, 2), (1, 2)):
            assert np.allclose(found[a], found[b], rtol=1e-13) == same


def test_an_unknown_credit_is_told():
    with pytest.raises(UserError, match="unknown --credit 'rtrl': expected eprop, bptt, none"):
        Gru("g", 1, 1, "rtrl")


@pytest.mark.parametrize("driven", [False, True])
def test_what_synapses_have_in_common_does_not_depend_on_how_many_are_asked_at_once(
    monkeypatch, driven
):
    layer, weights, x, error = made(3, 6, 4, 3)
    (seen,), _ = layer.learn(layer.forward(x, weights)[1], error, weights, False)
    at = np.indices(seen.changes["weight_ih"].shape).reshape(2, -1).T
    drive = error if driven else None
    wanted = seen.coactivity(at, drive)
    if driven:
        dW = wanted.sum(axis=0).reshape(seen.changes["weight_ih"].shape)
        np.testing.assert_allclose(dW, seen.changes["weight_ih"], rtol=0, atol=1e-13)
    monkeypatch.setattr("plasticity.layers.gru.TRACED", 5 * 3 * 6)
    # What is not written is not what lay there by chance.
    monkeypatch.setattr(np, "empty", lambda shape, dtype=float: np.full(shape, 77, dtype))
    np.testing.assert_allclose(seen.coactivity(at, drive), wanted, rtol=0, atol=1e-14)
