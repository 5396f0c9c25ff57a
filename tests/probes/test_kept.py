"""Probes of the checkpoints that a run has kept, and the best of them."""

import pytest
from click.testing import CliRunner
from plasticity.cli import main

from plasticity import runs
from plasticity.probes.kept import Kept
from plasticity.probes.probe import probe_run
from plasticity.runs import lifecycle


def call(*args):
    return CliRunner().invoke(main, [*map(str, args)], env={"COLUMNS": "120"})


def test_the_best_of_a_layer_is_its_highest_the_first_of_equals():
    over = Kept(["a", "b"], [0, 5, 9], [[0.1, 0.4], [0.3, 0.2], [0.3, 0.5]], 0.1, {})
    assert over.best == {"a": 5, "b": 9}


def test_every_kept_checkpoint_is_probed_as_it_is_alone(tmp_path):
    small = ["--width", "0.03", "--batch", "8", "--layers", "2", "--lr", "0.01", "--no-probe"]
    folder = tmp_path / "run"
    assert call("run", *small, "--steps", 5, "--keep-every", 2, "--out", folder).exit_code == 0
    done = call("probe", folder, "--kept", "--train", 40, "--test", 20)
    assert done.exit_code == 0 and "best at" in done.output, done.output
    found = runs.read_json(folder / "kept-probes.json")
    assert found["steps"] == [0, 2, 4, 5] and set(found["best"]) == {"conv1", "conv2"}
    for step, path in runs.kept(folder).items():
        state = lifecycle.reopen(folder, path, device="cpu")
        alone = probe_run(state, train_images=40, test_images=20, beside_random=False)
        assert found["trained"][found["steps"].index(step)] == pytest.approx(alone.trained)
    done = call("probe", folder, "--kept", "--checkpoint", path)
    assert done.exit_code == 2 and "leave --checkpoint" in done.output


def test_a_run_that_has_kept_none_says_how_to(tmp_path):
    small = ["--width", "0.03", "--batch", "4", "--layers", "1", "--steps", "1", "--no-probe"]
    assert call("run", *small, "--out", tmp_path / "run").exit_code == 0
    done = call("probe", tmp_path / "run", "--kept")
    assert done.exit_code == 2 and "--keep-every N" in done.output
