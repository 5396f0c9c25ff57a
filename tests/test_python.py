"""`import plasticity as pl`: the page that tells of it, and what a notebook does by it."""

import pickle
import subprocess
import sys

import h5py
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from plasticity.cli import main
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.utils import estimator_checks

import plasticity as pl
from plasticity.arrays import received
from plasticity.probes.encodings import encode
from plasticity.probes.probe import chosen
from plasticity.runs import sets
from plasticity.sklearn import Encoder
from tests.pages import blocks

SMALL = {"width": 0.03, "batch": 4, "device": "cpu", "probe": False}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return pl.run(rule="clapp", steps=2, out=tmp_path_factory.mktemp("python") / "run", **SMALL)


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (5, 96, 96), np.uint8)


def test_every_block_of_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    space = {}
    python = [text for language, text in blocks("python.md") if language == "python"]
    assert len(python) == 10
    for text in python:
        exec(compile(text, "docs/python.md", "exec"), space)
    assert space["run"].step == 6 and space["synapse"].agrees
    assert space["features"].shape == (5, 64) and space["z"]["conv6"].shape == (5, 64)
    assert list(space["updates"]) == [f"conv{i}" for i in range(1, 7)]


def test_the_module_shows_what_users_need_and_imports_late():
    own = ("arrays", "events", "fields", "network", "rule")
    assert dir(pl) == sorted(["Run", "UserError", "open", "run", "__version__", *own])
    assert pl.rule.Rule and pl.network.Conv and pl.events.Layout
    script = (
        "import plasticity, sys; assert dir(plasticity); "
        "assert 'numpy' not in sys.modules and 'plasticity.api' not in sys.modules; "
        "assert plasticity.rule.Rule"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = pl.nothing


def test_a_run_from_python_is_that_of_the_command(run, tmp_path):
    words = [
        "run",
        "--steps",
        "2",
        "--width",
        "0.03",
        "--batch",
        "4",
        "--device",
        "cpu",
        "--no-probe",
        "--out",
    ]
    assert CliRunner().invoke(main, [*words, str(tmp_path / "run")]).exit_code == 0
    there = pl.open(tmp_path / "run")
    assert there.options == run.options and there.step == 2
    for layer, own in run.weights.items():
        for name, w in own.items():
            np.testing.assert_array_equal(there.weights[layer][name], w)
    np.testing.assert_array_equal(there.metrics["loss"], run.metrics["loss"])
    assert {p.name for p in run.folder.iterdir()} >= {"checkpoint.h5", "summary.json", "losses.png"}


def test_arrays_are_encoded_as_the_images_of_a_data_set_are(run):
    state = run.state
    source = sets.split(run.options, "test")
    index = np.arange(6)
    wanted = encode(state.network, run.weights, sets.stimulus(run.options, source), index, 4, "cpu")
    found = run.encode(source.pixels(index))
    for z, w in zip(found.values(), wanted, strict=True):
        np.testing.assert_array_equal(z, w)
    split, labels = run.encode("test", images=40), source.labels
    np.testing.assert_array_equal(split.labels, labels[chosen(source, 40)])
    assert split.classes == source.classes and len(split["conv6"]) == 40


def test_tensors_are_taken_without_a_copy_and_floats_as_the_networks_inputs(run, images):
    tensor = torch.from_numpy(images)
    assert received(tensor).ctypes.data == tensor.data_ptr()
    for layer, z in run.encode(tensor).items():
        np.testing.assert_array_equal(z, run.encode(images)[layer])
    patches = torch.randn(7, 16, 16, 1)
    *_, wanted = run.network.encodings(patches.numpy(), run.weights)
    np.testing.assert_allclose(run.encode(patches)["conv6"], wanted, rtol=1e-6, atol=1e-7)
    assert torch.from_dlpack(run.encode(patches)["conv6"]).shape == (7, 31)


def test_utterances_and_clips_are_encoded_too(tmp_path):
    how = {**SMALL, "steps": 1, "layers": 2}
    sound = pl.run(net="audio", rule="random", out=tmp_path / "sound", **how)
    waves = np.random.default_rng(0).integers(-999, 999, (2, 20480), np.int16)
    assert sound.encode(waves)["conv2"].shape == (2, 15)
    with pytest.raises(pl.UserError, match="shorter than the run's crop of 20480"):
        sound.encode(waves[:, :99])
    film = pl.run(net="vgg5_video", rule="random", out=tmp_path / "film", **how)
    T, side, _ = film.options.unfed.space
    clips = np.random.default_rng(0).integers(0, 256, (2, T, side, side, 3), np.uint8)
    assert len(film.encode(clips)["conv2"]) == 2
    with pytest.raises(pl.UserError, match=r"expected clips \(B, frames, h, w, 3\)"):
        film.encode(clips[0])


class OnGpu:
    """Something that says it lies on a GPU."""

    def __dlpack_device__(self):
        return 2, 0


@pytest.mark.parametrize(
    "examples, sentence",
    [
        (torch.zeros(2, 16, 16, 1, requires_grad=True), r"take tensor\.detach\(\)"),
        (OnGpu(), 'open the run with device="cuda:0"'),
        (torch.zeros(2, 16, 16, 1).bfloat16(), "a Tensor cannot be taken as an array"),
        (np.zeros((2, 96, 96), "c8"), "no array of real numbers"),
        (np.array(["a"]), "no array of real numbers"),
        ([[1, 2], [3]], "a list cannot be taken as an array"),
        (np.zeros((0, 96, 96), "u1"), "nothing to encode"),
        (3, "nothing to encode"),
        (np.zeros((2, 96, 40), "u1"), r"expected images \(B, h, w\) with h = w"),
        (np.zeros((2, 96, 96, 3), "u1"), r"expected images \(B, h, w\)"),
        (np.zeros((2, 96, 96), "i8"), r"int64: expected images"),
        (np.zeros((2, 32, 32), "u1"), "--crop 64 is larger than the images"),
        (np.zeros((2, 1, 16, 16)), r"expected inputs of the network \(M, 16, 16, 1\)"),
        ("valid", "no split 'valid' of sample: expected unlabelled, train, test"),
    ],
)
def test_what_cannot_be_encoded_is_said_in_a_sentence(run, examples, sentence):
    with pytest.raises(pl.UserError, match=sentence):
        run.encode(examples)


def test_updates_have_the_dW_and_the_factors_of_the_coming_step(run):
    one, synapse = run.updates()["conv4"], run.inspect("conv4", synapse=(3, 1, 0, 2))
    np.testing.assert_allclose(synapse.total, one.dW["weight"][3, 1, 0, 2], rtol=1e-3, atol=1e-9)
    assert set(one.dW) == {"weight", "bias", "W_pred", "W_retro"}
    assert {role.name for role in one.roles} == {"target", "context"}
    assert one.pre.shape[-1] == run.weights["conv4"]["weight"].shape[1]
    role = one.roles[0]  # dW_pred = sum of gamma z c^T: where no gate is open nothing changes
    assert role.gamma.shape == role.score.shape and one.loss > 0


def test_all_show_themselves_in_a_notebook(run):
    for shown in (run, run.encode("test", images=4), run.updates(), run.inspect(2),
                  run.probe(train_images=30, test_images=10)):  # fmt: skip
        assert "<table>" in shown._repr_html_()
    assert "data:image/png;base64" in run._repr_html_() and "clapp on vgg6" in repr(run)
    assert run.plot("losses").axes


@pytest.mark.parametrize(
    "how, sentence",
    [
        ({"ruel": "clapp"}, "unknown option 'ruel': did you mean 'rule'"),
        ({"rule": "clap"}, "unknown rule 'clap': did you mean 'clapp'"),
        ({"width": "x"}, "width should be a finite number"),
        ({"preset": "tiny"}, "unknown preset 'tiny'"),
        ({"resume": "nowhere"}, "nowhere is no run folder"),
        ({"identity": {}}, "unknown option 'identity'"),
    ],
)
def test_options_that_do_not_fit_are_said_in_a_sentence(tmp_path, monkeypatch, how, sentence):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(pl.UserError, match=sentence):
        pl.run(**how)
    assert not list(tmp_path.glob("runs/*"))


def test_what_cannot_be_inspected_or_drawn_is_said_in_a_sentence(run):
    for ask, sentence in (
        (lambda: run.inspect(9), "has here the layers 1 to 6"),
        (lambda: run.inspect(1, synapses=(1,)), "unknown synapses: expected one of"),
        (lambda: run.inspect(1, synapse=(0, 0, 0, 0), bias=(0,)), "at a time"),
        (lambda: run.plot("loses"), "did you mean 'losses'"),
        (lambda: run.plot("all"), "one figure at a time"),
        (lambda: pl.open("nowhere"), "nowhere is no run folder"),
    ):
        with pytest.raises(pl.UserError, match=sentence):
            ask()


def test_the_command_writes_what_encode_gives(run, tmp_path):
    path, words = tmp_path / "z.h5", ["encode", str(run.folder), "--images", "50"]
    done = CliRunner().invoke(main, [*words, "--out", str(path)])
    assert done.exit_code == 0 and f"Written to {path}" in done.output, done.output
    wanted = run.encode("test", images=50)
    with h5py.File(path) as file:
        for layer, z in wanted.items():
            np.testing.assert_array_equal(file["encodings"][layer], z)
        np.testing.assert_array_equal(file["labels"], wanted.labels)
        assert len(file["index"]) == 50
    for more, sentence in (
        (["--out", str(tmp_path / "z.txt")], "expected a name in .h5"),
        (["--split", "valid", "--out", str(tmp_path / "y.h5")], "no split 'valid'"),
        (["--data", "nothing", "--out", str(tmp_path / "y.h5")], "nothing"),
    ):
        done = CliRunner().invoke(main, [*words, *more])
        assert done.exit_code == 2 and sentence in done.output, done.output
    assert [p.name for p in tmp_path.iterdir()] == ["z.h5"]


def test_a_disk_without_room_leaves_no_file(run, tmp_path, monkeypatch):
    room = type("Room", (), {"free": 100})
    monkeypatch.setattr("plasticity.probes.given.shutil.disk_usage", lambda place: room)
    done = CliRunner().invoke(main, ["encode", str(run.folder), "--out", str(tmp_path / "z.h5")])
    assert done.exit_code == 2 and "the disk is full" in done.output
    assert not list(tmp_path.iterdir())


def test_an_encoder_works_in_a_pipeline_and_through_pickle(run, images):
    encoder = Encoder(run.folder, layer="conv4")
    model = make_pipeline(encoder, LogisticRegression(max_iter=20)).fit(images, [0, 1, 0, 1, 1])
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict(images), model.predict(images))
    z = run.encode(images)["conv4"]
    np.testing.assert_array_equal(encoder.transform(images), z)
    np.testing.assert_array_equal(encoder.transform(images.reshape(5, -1)), z)
    assert encoder.get_feature_names_out()[1] == "conv4_1"
    whole = Encoder(run.folder, layer="all").fit_transform(images)
    assert whole.shape == (5, sum(layer.outputs for layer in run.network.layers))
    assert clone(encoder).get_params() == encoder.get_params()


@pytest.mark.parametrize(
    "check",
    [
        "check_no_attributes_set_in_init",
        "check_parameters_default_constructible",
        "check_get_params_invariance",
        "check_set_params",
        "check_estimator_repr",
        "check_estimator_cloneable",
        "check_mixin_order",
    ],
)
def test_an_encoder_is_an_estimator_of_scikit_learn(run, check):
    getattr(estimator_checks, check)("Encoder", Encoder(str(run.folder)))


def test_an_encoder_that_cannot_be_fitted_says_so(run, images):
    for encoder, sentence in (
        (Encoder(), "wants a run"),
        (Encoder("nowhere"), "nowhere is no run folder"),
        (Encoder(run.folder, layer="conv9"), "layer conv9: expected conv1"),
        (Encoder(run.folder, layer=7), "layer 7: expected conv1"),
    ):
        with pytest.raises(pl.UserError, match=sentence):
            encoder.fit(images)
