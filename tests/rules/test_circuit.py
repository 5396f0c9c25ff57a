"""The surprise circuit: bursts in ON and OFF pathways in the place of the score."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plasticity.rules import circuit

from plasticity import rules, seeds
from plasticity.errors import UserError
from plasticity.events import Layout, events
from plasticity.rule import Draw
from tests.small import NETWORK, case

ONE = np.zeros(1, int)  # the only row, for a single event


def many(count):
    return np.zeros(count, int)


def test_pathways_by_hand():
    """z = (1, 2, 0, 3), z^ = (2, -1, 7, 1): bursts 2 and 3 in ON, 2 in OFF; u = 3."""
    z, prediction = np.array([[1.0, 2, 0, 3]]), np.array([[2.0, -1, 7, 1]])
    on, off = circuit.pathways(z, prediction, ONE, ONE)
    assert (on.tolist(), off.tolist()) == ([5.0], [2.0])
    assert circuit.evidence(z, prediction, ONE, ONE, np.array([3.0])).tolist() == [3.0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["clapp", "clapp_s", "hinge_cpc"])
@given(
    seed=st.integers(0, 2**32),
    neurons=st.integers(1, 40),
    kind=st.sampled_from(["any", "whole", "at the threshold"]),
    variant=st.sampled_from([{}, {"symmetric": True}, {"block_grad": True}, {"negatives": 3}]),
)
def test_without_noise_the_circuit_opens_exactly_where_H_does(name, dtype, seed, neurons, kind,
                                                              variant):  # fmt: skip
    """Same draws, encodings and predictions: the same gamma, bit for bit, scores of 1 included."""
    rng = np.random.default_rng(seed)
    layout = Layout(4, 3, 2)
    H, by_bursts = (rules.get(name, steps=2, gate=g, **variant) for g in ("own", "circuit"))
    z = np.maximum(rng.standard_normal((layout.rows, neurons)), 0)
    own = {n: 2 * w for n, w in H.prepare(neurons, rng).items()}
    draws = [rule.draw(layout, np.random.default_rng(seed)) for rule in (H, by_bursts)]
    if kind == "whole":  # scores are small whole numbers, many of them exactly 1 or -1
        z, own = np.round(z), {n: np.round(w) for n, w in own.items()}
    z, own = z.astype(dtype), {n: w.astype(dtype) for n, w in own.items()}
    if kind == "at the threshold":  # every context meets its first target with |u| = 1, or nearly
        event = draws[0].pred[0]
        for context, target in zip(event.context, event.target, strict=True):
            u = z[target] @ own["W_pred"][0] @ z[context]
            if context < layout.offset(1) and u:
                z[context] /= abs(u)
    draws = [draw.on("cpu", dtype) for draw in draws]
    for a, b in zip(
        H.roles(z, own, draws[0], layout), by_bursts.roles(z, own, draws[1], layout), strict=True
    ):
        np.testing.assert_array_equal(a.gamma, b.gamma)
    assert by_bursts.learn(z, own, draws[1], layout).measures["agreement"] == pytest.approx(1)


def test_scores_of_exactly_one_close_the_gate_of_a_fixation():
    """u = 1: the fixation was predicted (closed), the saccade surprises (open)."""
    rule = rules.get("clapp_s", steps=1, symmetric=True, gate="circuit")
    layout = Layout(3, 1, 1)
    z = np.array([[1.0, 0.0], [0.0, 0.0], [1.0, 0.0]], np.float32)
    own = {"W_pred": np.array([[[1.0, 0.0], [0.0, 1.0]]], np.float32)}
    both = events(layout, 1, 1, np.array([True]), np.array([True]), np.array([[2]]))
    role = next(rule.roles(z, own, Draw((both,)).on("cpu", np.dtype(np.float32)), layout))
    assert role.score.tolist() == [1, 1] and role.gamma.tolist() == [0, -1]


def test_a_run_by_the_silent_circuit_is_the_run_by_H():
    a, b = (case(rules.get("clapp", steps=2, gate=gate)) for gate in ("own", "circuit"))
    for x, y in zip(a.updates(), b.updates(), strict=True):
        assert x.loss == y.loss and "agreement" not in x.measures and y.measures["agreement"] == 1
        for parameter, dW in x.changes[NETWORK.layers[x.module].name].items():
            np.testing.assert_array_equal(
                dW, y.changes[NETWORK.layers[x.module].name][parameter]
            )  # fmt: skip


def test_missing_bursts_leave_the_mean_score_and_the_variance_of_bernoulli():
    """Var(ON - OFF) = sum_i (z_i z^_i)^2 (1 - p) / p."""
    rng, p, count = np.random.default_rng(0), 0.3, 40_000
    z, prediction = np.abs(rng.standard_normal((1, 20))), rng.standard_normal((1, 20))
    u, same = float((z * prediction).sum()), many(count)
    on, off = circuit.pathways(z, prediction, same, same, probability=p, key=5)
    assert on.min() >= 0 and off.min() >= 0
    variance = float(((z * prediction) ** 2).sum()) * (1 - p) / p
    assert (on - off).mean() == pytest.approx(u, abs=5 * math.sqrt(variance / count))
    assert (on - off).var() == pytest.approx(variance, rel=0.05)
    assert np.corrcoef(on, off)[0, 1] == pytest.approx(0, abs=0.03)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_noise_opens_the_gate_as_often_as_two_normal_pathways_do(dtype):
    """Far from zero rates: P(ON - OFF < 1) = Phi((1 - u) / (sqrt(2) sigma))."""
    z, prediction = np.array([[1.0, 1.0]], dtype), np.array([[30.0, -29.5]], dtype)
    same, sigma = many(40_000), 0.7
    u = np.full(len(same), 0.5, dtype)
    heard = circuit.evidence(z, prediction, same, same, u, noise=sigma, key=3)
    assert heard.dtype == dtype
    expected = 0.5 * (1 + math.erf((1 - 0.5) / (2 * sigma)))
    assert (heard < 1).mean() == pytest.approx(expected, abs=0.01)
    assert heard.std() == pytest.approx(math.sqrt(2) * sigma, rel=0.02)


def test_no_rate_is_negative_however_strong_the_noise():
    """A pathway without bursts is rectified noise: Var [sigma xi]_+ = sigma^2 (1 - 1/pi) / 2."""
    z, prediction = np.array([[0.0]]), np.array([[4.0]])
    same = many(40_000)
    heard = circuit.evidence(z, prediction, same, same, np.zeros(len(same)), noise=2.0, key=1)
    assert heard.mean() == pytest.approx(0, abs=0.05)
    assert (heard == 0).mean() == pytest.approx(0.25, abs=0.01)  # both pathways silent
    assert heard.std() == pytest.approx(2 * math.sqrt(1 - 1 / math.pi), rel=0.02)


def test_random_numbers_are_those_of_the_key_in_blocks_of_any_size(monkeypatch):
    rng = np.random.default_rng(2)
    z, prediction = rng.random((9, 6)), rng.standard_normal((9, 6))
    rows = rng.integers(0, 9, (2, 50))
    meet = (z, prediction, *rows, np.zeros(50))
    how = {"noise": 0.5, "probability": 0.4}
    whole = circuit.evidence(*meet, **how, key=9)
    monkeypatch.setattr(circuit, "BLOCK", 20)
    np.testing.assert_array_equal(circuit.evidence(*meet, **how, key=9), whole)
    assert not np.array_equal(circuit.evidence(*meet, **how, key=10), whole)


def test_uniform_is_splitmix64():
    """The first outputs for the seed 1234567, as published with the algorithm's reference code."""
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423,
                 4593380528125082431, 16408922859458223821]  # fmt: skip
    found = seeds.uniform(1234567, np.arange(5, dtype=np.uint64))
    np.testing.assert_array_equal(found, [(x >> 11) * 2.0**-53 for x in published])


def test_the_circuit_draws_the_events_that_own_gates_draw_and_keys_of_its_own():
    layout, rng = Layout(7, 4, 3), np.random.default_rng
    a, b = (rules.get("clapp", gate=g).draw(layout, rng(3)) for g in ("own", "circuit"))
    for x, y in zip((*a.pred, *a.retro), (*b.pred, *b.retro), strict=True):
        np.testing.assert_array_equal(x.target, y.target)
        np.testing.assert_array_equal(x.label, y.label)
    keys = [e.key for e in (*b.pred, *b.retro)]
    assert len(set(keys)) == len(keys) and {e.key for e in a.pred} == {0}
    assert b.on("cpu", np.dtype(np.float32)).pred[0].key == keys[0]


def test_agreement_is_the_fraction_of_gates_that_are_as_H_says():
    rule = rules.get("clapp_s", steps=2, gate="circuit", circuit_noise=0.5, burst_probability=0.5)
    c = case(rule)
    z = np.maximum(np.random.default_rng(0).standard_normal((c.layout.rows, 5)), 0)
    same = [
        (role.gamma != 0) == (1 - role.events.label * role.score > 0)
        for role in rule.roles(z, c.weights["conv1"], c.draws[0], c.layout)
    ]
    learned = rule.learn(z, c.weights["conv1"], c.draws[0], c.layout)
    assert learned.measures["agreement"] == pytest.approx(np.mean([s.mean() for s in same]))
    assert 0.5 < learned.measures["agreement"] < 1


def test_a_circuit_where_none_is_said_in_a_sentence():
    with pytest.raises(UserError, match="go with --gate circuit, not with own"):
        rules.get("clapp", circuit_noise=0.1)
    with pytest.raises(UserError, match="must be above 0 and at most 1, got 0"):
        rules.get("clapp", gate="circuit", burst_probability=0)
    with pytest.raises(UserError, match="--circuit-noise must not be negative"):
        rules.get("clapp_s", gate="circuit", circuit_noise=-1)
    with pytest.raises(UserError, match="cpc has no surprise gate"):
        rules.get("cpc", gate="circuit")
