"""What a rule may read and keep: weights, inputs, a state of each synapse, constraints, draws."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
from click.testing import CliRunner
from plasticity.cli import main
from plasticity.rules.normalised_hebb import NormalisedHebb
from plasticity.rules.stdp import Stdp

from plasticity import inspection, learning, runs, verification
from plasticity.errors import UserError
from plasticity.events import Layout
from plasticity.inspection import check
from plasticity.learning.rule_check import check as check_rule
from plasticity.network import Gru, Network
from plasticity.rule import Change, Draw, Role, Rule
from plasticity.runs.training import apply, learn_batch
from plasticity.verification import gradient
from tests.verification.test_report import state_of, verdicts


@dataclass(frozen=True)
class Bounded(Stdp):
    """STDP whose steps depend on the weight, of neurons whose sign is kept, on a sparse mask.

    LTP (1 - |W|), LTD |W| (van Rossum et al. 2000); Dale's law; synapses that are not there.
    """

    sparsity: float = 0.5
    name: ClassVar[str] = "bounded"

    def prepare_synapses(self, W, rng):
        return {"sign": np.sign(W), "there": (rng.random(W.shape) > self.sparsity) * 1.0}

    def synapses(self, s):
        size = abs(s.W)
        there = s.state["there"]
        return Change({"pre before post": there * (1 - size), "post before pre": there * size})

    def constrain(self, W, state):
        return np.where(W * state["sign"] > 0, W, 0).clip(-1, 1) * state["there"]

    def definition(self, s):
        up, down = (replace(self, **{n: 0.0}) for n in ("A_minus", "A_plus"))
        up, down = Stdp.definition(up, s), Stdp.definition(down, s)
        return s.state["there"] * ((1 - abs(s.W)) * up + abs(s.W) * down)


def test_factors_of_the_weight_and_of_a_state_are_the_definitions():
    found = verification.verify([state_of(Bounded())], batch=3)
    assert found.holds and {row.method for row in found.comparisons} == {"definition"}

    @dataclass(frozen=True)
    class Wrong(Bounded):
        def synapses(self, s):
            return Change({"post before pre": s.state["there"]})

    assert not verification.verify([state_of(Wrong())], batch=3).holds


def test_constraints_hold_after_every_step():
    state = state_of(Bounded())
    sign = {la: np.sign(own["weight"]) for la, own in state.weights.items()}
    for step in range(3):
        learn_batch(state, state.batch(step))
        for layer, own in state.weights.items():
            W = own["weight"]
            assert abs(W).max() <= 1 and not W[own["weight.there"] == 0].any()
            assert not (W * sign[layer] < 0).any()
            assert (own["weight.there"] == 0).any() and W.any()


def test_the_weights_onto_a_neuron_keep_their_length():
    state = state_of(NormalisedHebb(length=3.0))
    learn_batch(state, state.batch(0))
    for own in state.weights.values():
        norms = np.linalg.norm(own["weight"].reshape(len(own["weight"]), -1), axis=1)
        np.testing.assert_allclose(norms, 3, rtol=1e-12)


def test_inspect_shows_the_factor_of_a_synapse_and_what_the_constraint_does():
    state = state_of(Bounded())
    step = inspection.look(state, 2)
    W = state.weights["conv2"]["weight"]
    at = tuple(int(i) for i in np.argwhere(state.weights["conv2"]["weight.there"] > 0)[0])
    found = inspection.inspect(step, "weight", at)
    size, table = abs(W[at]), found.table(all_events=True)
    assert found.agrees and found.applied != 0
    for role, wanted in (("pre before post", 1 - size), ("post before pre", size)):
        np.testing.assert_allclose(table["synapse"][table["role"] == role], wanted)
    assert table["share"].sum() == pytest.approx(found.applied)
    after, bound = inspection.step.moved(step, "weight")
    assert found.constraint == bound[at] - after[at]
    assert not bound[state.weights["conv2"]["weight.there"] == 0].any()
    view = inspection.inspect_layer(step)
    names = {row["quantity"] for row in view.distributions}
    assert "factor of pre before post, weight" in names
    assert view.optimiser[0]["norm of the constraint"] == pytest.approx(
        np.linalg.norm(bound - after)
    )
    for update in state.next()[1]:  # what is shown is what training does
        apply(state, update, 1)
    np.testing.assert_array_equal(state.weights["conv2"]["weight"], bound)


def test_what_is_added_to_the_sums_is_shown_and_recorded():
    from plasticity.rules.sanger import Sanger

    from plasticity.inspection.measure import kinds, measure
    from plasticity.inspection.spec import parse

    for rule in (Sanger(), Bounded()):
        state, modules = state_of(rule), []
        assert {row.verdict for row in check.sums(state)} <= {"ok", "proves nothing"}
        list(state.next(modules.append)[1])
        (wish,) = parse("layer=2,random=20", state)
        names, ks = kinds(modules)
        record = measure(modules[1], {"conv2": wish}, state.weights, names, ks)
        share, dW = (record[f"conv2/synapses/{name}"] for name in ("share", "dW"))
        np.testing.assert_allclose(share.sum(axis=(1, 2)), dW, rtol=1e-4, atol=1e-5 * abs(dW).max())
    found = inspection.inspect(inspection.look(state_of(Sanger()), 2), "weight", (1, 0, 0, 0))
    assert set(found.added) == {"taken"} and found.agrees
    assert {"role": "taken"}.items() <= found.by_role()[-1].items()


def test_what_is_not_declared_is_not_there():
    @dataclass(frozen=True)
    class Curious(Rule):
        name: ClassVar[str] = "curious"
        equation: ClassVar[str] = "dW_ji = W x"

        def roles(self, z, own, draw, layout):
            yield Role.of_patches("post", z * own["weight"].mean(), np.ones(len(z), z.dtype))

    with pytest.raises(UserError, match="weight"):
        check_rule(Curious(), "here")
    check_rule(type("Declared", (Curious,), {"needs": ("weight",)})(), "here")
    with pytest.raises(UserError, match="expected weight or input"):
        check_rule(type("Odd", (Curious,), {"needs": ("soul",)})(), "here")


def test_what_is_needed_is_the_layers_own():
    met = []

    @dataclass(frozen=True)
    class Reading(Rule):
        name: ClassVar[str] = "reading"
        equation: ClassVar[str] = "dW_ji = y_j x_i"
        needs: ClassVar[tuple[str, ...]] = ("weight", "input")

        def prepare(self, neurons, rng, inputs):
            return {"mean": np.zeros(inputs)}

        def roles(self, z, own, draw, layout):
            met.append(own)
            yield Role.of_patches("post", z, np.ones(len(z), z.dtype))

        def follow(self, z, own, draw, layout):
            assert layout.rows == len(z) and draw.step == 0
            return {"mean": own["input"].mean(axis=(0, 1, 2))}

    made = gradient.case(state_of(Reading()), seed=0, batch=3)
    for own, (layer, x), update in zip(met, made.met.items(), made.updates, strict=True):
        np.testing.assert_array_equal(own["input"], x)
        np.testing.assert_array_equal(own["weight"], made.weights[layer]["weight"])
        np.testing.assert_array_equal(update.state[layer]["mean"], x.mean(axis=(0, 1, 2)))
        assert set(own) == {"mean", "weight", "bias", "input"}
    rows = verification.locality.check(made)
    assert verdicts(rows) == {"ok"}


def test_a_draw_with_fields_of_its_own_reaches_the_rule():
    @dataclass(frozen=True)
    class Rewarded(Draw):
        reward: float = 0.0
        who: np.ndarray = ()

    @dataclass(frozen=True)
    class Chance(Rule):
        name: ClassVar[str] = "chance"
        equation: ClassVar[str] = "dW_ji = R z_j x_i"

        def draw(self, layout, rng):
            return Rewarded((), reward=rng.random(), who=rng.permutation(layout.rows))

        def roles(self, z, own, draw, layout):
            gate = (draw.who < layout.rows // 2) * draw.reward
            yield Role.of_patches("post", z, gate.astype(z.dtype))

        def definition(self, s):
            M = (s.draw.who < s.layout.rows // 2) * s.draw.reward
            z = s.post.mean(axis=1, keepdims=True)
            return (M[:, None] * z * (s.post > 0) * s.pre).mean()

    state = state_of(Chance())
    learn_batch(state, state.batch(0))
    assert verification.verify([state], batch=3).holds
    draws = learning.draws(Chance(), Layout(4, 2, 1), [[0]], 0, 7)
    assert draws[0].step == 7 and draws[0].on("cpu", np.dtype("float32")).reward == draws[0].reward


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"synapses": lambda self, s: None}, "synapses should give a Change"),
        ({"synapses": lambda self, s: Change({"x": 1.0})}, "synapses should give no factor of x"),
        ({"synapses": lambda self, s: Change(added={"x": s.W[0]})}, "a added x of shape|an? added"),
        ({"prepare_synapses": lambda self, W, rng: {"e": W[0]}}, "prepare_synapses should give e"),
        ({"constrain": lambda self, W, state: W[0]}, "constrain should give weights of shape"),
        ({"definition": lambda self, s: s.post}, "definition should give a single number"),
    ],
)
def test_what_is_missing_is_said_before_training(changes, sentence):
    with pytest.raises(UserError, match=sentence):
        check_rule(type("Wrong", (Stdp,), changes)(), "here")


def test_rules_of_synapses_are_not_for_recurrent_layers_nor_for_several_processes():
    from plasticity.learning.rule_check import check_fits

    net, plain = Network("net", (Gru("gru", 2, 3),)), state_of(Stdp()).network
    for rule in (NormalisedHebb(), Bounded()):
        with pytest.raises(UserError, match="leave gru out"):
            check_fits(rule, net)
    with pytest.raises(UserError, match="without mpiexec"):
        check_fits(Bounded(), plain, several=True)


def test_what_synapses_keep_is_told_beforehand_and_stored(tmp_path):
    done = CliRunner().invoke(main, [
        "run", "--rule", "reward_hebb", "--width", "0.03", "--layers", "2", "--batch", "4",
        "--steps", "2", "--no-probe", "--out", str(tmp_path / "run"),
    ])  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "keeps eligibility for each synapse, which takes 0.0 MiB" in done.output
    kept = runs.load(tmp_path / "run/checkpoint.h5").params["conv2"]
    assert kept["weight.eligibility"].shape == kept["weight"].shape
    assert kept["weight.eligibility"].any()
