"""ResNet-50 without batch normalisation, the second encoder of table 4, and its residual blocks."""

import numpy as np
import pytest
import torch

from plasticity import kernels, learning, networks, rules
from plasticity.errors import UserError
from plasticity.network import Block, Conv, Network
from plasticity.runs import export
from plasticity.verification.autograd import negative_gradients
from tests.rounding import close, close_slope
from tests.rules.test_contrastive import grouped
from tests.small import case

SMALL = networks.get("resnet50", width=0.03)


class Bottleneck(torch.nn.Module):
    """The block as torch's users write it: every convolution sees a ReLU, nothing after the sum."""

    def __init__(self, inputs: int, inside: int, stride: int) -> None:
        super().__init__()
        self.conv1 = torch.nn.Conv2d(inputs, inside, 1)
        self.conv2 = torch.nn.Conv2d(inside, inside, 3, stride, 1)
        self.conv3 = torch.nn.Conv2d(inside, 4 * inside, 1)
        if stride > 1 or inputs != 4 * inside:
            self.shortcut = torch.nn.Conv2d(inputs, 4 * inside, 1, stride)

    def forward(self, x):
        active = x.relu()
        y = self.conv3(self.conv2(self.conv1(active).relu()).relu())
        return y + (self.shortcut(active) if hasattr(self, "shortcut") else x)


def in_torch(width: float) -> torch.nn.Module:
    """The whole network: 5x5 convolution, 3, 4 and 6 blocks."""
    found = torch.nn.Sequential()
    inputs = round(64 * width)
    found.add_module("conv1", torch.nn.Conv2d(1, inputs, 5, padding=2))
    for stage, (blocks, neurons) in enumerate([(3, 64), (4, 128), (6, 256)], 1):
        inside, made = round(neurons * width), []
        for i in range(blocks):
            made.append(Bottleneck(inputs, inside, 2 if i == 0 and stage > 1 else 1))
            inputs = 4 * inside
        found.add_module(f"layer{stage}", torch.nn.Sequential(*made))
    return found.double()


def test_full_width_is_the_published_network():
    net = networks.get("resnet50")
    assert [len(m) for m in net.modules("3")] == [4, 4, 6]
    shapes = net.shapes((16, 16))
    assert shapes[0] == (16, 16, 64)
    assert shapes[1:4] == [(16, 16, 256)] * 3
    assert shapes[4:8] == [(8, 8, 512)] * 4
    assert shapes[8:] == [(4, 4, 1024)] * 6
    assert [b.name for b in net.layers if isinstance(b, Block) and b.shortcut] == [
        "layer1.0", "layer2.0", "layer3.0",
    ]  # fmt: skip
    ours = sum(w.size for own in SMALL.prepare(0).values() for w in own.values())
    assert ours == sum(w.numel() for w in in_torch(0.03).parameters())


def test_exported_weights_compute_the_same_in_torch():
    weights = SMALL.prepare(seed=1)
    net = in_torch(0.03)
    net.load_state_dict({n: torch.tensor(w) for n, w in export.named(SMALL, weights).items()})
    patches = np.random.default_rng(0).standard_normal((5, 16, 16, 1))
    x = torch.tensor(patches.transpose(0, 3, 1, 2))
    with torch.no_grad():
        wanted = [x := net.conv1(x)]
        wanted += [
            x := block(x) for stage in (net.layer1, net.layer2, net.layer3) for block in stage
        ]
    for z, maps in zip(SMALL.encodings(patches, weights), wanted, strict=True):
        wanted_z = maps.mean((2, 3)).numpy()
        # Rounding travels through up to 43 convolutions: beside the layer's largest encoding.
        assert np.abs(z - wanted_z).max() <= 1e-10 * np.abs(wanted_z).max()


@pytest.mark.parametrize("split", ["1", "3", "13"])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("gim", {"negatives": 4}),
        ("cpc", {"negatives": 4, "symmetric": False}),
        ("hinge_cpc", {"synchronous": False}),
        ("clapp_s", {}),
    ],
)
def test_dW_is_minus_the_gradient_in_every_convolution(name, options, split):
    rule = rules.get(name, steps=2, **options)
    c = case(rule, network=SMALL, modules=SMALL.modules(split), gain=1.3)
    infonce = name in ("gim", "cpc")
    _, wanted = negative_gradients(
        c.network, c.modules, c.weights, c.patches, c.layout,
        grouped(c.draws, 4) if infonce else c.draws,
        loss="infonce" if infonce else "hinge", symmetric=rule.symmetric,
    )  # fmt: skip
    found = {}
    for update in c.updates():
        assert update.open_gates > 0.05
        found |= update.changes
    assert list(found) != [] and set(found) == set(wanted) == {k.name for k in SMALL.convolutions}
    for layer, own in wanted.items():
        assert set(found[layer]) == set(own)
        for parameter, dW in own.items():
            error = np.abs(found[layer][parameter] - dW).max() / np.abs(dW).max()
            assert error < 1e-10, f"{layer}.{parameter}: {error:.2e}"


def test_float32_agrees_with_float64():
    c = case(rules.get("gim", steps=2, negatives=4), network=SMALL, modules=SMALL.modules("3"))
    single = {la: {n: w.astype("f") for n, w in own.items()} for la, own in c.weights.items()}
    draws = [draw.on("cpu", np.dtype("f")) for draw in c.draws]
    found = c.updates(weights=single, patches=c.patches.astype("f"), draws=draws)
    for update, exact in zip(found, c.updates(), strict=True):
        for layer, own in exact.changes.items():
            for name, dW in own.items():
                assert update.changes[layer][name].dtype == np.float32
                error = np.abs(update.changes[layer][name] - dW).max() / np.abs(dW).max()
                assert error < 1e-3, f"{layer}.{name}: {error:.2e}"


BLOCKS = Network(
    "blocks",
    (
        Conv("conv1", 1, 4, (5, 5), padding=2, linear=True),
        Block("a", (Conv("a.1", 4, 3, (1, 1), padding=0), Conv("a.2", 3, 4, linear=True))),
        Block(
            "b",
            (Conv("b.1", 4, 3, stride=2), Conv("b.2", 3, 6, (1, 1), padding=0, linear=True)),
            Conv("b.shortcut", 4, 6, (1, 1), 2, 0, linear=True),
        ),
    ),
)


@pytest.mark.parametrize("modules", [[[0, 1, 2]], [[0], [1], [2]]])
def test_dW_is_the_slope_of_the_loss_through_a_block(modules):
    """Finite differences, without torch: with a skip that is x, and with a shortcut."""
    c = case(rules.get("gim", steps=2, negatives=3), network=BLOCKS, modules=modules)
    rng, found = np.random.default_rng(0), c.updates()
    assert [set(u.changes) for u in found] == [
        {conv.name for i in module for conv in BLOCKS.layers[i].convolutions} for module in modules
    ]
    for number, update in enumerate(found):
        for layer, own in update.changes.items():
            for name, dW in own.items():
                direction = rng.standard_normal(dW.shape)

                def loss(step, layer=layer, name=name, direction=direction, number=number):
                    weights = {la: dict(w) for la, w in c.weights.items()}
                    weights[layer][name] = weights[layer][name] + step * direction
                    return c.updates(weights=weights)[number].loss

                slope = (loss(1e-6) - loss(-1e-6)) / 2e-6
                close_slope(-slope, dW, direction)


def test_a_synapse_that_ends_a_block_learns_without_rho():
    """At the top of a module post is 1: dW = sum over patches of delta times the mean of pre."""
    c = case(rules.get("gim", steps=2, negatives=3), network=BLOCKS, modules=[[0], [1], [2]])
    seen = []
    list(
        learning.updates(
            c.network, c.rule, c.modules, c.weights, c.patches, c.layout, c.draws, seen.append
        )
    )
    top, drive = seen[2], seen[2].predicted[0].learning.drive
    for layer in top.layers:
        reads = layer.layer.name in ("b.2", "b.shortcut")
        assert layer.read == reads
        if reads:
            assert (layer.winner != kernels.SILENT).all()
            step = layer.layer.stride
            pre = layer.x[:, ::step, ::step].mean(axis=(1, 2))
            wanted = drive.T @ pre
            size = np.abs(drive).T @ np.abs(layer.x[:, ::step, ::step]).mean(axis=(1, 2))
            terms = 2 * layer.x[..., 0].size  # patches and positions, and as many products
            close(layer.changes["weight"][:, :, 0, 0], wanted, size, terms)
            close(layer.changes["bias"], drive.sum(axis=0), np.abs(drive).sum(axis=0), terms)


def test_a_path_and_a_skip_that_do_not_fit_are_named():
    narrow = Conv("odd.1", 4, 5, (1, 1), padding=0, linear=True)
    with pytest.raises(UserError, match=r"odd adds a path of shape \(8, 8, 5\) and a skip of"):
        Network("n", (Block("odd", (narrow,)),)).shapes((8, 8))
    halved = Conv("odd.1", 4, 4, stride=2, linear=True)
    with pytest.raises(UserError, match=r"odd adds a path of shape \(4, 4, 4\) and a skip of"):
        Network("n", (Block("odd", (halved,)),)).shapes((8, 8))


def test_splits_by_blocks_and_their_errors():
    net = networks.get("resnet50", width=0.03)
    assert [len(m) for m in net.modules("13")] == [2] + [1] * 12
    assert [len(m) for m in net.modules("1+3+4+6")] == [1, 3, 4, 6]
    with pytest.raises(UserError, match="does not split the 14 layers of resnet50"):
        net.modules("6")
    assert [len(m) for m in net.first(8).modules("4+4")] == [4, 4]
    with pytest.raises(UserError, match="resnet50 has 1 to 14 layers"):
        net.first(15)
    with pytest.raises(UserError, match="--width must be positive"):
        networks.get("resnet50", width=-1)
