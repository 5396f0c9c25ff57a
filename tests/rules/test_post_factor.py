"""The post factor is the rule's word: what multiplies, at which place, and nothing besides."""

from dataclasses import dataclass
from itertools import product
from typing import ClassVar

import numpy as np
import pytest

from plasticity import inspection, learning
from plasticity.errors import UserError
from plasticity.events import Layout
from plasticity.inspection import check
from plasticity.learning.rule_check import check as check_rule
from plasticity.network import Block, Conv, Gru, Network
from plasticity.rule import Role, Rule
from tests.verification.test_report import state_of

POOLED = Network("pooled", (Conv("layer", 2, 3, pool=2),))
LAYOUT = Layout(3, 2, 1)
POSTS = ("active", "activity", "none")


@dataclass(frozen=True)
class Signal(Rule):
    """`dW_ji = s_j post_j x_i`, with a signal s of what it reads."""

    name: ClassVar[str] = "signal"
    equation: ClassVar[str] = "dW_ji = s_j post_j x_i"

    def roles(self, z, own, draw, layout):
        yield Role.of_patches("post", 1 + z * z, np.ones(len(z), z.dtype))


def rule_of(post: str, reads: str) -> Rule:
    return type("It", (Signal,), {"post": post, "reads": reads, "__module__": __name__})()


def met(x, w, b):
    """Every place's input window, potential and activity, by plain loops."""
    padded = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
    for n, r, c in product(range(len(x)), range(x.shape[1]), range(x.shape[2])):
        pre = padded[n, r : r + 3, c : c + 3].transpose(2, 0, 1)
        a = (w * pre).sum(axis=(1, 2, 3)) + b
        yield n, r // 2, c // 2, pre, a


@pytest.mark.parametrize("post, reads", [*product(POSTS, ("encoding", "places", "potential"))])
def test_dW_is_the_mean_over_places_of_just_the_named_factors(post, reads):
    rng, rule = np.random.default_rng(1), rule_of(post, reads)
    w, b = rng.standard_normal((3, 2, 3, 3)), rng.standard_normal(3) - 1
    x = rng.standard_normal((LAYOUT.rows, 4, 6, 2))
    weights = {"layer": {"weight": w, "bias": b}}
    draws = learning.draws(rule, LAYOUT, [[0]], 0, 0)
    (update,) = learning.updates(POOLED, rule, [[0]], weights, x, LAYOUT, draws)
    z = np.zeros((LAYOUT.rows, 2, 3, 3))  # after the pool: the largest of four
    for n, r, c, _, a in met(x, w, b):
        z[n, r, c] = np.maximum(z[n, r, c], a)
    z, dW, db = z.mean(axis=(1, 2)), np.zeros_like(w), np.zeros_like(b)
    for n, _, _, pre, a in met(x, w, b):
        y = np.maximum(a, 0)
        factor = {"active": a > 0, "activity": y, "none": np.ones(3)}[post]
        signal = 1 + {"encoding": z[n], "places": y, "potential": a}[reads] ** 2
        dW += (signal * factor)[:, None, None, None] * pre / (len(x) * 24)
        db += signal * factor / (len(x) * 24)
    found = update.changes["layer"]
    np.testing.assert_allclose(found["weight"], dW, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(found["bias"], db, rtol=1e-12, atol=1e-13)


def test_a_winner_is_what_it_was_bit_for_bit():
    """The default, by the side of the same rule that names it."""
    x = np.random.default_rng(0).standard_normal((LAYOUT.rows, 4, 6, 2))
    weights = POOLED.prepare(0)
    found = []
    for rule in (Signal(), rule_of("winner", "encoding")):
        draws = learning.draws(rule, LAYOUT, [[0]], 0, 0)
        (update,) = learning.updates(POOLED, rule, [[0]], weights, x, LAYOUT, draws)
        found.append(update.changes["layer"]["weight"])
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("post, reads", [*product(POSTS, ("encoding", "places"))])
def test_events_add_up_to_dW_and_show_the_named_factor(post, reads):
    state = state_of(rule_of(post, reads))
    assert {row.verdict for row in check.sums(state)} == {"ok"}
    step = inspection.look(state, 2)
    found = inspection.inspect(step, "weight", (1, 2, 0, 1))
    assert found.factor == post and found.won is None and found.inhibition() == {}
    values = np.unique(found.post)
    kinds = {"active": {0, 1}, "none": {1}}
    assert len(values) > 2 if post == "activity" else set(values) == kinds[post]
    view = inspection.inspect_layer(step, top=10**6)
    assert sum(row["part of dW"] for row in view.patches) == pytest.approx(1)
    shown = {row["quantity"] for row in view.distributions}
    assert ("post (mean over positions)" in shown) == (post != "none")


@pytest.mark.parametrize("post", POSTS)
def test_what_is_recorded_sums_to_dW(post):
    from plasticity.inspection.measure import kinds, measure
    from plasticity.inspection.spec import parse

    for reads in ("encoding", "places"):
        state, modules = state_of(rule_of(post, reads)), []
        list(state.next(modules.append)[1])
        (wish,) = parse("layer=2,random=20", state)
        record = measure(modules[1], {"conv2": wish}, state.weights, *kinds(modules))
        share, dW = (record[f"conv2/synapses/{name}"] for name in ("share", "dW"))
        np.testing.assert_allclose(share.sum(axis=(1, 2)), dW, rtol=1e-4, atol=1e-6 * abs(dW).max())


@pytest.mark.parametrize("post", POSTS)
def test_a_block_learns_with_the_factor_of_its_output(post):
    """y = path + skip is linear: active is 1, and the activity is y itself."""
    block = Block("b", (Conv("b.1", 2, 4), Conv("b.2", 4, 3, linear=True)),
                  Conv("b.s", 2, 3, (1, 1), 1, 0, linear=True))  # fmt: skip
    net, rule = Network("net", (block,)), rule_of(post, "places")
    x, weights = np.random.default_rng(0).standard_normal((LAYOUT.rows, 4, 4, 2)), net.prepare(0)
    draws = learning.draws(rule, LAYOUT, [[0]], 0, 0)
    (update,) = learning.updates(net, rule, [[0]], weights, x, LAYOUT, draws)
    y, _, _ = block.forward(x, weights)
    post_j = y if post == "activity" else np.ones_like(y)
    wanted = np.einsum("nrcj,nrci->ji", (1 + y * y) * post_j, np.maximum(x, 0)) / y[..., 0].size
    np.testing.assert_allclose(update.changes["b.s"]["weight"][:, :, 0, 0], wanted, rtol=1e-12)


def test_a_rule_that_reads_behind_the_pool_cannot_name_a_factor_before_it():
    with pytest.raises(UserError, match="expected reads = 'places'"):
        check_rule(rule_of("none", "map"), "here")


def test_a_recurrent_layer_has_no_post_factor_to_be_named():
    layer = Gru("gru", 2, 3)
    weights = {"gru": layer.prepare(np.random.default_rng(0))}
    x = np.ones((2, 4, 2))
    _, kept, _ = layer.forward(x, weights)
    with pytest.raises(UserError, match="leave it out"):
        layer.learn(kept, np.ones((2, 4, 3)), weights, False, np.ones((1, 1, 1)))
