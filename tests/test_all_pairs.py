"""All pairs at once against the same comparisons listed one by one, and against torch."""

import numpy as np
import pytest
from plasticity.rules.clapp import Clapp
from plasticity.rules.clapp_s import ClappS
from plasticity.rules.cpc import Cpc
from plasticity.rules.gim import Gim
from plasticity.rules.hinge_cpc import HingeCpc

from plasticity import events
from plasticity.arrays import to_device, to_host
from plasticity.device import prefetched
from plasticity.errors import UserError
from plasticity.events import Layout
from plasticity.rule import Draw
from tests import standin

LAYOUT = Layout(6, 3, 1, skip=0)
RULES = [
    Clapp(steps=2, negatives_from="others"),
    Clapp(steps=2, negatives_from="others", symmetric=True),
    Clapp(steps=2, negatives_from="others", block_grad=True),
    ClappS(steps=2, negatives_from="others"),
    ClappS(steps=2, negatives_from="others", symmetric=True),
    ClappS(steps=2, negatives_from="others", gate="shared"),
    ClappS(steps=2, negatives_from="others", gate="off"),
    ClappS(steps=2, negatives_from="others", dendrites=False),
    HingeCpc(steps=2, negatives_from="others"),
]
DESCENDING = [rule for rule in RULES if rule.dendrites and rule.gate != "shared"]


def listed(draw):
    halves = (half and tuple(e.listed()[0] for e in half) for half in (draw.pred, draw.retro))
    return Draw(*halves)


def case(rule, shape=(2, 2), neurons=4):
    rng = np.random.default_rng(0)
    z = np.maximum(rng.standard_normal((LAYOUT.rows, *shape, neurons)), 0)
    own = {n: 0.4 * w for n, w in rule.prepare(neurons, rng).items()}
    return z, own, rule.draw(LAYOUT, rng)


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_matrices_give_what_a_list_of_events_gives(rule):
    z, own, draw = case(rule)
    found, wanted = (rule.learn(z, own, d, LAYOUT) for d in (draw, listed(draw)))
    np.testing.assert_allclose(found.drive, wanted.drive, atol=1e-14)
    np.testing.assert_allclose(found.loss, wanted.loss, rtol=1e-13)
    assert float(found.open_gates) == pytest.approx(float(wanted.open_gates))
    for name, dW in wanted.changes.items():
        np.testing.assert_allclose(found.changes[name], dW, atol=1e-14)
    roles = rule.roles(z, own, draw, LAYOUT)
    for one, other in zip(roles, wanted.roles, strict=True):
        flat = one.listed()
        for name in ("learner", "other", "source"):
            np.testing.assert_array_equal(getattr(flat, name), getattr(other, name))
        np.testing.assert_allclose(flat.gamma, other.gamma, atol=1e-16)
        np.testing.assert_allclose(flat.score, other.score, rtol=1e-12)


@pytest.mark.parametrize("rule", [*DESCENDING, Cpc(steps=2, negatives_from="others")], ids=str)
def test_drive_and_changes_are_minus_the_slopes_of_the_loss(rule):
    z, own, draw = case(rule)
    found = rule.learn(z, own, draw, LAYOUT)
    assert float(found.loss) > 0 or rule.gate == "off"
    rng = np.random.default_rng(1)
    for array, wanted in ((z, found.drive), *((own[n], found.changes[n]) for n in own)):
        for _ in range(6):
            at = tuple(rng.integers(n) for n in array.shape)
            sides, before = [], array[at]
            for sign in (1, -1):
                held = z.copy()
                array[at] = before + sign * 1e-6
                sides.append(float(rule.objective(z, held if array is z else z, own, draw, LAYOUT)))
                array[at] = before
            slope = (sides[0] - sides[1]) / 2e-6
            assert slope == pytest.approx(-wanted[at], abs=2e-7), at


def test_infonce_over_all_pairs_is_torchs_cross_entropy_along_rows():
    torch = pytest.importorskip("torch")
    rule = Gim(steps=2, negatives_from="others", epsilon=0.0)
    z, own, draw = case(rule)
    found = rule.learn(z, own, draw, LAYOUT)
    leaf, W = (torch.tensor(a, requires_grad=True) for a in (z, own["W_pred"]))
    n, loss = 12, 0.0
    for k in (1, 2):
        c, t = leaf[:n], leaf[3 * k : 3 * k + n]
        u = torch.einsum("iabd,de,jabe->ji", t, W[k - 1], c)
        loss = loss + torch.nn.functional.cross_entropy(u, torch.arange(n)) / 2
    loss.backward()
    assert float(found.loss) == pytest.approx(loss.item(), rel=1e-12)
    np.testing.assert_allclose(found.drive, -leaf.grad, atol=1e-14)
    np.testing.assert_allclose(found.changes["W_pred"], -W.grad, atol=1e-13)


def test_by_a_coin_a_sample_takes_part_with_its_future_or_with_all_others():
    (pairs, *_) = events.draw(
        LAYOUT, np.random.default_rng(3), steps=2, coin=True, negatives_from="others"
    )
    sample = LAYOUT.sample(np.arange(12))
    fixation = pairs.true != 0
    assert 0 < fixation.sum() < 12
    for b in range(3):  # one sign for all of a sample's contexts
        assert len(set(fixation[sample == b])) == 1
    np.testing.assert_array_equal(pairs.other != 0, ~fixation)
    assert (2 * pairs.weight[pairs.same]).sum() == pytest.approx(1)
    assert (2 * pairs.weight[~pairs.same]).sum() == pytest.approx(1)


def test_a_circuit_that_looks_at_events_one_by_one_refuses_all_pairs():
    with pytest.raises(UserError, match="--negatives-from others"):
        Clapp(gate="circuit", negatives_from="others")


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize(
    "rule",
    [ClappS(steps=2, negatives_from="others"), Gim(steps=2, negatives_from="others"), RULES[0]],
    ids=str,
)
def test_on_a_device_it_is_the_same(rule, at_once):
    z, own, draw = case(rule)
    here, host = rule.learn(z, own, draw, LAYOUT), own
    with standin.installed():
        own = {n: to_device(w, "cuda:0") for n, w in own.items()}
        drawn = draw.on("cuda:0", np.dtype(float))
        if at_once:
            (drawn,) = prefetched([draw.together(LAYOUT)], "cuda:0")
        there = rule.learn(to_device(z, "cuda:0"), own, drawn, LAYOUT)
        np.testing.assert_allclose(to_host(there.drive), here.drive, atol=1e-13)
        assert float(there.loss) == pytest.approx(float(here.loss), rel=1e-12)
        assert float(there.open_gates) == pytest.approx(float(here.open_gates))
        for name, dW in there.changes.items():
            np.testing.assert_allclose(to_host(dW), here.changes[name], atol=1e-13)
        its = rule.roles(to_device(z, "cuda:0"), own, drawn, LAYOUT)
        for one, other in zip(its, rule.roles(z, host, draw, LAYOUT), strict=True):
            for name in ("learner", "source", "gamma"):
                wanted = getattr(other.listed(), name)
                np.testing.assert_allclose(to_host(getattr(one.listed(), name)), wanted, atol=1e-14)
