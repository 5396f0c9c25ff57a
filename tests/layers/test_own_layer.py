"""A kind of layer of one's own, written as CONTRIBUTING.md says: every command takes it."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from plasticity.cli import main

FILE = Path(__file__).with_name("own_layer.py")


def call(*args):
    done = CliRunner().invoke(main, [str(a) for a in args], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize("rule", ["clapp_s", "predictive_coding", "covariance", "sanger"])
def test_rules_are_verified_on_it(rule):
    told = call("verify", "--net", FILE, "--rule", rule, "--seeds", 1, "--batch", 3)
    assert "differs" not in told and "dense2" in told and "dense3" in told


def test_a_slope_of_the_layers_own_is_no_factor_of_a_rule_that_does_not_name_it():
    """Oja's equation has no slope of tanh: said of both layers, and of none but them."""
    args = ["verify", "--net", str(FILE), "--rule", "oja", "--seeds", "1", "--batch", "3"]
    done = CliRunner().invoke(main, args)
    assert done.exit_code == 1 and done.output.count("differs") == 4


def test_differences_and_modules_of_several_layers_are_verified_on_it():
    how = ("--rule", "clapp_s", "--modules", "1", "--weights", "symmetric", "--seeds", 1)
    for method in ("torch", "finite-difference"):
        assert "differs" not in call("verify", "--net", FILE, *how, "--method", method)


def test_a_run_of_it_is_inspected_recorded_exported_and_drawn(tmp_path):
    run = tmp_path / "run"
    call("run", "--net", FILE, "--rule", "clapp_s", "--batch", 4, "--steps", 2, "--device", "cpu",
        "--probe-train", 20, "--probe-test", 10, "--record", "layer=*,random=3",
        "--record-every", 1, "--out", run)  # fmt: skip
    assert "within rounding" in call("inspect", run, "--layer", "dense2", "--synapse", "1,2")
    call("inspect", run, "--layer", "dense2")
    call("export", run, "--output", tmp_path / "weights.npz")
    for figure in ("losses", "hinge", "gates", "predictions", "kernels", "patches", "history"):
        call("plot", run, figure, "--out", tmp_path / f"{figure}.png")
    call("report", run)
