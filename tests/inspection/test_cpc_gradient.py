"""The gradient of CPC in its terms, against torch and by hand."""

import dataclasses

import numpy as np
import pytest
import torch

from plasticity import learning, rules
from plasticity.errors import UserError
from plasticity.inspection import cpc_gradient, fresh
from plasticity.learning import Loss, Scored, Watched
from plasticity.runs.options import RunOptions
from plasticity.verification.autograd import encodings
from tests.small import case

OPTIONS = {"net": "vgg6", "width": 0.03, "batch": 2, "device": "cpu", "modules": "layers"}
SPLITS = {"layers": [[0], [1], [2]], "1+2": [[0], [1, 2]], "1": [[0, 1, 2]]}


def state(gain=2.0, **changed):
    return fresh(RunOptions(**{"rule": "cpc", "dtype": "float64", **OPTIONS, **changed}), gain)


@pytest.fixture(scope="module")
def found():
    return cpc_gradient.cpc_gradient(state())


def watched(c):
    seen: list[Watched] = []
    parts = (c.network, c.rule, c.modules, c.weights, c.patches, c.layout, c.draws)
    for _ in learning.updates(*parts, seen.append):
        pass
    return seen


def by_torch(c, module):
    """Each term of Eq. (10) to (12) as the gradient of a function that has it alone.

    `sum of w u_true` and `- sum of w pi u` with pi held fixed, Eq. (9), where of W_pred, targets
    and contexts one alone is let through.
    """
    found = {}
    for number, through in ((10, "W_pred"), (11, "target"), (12, "context")):
        for part in ("true", "expected"):
            own = {
                layer: {n: torch.tensor(w, requires_grad=True) for n, w in params.items()}
                for layer, params in c.weights.items()
            }
            x = torch.tensor(np.moveaxis(c.patches, -1, 1).copy())
            z = encodings(c.network, c.modules, own, x)[c.modules[module][-1]]
            top = c.network.layers[c.modules[module][-1]].name
            total = torch.zeros((), dtype=torch.float64)
            for event in c.draws[module].pred:
                W = own[top]["W_pred"][event.k - 1]
                context, target = z[event.context], z[event.target]
                W = W if through == "W_pred" else W.detach()
                context = context if through == "context" else context.detach()
                target = target if through == "target" else target.detach()
                u = (target * (context @ W.T)).sum(1).reshape(-1, 1 + c.rule.negatives)
                pi = torch.softmax(u.detach(), 1)
                true = torch.zeros_like(pi)
                true[:, 0] = 1
                # The published code's 1e-11 in the logarithm is a factor of its slope.
                weight = torch.tensor(event.weight).reshape(pi.shape)[:, :1]
                weight = weight * pi[:, :1] / (pi[:, :1] + 1e-11)
                total = total + (weight * (true if part == "true" else -pi) * u).sum()
            total.backward()
            for i in c.modules[module]:
                layer = c.network.layers[i].name
                for name, w in own[layer].items():
                    if w.grad is not None:
                        found[layer, name, (number, part)] = w.grad.numpy()
    return found


@pytest.mark.parametrize("split", SPLITS)
def test_every_term_is_the_gradient_that_torch_gives_for_it_alone(split):
    c = case(rules.get("cpc", steps=2, negatives=4), modules=SPLITS[split])
    for number, seen in enumerate(watched(c)):
        wanted, checked = by_torch(c, number), 0
        (scored,) = seen.predicted
        drives, predictions, _ = cpc_gradient.terms(c.rule, scored, scored.own["W_pred"])
        for layer in seen.layers:
            for name, by_term in cpc_gradient._by_parameter(
                seen, layer, drives, predictions, c.weights
            ):
                for term, dW in by_term.items():
                    torchs = wanted[layer.layer.name, name, term]
                    assert np.abs(dW - torchs).max() < 1e-10 * np.abs(torchs).max()
                    checked += 1
                total = sum(by_term.values())
                dW = layer.changes[name]
                assert np.abs(total - dW).max() < 1e-12 * np.abs(dW).max()
        assert checked == len(wanted)


def test_the_terms_of_a_single_choice_by_hand():
    """c = (1, 0), z true = (2, 0), z negative = (0, 1), W_pred = ((1, 2), (3, 4)), pi given by u.

    W_pred c = (1, 3): u = (2, 3), so pi_true = 1 / (1 + e). Eq. (10), row j, column k = 1 alone:
    true (2, 0), expected (-2 pi_true, -pi_negative). Eq. (12): W_pred^T z true = (2, 4).
    """
    from plasticity.events import Events, Layout
    from plasticity.rule import Draw, Learning

    z = np.array([[1.0, 0.0], [9.0, 9.0], [2.0, 0.0], [0.0, 1.0]])
    own = {"W_pred": np.array([[[1.0, 2.0], [3.0, 4.0]]])}
    event = Events(1, np.array([0, 0]), np.array([2, 3]), np.array([1.0, -1.0]), np.ones(2))
    learning, draw = Learning(z, 0, 0), Draw((event,))
    seen = Scored(Loss(0, 0), "top", z, z, own, draw, Layout(4, 1, 1), learning, (), (0, 0))
    drives, predictions, told = cpc_gradient.terms(
        rules.get("cpc", steps=1, negatives=1), seen, own["W_pred"].transpose(0, 2, 1)
    )
    pi = 1 / (1 + np.e)
    near = lambda wanted: pytest.approx(np.array(wanted), rel=1e-9, abs=1e-12)  # noqa: E731
    assert predictions[10, "true"][0] == near([[2, 0], [0, 0]])
    assert predictions[10, "expected"][0] == near([[-2 * pi, 0], [-(1 - pi), 0]])
    assert drives[11, "true"] == near([[0, 0], [0, 0], [1, 3], [0, 0]])
    assert drives[11, "expected"][2:] == near([[-pi, -3 * pi], [-(1 - pi), -3 * (1 - pi)]])
    assert drives[12, "true"] == near([[2, 4], [0, 0], [0, 0], [0, 0]])
    assert drives[12, "expected"][0] == near([-2 * pi - 3 * (1 - pi), -4 * pi - 4 * (1 - pi)])
    assert told["pi_true"] == pytest.approx(pi)
    # z true - sum pi z = (1 - pi) (2, -1): its norm over |z true| = 2, and its cosine with (2, 0).
    assert told["second_size"] == pytest.approx((1 - pi) * np.sqrt(5) / 2)
    assert told["second_cosine"] == pytest.approx(2 / np.sqrt(5))
    assert told["backward_cosine"] == pytest.approx(1)  # the other matrix is the transpose here


def test_the_terms_add_up_to_the_update_of_the_rule_in_every_layer(found):
    assert found.agrees and len(found.checks) == 6 * 3
    assert max(check.error for check in found.checks) < 1e-10


@pytest.mark.parametrize("change", ["scaled", "a sample too few"])
def test_a_rule_that_is_another_gradient_does_not_agree(change, monkeypatch):
    from plasticity.rules.cpc import Cpc

    right = Cpc.gamma

    def wrong(self, u, event):
        gamma = right(self, u, event)
        gamma[slice(None) if change == "scaled" else slice(1, 2)] *= 1.001
        return gamma

    monkeypatch.setattr(Cpc, "gamma", wrong)
    assert not cpc_gradient.cpc_gradient(state()).agrees


def test_shares_of_the_terms_add_up_to_one(found):
    for layer in ("conv1", "conv6"):
        for parameter in ("weight", "W_pred"):
            mine = [p for p in found.terms if (p.layer, p.parameter) == (layer, parameter)]
            assert len(mine) == (4 if parameter == "weight" else 2)
            assert sum(part.share for part in mine) == pytest.approx(1)


def test_without_the_transpose_the_update_is_that_of_block_grad(found):
    """Eq. (13) blocks the gradient at the context: all of Eq. (12) is gone, and nothing else."""
    s = state()
    rule = dataclasses.replace(s.rule, block_grad=True)
    assigned = dataclasses.replace(s.assigned, rules=[rule] * len(s.modules))
    one = dataclasses.replace(s, rule=rule, assigned=assigned)
    whole, blocked = (
        [u.changes[u_name]["weight"] for u, u_name in zip(
            of.next()[1], s.names, strict=True)]
        for of in (s, one)
    )  # fmt: skip
    lost = [p for p in found.needs if p.what.startswith("the transpose")]
    for dW, rest, part in zip(whole, blocked, lost, strict=True):
        cosine = (dW * rest).sum() / np.linalg.norm(dW) / np.linalg.norm(rest)
        assert part.without == pytest.approx(cosine)
        assert part.size == pytest.approx(np.linalg.norm(dW - rest) / np.linalg.norm(dW))


def test_where_all_scores_are_equal_all_samples_count_and_clapp_s_has_the_same_update():
    """At scores near 0 every gate is open and pi = 1 / 17: W is the mean over samples in both."""
    for s in cpc_gradient.cpc_gradient(state(gain=0.3)).signals:
        assert s.effective == pytest.approx(17, rel=1e-3) and s.pi_true == pytest.approx(
            1 / 17, rel=0.01
        )
        assert s.clapp_weight > 0.99 and s.clapp_W_pred > 0.99


def test_float32_agrees_to_four_digits():
    assert cpc_gradient.cpc_gradient(state(dtype="float32")).agrees


def test_a_run_by_another_rule_with_predictions_is_analysed_with_its_W_retro():
    made = cpc_gradient.cpc_gradient(state(rule="clapp"))
    assert made.agrees and {s.backward for s in made.signals} == {"W_retro of the run"}
    aligned = state(rule="clapp")
    for own in aligned.weights.values():
        own["W_retro"] = own["W_pred"].transpose(0, 2, 1).copy()
    assert all(
        s.backward_cosine == pytest.approx(1) for s in cpc_gradient.cpc_gradient(aligned).signals
    )


def test_a_rule_that_cannot_be_analysed_is_said_in_a_sentence():
    with pytest.raises(UserError, match="the rule random has no predictions W_pred"):
        cpc_gradient.cpc_gradient(state(rule="random"))
    with pytest.raises(UserError, match="take a run without --context above"):
        cpc_gradient.cpc_gradient(state(rule="clapp", context="above"))


def test_the_long_table_holds_every_number(found):
    rows = found.long_table()
    sizes = [r["value"] for r in rows if (r["section"], r["quantity"]) == ("terms", "size")]
    assert sizes == [part.size for part in found.terms]
    assert found.as_dict()["needed_for"]["Eq. (11), expected"].startswith("the synapse keeps")
