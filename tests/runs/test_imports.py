"""Weights from elsewhere: what torch computes with a state dict, a run computes with its import."""

import argparse
import json
import pickle
from itertools import pairwise

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from plasticity.cli import main
from torch import nn

from plasticity import learning, runs
from plasticity.arrays import to_host
from plasticity.runs import lifecycle
from tests.golden import FIXTURES, LAYOUT, clapp_symmetric, load_gim, patches_of

LAYERS = ((1, 8, 1), (8, 16, 2), (16, 16, 1), (16, 32, 2), (32, 64, 2), (64, 64, 2))


def command(*words):
    done = CliRunner().invoke(main, ["import", *map(str, words)])
    return done.exit_code, " ".join(done.output.split())


def opened(folder):
    """The run as others open it, with its weights as NumPy has them."""
    state = lifecycle.reopen(folder, device="cpu")
    return state, {la: {n: to_host(w) for n, w in own.items()} for la, own in state.weights.items()}


class Module(nn.Module):
    """A module of the vision codes: layers, and a 1x1 convolution for each prediction step."""

    def __init__(self, layers, steps=5, halves=("loss",)):
        super().__init__()
        parts = []
        for inputs, outputs, pool in layers:
            parts += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
            parts += [nn.MaxPool2d(2, 2)] if pool == 2 else []
        self.model, D = nn.Sequential(*parts), layers[-1][1]
        for half in halves:
            own = nn.Module()
            own.W_k = nn.ModuleList(nn.Conv2d(D, D, 1, bias=False) for _ in range(steps))
            setattr(self, half, own)


class Vision(nn.Module):
    """The whole network, every module under two names."""

    def __init__(self, sizes=(1,) * 6, **how):
        super().__init__()
        starts = np.cumsum([0, *sizes])
        split = [LAYERS[a:b] for a, b in pairwise(starts)]
        self.encoder = nn.ModuleList(Module(part, **how) for part in split)
        self.model = nn.ModuleList([self.encoder])

    def encodings(self, patches):
        """Of every module, `(N, D)`."""
        found, x = [], torch.tensor(patches.transpose(0, 3, 1, 2))
        for module in self.encoder:
            x = module.model(x)
            found.append(x.mean((2, 3)).detach().numpy())
        return found


@pytest.fixture
def patches():
    return np.random.default_rng(0).standard_normal((5, 16, 16, 1))


@pytest.mark.parametrize(
    "sizes, modules", [((1,) * 6, "layers"), ((2, 2, 2), "2+2+2"), ((6,), "6")]
)
def test_the_published_vision_network_computes_as_in_torch(tmp_path, patches, sizes, modules):
    there = Vision(sizes).double()
    torch.save(there.state_dict(), tmp_path / "w.pt")
    code, said = command(tmp_path / "w.pt", "--net", "vgg6", "--out", tmp_path / "run")
    assert code == 0 and "the CLAPP vision code" in said, said
    state, weights = opened(tmp_path / "run")
    assert (state.options.modules, state.options.dtype) == (modules, "float64")
    found = list(state.network.encodings(patches, weights))
    tops = np.cumsum(sizes) - 1
    for top, wanted in zip(tops, there.encodings(patches), strict=True):
        np.testing.assert_allclose(found[top], wanted, rtol=1e-10, atol=1e-13)
    # u = c^T W_k z = z^T W_pred c
    W_k = there.encoder[-1].loss.W_k[2].weight.detach().numpy()[:, :, 0, 0]
    np.testing.assert_array_equal(weights["conv6"]["W_pred"][2], W_k.T)


def test_the_second_half_is_W_retro(tmp_path):
    there = Vision(halves=("loss", "loss_mirror"), steps=3)
    torch.save(there.state_dict(), tmp_path / "w.pt")
    assert command(tmp_path / "w.pt", "--out", tmp_path / "run")[0] == 0
    state, weights = opened(tmp_path / "run")
    assert (state.rule.symmetric, state.rule.steps) == (False, 3)
    mirror = there.encoder[1].loss_mirror.W_k[1].weight.detach().numpy()[:, :, 0, 0]
    np.testing.assert_array_equal(weights["conv2"]["W_retro"][1], mirror)  # (context, target)


def published(golden, depth, file):
    """A golden file under the names of the published state dict."""
    with np.load(FIXTURES / f"{file}.npz") as stored:
        arrays = dict(stored)
    found = {}
    for m in range(6 // depth):
        place = 0
        for j in range(depth):
            for name in ("weight", "bias"):
                found[f"encoder.{m}.model.{place}.{name}"] = arrays[f"module{m}.conv{j}.{name}"]
            place += 3 if (1, 2, 1, 2, 2, 2)[m * depth + j] == 2 else 2
        for k in range(5):
            matrix = arrays[f"module{m}.loss.W{k + 1}"][:, :, None, None]
            found[f"encoder.{m}.loss.W_k.{k}.weight"] = matrix
    return {name: torch.tensor(a) for name, a in found.items()}, arrays["images"]


@pytest.mark.parametrize(
    "load, depth, file, rule", [(clapp_symmetric, 1, "clapp_symmetric", "clapp"),
                                (load_gim, 2, "gim_3", "gim")]
)  # fmt: skip
def test_imported_weights_have_the_losses_that_the_published_code_has(
    tmp_path, load, depth, file, rule
):
    golden = load()
    state_dict, images = published(golden, depth, file)
    torch.save({"epoch": 3, "state_dict": {f"module.{n}": w for n, w in state_dict.items()}},
               tmp_path / "w.tar")  # fmt: skip
    code, said = command(tmp_path / "w.tar", "--rule", rule, "--out", tmp_path / "run")
    assert code == 0, said
    state, weights = opened(tmp_path / "run")
    for layer, own in golden.params.items():
        for name, w in own.items():
            np.testing.assert_array_equal(weights[layer][name], w)
    assert state.modules == golden.modules
    if rule == "gim":  # its draws are the reference's
        return
    updates = learning.updates(
        state.network, state.rule, state.modules, weights, patches_of(images), LAYOUT, golden.draws
    )
    losses = [float(report.loss) for update in updates for report in update.reports.values()]
    np.testing.assert_allclose(losses, golden.losses, rtol=1e-9)


def test_modules_in_files_of_their_own_are_put_in_order_by_their_names(tmp_path, patches):
    there = Vision().double()
    names = [tmp_path / f"model_{i}_299.ckpt" for i in range(6)]
    for module, path in zip(there.encoder, names, strict=True):
        torch.save(module.state_dict(), path)
    code, said = command(*reversed(names), "--out", tmp_path / "run")
    assert code == 0, said
    state, weights = opened(tmp_path / "run")
    *_, z = state.network.encodings(patches, weights)
    np.testing.assert_allclose(z, there.encodings(patches)[-1], rtol=1e-10, atol=1e-13)


class Bottleneck(nn.Module):
    def __init__(self, inputs, inside, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, inside, 1)
        self.conv2 = nn.Conv2d(inside, inside, 3, stride, 1)
        self.conv3 = nn.Conv2d(inside, 4 * inside, 1)
        if stride != 1 or inputs != 4 * inside:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, 4 * inside, 1, stride))

    def forward(self, x):
        r = torch.relu(x)
        y = self.conv3(torch.relu(self.conv2(torch.relu(self.conv1(r)))))
        return y + (self.shortcut(r) if hasattr(self, "shortcut") else x)


def test_the_published_resnet_computes_as_in_torch(tmp_path, patches):
    encoder, inputs = nn.ModuleList(), 4
    for i, (blocks, inside) in enumerate(((3, 4), (4, 8), (6, 16))):
        module = nn.Module()
        module.model = nn.Sequential()
        if i == 0:
            module.model.add_module("Conv1", nn.Conv2d(1, 4, 5, 1, 2))
        parts = []
        for b in range(blocks):
            parts.append(Bottleneck(inputs, inside, 2 if i and b == 0 else 1))
            inputs = 4 * inside
        module.model.add_module("layer 0", nn.Sequential(*parts))
        module.loss = nn.Module()
        module.loss.W_k = nn.ModuleList(nn.Conv2d(inputs, inputs, 1, bias=False) for _ in range(5))
        encoder.append(module)
    there = nn.ModuleDict({"encoder": encoder}).double()
    torch.save(there.state_dict(), tmp_path / "w.pt")
    how = "--net", "resnet50", "--rule", "gim", "--out", tmp_path / "run"
    code, said = command(tmp_path / "w.pt", *how)
    assert code == 0 and "GIM's vision code" in said, said
    state, weights = opened(tmp_path / "run")
    assert (state.options.modules, state.options.width) == ("4+4+6", 0.0625)
    x = torch.tensor(patches.transpose(0, 3, 1, 2))
    with torch.no_grad():
        for module in encoder:
            x = module.model(x)
    *_, z = state.network.encodings(patches, weights)
    np.testing.assert_allclose(z, x.mean((2, 3)), rtol=1e-9, atol=1e-12)


AUDIO = ((10, 5, 2), (8, 4, 2), (4, 2, 2), (4, 2, 2), (4, 2, 1))


def gim_audio(splits, cell=nn.GRU, hidden=16, units=8, steps=12):
    """GIM's network for sound in 6, 5 or 1 modules."""
    convs = [
        nn.Sequential(nn.Conv1d(hidden if i else 1, hidden, *how), nn.ReLU())
        for i, how in enumerate(AUDIO)
    ]
    groups = {6: [[c] for c in convs] + [[]], 5: [[c] for c in convs], 1: [convs]}[splits]
    modules = nn.ModuleList()
    for i, own in enumerate(groups):
        module, last = nn.Module(), i == len(groups) - 1
        if own:
            module.encoder = nn.Module()
            module.encoder.model = nn.Sequential()
            for j, conv in enumerate(own):
                module.encoder.model.add_module(f"layer {j}", conv)
        if last:
            module.autoregressor = nn.Module()
            module.autoregressor.gru = cell(hidden, units)
        module.loss = nn.Module()
        module.loss.predictor = nn.Linear(units if last else hidden, hidden * steps, bias=False)
        modules.append(module)
    return nn.ModuleDict({"fullmodel": modules}).double(), convs


@pytest.mark.parametrize(
    "splits, cell, modules", [(6, nn.GRU, "layers"), (5, nn.GRUCell, "1+1+1+1+2"), (1, nn.GRU, "6")]
)
def test_the_published_network_for_sound_computes_as_in_torch(tmp_path, splits, cell, modules):
    there, convs = gim_audio(splits, cell)
    torch.save(there.state_dict(), tmp_path / "w.ckpt")
    how = "--net", "audio", "--rule", "gim", "--out", tmp_path / "run"
    code, said = command(tmp_path / "w.ckpt", *how)
    assert code == 0 and "GIM's audio code" in said, said
    state, weights = opened(tmp_path / "run")
    assert state.options.modules == modules
    x = np.random.default_rng(0).standard_normal((2, 2560, 1))
    y = torch.tensor(x.transpose(0, 2, 1))
    with torch.no_grad():
        for conv in convs:
            y = conv(y)
    *_, (conv5, _), (c, _) = state.network.maps(x, weights)
    np.testing.assert_allclose(conv5, y.permute(0, 2, 1), rtol=1e-9, atol=1e-12)
    last = there["fullmodel"][-1]
    if cell is nn.GRU:
        with torch.no_grad():
            wanted, _ = last.autoregressor.gru(y.permute(2, 0, 1))
        np.testing.assert_allclose(c, wanted.permute(1, 0, 2), rtol=1e-9, atol=1e-12)
    at_2 = last.loss.predictor.weight.detach().numpy()[2 * 16 : 3 * 16]
    np.testing.assert_array_equal(weights["gru"]["W_pred"][2], at_2)


FILM = (
    ((1, 7, 7), (1, 2, 2), 0, True),
    ((1, 5, 5), (1, 2, 2), (0, 1, 1), True),
    ((1, 3, 3), 1, (0, 1, 1), False),
    ((3, 3, 3), (3, 1, 1), (0, 1, 1), False),
    ((3, 3, 3), (3, 1, 1), (0, 1, 1), True),
)


class FilmBlock(nn.Module):
    def __init__(self, inputs, outputs, kernel, stride, padding):
        super().__init__()
        self.conv = nn.Conv3d(inputs, outputs, kernel, stride, padding)
        self.norm = nn.BatchNorm3d(outputs)
        self.layers = nn.Sequential(self.conv, nn.ReLU(), self.norm)


class FilmNetwork(nn.Module):
    def __init__(self, losses=5, widths=(6, 16, 32, 32, 32)):
        super().__init__()
        blocks, inputs = [], 3
        for i, (outputs, (*how, pool)) in enumerate(zip(widths, FILM, strict=True), 1):
            parts = [FilmBlock(inputs, outputs, *how)]
            setattr(self, f"conv{i}", parts[0])
            parts += [nn.MaxPool3d((1, 3, 3), (1, 2, 2))] if pool else []
            blocks.append(nn.Sequential(*parts))
            setattr(self, f"block{i}", blocks[-1])
            inputs = outputs
        self.blocks, self.losses = nn.ModuleList(blocks), nn.ModuleList()
        for C in widths[-losses:]:
            loss = nn.Module()
            loss.W = nn.ModuleList(nn.Conv3d(C, C, 1, bias=False) for _ in range(3))
            self.losses.append(loss)

    def forward(self, x):
        for block in self.blocks:
            x = block[0].layers(x) if len(block) == 1 else block[1](block[0].layers(x))
        return x


@pytest.mark.parametrize("losses, modules", [(5, "layers"), (1, "5")])
def test_the_published_network_for_film_computes_as_in_torch(tmp_path, losses, modules):
    there = FilmNetwork(losses).double()
    generator = torch.Generator().manual_seed(0)
    for name, own in there.state_dict().items():
        if "running" in name or "norm.weight" in name:
            own.uniform_(0.5, 1.5, generator=generator)
    torch.save(there.state_dict(), tmp_path / "model.pth.tar")
    how = "--net", "vgg5_video", "--rule", "clapp_s", "--out", tmp_path / "run"
    code, said = command(tmp_path / "model.pth.tar", *how)
    assert code == 0 and "the CLAPP video code" in said, said
    state, weights = opened(tmp_path / "run")
    assert state.options.modules == modules
    x = np.random.default_rng(0).standard_normal((1, 9, 72, 72, 3))
    with torch.no_grad():
        wanted = there.eval()(torch.tensor(np.moveaxis(x, -1, 1).copy())).movedim(1, -1)
    *_, (y, _) = state.network.maps(x, weights)
    np.testing.assert_allclose(y, wanted, rtol=1e-9, atol=1e-12)
    W = there.losses[-1].W[1].weight.detach().numpy()[..., 0, 0, 0]
    np.testing.assert_array_equal(weights["conv5"]["W_pred"][1], W)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "run"
    how = "--width", "0.03", "--steps", "2", "--batch", "4", "--no-probe", "--device", "cpu"
    done = CliRunner().invoke(main, ["run", *how, "--out", str(folder)])
    assert done.exit_code == 0, done.output
    assert CliRunner().invoke(main, ["export", str(folder)]).exit_code == 0
    return folder


@pytest.mark.parametrize("name", ["weights.npz", "weights.safetensors", "checkpoint.h5", "w.pt"])
def test_what_was_exported_comes_back_with_the_same_bits(trained, tmp_path, name):
    path = trained / name
    if name == "w.pt":
        path = tmp_path / name
        with np.load(trained / "weights.npz") as stored:
            tensors = {n: torch.tensor(stored[n]) for n in stored.files if n != "metadata"}
        torch.save(tensors, path)
    code, said = command(path, "--out", tmp_path / "run")
    assert code == 0 and "--width 0.03" in said, said
    was, now = (runs.load(runs.checkpoint_path(at)) for at in (trained, tmp_path / "run"))
    assert now.step == 0 and {la: set(own) for la, own in now.params.items()} == {
        la: set(own) for la, own in was.params.items()
    }
    for layer, own in was.params.items():
        for of, w in own.items():
            np.testing.assert_array_equal(now.params[layer][of], w)
            assert now.params[layer][of].dtype == w.dtype
    told = json.loads((tmp_path / "run" / "import.json").read_text())
    assert list(told["files"]) == [str(path)] and told["drawn"] == []


def test_an_import_is_trained_on_recorded_inspected_and_probed(trained, tmp_path):
    command(trained / "weights.npz", "--batch", "4", "--device", "cpu", "--out", tmp_path / "run")
    for words in (
        "inspect RUN --layer 2 --synapse 1,0,1,1 --top 1",
        "run --resume RUN --steps 1 --no-probe --record layer=1,neurons=0:2 --record-every 1",
        "run --init RUN --width 0.03 --batch 4 --steps 1 --no-probe --out RUN-2",
        "probe RUN --train 40 --test 20",
        "plot RUN losses",
    ):
        words = words.replace("RUN", str(tmp_path / "run")).split()
        done = CliRunner().invoke(main, words)
        assert done.exit_code == 0, done.output
    there = runs.load(runs.checkpoint_path(tmp_path / "run"))
    assert there.step == 1 and (there.measures["drift"] < 0.1).all()  # from the imported weights


def test_weights_without_predictions_begin_with_those_of_the_seed(tmp_path):
    there = Vision()
    state = {n: w for n, w in there.state_dict().items() if ".loss." not in n}
    torch.save({"model": state}, tmp_path / "w.pt")
    code, said = command(tmp_path / "w.pt", "--out", tmp_path / "run")
    assert code == 0 and "drawn by --seed 0: conv1.W_pred, conv1.W_retro" in said, said


# What cannot be imported is refused in a sentence, and leaves no folder.


class Code:
    def __reduce__(self):
        return (print, ("this must not run",))


def without(*names):
    return {n: w for n, w in Vision().state_dict().items() if not n.startswith(names)}


BAD = {
    "nothing known": ({"fc.weight": torch.zeros(2, 2)}, "under names that are known here"),
    "a module is missing": (without("encoder.4.model", "model.0.4.model"),
                            "no layer of module 4, counted from 0"),
    "an array is missing": (without("encoder.4.model.0.w", "model.0.4.model.0.w"),
                            "the files lack conv5.weight of vgg6"),
    "too much": (Vision().state_dict() | {"autoregressor.w": torch.zeros(2)},
                 "1 arrays have no place in vgg6 under the rule clapp: autoregressor.w"),
    "another shape": (Vision().state_dict() | {f"{at}3.model.0.weight": torch.zeros(9, 9, 3, 3)
                                               for at in ("encoder.", "model.0.")},
                      "encoder.3.model.0.weight has shape (9, 9, 3, 3), and conv4.weight"),
    "no number": (Vision().state_dict() | {f"{at}0.model.0.bias": torch.full((8,), torch.nan)
                                           for at in ("encoder.", "model.0.")}, "not finite"),
    "two values": (Vision().state_dict() | {"encoder.0.model.0.bias": torch.zeros(8)}, "differ"),
    "a step is missing": (without("encoder.2.loss.W_k.1", "model.0.2.loss.W_k.1"),
                          "a matrix for each prediction step"),
    "whole numbers": (Vision().state_dict() | {f"{at}0.model.0.bias": torch.zeros(8).int()
                                               for at in ("encoder.", "model.0.")}, "int32"),
    "a list": ([torch.zeros(2)], "holds list, expected a state dict"),
    "empty": ({}, "holds an empty dict"),
    "the optimiser's": ({"state": {}, "param_groups": []}, "a dict of state, param_groups"),
    "an object": ({"opt": argparse.Namespace(x=1)}, "Python objects besides tensors (argparse"),
    "a module": (nn.Linear(2, 2), "Python objects besides tensors (torch.nn"),
    "code": ({"w": Code()}, "Python objects besides tensors"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_what_does_not_fit_is_refused_in_a_sentence(tmp_path, what):
    stored, sentence = BAD[what]
    torch.save(stored, tmp_path / "w.pt")
    code, said = command(tmp_path / "w.pt", "--out", tmp_path / "run")
    assert code == 2 and sentence in said, said
    assert "this must not run" not in said and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "name, content, sentence",
    [
        ("w.pt", b"", "no state dict of torch, or it is damaged"),
        ("w.pt", b"hello", "no state dict of torch, or it is damaged"),
        ("w.pt", pickle.dumps(Code()), "is no state dict of torch, or it is damaged"),
        ("w.npz", b"PK\3\4", "cannot be read as .npz"),
        ("w.npz", b"", "cannot be read as .npz"),
        ("w.safetensors", b"x" * 20, "cannot be read as safetensors"),
        ("w.h5", b"x", "damaged or no HDF5 file"),
    ],
)
def test_damaged_files_are_refused_in_a_sentence(tmp_path, name, content, sentence):
    (tmp_path / name).write_bytes(content)
    code, said = command(tmp_path / name, "--out", tmp_path / "run")
    assert code == 2 and sentence in said and "this must not run" not in said, said


def test_npz_with_objects_and_missing_files_are_refused(tmp_path):
    np.savez(tmp_path / "w.npz", w=np.array([Code()], dtype=object))
    code, said = command(tmp_path / "w.npz", "--out", tmp_path / "run")
    assert code == 2 and "cannot be read as .npz" in said
    for words, sentence in (
        ([tmp_path / "none.pt"], "no file; expected weights"),
        ([tmp_path], "a folder: name the files in it"),
        ([], "Missing argument"),
    ):
        code, said = command(*words)
        assert code == 2 and sentence in said, said


def test_import_and_init_do_not_go_together(trained, tmp_path):
    code, said = command(trained / "weights.npz", "--init", trained, "--out", tmp_path / "run")
    assert code == 2 and "--init begins with the weights of a run" in said


def test_what_is_left_over_can_be_left_out(tmp_path):
    torch.save(Vision().state_dict() | {"head.w": torch.zeros(2)}, tmp_path / "w.pt")
    assert command(tmp_path / "w.pt", "--out", tmp_path / "run")[0] == 2
    assert command(tmp_path / "w.pt", "--leave", "head.*", "--out", tmp_path / "run")[0] == 0


def test_options_come_from_a_configuration_too(trained, tmp_path):
    (tmp_path / "mine.toml").write_text("batch = 6\n[layer.conv1]\nlr = 0.5\n")
    code, said = command(trained / "weights.npz", "--config", tmp_path / "mine.toml",
                         "--device", "cpu", "--out", tmp_path / "run")  # fmt: skip
    assert code == 0, said
    options = runs.load(runs.checkpoint_path(tmp_path / "run")).options
    assert options["batch"] == 6 and options["layer"]["conv1"]["lr"] == 0.5
    for text, told in {"leave = 'x'": "unknown key 'leave'", "width = [": "not a readable"}.items():
        (tmp_path / "mine.toml").write_text(text)
        code, said = command(trained / "weights.npz", "--config", tmp_path / "mine.toml",
                             "--out", tmp_path / "other")  # fmt: skip
        assert code == 2 and told in said and not (tmp_path / "other").exists()
