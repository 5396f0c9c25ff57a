"""Weights for other programs."""

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from plasticity import export, learning, networks, rules
from plasticity.errors import UserError


@pytest.fixture
def case():
    net, rule = networks.get("vgg6", width=0.03), rules.get("clapp", steps=2)
    return net, learning.prepare(net, rule, learning.layerwise(net), 0)


def test_the_weights_load_into_a_torch_vgg_and_compute_the_same(case, tmp_path):
    net, weights = case
    path = tmp_path / "w.safetensors"
    export.write(path, export.named(net, weights), {"rule": "clapp"})
    modules = []
    for layer in net.layers:
        modules += [torch.nn.Conv2d(layer.inputs, layer.outputs, 3, padding=1), torch.nn.ReLU()]
        modules += [torch.nn.MaxPool2d(2)] if layer.pool == 2 else []
    vgg = torch.nn.ModuleDict({"features": torch.nn.Sequential(*modules)}).double()
    stored = {n: torch.tensor(w) for n, w in load_file(path).items() if n.startswith("features")}
    vgg.load_state_dict(stored, strict=True)
    patches = np.random.default_rng(0).standard_normal((5, 16, 16, 1))
    with torch.no_grad():
        wanted = vgg["features"](torch.tensor(patches.transpose(0, 3, 1, 2))).mean((2, 3)).numpy()
    *_, z = net.encodings(patches, weights)
    np.testing.assert_allclose(z, wanted, rtol=1e-10, atol=1e-12)


def test_npz_holds_the_rules_matrices_too(case, tmp_path):
    net, weights = case
    export.write(tmp_path / "w.npz", export.named(net, weights), {})
    with np.load(tmp_path / "w.npz") as stored:
        np.testing.assert_array_equal(
            stored["prediction.conv6.W_retro"], weights["conv6"]["W_retro"]
        )
        assert len(stored.files) == 6 * 4


def test_another_suffix_is_refused(case, tmp_path):
    with pytest.raises(UserError, match=r"expected a name in \.npz or \.safetensors"):
        export.write(tmp_path / "w.pt", {}, {})
