"""`--gate circuit` through the commands: a run, its resumption, its updates taken apart."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from plasticity.cli import main

from plasticity import runs

SMALL = ["--width", "0.03", "--images", "80", "--batch", "4", "--no-probe", "--device", "cpu"]
NOISY = ["--gate", "circuit", "--circuit-noise", "0.3", "--burst-probability", "0.5"]


def call(*args):
    return CliRunner().invoke(main, [*map(str, args)], env={"COLUMNS": "120"})


def run(folder, steps, *args):
    done = call("run", *SMALL, "--steps", steps, "--out", folder, *args)
    assert done.exit_code == 0, done.output
    return done.output


def stored(folder):
    found = runs.load(runs.checkpoint_path(folder))
    return found.metrics, {(la, n): w for la, own in found.params.items() for n, w in own.items()}


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "noisy"
    return folder, run(folder, 6, *NOISY)


def test_a_run_tells_how_often_its_gates_are_as_H_says(noisy):
    folder, output = noisy
    summary = json.loads((folder / "summary.json").read_text())
    assert "gates as H" in output and len(summary["agreement_last"]) == 6
    assert stored(folder)[0]["agreement"].shape == (6, 6)
    assert all(0.5 < value < 1 for value in summary["agreement_last"])


def test_a_noisy_run_in_two_parts_is_the_run_in_one(noisy, tmp_path):
    run(tmp_path / "a", 2, *NOISY)
    assert call("run", "--resume", tmp_path / "a", "--steps", 6, "--no-probe").exit_code == 0
    (a_metrics, a), (b_metrics, b) = stored(tmp_path / "a"), stored(noisy[0])
    assert all(np.array_equal(a[key], b[key]) for key in b)
    np.testing.assert_array_equal(a_metrics["agreement"], b_metrics["agreement"])


def test_without_noise_the_run_is_the_run_by_H_bit_for_bit(tmp_path):
    run(tmp_path / "H", 4)
    run(tmp_path / "circuit", 4, "--gate", "circuit")
    (H_metrics, H), (metrics, circuit) = stored(tmp_path / "H"), stored(tmp_path / "circuit")
    assert all(np.array_equal(H[key], circuit[key]) for key in H)
    np.testing.assert_array_equal(H_metrics["open_gates"], metrics["open_gates"])
    np.testing.assert_allclose(metrics["agreement"], 1, rtol=1e-6)


def test_an_update_of_a_noisy_run_can_be_taken_apart(noisy):
    done = call("inspect", noisy[0], "--layer", 4, "--synapse", "2,1,0,2")
    assert done.exit_code == 0 and "within rounding" in done.output


def test_without_noise_the_circuit_is_the_gradient_of_the_loss_and_with_noise_of_none():
    small = ["verify", "--width", "0.03", "--seeds", "1", "--gate", "circuit"]
    assert call(*small).exit_code == 0
    done = call(*small, "--set", "circuit_noise=0.1")
    assert done.exit_code == 2 and "opens its gate where no loss does" in done.output


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--circuit-noise", "0.1"], "they go with --gate circuit, not with own"),
        (["--gate", "circuit", "--burst-probability", "0"], "must be above 0 and at most 1"),
        (["--gate", "circuit", "--circuit-noise", "-1"], "--circuit-noise must not be negative"),
        (["--rule", "gim", "--gate", "circuit"], "gim has no surprise gate"),
        (["--rule", "random", "--circuit-noise", "1"], "no meaning for the rule random"),
    ],
)
def test_a_circuit_where_none_can_be_is_told_in_a_sentence(args, told, tmp_path):
    done = call("run", *SMALL, "--steps", 1, "--out", tmp_path / "a", *args)
    assert done.exit_code == 2 and told in " ".join(done.output.split())
    assert not (tmp_path / "a").exists()
