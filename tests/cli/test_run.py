"""`plasticity run`, as a user sees it: results, interruptions, errors."""

import json
import os
import signal
import subprocess
import sys
import tomllib

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from plasticity.cli import main

from plasticity import runs
from tests.processes import reached

SMALL = ["--width", "0.03", "--images", "80", "--batch", "8", "--seed", "5"]


def call(*args):
    return CliRunner().invoke(main, ["run", *map(str, args)], env={"COLUMNS": "120"})


def weights(folder):
    params = runs.load(runs.checkpoint_path(folder)).params
    return {(la, n): w for la, own in params.items() for n, w in own.items()}


def same(a, b):
    a, b = weights(a), weights(b)
    assert a.keys() == b.keys()
    return all(np.array_equal(a[key], b[key]) for key in a)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of 25 steps that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    done = call(*SMALL, "--steps", 25, "--out", folder, "--probe-train", 60, "--probe-test", 30)
    assert done.exit_code == 0, done.output
    return folder, done.output


def test_a_first_look_tells_what_it_learned_of_images_to_come(tmp_path):
    done = call(*SMALL, "--out", tmp_path / "look")
    assert done.exit_code == 0, done.output
    assert "not learned from" in done.output and "Linear probe" not in done.output
    summary = json.loads((tmp_path / "look" / "summary.json").read_text())
    assert summary["steps"] == 12 and "probe" not in summary
    assert len(summary["foresight"]["told_now"]) == len(summary["foresight"]["loss_start"]) == 6
    assert summary["options"]["probe"]  # whoever trains on gets the probe


def test_a_first_look_is_probed_if_asked_for(tmp_path):
    sizes = ["--probe-train", 60, "--probe-test", 30]
    done = call(*SMALL, "--probe", *sizes, "--out", tmp_path / "look")
    assert done.exit_code == 0 and "Linear probe" in done.output, done.output


def start(folder, *more):
    """The same run in a process of its own, which can be killed."""
    return subprocess.Popen(
        [sys.executable, "-m", "plasticity", "run", *SMALL, "--steps", "25", "--no-probe",
         "--checkpoint-minutes", "0", "--out", str(folder), *more],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )  # fmt: skip


def test_a_run_leaves_weights_figures_and_what_ran(whole):
    folder, output = whole
    names = {p.name for p in folder.iterdir()}
    assert names - {".lock"} == {
        "checkpoint.h5", "config.toml", "summary.json", "metrics.csv", "log.txt",
        "losses.png", "losses.svg", "measures.png", "measures.svg", "probe.png", "probe.svg",
    }  # fmt: skip
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["steps"] == 25 and summary["options"]["seed"] == 5
    assert summary["versions"]["numpy"] == np.__version__
    assert len(summary["probe"]["trained"]) == 6
    for text in ("images/s", "random weights", "How to read it", f"--resume {folder}"):
        assert text in output


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(whole, tmp_path):
    assert call(*SMALL, "--steps", 25, "--no-probe", "--out", tmp_path / "a").exit_code == 0
    assert same(whole[0], tmp_path / "a")
    call(*SMALL, "--steps", 25, "--no-probe", "--seed", 6, "--out", tmp_path / "b")
    assert not same(whole[0], tmp_path / "b")


def test_a_longer_run_in_two_parts_is_the_run_in_one(whole, tmp_path):
    assert call(*SMALL, "--steps", 9, "--no-probe", "--out", tmp_path / "a").exit_code == 0
    assert not same(whole[0], tmp_path / "a")
    assert call("--resume", tmp_path / "a", "--steps", 25, "--no-probe").exit_code == 0
    assert same(whole[0], tmp_path / "a")
    metrics = [runs.load(runs.checkpoint_path(f)).metrics for f in (whole[0], tmp_path / "a")]
    np.testing.assert_array_equal(metrics[0]["loss"], metrics[1]["loss"])


def test_killed_at_any_moment_it_resumes_to_the_same_weights(whole, tmp_path):
    for number, step in enumerate((1, 8)):
        folder = tmp_path / str(number)
        process = start(folder)
        reached(folder, step, process)
        process.kill()
        process.communicate()
        assert runs.load(runs.checkpoint_path(folder)).step < 25
        done = call("--resume", folder, "--no-probe")
        assert done.exit_code == 0, done.output
        assert same(whole[0], folder)


def test_ctrl_c_saves_and_says_how_to_go_on(whole, tmp_path):
    process = start(tmp_path / "a")
    reached(tmp_path / "a", 2, process)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in output
    assert f"plasticity run --resume {tmp_path / 'a'}" in output
    assert call("--resume", tmp_path / "a", "--no-probe").exit_code == 0
    assert same(whole[0], tmp_path / "a")


def test_a_config_file_sets_options_and_a_flag_wins(whole, tmp_path):
    config = tmp_path / "c.toml"
    config.write_text("width = 0.03\nimages = 80\nbatch = 8\nseed = 1\nsteps = 25\nprobe = false\n")
    assert call("--config", config, "--seed", 5, "--out", tmp_path / "a").exit_code == 0
    assert same(whole[0], tmp_path / "a")
    stored = whole[0] / "config.toml"
    done = call("--config", stored, "--no-probe", "--out", tmp_path / "b")
    assert done.exit_code == 0, done.output
    assert same(whole[0], tmp_path / "b")


def test_a_preset_sets_options_and_a_flag_wins(tmp_path):
    few = ["--preset", "small", *SMALL, "--data", "sample", "--steps", 1, "--no-probe"]
    for folder, flags, rule in (("a", [], "clapp_s"), ("b", ["--rule", "clapp"], "clapp")):
        done = call(*few, *flags, "--out", tmp_path / folder)
        assert done.exit_code == 0, done.output
        options = tomllib.loads((tmp_path / folder / "config.toml").read_text())
        assert (options["rule"], options["lr"], options["steps"]) == (rule, 1e-3, 1)


MODULES = {
    "clapp_s": 6,
    "hinge_cpc": 4,
    "cpc": 1,
    "gim": 3,
    "supervised": 1,
    "greedy_supervised": 6,
    "random": 6,
}


@pytest.mark.parametrize("rule", MODULES)
def test_every_rule_runs(rule, tmp_path):
    more = ["--coin", "--modules", "4-upper"] if rule == "hinge_cpc" else []
    done = call("--rule", rule, *SMALL, "--steps", 2, "--no-probe", "--out", tmp_path / "a", *more)
    assert done.exit_code == 0, done.output
    stored = runs.load(runs.checkpoint_path(tmp_path / "a"))
    told = "open_gates" if rule == "random" else "loss"
    assert stored.metrics[told].shape == (2, MODULES[rule]) and stored.rule["name"] == rule


def test_a_supervised_run_reports_accuracy_and_resumes_bit_for_bit(tmp_path):
    options = ["--rule", "greedy_supervised", "--modules", "3", *SMALL, "--no-probe"]
    done = call(*options, "--steps", 4, "--out", tmp_path / "a")
    assert done.exit_code == 0, done.output
    assert "accuracy" in done.output and "open gates" not in done.output
    assert call(*options, "--steps", 2, "--out", tmp_path / "b").exit_code == 0
    done = CliRunner().invoke(main, ["run", "--resume", str(tmp_path / "b"), "--steps", "4",
                                     "--no-probe"])  # fmt: skip
    assert done.exit_code == 0, done.output
    assert same(tmp_path / "a", tmp_path / "b")
    summary = json.loads((tmp_path / "b" / "summary.json").read_text())
    assert len(summary["accuracy_last"]) == 3 and 0 <= min(summary["accuracy_last"]) <= 1
    stored = [runs.load(runs.checkpoint_path(tmp_path / n)).metrics["accuracy"] for n in "ab"]
    np.testing.assert_array_equal(*stored)
    assert "training accuracy (%)" in (tmp_path / "b" / "losses.svg").read_text()


@pytest.mark.parametrize("folders", [[""], ["cats"]])
def test_labels_that_a_rule_needs_and_has_not_are_said(folders, tmp_path):
    for folder in folders:
        (tmp_path / "images" / folder).mkdir(parents=True)
        for i in range(10):
            image = Image.fromarray(np.full((96, 96), i, np.uint8))
            image.save(tmp_path / "images" / folder / f"{i}.png")
    done = call("--rule", "supervised", "--data", tmp_path / "images", "--batch", 2, "--width",
                0.03, "--steps", 1, "--out", tmp_path / "run")  # fmt: skip
    assert done.exit_code == 2 and not (tmp_path / "run").exists()
    sentence = "learns from labels, and the images" if folders == [""] else "are all 'cats'"
    assert sentence in done.output.replace("\n", " ")


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["--rule", "clap"], "did you mean 'clapp'"),
        (["--net", "vgg7"], "did you mean 'vgg6'"),
        (["--data", "stl"], "unknown data set 'stl': did you mean 'stl10'"),
        (["--patch", "80"], "a patch of 80x80 does not fit a crop of 64x64"),
        (["--patch", "8"], "layer conv6 of vgg6 cannot be fed"),
        (["--patch", "15"], "--patch must be even"),
        (["--crop", "80"], "--crop 80 is larger than the images"),
        (["--crop", "32"], "need at least 7 time steps"),
        (["--batch", "1"], "negatives of other images need a batch of at least 2"),
        (["--images", "5"], "--batch 32 is more than the 5 images"),
        (["--width", "0"], "--width must be positive"),
        (["--lr", "-1"], "--lr must not be negative"),
        (["--gate", "ajar"], "unknown --gate 'ajar'"),
        (["--rule", "gim", "--gate", "off"], "gim has no surprise gate"),
        (["--modules", "5"], "--modules 5 does not split the 6 layers"),
        (["--coin"], "--coin has no meaning for the rule clapp: it is for hinge_cpc"),
        (["--rule", "supervised", "--gate", "off"], "it is for clapp, clapp_s, hinge_cpc"),
        (["--rule", "random", "--block-grad"], "--block-grad has no meaning for the rule random"),
        (
            ["--rule", "greedy_supervised", "--freeze-prediction"],
            "--freeze-prediction has no meaning for the rule greedy_supervised: it is for clapp",
        ),
        (["--rule", "supervised", "--context", "above"], "--context has no meaning for the rule"),
        (["--rule", "cpc", "--context", "above"], "--context above needs modules above others"),
        (["--context", "below"], "unknown --context 'below': expected same or above"),
        (["--rule", "random", "--gate", "off"], "and random takes no options"),
        (["--set", "stepz=3"], "--set stepz: clapp has no such field, it takes steps (int)"),
        (["--set", "steps=many"], "--set steps=many: expected a whole number"),
        (["--set", "steps"], "--set steps: expected name=value"),
        (["--rule", "./none.py"], "none.py cannot be read: No such file"),
        (["--dtype", "float16"], "unknown --dtype 'float16'"),
        (["--device", "tpu"], "unknown device 'tpu'"),
        (["--preset", "huge"], "unknown preset 'huge'"),
        (["--steps", "many"], "not a valid integer"),
        (["--resume", "nowhere"], "nowhere is no run folder"),
    ],
)
def test_bad_input_is_one_sentence_and_status_2(args, sentence, tmp_path):
    folder = tmp_path / "run"
    more = [] if "--resume" in args else ["--out", folder]
    done = call("--steps", 1, "--no-probe", *more, *args)
    assert done.exit_code == 2 and sentence in done.output.replace("\n", " ")
    assert not folder.exists() or not any(folder.iterdir())


def test_config_errors_name_the_file(tmp_path):
    config = tmp_path / "c.toml"
    for text, sentence in (
        ("lrr = 1", "unknown key 'lrr'; did you mean 'lr'"),
        ("a = = 1", "not a"),
    ):
        config.write_text(text)
        done = call("--config", config)
        assert done.exit_code == 2 and sentence in done.output and "c.toml" in done.output


def test_a_folder_in_use_is_not_overwritten(whole):
    done = call(*SMALL, "--steps", 1, "--out", whole[0])
    assert done.exit_code == 2 and "holds something already" in done.output


def test_resuming_with_another_rule_is_refused(whole):
    done = call("--resume", whole[0], "--lr", "0.1")
    assert done.exit_code == 2 and "--lr 0.1 would make another run" in done.output


def test_losses_that_explode_stop_the_run_and_keep_the_last_checkpoint(tmp_path):
    done = call(*SMALL, "--steps", 50, "--lr", "1e30", "--no-probe", "--out", tmp_path / "a")
    assert done.exit_code == 2 and "take a smaller --lr" in done.output
    assert all(np.isfinite(w).all() for w in weights(tmp_path / "a").values())


def test_a_folder_of_unlabelled_images_trains_and_says_why_it_has_no_probe(tmp_path):
    (tmp_path / "images").mkdir()
    for i in range(8):
        pixels = np.random.default_rng(i).integers(0, 256, (70, 80, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{i}.png")
    done = call("--width", 0.03, "--batch", 4, "--steps", 2, "--data", tmp_path / "images",
                "--out", tmp_path / "run")  # fmt: skip
    assert done.exit_code == 0 and "No probe" in done.output and "no labels" in done.output


def test_probe_and_export_work_on_a_run(whole, tmp_path):
    invoke = lambda *a: CliRunner().invoke(main, list(map(str, a)))  # noqa: E731
    for protocol, more in (("regularised", []), ("published", ["--epochs", 2, "--views", 2])):
        path = tmp_path / f"{protocol}.json"
        done = invoke("probe", whole[0], "--train", 60, "--test", 30, "--protocol", protocol,
                      "--json", path, *more)  # fmt: skip
        assert done.exit_code == 0, done.output
        assert json.loads(path.read_text())["test_images"] == 30
    regular = json.loads((tmp_path / "regularised.json").read_text())
    summary = json.loads((whole[0] / "summary.json").read_text())
    assert regular["trained"] == summary["probe"]["trained"]
    done = invoke("export", whole[0], "-o", tmp_path / "w.npz", "-o", tmp_path / "w.safetensors")
    assert done.exit_code == 0 and (tmp_path / "w.npz").exists()
    done = invoke("export", whole[0], "-o", tmp_path / "w.txt")
    assert done.exit_code == 2 and "expected a name in" in done.output


def test_gim_on_resnet50_resumes_bit_for_bit_probes_and_exports(tmp_path):
    net = ["--rule", "gim", "--net", "resnet50", "--width", 0.05, "--batch", 2, "--crop", 40,
           "--prediction-steps", 2]  # fmt: skip
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    probe = ["--probe-train", 20, "--probe-test", 10]
    done = call(*net, "--steps", 3, *probe, "--out", whole)
    assert done.exit_code == 0, done.output
    shown = json.loads((whole / "summary.json").read_text())
    assert shown["layers"] == ["layer1.2", "layer2.3", "layer3.5"]
    assert len(shown["probe"]["layers"]) == 14 and "layer3.5" in done.output
    assert call(*net, "--steps", 1, "--no-probe", "--out", parts).exit_code == 0
    assert call("--resume", parts, "--steps", 3, "--no-probe").exit_code == 0
    assert same(whole, parts)
    done = CliRunner().invoke(main, ["export", str(whole), "--format", "npz"])
    assert done.exit_code == 0, done.output
    with np.load(whole / "weights.npz") as stored:
        assert stored["layer2.0.conv2.weight"].shape == (6, 6, 3, 3)
        assert stored["prediction.layer3.5.conv3.W_pred"].shape == (2, 52, 52)
        blocks = json.loads(stored["metadata"].item())["blocks"]
    assert "layer1.1: r = relu(x), conv3(relu(conv2(relu(conv1(r))))) + x; layer1.2" in blocks


def test_help_version_and_unknown_commands():
    invoke = CliRunner().invoke
    assert "plasticity run --rule clapp --net vgg6" in invoke(main, ["--help"]).output
    assert invoke(main, ["--version"]).output.startswith("plasticity, version ")
    assert "did you mean 'run'" in invoke(main, ["rum"]).output
    assert "--prediction-steps" in invoke(main, ["run", "--help"]).output
