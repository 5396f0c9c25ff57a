"""What every kind of layer owes to the rest: shapes, dW, and a true account of it.

A new kind of layer belongs into `LAYERS`; what it lacks is said here.
"""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from plasticity.errors import UserError
from plasticity.kernels import Pool
from plasticity.layers import Block, Conv, Gru, Norm, NormConv

LAYERS = {
    "sound": (Conv("c", 3, 4, (5,), 2, 2), (13,)),
    "sound, pool": (Conv("c", 3, 4, (5,), 2, 2, pool=2), (14,)),
    "sound, overlapping pool": (Conv("c", 3, 4, (5,), 1, 2, pool=Pool(3, 2)), (12,)),
    "image": (Conv("c", 3, 4), (6, 7)),
    "image, pool": (Conv("c", 3, 4, pool=2), (6, 7)),
    "image, overlapping pool": (Conv("c", 3, 4, pool=Pool(3, 2)), (7, 7)),
    "image, linear": (Conv("c", 3, 4, (1, 1), 2, 0, linear=True), (6, 7)),
    "film": (Conv("c", 3, 4, (2, 3, 3), (1, 2, 1), (0, 1, 1), (1, 2, 2)), (4, 8, 6)),
    **{
        f"film, {order}, {statistics}": (
            NormConv(
                "c",
                3,
                4,
                (2, 3, 3),
                (2, 2, 1),
                (0, 1, 1),
                Pool((1, 3, 3), (1, 2, 2)),
                norm=Norm(statistics=statistics),
                order=order,
            ),
            (4, 12, 7),
        )
        for order in ("conv relu norm pool", "conv norm relu pool")
        for statistics in ("batch", "running")
    },
    "image, norm without a pool": (NormConv("c", 3, 4, norm=Norm(eps=1e-3)), (6, 7)),
    "GRU, e-prop": (Gru("g", 3, 4), (7,)),
    "GRU, BPTT": (Gru("g", 3, 4, "bptt"), (7,)),
    "GRU, no credit in time": (Gru("g", 3, 4, "none"), (7,)),
    "block": (Block("b", (Conv("b.1", 3, 5), Conv("b.2", 5, 3, linear=True))), (5, 4)),
    "block, shortcut": (
        Block(
            "b",
            (Conv("b.1", 3, 5, stride=2), Conv("b.2", 5, 4, linear=True)),
            Conv("b.s", 3, 4, (1, 1), 2, 0, linear=True),
        ),
        (6, 5),
    ),
}
M = 3


@pytest.fixture(params=LAYERS)
def case(request):
    """A layer after its forward pass and its learning, driven at every position."""
    layer, space = LAYERS[request.param]
    rng = np.random.default_rng(0)
    weights = {unit.name: unit.prepare(rng) for unit in layer.convolutions}
    for own in weights.values():  # gains of both signs, and running values that are not the start
        for name in own.keys() & {"gain", "shift", "running_mean", "running_var"}:
            own[name] = own[name] + rng.normal(0, 0.9, own[name].shape)
        if "running_var" in own:
            own["gain"][0], own["running_var"] = -1.5, np.abs(own["running_var"])
    x = rng.standard_normal((M, *space, layer.inputs))
    y, kept, mean = layer.forward(x, weights)
    error = rng.standard_normal(y.shape)
    seen, below = layer.learn(kept, error.copy(), weights, True)
    return layer, weights, x, y, kept, mean, error, seen, below


def test_shapes_are_those_it_says(case):
    layer, weights, x, y, _, mean, _, seen, below = case
    assert y.shape == (M, *layer.space(x.shape[1:-1]), layer.outputs)
    assert below.shape == x.shape
    assert mean is None or mean.shape == (M, layer.outputs)
    assert [one.layer for one in seen] == list(layer.convolutions)
    assert layer.convolutions[-1].outputs == layer.outputs
    assert set(layer.read) <= set(layer.convolutions)
    for one in seen:
        own = weights[one.layer.name]
        assert not one.changes.keys() & one.state.keys()
        idle = () if getattr(one.layer, "biased", True) else ("bias",)
        assert {n: a.shape for n, a in (one.changes | one.state).items()} == {
            n: w.shape for n, w in own.items() if n not in idle
        }


def test_a_forward_pass_changes_no_weight(case):
    layer, weights, x, *_ = case
    before = {unit: {n: w.copy() for n, w in own.items()} for unit, own in weights.items()}
    for learning in (True, False):
        layer.forward(x, weights, learning)
    for unit, own in before.items():
        for name, w in own.items():
            np.testing.assert_array_equal(weights[unit][name], w)


def test_without_learning_it_keeps_nothing_and_gives_the_same(case):
    layer, weights, x, y, _, mean, *_ = case
    if "running_mean" in weights[layer.name if len(layer.convolutions) == 1 else "b.1"]:
        kept = layer.forward(x, weights, True)[1]
        weights[layer.name] |= dict(zip(("running_mean", "running_var"), kept[2:4], strict=True))
    plain, kept, same = layer.forward(x, weights, False)
    assert kept is None
    np.testing.assert_array_equal(plain, y)
    assert mean is None or np.array_equal(mean, same)


def test_its_torch_equivalent_has_the_same_output_and_gradients(case):
    layer, weights, x, y, _, _, error, seen, below = case
    params = {
        unit: {n: torch.tensor(w, requires_grad=True) for n, w in own.items()}
        for unit, own in weights.items()
    }
    tensor = torch.tensor(np.moveaxis(x, -1, 1).copy(), requires_grad=True)
    found = layer.in_torch(F, tensor, params)
    np.testing.assert_allclose(np.moveaxis(found.detach().numpy(), 1, -1), y, atol=1e-12)
    (found * torch.tensor(np.moveaxis(error, -1, 1).copy())).sum().backward()
    np.testing.assert_allclose(np.moveaxis(tensor.grad.numpy(), 1, -1), below, atol=1e-11)
    for one in seen:
        for name, dW in one.changes.items():
            wanted = params[one.layer.name][name].grad.numpy()
            np.testing.assert_allclose(dW, wanted, atol=1e-11 * max(1, np.abs(wanted).max()))


def test_its_factors_multiply_to_dW_at_every_synapse_that_is_asked_for(case):
    """post (with the drive) times pre, summed over inputs and places."""
    *_, seen, _ = case
    rng = np.random.default_rng(1)
    for one in seen:
        for name, dW in one.changes.items():
            for flat in rng.choice(dW.size, min(6, dW.size), replace=False):
                at = tuple(int(i) for i in np.unravel_index(flat, dW.shape))
                j = one.neuron(at)
                driven = one.through(j, one.error[..., j : j + 1])
                pre = one.pre(name, at)
                assert driven.shape == pre.shape == (M, math.prod(one.space))
                assert (driven * pre).sum() == pytest.approx(dW[at], rel=1e-9, abs=1e-11)
                assert at in one.around(name, at)


def test_its_factors_multiply_to_dW_by_the_position_of_the_output_too(case):
    """Each position has a drive of its own, and a place in its pool that it goes to."""
    *_, seen, _ = case
    for one in seen:
        for name, dW in one.changes.items():
            at = tuple(n // 2 for n in dW.shape)
            j = one.neuron(at)
            drive = one.error[..., j].reshape(M, -1, 1)
            parts = drive * one.wins(j) * one.windows(one.pre(name, at))
            assert parts.shape[:2] == (M, one.positions)
            assert parts.sum() == pytest.approx(dW[at], rel=1e-9, abs=1e-11)


def test_chosen_synapses_have_in_common_what_their_factors_say(case):
    *_, seen, _ = case
    for one in seen:
        shape = one.changes[one.layer.main].shape
        at = np.array([np.unravel_index(i, shape) for i in (0, math.prod(shape) // 2)])
        for drive in (None, np.asarray(one.error)):
            found = one.coactivity(at, drive)
            for s, index in enumerate(at):
                j = one.neuron(tuple(map(int, index)))
                signal = np.ones((M, 1)) if drive is None else drive[..., j : j + 1]
                wanted = one.through(j, signal) * one.pre(one.layer.main, tuple(map(int, index)))
                np.testing.assert_allclose(found[:, s], wanted.sum(axis=1), atol=1e-10)


def test_the_parts_of_inputs_along_dW_add_up_to_its_square(case):
    *_, seen, _ = case
    for one in seen:
        dW = one.changes[one.layer.main]
        assert one.along(dW).sum() == pytest.approx((dW**2).sum(), rel=1e-9)


def test_who_won_is_told_alike_by_all_that_tell_it(case):
    _, weights, *_, seen, _ = case
    for one in seen:
        outputs = one.layer.outputs
        places = math.prod(one.space)
        told = [one.inhibition(j, weights[one.layer.name]) for j in range(outputs)]
        if told[0]["won"] is None:  # nobody is inhibited
            assert one.winners == 1 and (one.activity() == 1).all() and not one.silenced()
            continue
        if not getattr(one.layer, "relu_first", False):  # there the least active one may win
            assert all((of["active"] | ~of["won"]).all() for of in told)
        if not one.layer.geometry.overlaps:
            reached = [of["won"] & of["active"] for of in told]
            share = np.mean([of.sum() / (M * places) for of in reached])
            assert one.winners == pytest.approx(
                share * places / one.positions / one.layer.geometry.competitors
            )
            won = np.stack([of.sum(axis=1) for of in reached], axis=1)
            np.testing.assert_allclose(one.activity() * one.positions, won)
        assert min(one.silenced().values()) >= 0 and max(one.silenced().values()) <= 1


def test_what_a_step_must_not_change_is_named_for_each_kind_of_kink(case):
    layer, weights, x, _, kept, *_ = case
    same = layer.branches(layer.forward(x * (1 + 1e-12), weights)[1])
    for a, b in zip(layer.branches(kept), same, strict=True):
        np.testing.assert_array_equal(a, b)


def test_it_says_how_torch_names_it(case):
    layer, *_ = case
    assert bool(layer.torch_modules) != bool(layer.formula)


def test_on_the_host_it_is_the_same(case):
    *_, seen, _ = case
    for one in seen:
        there = one.on_host()
        for name, dW in one.changes.items():
            np.testing.assert_array_equal(there.changes[name], dW)


def test_a_post_factor_that_the_rule_names_takes_the_place_of_its_own(case):
    """dW is then that of the layer without ReLU and pool, driven by the error times the factor."""
    layer, weights, x, _, kept, _, error, *_ = case
    if isinstance(layer, NormConv):  # it has none to offer, and says so
        with pytest.raises(UserError, match="c normalises there"):
            layer.unpooled(potential=True)
        with pytest.raises(UserError, match="c normalises there"):
            layer.learn(kept, error, weights, True, error)
        return
    before = layer.unpooled(potential=True)
    if layer.recurrent:
        assert before is layer
        return
    rng = np.random.default_rng(2)
    space = layer.unpooled().space(x.shape[1:-1])
    error, post = rng.standard_normal((2, M, *space, layer.outputs))
    seen, below = layer.learn(kept, error, weights, True, post)
    seen_plain, wanted = before.learn(before.forward(x, weights)[1], error * post, weights, True)
    np.testing.assert_allclose(below, wanted, atol=1e-11)
    for one, plain in zip(seen, seen_plain, strict=True):
        for name, dW in one.changes.items():
            np.testing.assert_allclose(dW, plain.changes[name], atol=1e-11)
            at = tuple(n // 2 for n in dW.shape)
            j = one.neuron(at)
            driven = one.through(j, one.error[..., j : j + 1])
            assert (driven * one.pre(name, at)).sum() == pytest.approx(dW[at], abs=1e-10)
        dW = one.changes[one.layer.main]
        assert one.along(dW).sum() == pytest.approx((dW**2).sum(), rel=1e-9)
