"""The two peers in torch compute the same thing, or a comparison with them would mean little."""

from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch

from plasticity.runs import run
from plasticity.runs.options import RunOptions

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
WIDTH = 0.05


@pytest.fixture
def peers(monkeypatch):
    """The modules of both peers, which import each other as scripts of a folder do."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    return import_module("torch_published"), import_module("torch_best")


@pytest.fixture
def images():
    return np.random.default_rng(0).standard_normal((4, 64, 64)).astype(np.float32)


def alike(peers, rule, gain=3.0):
    """A peer of each kind with the same weights, scaled up until gates are a mix."""
    torch.manual_seed(0)
    published, best = (module.Peer(rule, WIDTH) for module in peers)
    with torch.no_grad():
        for a, b in zip(published.modules, best.modules, strict=True):
            for w in a.parameters():
                w *= gain
            conv = a.model[0]
            b.weight.copy_(conv.weight)
            b.bias.copy_(conv.bias)
            b.W_pred.copy_(torch.stack([w.weight[:, :, 0, 0] for w in a.pred]))
            b.W_retro.copy_(torch.stack([w.weight[:, :, 0, 0] for w in a.retro]))
    return published, best


def gradients(module):
    """Those of a published module, under the names of the other."""
    conv = module.model[0]
    return {
        "weight": conv.weight.grad,
        "bias": conv.bias.grad,
        "W_pred": torch.stack([w.weight.grad[:, :, 0, 0] for w in module.pred]),
        "W_retro": torch.stack([w.weight.grad[:, :, 0, 0] for w in module.retro]),
    }


@pytest.mark.parametrize("rule", ["clapp", "clapp_s"])
def test_both_peers_have_the_same_losses_and_gradients(peers, images, rule):
    published, best = alike(peers, rule)
    draws = peers[0].draw(len(images), published.coin, len(published.modules))
    losses = published.backward(images, draws)
    found = [loss for _, loss in best.backward(images, draws)]
    np.testing.assert_allclose(found, losses, rtol=1e-5)
    for a, b in zip(published.modules, best.modules, strict=True):
        for name, wanted in gradients(a).items():
            assert wanted.abs().max() > 0, name
            error = (getattr(b, name).grad - wanted).abs().max() / wanted.abs().max()
            assert error < 1e-4, name


@pytest.mark.parametrize("side", [1, 2, 3, 4, 5])
def test_every_way_to_convolve_is_the_convolution(peers, side):
    torch.manual_seed(0)
    x, weight, bias = torch.randn(3, 4, side, side), torch.randn(5, 4, 3, 3), torch.randn(5)
    parts = [a.requires_grad_() for a in (x, weight, bias)]
    wanted = torch.nn.functional.conv2d(*parts, padding=1)
    found = peers[1].convolve(*parts)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    slope = torch.randn_like(wanted)
    for a, b in zip(
        torch.autograd.grad(found, parts, slope),
        torch.autograd.grad(wanted, parts, slope),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_an_image_that_draws_no_sign_is_left_out(peers, images):
    """All fixations: the loss has no second term, in both."""
    published, best = alike(peers, "clapp")
    everyone = torch.ones(len(images), dtype=torch.bool)
    draws = [
        tuple(half._replace(fixation=everyone, saccade=~everyone) for half in halves)
        for halves in peers[0].draw(len(images), True, len(published.modules))
    ]
    found = [loss for _, loss in best.backward(images, draws)]
    np.testing.assert_allclose(found, published.backward(images, draws), rtol=1e-5)


@pytest.mark.parametrize("dtype, limit", [(torch.float32, 1e-5), (torch.bfloat16, 0.05)])
def test_both_peers_encode_alike(peers, images, dtype, limit):
    published, best = alike(peers, "clapp")
    best.dtype = dtype
    for a, b in zip(published.encode(images), best.encode(images), strict=True):
        assert a.shape == b.shape
        assert (b.float() - a).abs().max() / a.abs().max() < limit


@pytest.mark.parametrize("dtype, limit", [(torch.float32, 1e-3), (torch.bfloat16, 0.05)])
def test_both_peers_learn_alike(peers, images, dtype, limit):
    """Three steps with the same draws: the losses fall together."""
    published, best = alike(peers, "clapp_s")
    best.dtype = dtype
    curves = []
    for peer in (published, best):
        torch.manual_seed(1)
        curves.append([peer.step(images) for _ in range(3)])
    np.testing.assert_allclose(*curves[::-1], rtol=limit)
    assert np.sum(curves[0][-1]) < np.sum(curves[0][0])


def test_negatives_are_other_images(peers):
    draws = peers[0].draw(5, True, 3)
    for half in (half for halves in draws for half in halves):
        assert (half.others != torch.arange(5)).all()
        assert (half.others.sort().values == torch.arange(5)).all()
        assert (half.fixation ^ half.saccade).all()


def test_the_peer_of_sound_learns_as_the_rule_does(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    torch_sound = import_module("torch_sound")
    how = {"rule": "clapp_s", "net": "audio", "weights": "symmetric", "credit": "bptt"}
    how |= {"width": WIDTH, "batch": 2, "samples": 2560, "dtype": "float64", "device": "cpu"}
    state = run.begin(RunOptions(**how))
    batch, updates = state.next()
    torch.set_default_dtype(torch.float64)
    try:
        peer = torch_sound.Peer(WIDTH)
    finally:
        torch.set_default_dtype(torch.float32)

    def theirs(layer, parameter):
        number = list(state.weights).index(layer)
        if parameter == "W_pred":
            return peer.W[number]
        conv = number < len(peer.convs)
        return getattr(*(peer.convs[number], parameter) if conv else (peer.gru, f"{parameter}_l0"))

    with torch.no_grad():
        for layer, own in state.weights.items():
            for parameter, w in own.items():
                theirs(layer, parameter).copy_(torch.from_numpy(w))
    peer.optimiser.step = lambda: None
    x = state.stimulus.inputs(batch, np.dtype(float))
    loss = peer.step(*peer.given(x, torch_sound.events(batch.draws, state.layouts)))
    ours = 0.0
    for update in updates:
        ours += sum(float(report.loss) for report in update.reports.values())
        for layer, own in update.changes.items():
            for parameter, dW in own.items():
                found, size = -theirs(layer, parameter).grad.numpy(), np.abs(dW).max()
                assert size > 0
                np.testing.assert_allclose(found, dW, rtol=0, atol=1e-10 * size)
    assert float(loss) == pytest.approx(ours, rel=1e-10)
