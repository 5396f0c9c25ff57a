"""Sound from the command line: every command does on it what it does on images."""

import json

import pytest
from click.testing import CliRunner
from plasticity.cli import main

from plasticity import runs

SMALL = ("--net", "audio", "--width", "0.02", "--batch", "4", "--device", "cpu")


def call(*args, code=0):
    done = CliRunner().invoke(main, [str(a) for a in args])
    assert done.exit_code == code, done.output
    return done.output


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sound") / "run"
    spec = "layer=*,random=5;layer=conv2,neurons=0:1;layer=gru,prediction=1:0:0,synapse=3:1"
    call("run", "--rule", "clapp_s", *SMALL, "--steps", 3, "--probe-train", 6, "--probe-test", 3,
        "--record", spec, "--record-every", 1, "--out", folder)  # fmt: skip
    return folder


def test_a_run_learns_all_six_layers_and_probes_phones(ran):
    summary = runs.read_summary(ran)
    assert summary["layers"] == ["conv1", "conv2", "conv3", "conv4", "conv5", "gru"]
    assert summary["options"]["batch"] == 4 and summary["options"]["prediction_steps"] == 12
    assert summary["options"]["negatives"] == 10 and summary["options"]["negatives_from"] == "all"
    assert summary["probe"]["task"] == "phones" and len(summary["probe"]["trained"]) == 6


@pytest.mark.parametrize(
    "variant",
    [
        ("--rule", "clapp", "--credit", "bptt", "--weights", "symmetric"),
        ("--rule", "clapp_s", "--credit", "none", "--below-gru", "gru", "--gate", "circuit"),
        ("--rule", "gim", "--modules", "5"),
        ("--rule", "cpc"),
        ("--rule", "hinge_cpc", "--coin"),
        ("--rule", "supervised"),
        ("--rule", "greedy_supervised"),
        ("--rule", "oja", "--layers", "5"),
        ("--rule", "bcm", "--layers", "5"),
        ("--rule", "hebbian", "--layers", "5"),
        ("--rule", "random"),
    ],
)
def test_a_run_in_two_parts_is_the_run_in_one(variant, tmp_path):
    how = (*variant, *SMALL, "--samples", "5120", "--no-probe")
    call("run", *how, "--steps", 2, "--out", tmp_path / "whole")
    call("run", *how, "--steps", 1, "--out", tmp_path / "parts")
    call("run", "--resume", tmp_path / "parts", "--steps", 2)
    whole, parts = (runs.load(runs.checkpoint_path(tmp_path / n)) for n in ("whole", "parts"))
    for layer, own in whole.params.items():
        for name, w in own.items():
            assert (w == parts.params[layer][name]).all(), (layer, name)


def test_updates_add_up_for_every_kind_of_parameter(ran):
    for layer, entry in (
        ("conv1", ("--synapse", "1,0,3")),
        ("conv5", ("--bias", "1")),
        ("gru", ("--synapse", "3,1")),
        ("gru", ("--recurrent", "14,2")),
        ("gru", ("--bias", "7")),
        ("gru", ("--prediction", "2,0,1")),
        ("conv3", ("--retro", "1,0,1")),
    ):
        assert "within rounding" in call("inspect", ran, "--layer", layer, *entry)
    for layer in ("conv4", "gru"):
        assert "Open gates" in call("inspect", ran, "--layer", layer)


def test_what_was_recorded_adds_up_to_dW(ran):
    from plasticity import inspection

    recorded = inspection.read(ran)
    for layer in ("conv2", "gru"):
        share = recorded[f"{layer}/synapses/share"].sum(axis=(2, 3))
        dW = recorded[f"{layer}/synapses/dW"]
        assert abs(share - dW).max() <= 1e-4 * abs(dW).max()
    assert "gru" in call("inspect", ran, "--recorded")


def test_it_is_verified_as_images_are(ran):
    told = call("verify", "--rule", "clapp_s", "--net", "audio", "--width", "0.01",
        "--set", "steps=3")  # fmt: skip
    assert "checks hold" in told and "prove nothing" not in told
    call("verify", ran)


def test_every_figure_that_sound_has_is_drawn(ran, tmp_path):
    told = call("plot", ran, "all", "--images", 40, "--out", tmp_path)
    for name in ("losses", "hinge", "gates", "history", "predictions", "tsne", "utterance",
                 "confusions", "traces"):  # fmt: skip
        assert (tmp_path / f"{name}.png").is_file(), told
    assert "Left out" not in told
    assert "the figure patches is of images" in call("plot", ran, "patches", code=2)
    call("report", ran)
    page = (ran / "report.html").read_text()
    assert ("Confusions of phones" in page and "GRU" in page) or "gru" in page


def test_probes_and_weights_go_into_files(ran, tmp_path):
    call("probe", ran, "--task", "speakers", "--train", 12, "--test", 6)
    found = json.loads((ran / "probe-regularised-sample-speakers.json").read_text())
    assert found["task"] == "speakers" and len(found["trained"]) == 6
    assert "26 arrays" in call("export", ran, "-o", tmp_path / "w.npz")


@pytest.mark.parametrize(
    "args, told",
    [
        (("--task", "classes"), "--task classes is not for sound: expected phones or speakers"),
    ],
)
def test_what_is_asked_wrongly_is_told(ran, args, told):
    assert told in call("probe", ran, *args, code=2)


def test_a_rule_whose_weights_decay_is_not_for_gates():
    told = call("run", "--rule", "oja", *SMALL, code=2)
    assert "oja takes a part of every weight from it" in told and "--layers 5" in told


def test_the_gradient_of_cpc_is_taken_apart_without_the_gru(ran, tmp_path):
    assert "take a run with --layers 5" in call("analyse", "cpc-gradient", ran, code=2)
    call("run", "--rule", "gim", *SMALL, "--layers", "2", "--steps", "1", "--no-probe",
        "--dtype", "float64", "--out", tmp_path / "gim")  # fmt: skip
    call("analyse", "cpc-gradient", tmp_path / "gim")


def test_frames_of_two_lengths_cannot_be_context_and_target():
    told = call("run", "--rule", "clapp", *SMALL, "--context", "above", "--weights", "symmetric",
        code=2)  # fmt: skip
    assert "conv1 has 4095 and conv2 has 1023" in told
