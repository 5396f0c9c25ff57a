"""e-prop by traces: the sums of the reverse form, and a synapse that learns as time goes on."""

import numpy as np
import pytest

from plasticity import kernels
from plasticity.kernels.definition import eprop
from plasticity.kernels.definition.gru import gru_states
from tests.kernels.test_gru import NAMES, SHAPES, case, learned


@pytest.mark.parametrize("credit", ["eprop", "none"])
@pytest.mark.parametrize("shape", SHAPES)
def test_traces_times_what_is_wanted_are_dW_of_the_reverse_form(shape, credit):
    x, weights, error = case(*shape)
    h, wanted = learned(x, weights, error, credit)
    _, gates = kernels.gru_forward(x, **weights)
    for name in NAMES:
        synapses = eprop.every(weights[name].shape)
        traces = eprop.eligibility(name, synapses, x, h, gates, leaky=credit == "eprop")
        assert traces.shape == (*x.shape[:2], weights[name].size)
        dW = eprop.change(error, synapses, traces).reshape(weights[name].shape)
        np.testing.assert_allclose(dW, wanted[name], atol=1e-12)


def test_a_trace_is_the_slope_of_its_neuron_alone_and_fades_by_its_leak():
    """One neuron without recurrent weights: all that it remembers is its own leak."""
    x, weights, _ = case(1, 6, 2, 1)
    weights["weight_hh"][:] = 0
    at, step = np.array([[1, 0]]), 1e-6  # of the leak's own gate

    def states(moved):
        own = weights | {"weight_ih": weights["weight_ih"] + moved}
        return kernels.gru_forward(x, **own)

    (h, gates), moved = states(0), np.zeros((3, 2))
    moved[1, 0] = step
    slope = (states(moved)[0] - states(-moved)[0])[0, :, 0] / (2 * step)
    traces = eprop.eligibility("weight_ih", at, x, h, gates)
    np.testing.assert_allclose(traces[0, :, 0], slope, atol=1e-9)


def test_a_hand_worked_trace():
    """Without weights: r = z = 1/2, n = h = 0, so a synapse of W_in has post 1/2 and leak 1/2."""
    x = np.array([[[1.0], [0.0], [4.0]]])
    h, gates = gru_states(np.zeros((1, 3, 3)), np.zeros((3, 1)), np.zeros(3), np.zeros(3))
    traces = eprop.eligibility("weight_ih", np.array([[2, 0]]), x, h, gates)
    np.testing.assert_allclose(traces[0, :, 0], [0.5, 0.25, 2.125])
    traces = eprop.eligibility("bias_hh", np.array([[2]]), x, h, gates)
    np.testing.assert_allclose(traces[0, :, 0], [0.25, 0.375, 0.4375])


@pytest.mark.parametrize("steps", [1, 3, 8])
def test_a_synapse_that_waits_for_its_signal_learns_what_the_reverse_form_sums(steps):
    """What step k wants of context t arrives at t + k; targets beyond the end never come."""
    M, T, H = 2, 7, 4
    x, weights, _ = case(M, T, 3, H)
    by_step = np.random.default_rng(0).standard_normal((steps, M, T, H))
    for k in range(1, steps + 1):
        by_step[k - 1, :, max(0, T - k) :] = 0
    online = eprop.Online(weights, M, steps)
    states = []
    for now in range(T):
        arriving = np.zeros((steps, M, H))
        for k in range(1, min(steps, now) + 1):
            arriving[k - 1] = by_step[k - 1, :, now - k]
        states.append(online.step(x[:, now], arriving))
    h, wanted = learned(x, weights, by_step.sum(axis=0), "eprop")
    np.testing.assert_allclose(np.stack(states, axis=1), h, atol=1e-15)
    for name in NAMES:
        assert np.abs(wanted[name]).max() > 0.1
        np.testing.assert_allclose(online.changes[name], wanted[name], atol=1e-12)


def test_the_memory_of_a_synapse_that_waits_does_not_grow():
    x, weights, error = case(2, 40, 3, 4)
    online = eprop.Online(weights, 2, 3)
    held = lambda: sum(ring.size for ring in online._ring.values())  # noqa: E731
    before = held()
    for t in range(40):
        online.step(x[:, t], np.stack([error[:, t]] * 3))
    assert held() == before == 2 * 4 * sum(w.size for w in weights.values())
