"""Hinge Loss CPC, CPC and GIM: losses at the top of modules, carried down by explicit kernels."""

from pathlib import Path

import numpy as np
import pytest

from plasticity import learning, networks, rules
from plasticity.errors import UserError
from plasticity.rule import Draw
from plasticity.verification.autograd import Groups, negative_gradients
from tests import golden
from tests.rounding import close_slope
from tests.small import NETWORK, case

SPLITS = {"1": [[0, 1, 2]], "1+2": [[0], [1, 2]], "2+1": [[0, 1], [2]], "layers": [[0], [1], [2]]}
VARIANTS = [
    {"symmetric": True},
    {"symmetric": False},
    {"symmetric": True, "block_grad": True},
    {"symmetric": False, "block_grad": True},
    {"symmetric": False, "learn_prediction": False},
]
HINGE = [
    *VARIANTS,
    {"gate": "shared"},
    {"gate": "off"},
    {"gate": "off", "symmetric": True},
    {"dendrites": False},
    {"dendrites": False, "symmetric": True},
]


def grouped(draws, negatives):
    """The same comparisons in the form that the reference takes for InfoNCE."""

    def group(e):
        target = e.target.reshape(-1, 1 + negatives)
        weight = e.weight.reshape(-1, 1 + negatives)[:, 0]
        context = e.context.reshape(-1, 1 + negatives)[:, 0]
        return Groups(e.k, context, target[:, 0], target[:, 1:], weight)

    half = lambda events: events and tuple(group(e) for e in events)  # noqa: E731
    return [Draw(half(d.pred), half(d.retro)) for d in draws]


def check(c, found, wanted, limit=1e-10):
    for update, module in zip(found, c.modules, strict=True):
        for i in module:
            layer = c.network.layers[i].name
            assert set(update.changes[layer]) == set(wanted[layer])
            for name, dW in wanted[layer].items():
                error = np.abs(update.changes[layer][name] - dW).max() / np.abs(dW).max()
                assert error < limit, f"{layer}.{name}: {error:.2e}"


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("name", ["cpc", "gim"])
def test_infonce_dW_is_minus_the_gradient_in_every_split(name, split, variant):
    c = case(rules.get(name, steps=2, negatives=4, **variant), modules=SPLITS[split])
    losses, wanted = negative_gradients(
        c.network, c.modules, c.weights, c.patches, c.layout, grouped(c.draws, 4), loss="infonce",
        **variant,
    )  # fmt: skip
    found = c.updates()
    halves = 2 if c.draws[0].retro is not None else 1
    np.testing.assert_allclose([halves * u.loss for u in found], losses, rtol=1e-10)
    check(c, found, wanted)


@pytest.mark.parametrize("variant", HINGE)
@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("synchronous", [True, False])
def test_hinge_cpc_dW_is_minus_the_gradient_in_every_split(synchronous, split, variant):
    rule = rules.get("hinge_cpc", steps=2, synchronous=synchronous, **variant)
    c = case(rule, modules=SPLITS[split])
    found = c.updates()
    _, wanted = negative_gradients(
        c.network, c.modules, c.weights, c.patches, c.layout, c.draws, **variant
    )
    check(c, found, wanted)


@pytest.mark.parametrize(("name", "synchronous"), [("clapp_s", True), ("clapp", False)])
def test_hinge_cpc_with_modules_of_one_layer_is_clapp(name, synchronous):
    c = case(rules.get("hinge_cpc", steps=2, synchronous=synchronous))
    same = c.updates(rule=rules.get(name, steps=2))
    for a, b, layer in zip(c.updates(), same, NETWORK.layers, strict=True):
        for parameter, dW in b.changes[layer.name].items():
            np.testing.assert_array_equal(a.changes[layer.name][parameter], dW)


@pytest.mark.parametrize("name", ["clapp", "clapp_s", "cpc", "supervised"])
def test_the_top_of_a_module_learns_as_a_module_of_its_own(name):
    """Bit for bit: modules of several layers and of one are the same code, and so are numbers."""
    c = case(rules.get(name)) if name == "supervised" else case(rules.get(name, steps=2))
    deep = c.updates(modules=[[0], [1, 2]], draws=[c.draws[0], c.draws[2]])
    shallow = c.updates()
    for a, b, layer in ((deep[0], shallow[0], "conv1"), (deep[1], shallow[2], "conv3")):
        assert set(a.changes[layer]) == set(b.changes[layer])
        for parameter, dW in b.changes[layer].items():
            np.testing.assert_array_equal(a.changes[layer][parameter], dW)
    # Below the top its error is another one.
    assert not np.allclose(
        deep[1].changes["conv2"]["weight"], shallow[1].changes["conv2"]["weight"]
    )


def test_gim_gives_the_losses_and_updates_of_the_published_code():
    g = golden.load_gim()
    negatives = g.draws[0].pred[0].negatives.shape[1]
    draws = [Draw(tuple(ungrouped(e) for e in d.pred)) for d in g.draws]
    rule = rules.get("gim", negatives=negatives)
    found = list(learning.updates(g.network, rule, g.modules, g.params, g.patches, g.layout, draws))
    np.testing.assert_allclose([u.loss for u in found], g.losses, rtol=1e-10)
    for update, module in zip(found, g.modules, strict=True):
        for i in module:
            layer = g.network.layers[i].name
            for name, dW in g.dW[layer].items():
                error = np.abs(update.changes[layer][name] - dW).max() / np.abs(dW).max()
                assert error < 1e-9, (layer, name, error)


def ungrouped(g):
    """Golden groups as events, each context's positive before its negatives."""
    from plasticity.events import Events

    target = np.concatenate([g.positive[:, None], g.negatives], axis=1)
    repeat = lambda a: np.repeat(a, target.shape[1])  # noqa: E731
    label = np.where(np.arange(target.shape[1]) == 0, 1.0, -1.0)
    return Events(
        g.k, repeat(g.context), target.ravel(), np.tile(label, len(target)), repeat(g.weight)
    )


def test_large_scores_do_not_overflow():
    """Scores of thousands: the softmax is one or zero, loss and gamma stay numbers."""
    rule, c = rules.get("cpc", steps=2, negatives=2), None
    c = case(rule, modules=[[0, 1, 2]])
    event = c.draws[0].pred[0]
    u = np.random.default_rng(0).standard_normal(len(event.label)) * 5e3
    with np.errstate(over="raise", invalid="raise"):
        assert np.isfinite(rule.loss(u, event)) and np.isfinite(rule.gamma(u, event)).all()


def test_infonce_gamma_is_the_slope_of_its_loss():
    rule = rules.get("cpc", steps=2, negatives=3)
    event = case(rule, modules=[[0, 1, 2]]).draws[0].pred[0]
    u, direction = np.random.default_rng(1).standard_normal((2, len(event.label)))
    slope = (rule.loss(u + 1e-6 * direction, event) - rule.loss(u - 1e-6 * direction, event)) / 2e-6
    close_slope(-slope, rule.gamma(u, event), direction, 1e-6)


def test_a_choice_among_two_by_hand():
    """u = (log 3, 0): pi = (3/4, 1/4), so gamma = (1/4, -1/4) and the loss -log 3/4."""
    rule = rules.get("cpc", steps=1, negatives=1)
    from plasticity.events import Events

    event = Events(1, np.zeros(2, int), np.array([2, 3]), np.array([1.0, -1.0]), np.ones(2))
    u = np.array([np.log(3), 0.0])
    np.testing.assert_allclose(rule.gamma(u, event), [0.25, -0.25], rtol=1e-9)
    assert rule.loss(u, event) == pytest.approx(-np.log(0.75))


def test_table_3_splits_and_any_other():
    net = networks.get("vgg6")
    sizes = lambda split: [len(m) for m in net.modules(split)]  # noqa: E731
    assert sizes("1") == [6] and sizes("2") == [3, 3] and sizes("3") == [2, 2, 2]
    assert sizes("4-lower") == [3, 1, 1, 1] and sizes("4-upper") == [1, 1, 1, 3]
    assert sizes("6") == sizes("layers") == [1] * 6 and sizes("2+4") == [2, 4]
    assert net.modules("1+2+3") == [[0], [1, 2], [3, 4, 5]]
    for wrong in ("5", "3+2", "0+6", "upper"):
        with pytest.raises(UserError, match="does not split the 6 layers"):
            net.modules(wrong)


@pytest.mark.parametrize("name", ["cpc", "gim"])
@pytest.mark.parametrize("variant", [{"gate": "off"}, {"gate": "shared"}, {"dendrites": False}])
def test_what_infonce_has_not_is_said(name, variant):
    with pytest.raises(UserError, match=f"{name} has no surprise gate"):
        rules.get(name, **variant)


def test_every_rule_has_a_file_of_its_own():
    folder = Path(__file__).parents[2] / "rules"
    for module, _ in rules.RULES.values():
        assert (folder / f"{module}.py").is_file()
