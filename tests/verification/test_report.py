"""What `verify` rests on: kinks that are seen, locality that is tested, a loss of one's own."""

from dataclasses import dataclass, replace
from typing import ClassVar
from xml.etree import ElementTree

import numpy as np
import pytest
from plasticity.rules.clapp import Clapp
from plasticity.rules.oja import Oja

from plasticity import learning
from plasticity.rule import Role, Rule
from plasticity.runs.options import RunOptions
from plasticity.runs.run import State
from plasticity.runs.sections import Assigned
from plasticity.verification import Verified, differences, gradient, locality
from plasticity.verification.gradient import has_loss


def state_of(rule: Rule, modules=None, layers=3) -> State:
    """A fresh run of any rule, on a few layers, without a name for it."""
    small = {
        "width": 0.04,
        "layers": layers,
        "crop": 40,
        "batch": 3,
        "dtype": "float64",
        "device": "cpu",
    }
    options = RunOptions(rule="random", **small)
    network, modules = options.network(), modules or [[i] for i in range(layers)]
    weights = learning.prepare(network, rule, modules, 0)
    pace = learning.Pace(1e-3)
    assigned = Assigned.same(rule, modules, network, pace)
    adam = learning.Optimiser.start(pace, weights)
    return State(options, network, rule, assigned, "cpu", weights, adam)


def case_of(rule: Rule, modules=None, layers=3) -> gradient.Case:
    return gradient.case(state_of(rule, modules, layers), seed=0, batch=3, gain=2.0)


def verdicts(rows) -> set[str]:
    return {row.verdict for row in rows}


@pytest.mark.parametrize(
    "options", [{}, {"symmetric": True}, {"block_grad": True}, {"gate": "off"}, {"negatives": 2}]
)
def test_finite_differences_agree_with_the_rule_and_with_torch(options):
    made = case_of(Clapp(steps=2, **options), layers=2)
    found = differences.compare(made, samples=8)
    assert verdicts(found) == verdicts(gradient.compare(made)) == {"ok"}
    assert max(row.error for row in found) < 1e-6
    assert {row.parameter for row in found} == set(made.weights["conv1"])


def test_finite_differences_find_a_wrong_sign_of_one_parameter():
    @dataclass(frozen=True)
    class Wrong(Clapp):
        def learn(self, z, own, draw, layout, above=None):
            learned = super().learn(z, own, draw, layout)
            learned.changes["W_retro"] *= -1
            return learned

    rows = differences.compare(case_of(Wrong(steps=2), layers=2), samples=8)
    assert {row.parameter for row in rows if row.verdict == "differs"} == {"W_retro"}


def test_finite_differences_carry_the_error_down_in_a_module():
    made = case_of(Clapp(steps=2, symmetric=True), modules=[[0, 1], [2]])
    assert verdicts(differences.compare(made, samples=8)) == {"ok"}


def test_a_step_across_a_kink_is_counted_and_not_compared():
    """A neuron at the edge of its ReLU: its bias moves it across, other neurons' do not."""
    made = case_of(Clapp(steps=2), layers=1)
    weights = made.weights["conv1"]
    weights["weight"][0], weights["bias"][0] = 0, 0.3 * differences.STEP
    made = replace(made, updates=list(made.learn()))
    rows = {row.parameter: row for row in differences.compare(made, samples=45)}
    bias = rows["bias"]
    assert bias.crossed == 1 and bias.samples == 5 and bias.verdict == "ok"
    assert rows["weight"].crossed == 9  # its weights too: the input is not 0


def test_a_step_across_the_hinge_is_seen_although_no_winner_changes():
    """W_pred is scaled until one event stands at its threshold, u = 1, to a tenth of a step."""
    rule = Clapp(steps=1, symmetric=True)
    made = case_of(rule, layers=1)
    seen = []
    list(made.learn(watch=lambda watched: seen.append(watched)))
    (first,) = seen[0].predicted
    (target, *_) = rule.roles(first.z, first.own, first.draw, made.layout)
    e = int(np.argmax(np.where(first.draw.pred[0].label > 0, target.score, -np.inf)))
    assert target.score[e] > 0
    made.weights["conv1"]["W_pred"] /= target.score[e] * (1 + 1e-8)
    made = replace(made, updates=list(made.learn()))
    row, blind = (
        next(r for r in differences.compare(made, 25, limit) if r.parameter == "W_pred")
        for limit in (None, np.inf)
    )
    assert row.verdict == "ok" and 0 < row.crossed < row.samples == 25
    assert blind.crossed == 0 and blind.error > 1e-2  # what it would say if it did not know


@dataclass(frozen=True)
class Activity(Rule):
    """A loss of one's own, on maps: `L = 1/2 <(y - 1)^2>`, so that dW = (1 - y_j) rho' x_i."""

    sign: float = 1.0

    name: ClassVar[str] = "activity"
    equation: ClassVar[str] = "dW_ji = (1 - y_j) x_i"
    reads: ClassVar[str] = "map"

    def roles(self, z, own, draw, layout):
        yield Role.of_patches("post", self.sign * (1 - z), np.ones(len(z), z.dtype))

    def objective(self, z, held, own, draw, layout):
        return ((z - 1) ** 2).sum(-1).mean() / 2


def test_a_loss_of_ones_own_is_compared_by_torch_and_by_differences():
    for sign, wanted in ((1.0, {"ok"}), (-1.0, {"differs"})):
        made = case_of(Activity(sign))
        assert verdicts(gradient.compare(made)) == wanted
        assert verdicts(differences.compare(made, samples=6)) == wanted


def test_local_rules_are_local():
    for rule in (Clapp(steps=2), Oja(), Activity()):
        rows = locality.check(case_of(rule))
        assert verdicts(rows) == {"ok"} and len(rows) == 4
    above = locality.check(case_of(Clapp(steps=2, context="above")))
    assert {row.locality for row in above} == {"neighbours"} and verdicts(above) == {"ok"}


def test_a_rule_that_says_more_than_is_true_is_found():
    """An error that comes down is not local to a layer; a context above is not either."""

    @dataclass(frozen=True)
    class Boasting(Clapp):
        locality: ClassVar[str] = "layer"

    rows = locality.check(case_of(Boasting(steps=2, symmetric=True), modules=[[0, 1], [2]]))
    assert {row.layer for row in rows if row.verdict == "depends"} == {"conv1"}
    rows = locality.check(case_of(Boasting(steps=2, context="above")))
    assert {row.layer for row in rows if row.verdict == "depends"} >= {"conv1", "conv2"}


def test_state_that_leaks_between_layers_is_found():
    """A rule that remembers what another layer did, behind the back of the interface."""
    remembered = []

    @dataclass(frozen=True)
    class Leaking(Activity):
        def roles(self, z, own, draw, layout):
            remembered.append(z.mean())
            yield Role.of_patches("post", z * sum(remembered[-2:]), np.ones(len(z), z.dtype))

    rows = locality.check(case_of(Leaking()))
    assert {row.layer for row in rows if row.verdict == "depends"} >= {"conv2"}


def test_a_rule_of_no_loss_is_known():
    assert has_loss(Clapp(steps=2)) and has_loss(Activity())
    assert not has_loss(Oja())


def compared(**changed):
    row = {"seed": 0, "layer": "conv1", "parameter": "weight", "method": "torch", "error": 0.0,
           "difference": 0.0, "place": (0,), "cosine": 1.0, "open_gates": 0.5, "winners": 0.5,
           "zero": False, "tolerance": 1e-10, "samples": 5}  # fmt: skip
    return gradient.Comparison(**{**row, **changed})


@pytest.mark.parametrize(
    "changed, verdict",
    [
        ({}, "ok"),
        ({"error": 1e-10}, "ok"),
        ({"error": 2e-10}, "differs"),
        ({"error": float("nan")}, "differs"),
        ({"zero": True}, "proves nothing"),
        ({"open_gates": 0.0}, "proves nothing"),
        ({"winners": 0.0}, "proves nothing"),
        ({"crossed": 5}, "proves nothing"),
        ({"crossed": 4}, "ok"),
    ],
)
def test_a_comparison_says_what_it_proves(changed, verdict):
    assert compared(**changed).verdict == verdict


def test_a_report_holds_only_if_every_row_is_ok():
    for rows, holds in (([compared()], True), ([compared(), compared(zero=True)], False),
                        ([compared(error=1.0)], False), ([], False)):  # fmt: skip
        found = Verified("r", "n", "layer", rows, [], [], "", "")
        assert found.holds == holds


def test_where_everything_above_is_changed_the_draws_above_are(monkeypatch):
    made = case_of(Clapp(steps=2))
    seen = []
    learn = type(made).learn
    monkeypatch.setattr(
        type(made), "learn", lambda self, **how: seen.append(how) or learn(self, **how)
    )
    locality.check(made)
    above = [how["draws"] for how in seen if "draws" in how and "network" not in how]
    assert above
    for number, draws in enumerate(above):
        same = [a is b for a, b in zip(draws, made.draws, strict=True)]
        assert same[number] and not any(same[number + 1 :])


def test_of_a_global_rule_nothing_is_stated_and_nothing_checked():
    @dataclass(frozen=True)
    class Global(Clapp):
        locality: ClassVar[str] = "global"

    assert locality.check(case_of(Global(steps=2), layers=2)) == []


@pytest.mark.parametrize("changed", ["weight", "bias"])
def test_an_update_depends_where_any_parameter_of_it_does(changed):
    made = case_of(Clapp(steps=2), layers=1)
    found = {"conv1": dict(made.updates[0].changes["conv1"])}
    (same,) = locality._rows(made, "layer", [0], "nothing", found)
    found["conv1"][changed] = found["conv1"][changed] * (1 + 1e-15)
    (row,) = locality._rows(made, "layer", [0], "one bit", found)
    assert not same.changes and row.changes


def test_an_error_is_relative_to_what_dW_should_be():
    made = case_of(Clapp(steps=2), layers=1)
    wanted = np.array([1.0, -2, 0.5])
    how = "conv1", "bias", wanted + np.array([0, 0, 8]), wanted, "torch", 1e-10
    row = gradient.compared(made, made.updates[0], *how)
    assert (row.error, row.difference, row.place) == (4.0, 8.0, (2,))


def test_half_of_the_samples_are_where_dW_is_largest_and_the_others_anywhere():
    dW = np.random.default_rng(0).standard_normal((20, 50))
    order = np.argsort(-np.abs(dW).ravel())
    at = gradient.chosen(dW, 12, np.random.default_rng(1))
    assert set(at[:6]) == set(order[:6]) and len(set(at)) == 12
    rank = np.argsort(order)[at[6:]]
    assert rank.min() >= 6 and rank.max() > 500


def test_a_gain_multiplies_every_weight_of_the_step_that_is_checked():
    state = state_of(Clapp(steps=2), layers=2)
    plain, made = (gradient.case(state, seed=0, batch=3, gain=gain) for gain in (1.0, 3.0))
    for layer, own in plain.weights.items():
        for name, w in own.items():
            assert w.any()
            np.testing.assert_array_equal(made.weights[layer][name], 3 * w)


@pytest.mark.parametrize("cosines, said", [
    ((-1.0, -1.0), "check the signs"), ((1.0, 1.0), "check the factors"), ((-1.0, 1.0), ""),
    ((0.5,), ""), ((), ""),
])  # fmt: skip
def test_what_all_that_differs_has_in_common_is_said(cosines, said):
    rows = [replace(compared(error=1.0), cosine=cosine) for cosine in cosines]
    found = Verified("r", "n", "layer", [*rows, compared()], [], [])
    assert found.hint.endswith(said) and bool(found.hint) == bool(said)


def test_what_proves_nothing_fails_in_JUnit_as_what_differs_does():
    rows = [compared(), compared(zero=True), compared(error=1.0)]
    suite = ElementTree.fromstring(Verified("r", "n", "layer", rows, [], []).junit())
    failed = [case.find("failure") is not None for case in suite]
    assert failed == [False, True, True]
    assert (suite.get("tests"), suite.get("failures")) == ("3", "2")


@pytest.mark.parametrize("changes, zero, verdict", [
    (False, False, "ok"), (True, False, "depends"), (False, True, "proves nothing"),
    (True, True, "depends"),
])  # fmt: skip
def test_an_update_that_is_nothing_proves_no_locality(changes, zero, verdict):
    assert locality.Dependence(0, "c", "layer", "it", changes, zero).verdict == verdict
