"""One step of learning, and the optimiser."""

import math
import weakref

import numpy as np
import pytest

from plasticity import learning, rules
from plasticity.learning import Optimiser, Pace, Update
from plasticity.learning.step import Report
from plasticity.network import Conv, Gru, Network
from tests.rounding import close_slope
from tests.small import case


def test_random_weights_stay():
    c = case(rules.get("random"))
    for update in c.updates():
        assert not any(dW.any() for own in update.changes.values() for dW in own.values())


def test_a_module_of_two_layers_carries_its_error_down_and_no_further():
    """Slope of the top's loss in the lower layer of its module, against the explicit dW."""
    modules = [[0], [1, 2]]
    c = case(rules.get("clapp_s", steps=2, symmetric=True), modules=modules)
    first, second = c.updates()
    assert set(first.changes) == {"conv1"} and set(second.changes) == {"conv2", "conv3"}
    direction = np.random.default_rng(0).standard_normal(c.weights["conv2"]["weight"].shape)

    def loss(step):
        weights = {layer: dict(own) for layer, own in c.weights.items()}
        weights["conv2"]["weight"] = weights["conv2"]["weight"] + step * direction
        return c.updates(weights=weights)[1].loss

    slope = (loss(1e-7) - loss(-1e-7)) / 2e-7
    dW = second.changes["conv2"]["weight"]
    close_slope(-slope, dW, direction)


def test_what_a_module_kept_is_let_go_before_the_next_one_is_fed(monkeypatch):
    """Winners and drives of a module that has learned do not wait for the rest of the step."""
    c, kept, alive = case(rules.get("clapp", steps=2)), [], []
    plain = Conv.forward

    def forward(layer, x, weights, learning=True):
        alive.append([ref() is not None for ref in kept])
        y, met, z = plain(layer, x, weights, learning)
        kept.append(weakref.ref(met[1]))
        return y, met, z

    monkeypatch.setattr(Conv, "forward", forward)
    drive = type(c.rule).learn

    def learn(*args):
        learned = drive(*args)
        kept.append(weakref.ref(learned.drive))
        return learned

    monkeypatch.setattr(type(c.rule), "learn", learn)
    for _ in c.one_by_one():
        pass
    assert alive == [[], [False] * 2, [False] * 4]


def test_two_steps_of_adam_by_hand():
    """dW = 2, then -1; rate 0.1. First step: m^ = 2, v^ = 4, so the parameter moves by 0.1."""
    weights = {"layer": {"weight": np.array([1.0])}}
    adam = Optimiser.start(Pace(0.1), weights)
    adam.ascend(weights, {"layer": {"weight": np.array([2.0])}}, 1)
    assert weights["layer"]["weight"][0] == pytest.approx(1.1, abs=1e-8)
    adam.ascend(weights, {"layer": {"weight": np.array([-1.0])}}, 2)
    m = (0.9 * 0.1 * 2 - 0.1) / (1 - 0.9**2)
    v = (0.999 * 0.001 * 4 + 0.001) / (1 - 0.999**2)
    assert weights["layer"]["weight"][0] == pytest.approx(1.1 + 0.1 * m / math.sqrt(v), abs=1e-7)


def test_float32_adam_agrees_with_float64():
    rng = np.random.default_rng(0)
    start, dWs = rng.standard_normal(1000), rng.standard_normal((5, 1000))
    found = {}
    for dtype in (np.float32, np.float64):
        weights = {"layer": {"weight": start.astype(dtype)}}
        adam = Optimiser.start(Pace(1e-2), weights)
        for step, dW in enumerate(dWs, 1):
            adam.ascend(weights, {"layer": {"weight": dW.astype(dtype)}}, step)
        found[dtype] = weights["layer"]["weight"]
    assert found[np.float32].dtype == np.float32
    np.testing.assert_allclose(found[np.float32], found[np.float64], rtol=1e-5, atol=1e-6)


def test_draws_depend_on_seed_step_and_module_alone():
    c = case(rules.get("clapp", steps=2))
    twice = [learning.draws(c.rule, c.layout, c.modules, 5, 9) for _ in range(2)]
    for a, b in zip(*twice, strict=True):
        np.testing.assert_array_equal(a.pred[0].label, b.pred[0].label)
        np.testing.assert_array_equal(a.pred[0].target, b.pred[0].target)


def test_what_a_module_reports_is_of_all_its_losses():
    """Losses add up, fractions of open gates are a mean; without own losses of those it meets."""
    reports = {"a": Report(np.float64(3), 0.2, {"x": 1}), "b": Report(np.float64(4), 0.6, {"y": 2})}
    update = Update(0, None, {}, reports, gates=(0.9,))
    assert update.loss == 7 and update.open_gates == pytest.approx(0.4)
    assert update.measures == {"x": 1, "y": 2}
    alone = Update(0, None, {}, {}, gates=(0.1, 0.5))
    assert alone.loss is None and alone.open_gates == pytest.approx(0.3)


def test_a_layer_below_a_gru_learns_from_both_losses_or_from_the_grus_alone():
    network = Network("n", (Conv("c", 1, 2, (4,), 2, 1), Gru("g", 2, 3)))
    how, modules = rules.get("clapp_s"), [[0], [1]]
    own, met = learning.Loss(0, 0), learning.Loss(0, 1, keeper=1)
    assert learning.losses_of(how, modules, network) == [own, met]
    assert learning.losses_of(how, modules, network, "both") == [own, met]
    assert learning.losses_of(how, modules, network, "gru") == [met]
