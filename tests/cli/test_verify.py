"""`plasticity verify`: it passes what is right and fails what is wrong."""

import json

import pytest
from click.testing import CliRunner
from plasticity.cli import main
from plasticity.rules.clapp import Clapp

RULES = ["clapp", "clapp_s", "hinge_cpc", "cpc", "gim", "supervised", "greedy_supervised"]
SMALL = ["verify", "--width", "0.04", "--seeds", "1"]


def call(*args):
    return CliRunner().invoke(main, [*SMALL, *map(str, args)], env={"COLUMNS": "120"})


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_with_a_loss_is_its_gradient(rule, tmp_path):
    done = call("--rule", rule, "--json", tmp_path / "v.json")
    assert done.exit_code == 0, done.output
    rows = json.loads((tmp_path / "v.json").read_text())["rows"]
    assert {row["layer"] for row in rows} == {f"conv{i}" for i in range(1, 7)}
    assert max(row["error"] for row in rows) < 1e-10


def test_a_context_from_above_is_verified_too():
    done = call("--rule", "clapp_s", "--weights", "symmetric", "--context", "above")
    assert done.exit_code == 0, done.output


def test_a_wrong_sign_fails_and_is_placed(monkeypatch):
    right = Clapp.gamma
    monkeypatch.setattr(Clapp, "gamma", lambda self, u, event: -right(self, u, event))
    done = call()
    assert done.exit_code == 1 and "differs" in done.output
    assert "0 of 24 comparisons hold" in done.output


def test_closed_gates_prove_nothing_and_say_so(monkeypatch):
    monkeypatch.setattr(Clapp, "gamma", lambda self, u, event: 0 * u)
    done = call()
    assert done.exit_code == 1 and "proves nothing" in done.output


def test_a_rule_without_a_loss_is_said():
    done = call("--rule", "random")
    assert done.exit_code == 2 and "gradient of no loss" in done.output
