"""Weights for other programs."""

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from plasticity.cli import main
from safetensors import safe_open
from safetensors.numpy import load_file

from plasticity import learning, networks, rules
from plasticity.errors import UserError
from plasticity.runs import export, run
from plasticity.runs.options import RunOptions


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
    export.write(
        tmp_path / "w.npz", export.named(net, weights), export.describe(net, rules.get("clapp"))
    )
    with np.load(tmp_path / "w.npz") as stored:
        np.testing.assert_array_equal(
            stored["prediction.conv6.W_retro"], weights["conv6"]["W_retro"]
        )
        assert len(stored.files) == 6 * 4 + 1
        told = json.loads(stored["metadata"].item())
    assert told["features"].startswith("0 Conv2d (conv1); 1 ReLU (conv1); 2 Conv2d (conv2)")
    assert "W_retro (prediction step, context neuron k" in told["axes"]


def test_safetensors_say_which_layer_is_which(case, tmp_path):
    net, weights = case
    path = tmp_path / "w.safetensors"
    export.write(path, export.named(net, weights), export.describe(net, rules.get("clapp")))
    with safe_open(path, "np") as stored:
        assert stored.metadata() == export.describe(net, rules.get("clapp"))
        assert "13 Conv2d (conv6)" in stored.metadata()["features"]
        assert stored.get_tensor("features.13.weight").shape[2:] == (3, 3)


def test_another_suffix_is_refused(case, tmp_path):
    with pytest.raises(UserError, match=r"expected a name in \.npz or \.safetensors"):
        export.write(tmp_path / "w.pt", {}, {})


@pytest.mark.parametrize(
    "how, written",
    [
        ([], {"weights.npz", "weights.safetensors"}),
        (["--format", "both"], {"weights.npz", "weights.safetensors"}),
        (["--format", "npz"], {"weights.npz"}),
        (["--format", "safetensors"], {"weights.safetensors"}),
    ],
)
def test_the_command_writes_the_formats_that_are_asked_for(tmp_path, how, written):
    run.save(run.begin(RunOptions(width=0.03, device="cpu")), tmp_path)
    done = CliRunner().invoke(main, ["export", str(tmp_path), *how])
    assert done.exit_code == 0, done.output
    assert {p.name for p in tmp_path.iterdir()} == {"checkpoint.h5", *written}


def test_the_command_writes_nothing_if_one_name_is_wrong(tmp_path):
    run.save(run.begin(RunOptions(width=0.03, device="cpu")), tmp_path)
    names = ["-o", str(tmp_path / "a.npz"), "-o", str(tmp_path / "a.pt")]
    done = CliRunner().invoke(main, ["export", str(tmp_path), *names])
    assert done.exit_code == 2 and "expected a name in .npz or .safetensors" in done.output
    done = CliRunner().invoke(main, ["export", str(tmp_path), *names[:2], "--format", "npz"])
    assert done.exit_code == 2 and "take --format or --output" in done.output
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.h5"]
