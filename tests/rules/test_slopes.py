"""Every rule with a loss is its slope: finite differences in every parameter, no autograd."""

import numpy as np
import pytest

from plasticity import rules
from plasticity.rule import looks_up
from tests.small import case

SYMMETRIC = {"steps": 2, "symmetric": True}
RULES = {
    "clapp": SYMMETRIC,
    "clapp_s": SYMMETRIC,
    "hinge_cpc": SYMMETRIC,
    "cpc": {"steps": 2, "negatives": 3},
    "gim": {"steps": 2, "negatives": 3},
    "supervised": {"classes": 4},
    "greedy_supervised": {"classes": 4},
}
SPLITS = {"layers": [[0], [1], [2]], "2+1": [[0, 1], [2]], "1": [[0, 1, 2]]}
ABOVE = [("clapp", "layers"), ("clapp_s", "2+1"), ("hinge_cpc", "2+1"), ("gim", "layers")]
STEP = 1e-7  # so small that no pool has another winner and no gate moves


def forward(c, weights, module, x):
    """A module's output and encoding."""
    for i in module:
        layer = c.network.layers[i]
        x, _, z = layer.forward(x, weights)
    return x, z


def check(c):
    """Slopes of the losses that a module's parameters have a part in, its input held fixed.

    They are its own loss and, where it is the context of the module below, that one's.
    """
    inputs, encodings = [c.patches], []
    for module in c.modules:
        y, z = forward(c, c.weights, module, inputs[-1])
        inputs.append(y)
        encodings.append(z)
    tops = [c.network.layers[module[-1]].name for module in c.modules]
    up = looks_up(c.rule)

    def loss(weights, m):
        _, z = forward(c, weights, c.modules[m], inputs[m])
        above = encodings[m + 1 : m + 2] if up else []
        found = c.rule.learn(z, weights[tops[m]], c.draws[m], c.layout, *above).loss
        if up and m:
            below = (encodings[m - 1], weights[tops[m - 1]], c.draws[m - 1], c.layout, z)
            found = found + c.rule.learn(*below).loss
        return found

    rng = np.random.default_rng(0)
    for m, update in enumerate(c.updates()):
        for layer, own in update.changes.items():
            for parameter, dW in own.items():
                direction = rng.standard_normal(dW.shape)
                slope = 0.0
                for sign in (1, -1):
                    weights = {la: dict(of) for la, of in c.weights.items()}
                    weights[layer][parameter] = weights[layer][parameter] + sign * STEP * direction
                    slope += sign * float(loss(weights, m)) / (2 * STEP)
                wanted = float((dW * direction).sum())
                scale = float(np.abs(dW * direction).sum())
                assert scale > 0, (layer, parameter)
                assert abs(-slope - wanted) < 1e-5 * scale, (layer, parameter, -slope, wanted)


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("name", RULES)
def test_dW_is_minus_the_slope_of_the_loss(name, split):
    check(case(rules.get(name, **RULES[name]), modules=SPLITS[split]))


@pytest.mark.parametrize("name", ["clapp", "clapp_s", "hinge_cpc"])
def test_without_a_gate_dW_is_minus_the_slope_of_minus_y_u(name):
    check(case(rules.get(name, gate="off", **RULES[name]), modules=SPLITS["2+1"]))


@pytest.mark.parametrize(("name", "split"), ABOVE)
def test_with_its_context_from_above_dW_is_minus_the_slope_of_two_losses(name, split):
    check(case(rules.get(name, context="above", **RULES[name]), modules=SPLITS[split]))
