"""A rule's equation for one synapse is what its dW has to be: a wrong factor does not pass."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
from plasticity.rules.covariance import Covariance
from plasticity.rules.stdp import Stdp

from plasticity import learning, rules, verification
from plasticity.network import Block, Conv, Network, Pool
from plasticity.rule import Role, Rule
from plasticity.runs import run
from plasticity.runs.options import RunOptions
from plasticity.verification import definition, gradient
from tests.verification.test_report import Activity, case_of, state_of, verdicts


@dataclass(frozen=True)
class CovarianceOfWinners(Covariance):
    """As a stranger wrote it: "active and won" multiplies, which no covariance has."""

    post: ClassVar[str] = "winner"
    reads: ClassVar[str] = "map"


@dataclass(frozen=True)
class StdpOfWinners(Stdp):
    """As a stranger wrote it: post at t + 1, but only where the neuron wins at t as well."""

    post: ClassVar[str] = "winner"
    reads: ClassVar[str] = "map"


@pytest.mark.parametrize("wrong, right", [(CovarianceOfWinners, Covariance), (StdpOfWinners, Stdp)])
def test_a_factor_that_the_equation_does_not_have_is_caught(wrong, right):
    for rule, wanted in ((wrong(), {"differs"}), (right(), {"ok"})):
        rows = definition.compare(case_of(rule))
        assert {row.layer for row in rows} == {"conv1", "conv2", "conv3"}
        assert {row.verdict for row in rows if row.parameter == "weight"} == wanted
        found = verification.verify([state_of(rule)], batch=3, gain=2.0)
        assert found.holds == (rule.__class__ is right) and found.compared


@pytest.mark.parametrize(
    "name",
    [
        "oja",
        "bcm",
        "hebbian",
        "covariance",
        "stdp",
        "sanger",
        "normalised_hebb",
        "softhebb",
        "reward_hebb",
    ],
)
def test_shipped_rules_are_their_equations_in_every_layer(name):
    rule = rules.get(name)
    state = state_of(rule)
    rng = np.random.default_rng(0)
    for own in state.weights.values():  # as after some steps
        for kept in own.keys() - {"weight", "bias"}:
            own[kept] = rng.random(own[kept].shape)
    made = gradient.case(state, seed=0, batch=3, gain=2.0)
    rows = definition.compare(made, samples=8)
    parameters = {"weight", "bias"} if rule.biases else {"weight"}
    assert {(row.layer, row.parameter) for row in rows} == {
        (layer, name) for layer in ("conv1", "conv2", "conv3") for name in parameters
    }
    assert verdicts(rows) == {"ok"} and max(row.error for row in rows) < 1e-12


@pytest.mark.parametrize("kind", ["overlapping pool", "block", "sound"])
def test_every_kind_of_layer_has_pre_and_post_of_a_synapse(kind):
    layers = {
        "overlapping pool": (Conv("a", 1, 4, pool=Pool(3, 2)), Conv("b", 4, 3)),
        "block": (
            Conv("a", 1, 4, pool=2),
            Block("b", (Conv("b.1", 4, 5), Conv("b.2", 5, 4, linear=True))),
        ),
        "sound": (Conv("a", 1, 4, (5,), 4, 2), Conv("b", 4, 3, (3,), 2, 1)),
    }[kind]
    for rule in (rules.get("oja"), Covariance(), Stdp()):
        if kind == "sound":
            options = RunOptions(net="audio", rule=rule.name, width=0.02, layers=2, batch=2,
                                 dtype="float64", device="cpu")  # fmt: skip
            state = run.begin(options)
        else:
            state = state_of(rule, layers=2)
            state.network = Network("net", layers)
            state.weights = learning.prepare(state.network, rule, state.modules, 0)
        rows = definition.compare(gradient.case(state, seed=0, batch=2, gain=2.0), samples=6)
        assert verdicts(rows) == {"ok"}, rows
        assert len({row.layer for row in rows}) == 2


def test_a_definition_is_compared_beside_a_loss():
    @dataclass(frozen=True)
    class Both(Activity):
        def definition(self, s):
            return ((1 - s.post) * (s.post > 0) * s.pre).mean()

    found = verification.verify([state_of(Both())], batch=3, gain=2.0)
    assert {row.method for row in found.comparisons} == {"torch", "definition"} and found.holds


def test_without_loss_and_definition_nothing_is_said_to_hold():
    @dataclass(frozen=True)
    class Silent(Rule):
        name: ClassVar[str] = "silent"
        equation: ClassVar[str] = "dW_ji = y_j x_i"
        reads: ClassVar[str] = "map"

        def roles(self, z, own, draw, layout):
            yield Role.of_patches("post", z, np.ones(len(z), z.dtype))

    found = verification.verify([state_of(Silent())], batch=3, gain=2.0)
    assert {row.verdict for row in found.rows} == {"ok"}
    assert not found.compared and not found.holds and not found.as_dict()["holds"]
    assert "nothing independent to compare with" in found.junit()


def test_feedback_by_random_weights_is_compared_with_autograd_through_them():
    rule = rules.get("feedback_alignment", steps=2)
    made = case_of(rule, modules=[[0, 1], [2]])
    assert verdicts(gradient.compare(made)) == {"ok"}
    other = {la: dict(own) for la, own in made.weights.items()}
    other["conv2"]["feedback"] = -other["conv2"]["feedback"]
    rows = gradient.compare(replace(made, updates=list(made.learn(weights=other))))
    assert {row.layer for row in rows if row.verdict == "differs"} == {"conv1"}


def test_a_loss_of_sound_gets_the_layout_of_its_frames():
    """The predictive layer cuts its input by the frames it makes of it."""
    options = RunOptions(rule="predictive_coding", net="audio", width=0.02, layers=2, batch=2,
                         dtype="float64", device="cpu")  # fmt: skip
    made = gradient.case(run.begin(options), seed=0, batch=2, gain=2.0)
    rows = gradient.compare(made)
    assert verdicts(rows) == {"ok"} and {row.parameter for row in rows} == {"weight", "bias", "U"}


def test_of_equal_neurons_of_a_window_the_first_is_the_most_excited():
    a = np.array([[3.0, 1, 2, 0], [3, 2, 1, 2]]).reshape(1, 2, 4, 1)
    found = definition._most_excited(a, Conv("c", 1, 1, (1, 1), padding=0, pool=2))
    assert found.ravel().tolist() == [0, 2]  # of places 0 to 7
