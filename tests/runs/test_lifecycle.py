"""A run as a folder: what it stores, and what survives when something fails on the way."""

import tomllib

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from plasticity.cli import main
from plasticity.cli.screens import run as screens

from plasticity import figures, inspection, runs
from plasticity.probes import probe
from plasticity.runs import run
from plasticity.runs.options import RunOptions

SMALL = ["--width", "0.03", "--batch", "4", "--layers", "2", "--steps", "2"]

NAMED_RANDOM = """
from dataclasses import dataclass
from typing import ClassVar
from plasticity.rule import Role, Rule


@dataclass(frozen=True)
class Mine(Rule):
    name: ClassVar[str] = "random"
    equation: ClassVar[str] = "dW_ji = y_j x_i"

    def roles(self, z, own, draw, layout):
        yield Role.of_patches("post", z, z.sum(axis=1) * 0 + 1)
"""


def call(*args):
    done = CliRunner().invoke(main, ["run", *map(str, args)])
    assert done.exit_code == 0, done.output
    return done.output


def stored(folder):
    return runs.load(runs.checkpoint_path(folder))


def test_a_rule_that_happens_to_be_called_random_learns(tmp_path):
    (tmp_path / "mine.py").write_text(NAMED_RANDOM)
    said = call("--rule", tmp_path / "mine.py", *SMALL, "--no-probe", "--out", tmp_path / "run")
    begun = run.begin(RunOptions.from_dict(stored(tmp_path / "run").options)).weights
    weights = stored(tmp_path / "run").params
    assert not np.array_equal(begun["conv1"]["weight"], weights["conv1"]["weight"])
    assert "Train on:" in said


def test_a_rule_without_a_loss_has_no_loss_anywhere(tmp_path):
    said = call("--rule", "oja", *SMALL, "--no-probe", "--out", tmp_path / "run")
    assert "loss" not in stored(tmp_path / "run").metrics
    summary = runs.read_summary(tmp_path / "run")
    assert "loss_last" not in summary and len(summary["open_gates_last"]) == 2
    assert "last loss" not in said and "losses.png" not in said
    assert "the rule descends no loss" in said
    assert not (tmp_path / "run" / "losses.png").exists()


def test_what_was_used_is_stored_where_a_default_was_meant(tmp_path):
    call("--rule", "clapp", *SMALL[:-2], "--no-probe", "--out", tmp_path / "run")
    config = tomllib.loads((tmp_path / "run" / "config.toml").read_text())
    wanted = {
        "lr": 2e-4, "optimiser": "adam", "steps": 12, "negatives": 1, "negatives_from": "patch",
        "prediction_steps": 5, "weights": "retro", "gate": "own", "context": "same",
        "modules": "layers", "layers": 2,
    }  # fmt: skip
    assert {name: config[name] for name in wanted} == wanted
    assert runs.read_summary(tmp_path / "run")["options"]["lr"] == 2e-4
    # The configuration makes the same run.
    config = tmp_path / "run" / "config.toml"
    call("--config", config, "--out", tmp_path / "again")
    one, two = (stored(tmp_path / name).params["conv2"]["W_pred"] for name in ("run", "again"))
    np.testing.assert_array_equal(one, two)


def test_a_resumed_run_probes_as_it_was_asked_to_at_its_start(tmp_path):
    call(*SMALL, "--no-probe", "--out", tmp_path / "run")
    assert "Linear probe" not in call("--resume", tmp_path / "run", "--steps", 3)
    sizes = ["--probe", "--probe-train", 30, "--probe-test", 20]
    assert "30 training, 20 test images" in call("--resume", tmp_path / "run", "--steps", 4, *sizes)
    assert "30 training, 20 test images" in call("--resume", tmp_path / "run", "--steps", 5)


def test_a_run_killed_before_its_recording_was_written_records_when_resumed(tmp_path):
    call(*SMALL, "--no-probe", "--record", "layer=1,random=2", "--record-every", 1,
        "--out", tmp_path / "run")  # fmt: skip
    (tmp_path / "run" / "record.h5").unlink()
    call("--resume", tmp_path / "run", "--steps", 4)
    assert inspection.read(tmp_path / "run")["step"].tolist() == [3, 4]


def test_what_a_killed_start_left_out_is_made_up_for(tmp_path):
    (tmp_path / "mine.py").write_text(NAMED_RANDOM)
    call("--rule", tmp_path / "mine.py", *SMALL, "--no-probe", "--out", tmp_path / "run")
    whole = {p.name: p.read_bytes() for p in (tmp_path / "run").glob("*.[pt][yo]*")}
    for name in ("config.toml", "rule.py"):
        (tmp_path / "run" / name).unlink()
    call("--resume", tmp_path / "run")
    assert {n: (tmp_path / "run" / n).read_bytes() for n in ("config.toml", "rule.py")} == {
        n: whole[n] for n in ("config.toml", "rule.py")
    }


def test_a_disk_that_is_full_at_the_figures_loses_no_accuracy(tmp_path, monkeypatch):
    def full(figure, path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(figures, "save_both", full)
    state = run.begin(RunOptions(width=0.03, layers=1))
    probed = probe.Probed("regularised", "sample", ["conv1"], [0.5], [0.4], 10, 10, 10)
    with pytest.raises(OSError):
        screens.summary(state, tmp_path, probed)
    assert runs.read_summary(tmp_path)["probe"]["trained"] == [0.5]


def test_weights_that_were_put_in_at_step_0_are_not_taken_for_the_random_start(monkeypatch):
    state = run.begin(RunOptions(width=0.03, layers=1))
    seen = []
    monkeypatch.setattr(
        probe,
        "encode",
        lambda net, weights, *rest, **how: (
            seen.append(weights) or [np.random.rand(len(rest[1]), 3)]
        ),
    )
    sizes = {"train_images": 40, "test_images": 20}
    probe.probe_run(state, **sizes)
    assert len(seen) == 2  # one set of weights, encoded for training and testing
    state.weights["conv1"]["weight"] *= 2
    probe.probe_run(state, **sizes)
    assert len(seen) == 6


def test_without_a_terminal_probes_tell_how_far_they_are(tmp_path):
    said = call(*SMALL, "--probe-train", 30, "--probe-test", 20, "--out", tmp_path / "run")
    for line in ("trained weights: test images: 20/20", "random weights: training images: 30/30"):
        assert line in said


def test_a_recording_meets_a_full_disk_before_hdf5_does(tmp_path, monkeypatch):
    """The room is reserved first; what was recorded can be read, and the run says what to do."""
    from plasticity import growing

    def full(file, end, room):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(growing.os, "posix_fallocate", full)
    call = ["run", *SMALL, "--no-probe", "--record", "layer=1,random=2", "--record-every", "1"]
    done = CliRunner().invoke(main, [*call, "--out", str(tmp_path / "run")])
    assert done.exit_code == 2 and "the disk is full" in done.output
    with h5py.File(tmp_path / "run" / "record.h5") as file:
        assert len(file["step"]) == 0


def test_a_run_keeps_the_checkpoints_that_it_is_asked_for_and_learns_the_same(tmp_path):
    how = (*SMALL[:-2], "--steps", 5, "--no-probe", "--out")
    call(*how, tmp_path / "kept", "--keep-every", 2)
    call(*how, tmp_path / "plain")
    kept = runs.kept(tmp_path / "kept")
    assert list(kept) == [0, 2, 4] and runs.kept(tmp_path / "plain") == {}
    whole, plain = (stored(tmp_path / name) for name in ("kept", "plain"))
    for step, path in kept.items():
        one = runs.load(path)
        assert one.step == step and len(one.metrics["seconds"]) == step
        assert np.array_equal(one.metrics["seconds"], whole.metrics["seconds"][:step])
        if step:
            assert np.array_equal(one.metrics["loss"], whole.metrics["loss"][:step])
    for layer, own in plain.params.items():
        assert all(np.array_equal(whole.params[layer][name], w) for name, w in own.items())
    begun = run.begin(RunOptions.from_dict(plain.options)).weights
    start = runs.load(kept[0]).params
    assert np.array_equal(start["conv2"]["W_pred"], begun["conv2"]["W_pred"])
    call("--resume", tmp_path / "kept", "--steps", 7, "--keep-every", 3)
    assert list(runs.kept(tmp_path / "kept")) == [0, 2, 4, 6]


def test_what_is_no_kept_checkpoint_is_passed_over(tmp_path):
    folder = runs.kept_path(tmp_path, 12).parent
    folder.mkdir()
    for name in ("step-000012.h5", "step-12.h5", "step-x.h5", "step-000013.h5.7.writing", "a.h5"):
        (folder / name).touch()
    assert runs.kept(tmp_path) == {12: folder / "step-000012.h5"}
    assert runs.kept_path(tmp_path, 12345678).name == "step-12345678.h5"


def test_a_run_with_other_fields_keeps_its_data_set_open():
    state = run.begin(RunOptions(width=0.02, layers=1, batch=4))
    assert "stimulus" not in vars(state.alone), "nothing is opened for it"
    opened = state.stimulus
    assert state.alone.stimulus is state.small.stimulus is state.but(step=1).stimulus is opened
    assert state.small.options.batch == 2
