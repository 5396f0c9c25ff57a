"""Every variant of CLAPP against torch's autograd: each parameter of each layer."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plasticity import kernels, learning, rules
from plasticity.events import Layout
from plasticity.network import Conv, Network
from plasticity.verification.autograd import negative_gradients
from tests.small import NETWORK, case

VARIANTS = {
    "own gates": {},
    "shared gate": {"gate": "shared"},
    "no gate": {"gate": "off"},
    "symmetric": {"symmetric": True},
    "symmetric, no gate": {"symmetric": True, "gate": "off"},
    "block_grad": {"block_grad": True},
    "block_grad, symmetric": {"block_grad": True, "symmetric": True},
    "no dendrites": {"dendrites": False},
    "no dendrites, symmetric": {"dendrites": False, "symmetric": True},
    "frozen predictions": {"learn_prediction": False},
    "three negatives": {"negatives": 3},
    "negatives of the batch": {"negatives": 4, "negatives_from": "batch"},
}
REFERENCE = ("symmetric", "gate", "block_grad", "dendrites", "learn_prediction")


def compare(c, options, limit):
    """The largest error of any parameter, relative to the largest entry of its dW."""
    _, wanted = negative_gradients(
        c.network,
        c.modules,
        c.weights,
        c.patches,
        c.layout,
        c.draws,
        **{name: value for name, value in options.items() if name in REFERENCE},
    )
    dtype = limit[0]
    cast = {la: {n: w.astype(dtype) for n, w in own.items()} for la, own in c.weights.items()}
    draws = [d.on("cpu", np.dtype(dtype)) for d in c.draws]
    found = c.updates(weights=cast, patches=c.patches.astype(dtype), draws=draws)
    for update, module in zip(found, c.modules, strict=True):
        for i in module:
            layer = c.network.layers[i].name
            assert set(update.changes[layer]) == set(wanted[layer])
            for name, dW in wanted[layer].items():
                scale = max(np.abs(dW).max(), 1e-300)
                error = np.abs(update.changes[layer][name] - dW).max() / scale
                assert error < limit[1], f"{layer}.{name}: {error:.2e}"
    return found


@pytest.mark.parametrize("name", ["clapp", "clapp_s"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_dW_is_minus_the_gradient(name, variant):
    options = VARIANTS[variant]
    c = case(rules.get(name, steps=2, **options))
    found = compare(c, options, (np.float64, 1e-10))
    if options.get("gate") != "off":  # a check on gates that are all open or closed proves less
        assert all(0.05 < u.open_gates < 0.95 for u in found)


@pytest.mark.parametrize("name", ["clapp", "clapp_s"])
@pytest.mark.parametrize("variant", ["own gates", "symmetric", "block_grad"])
def test_dW_in_float32_is_minus_the_gradient_to_four_digits(name, variant):
    options = VARIANTS[variant]
    compare(case(rules.get(name, steps=2, **options)), options, (np.float32, 1e-4))


@pytest.mark.parametrize("variant", ["own gates", "symmetric"])
def test_dW_is_minus_the_gradient_with_ties_in_the_pools(variant):
    options = VARIANTS[variant]
    c = case(rules.get("clapp_s", steps=2, **options), ties=True, network=POOLED_FIRST)
    layer = c.network.layers[0]
    own = c.weights["conv1"]
    a = kernels.convolve(c.patches, own["weight"], own["bias"], layer.geometry)
    windows = a.reshape(len(a), 4, 2, 4, 2, layer.outputs).transpose(0, 1, 3, 5, 2, 4)
    windows = windows.reshape(-1, 4)
    top = windows.max(axis=1, keepdims=True)
    assert (((windows == top).sum(axis=1) > 1) & (top[:, 0] > 0)).mean() > 0.05
    compare(c, options, (np.float64, 1e-10))


POOLED_FIRST = Network("pooled first", (Conv("conv1", 1, 5, pool=2), Conv("conv2", 5, 6, pool=2)))


@pytest.mark.parametrize("modules", [[[0], [1, 2]], [[0, 1], [2]], [[0, 1, 2]]])
def test_modules_of_several_layers_carry_the_error_down(modules):
    options = {"symmetric": True}
    c = case(rules.get("clapp_s", steps=2, **options), modules=modules)
    compare(c, options, (np.float64, 1e-10))


def test_one_dimension_and_three_are_no_different():
    """A layer over sound, and one over film: the same rule, the same comparison."""
    for layers, space in (
        ((Conv("conv1", 1, 4, (5,), 2, 2), Conv("conv2", 4, 6, (3,), 1, 1, 2)), (16,)),
        ((Conv("conv1", 1, 4, (3, 3, 3), 1, 1), Conv("conv2", 4, 5, (2, 3, 3), 1, 1)), (3, 4, 4)),
    ):
        net = Network("other", layers)
        c = case(rules.get("clapp_s", steps=2), network=net)
        c.patches = np.random.default_rng(0).standard_normal((c.layout.rows, *space, 1))
        compare(c, {}, (np.float64, 1e-10))


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    time=st.integers(4, 6),
    images=st.integers(2, 4),
    columns=st.integers(1, 3),
    neurons=st.lists(st.integers(1, 6), min_size=2, max_size=2),
    pools=st.lists(st.sampled_from([1, 2]), min_size=2, max_size=2),
    negatives=st.integers(1, 3),
    rule=st.sampled_from(["clapp", "clapp_s"]),
    symmetric=st.booleans(),
)
def test_any_shape(seed, time, images, columns, neurons, pools, negatives, rule, symmetric):
    layers, inputs = [], 1
    for i, (outputs, pool) in enumerate(zip(neurons, pools, strict=True), 1):
        layers.append(Conv(f"conv{i}", inputs, outputs, pool=pool))
        inputs = outputs
    options = {"symmetric": symmetric, "negatives": negatives}
    c = case(
        rules.get(rule, steps=2, **options),
        network=Network("any", tuple(layers)),
        layout=Layout(time, images, columns),
        seed=seed,
    )
    compare(c, options, (np.float64, 1e-9))


def test_200_steps_of_learning_follow_torch():
    """The same weights, images, draws and optimiser: the loss curves stay together."""
    import torch

    rule, net = rules.get("clapp", steps=2), NETWORK
    layout, modules = Layout(4, 4, 2), [[0], [1], [2]]
    weights = learning.prepare(net, rule, modules, seed=1)
    for own in weights.values():
        for w in own.values():
            w *= 1.5
    twin = {
        (layer, name): torch.tensor(w) for layer, own in weights.items() for name, w in own.items()
    }
    theirs = torch.optim.Adam(twin.values(), lr=2e-3)
    ours = learning.Optimiser.start(learning.Pace(2e-3), weights)
    images = np.random.default_rng(0).standard_normal((64, 8, 2, 8, 8, 1))
    curves = ([], [])
    for step in range(200):
        pick = np.random.default_rng(step).permutation(64)[:4]
        patches = images[pick, :4].transpose(1, 0, 2, 3, 4, 5).reshape(-1, 8, 8, 1)
        draws = learning.draws(rule, layout, modules, 0, step)
        params = {la: {n: twin[la, n].numpy() for n in own} for la, own in weights.items()}
        losses, gradients = negative_gradients(net, modules, params, patches, layout, draws)
        for (layer, name), w in twin.items():
            w.grad = -torch.as_tensor(gradients[layer][name])
        theirs.step()
        updates = list(learning.updates(net, rule, modules, weights, patches, layout, draws))
        for update in updates:
            ours.ascend(weights, update.changes, step + 1)
        curves[0].append([2 * u.loss for u in updates])  # torch's has no factor 1/2
        curves[1].append(losses)
    mine, reference = (np.array(curve) for curve in curves)
    assert reference[-20:].mean() < 0.97 * reference[:20].mean()  # something was learned
    assert np.abs(mine[-1] / reference[-1] - 1).max() < 1e-6
