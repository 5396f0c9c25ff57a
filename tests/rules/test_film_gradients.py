"""On film every rule that descends a loss is minus torch's gradient of it, gain and shift too."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from plasticity import learning, rules
from plasticity.events import Layout
from plasticity.learning import Reading
from plasticity.network import Network, Norm, NormConv, Pool
from plasticity.verification.autograd import negative_gradients
from plasticity.verification.gradient import in_words_of_the_reference

ORDERS = ("conv relu norm pool", "conv norm relu pool")
STATISTICS = ("batch", "running")
T, B = 9, 2
FILM = Reading(time="map")
MAPS = {"steps": 2, "reads": "map"}
OTHERS = MAPS | {"negatives_from": "others"}
CASES = {
    "clapp": ("clapp", OTHERS),
    "clapp, symmetric": ("clapp", OTHERS | {"symmetric": True}),
    "clapp, one shared gate": ("clapp", OTHERS | {"gate": "shared"}),
    "clapp, target role alone": ("clapp", OTHERS | {"block_grad": True}),
    "clapp_s": ("clapp_s", OTHERS),
    "clapp_s, symmetric": ("clapp_s", OTHERS | {"symmetric": True}),
    "clapp_s, without gates": ("clapp_s", OTHERS | {"gate": "off"}),
    "clapp_s, without dendrites": ("clapp_s", OTHERS | {"dendrites": False}),
    "clapp_s, negatives of the same place": ("clapp_s", MAPS),
    "clapp_s, negatives of the batch": ("clapp_s", MAPS | {"negatives_from": "batch"}),
    "clapp_s, means of maps": ("clapp_s", OTHERS | {"reads": "encoding"}),
    "hinge_cpc": ("hinge_cpc", OTHERS | {"symmetric": True}),
    "hinge_cpc, W_retro": ("hinge_cpc", OTHERS),
    "gim": ("gim", OTHERS | {"epsilon": 0.0}),
    "gim, W_retro": ("gim", OTHERS | {"symmetric": False}),
    "cpc": ("cpc", OTHERS),
    "cpc, drawn negatives": ("cpc", MAPS | {"negatives": 3}),
    "supervised": ("supervised", {"classes": 3}),
}


def network(order, statistics):
    """Three blocks, one of which lets frames fall out; pools overlap."""
    how = {"norm": Norm(statistics=statistics), "order": order}
    pool = Pool((1, 3, 3), (1, 2, 2))
    return Network(
        "film",
        (
            NormConv("a", 2, 5, (1, 3, 3), (1, 2, 2), 0, pool, **how),
            NormConv("b", 5, 4, (1, 3, 3), 1, (0, 1, 1), **how),
            NormConv("c", 4, 3, (2, 2, 2), (2, 1, 1), (0, 1, 1), pool, **how),
        ),
    )


@pytest.mark.parametrize(("order", "statistics"), list(product(ORDERS, STATISTICS)))
@pytest.mark.parametrize("name", CASES)
def test_every_dW_is_minus_the_gradient(name, order, statistics):
    kind, options = CASES[name]
    rule, net, rng = (
        rules.get(kind, **options),
        network(order, statistics),
        np.random.default_rng(1),
    )
    modules = net.modules({"gim": "2+1"}.get(kind, rule.modules if kind != "gim" else "layers"))
    weights = learning.prepare(net, rule, modules, seed=0)
    for unit, own in weights.items():  # gains of both signs, statistics off the start
        own["gain"] = rng.normal(0.3, 1, own["gain"].shape)
        own["shift"] = rng.normal(0, 0.5, own["shift"].shape)
        own["running_mean"] = rng.normal(0, 0.3, own["shift"].shape)
        own["running_var"] = rng.uniform(0.2, 1.5, own["shift"].shape)
        for W in own.keys() & {"W_pred", "W_retro"}:
            own[W] *= 4  # so that gates are open and closed
        assert own["gain"].min() < 0 or unit != "a"
    x = rng.standard_normal((B, T, 15, 14, 2))
    base = Layout(1, B, 1, skip=0)
    losses = learning.losses_of(rule, modules, net)
    of = [FILM.layout(base, shape[:-1]) for shape in net.shapes(x.shape[1:-1])]
    layouts = [of[loss.ends(modules)[0]] for loss in losses]
    draws = learning.draws(rule, layouts, modules, 0, 0, losses=losses)
    if kind == "supervised":
        draws = [replace(draw, labels=np.array([2, 0])) for draw in draws]
    how = {"losses": losses, "reading": FILM}
    updates = list(learning.updates(net, rule, modules, weights, x, base, draws, **how))
    words, its = in_words_of_the_reference(rule, draws)
    values, wanted = negative_gradients(net, modules, weights, x, base, its, **words, **how)
    for update, value in zip(updates, values, strict=True):
        (report,) = update.reports.values()
        halves = 1 if kind == "supervised" or rule.symmetric or rule.block_grad else 2
        halves = 1 if kind != "supervised" and rule.gate == "shared" else halves
        assert float(report.loss) * halves == pytest.approx(value, rel=1e-9)
        assert float(update.open_gates) > 0
    found = {unit: dW for update in updates for unit, dW in update.changes.items()}
    for unit, changes in found.items():
        # Where all gates of a context are open its true future and the others balance, and a shift
        # is not moved at all: what is left is rounding of the sum.
        size = max(np.abs(dW).max() for dW in wanted[unit].values())
        assert size > 1e-6
        assert changes.keys() == wanted[unit].keys() and {"gain", "shift"} < changes.keys()
        for parameter, dW in changes.items():
            there = wanted[unit][parameter]
            limit = 1e-9 * max(np.abs(there).max(), 1e-3 * size)
            np.testing.assert_allclose(dW, there, rtol=0, atol=limit, err_msg=f"{unit} {parameter}")
