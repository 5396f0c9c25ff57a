"""`plasticity verify`: it passes what is right and fails what is wrong."""

import json
from xml.etree import ElementTree

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
    layers = 6 if rule == "gim" else 3  # its three modules are of six layers
    done = call("--rule", rule, "--layers", layers, "--json", tmp_path / "v.json")
    assert done.exit_code == 0, done.output
    rows = json.loads((tmp_path / "v.json").read_text())["rows"]
    assert {row["layer"] for row in rows} == {f"conv{i}" for i in range(1, layers + 1)}
    assert max(row["error"] for row in rows) < 1e-10


def test_a_context_from_above_is_verified_too():
    done = call("--rule", "clapp_s", "--weights", "symmetric", "--context", "above", "--layers", 4)
    assert done.exit_code == 0, done.output


def test_a_wrong_sign_fails_and_is_placed(monkeypatch, tmp_path):
    right = Clapp.gamma
    monkeypatch.setattr(Clapp, "gamma", lambda self, u, event: -right(self, u, event))
    done = call("--layers", 2, "--json", tmp_path / "v.json", "--junit", tmp_path / "v.xml")
    assert done.exit_code == 1 and "differs" in done.output
    assert "Where dW is wrong it points the other way: check the signs." in done.output
    found = json.loads((tmp_path / "v.json").read_text())
    assert {row["verdict"] for row in found["rows"]} == {"differs"} and not found["holds"]
    assert all(row["cosine"] == pytest.approx(-1) for row in found["rows"])
    # What is wrong is the sign, not the locality, and the events still add up to dW.
    for name in ("dependences", "sums"):
        assert {row["verdict"] for row in found[name]} == {"ok"}
    suite = ElementTree.parse(tmp_path / "v.xml").getroot()
    assert int(suite.get("failures")) == len(found["rows"]) == len(suite.findall(".//failure"))
    assert int(suite.get("tests")) == sum(len(found[n]) for n in ("rows", "dependences", "sums"))
    assert "differs: relative error 2.0e+00" in suite.find(".//failure").get("message")


def test_a_wrong_factor_is_told_from_a_wrong_sign(monkeypatch):
    right = Clapp.gamma
    monkeypatch.setattr(Clapp, "gamma", lambda self, u, event: 2 * right(self, u, event))
    done = call("--layers", 1)
    assert done.exit_code == 1 and "with another size: check the factors." in done.output


def test_closed_gates_prove_nothing_and_say_so(monkeypatch):
    monkeypatch.setattr(Clapp, "gamma", lambda self, u, event: 0 * u)
    done = call("--layers", 2)
    assert done.exit_code == 1 and "proves nothing" in done.output
    assert "gates are closed, nobody wins, or dW is 0" in done.output


def test_a_rule_without_a_loss_is_said_and_checked_for_the_rest(tmp_path):
    done = call("--rule", "oja", "--layers", 2, "--json", tmp_path / "v.json")
    assert done.exit_code == 0, done.output
    assert "oja is the gradient of no loss: there is none to compare with" in done.output
    found = json.loads((tmp_path / "v.json").read_text())
    assert {row["method"] for row in found["rows"]} == {"definition"}
    assert "dW beside its equation for one synapse" in done.output
    assert found["holds"] and found["compared"] and len(found["dependences"]) == 2
    assert len(found["sums"]) > 8
    done = call("--rule", "random", "--layers", 2)
    assert done.exit_code == 1 and "gradient of no loss" in done.output
    assert "0 of 2 checks hold" in done.output


def test_where_there_is_nothing_independent_to_compare_with_nothing_is_said_to_hold(tmp_path):
    rule = tmp_path / "mine.py"
    rule.write_text(
        "from dataclasses import dataclass\nfrom plasticity.rules.oja import Oja\n\n"
        "@dataclass(frozen=True)\nclass Mine(Oja):\n    name = 'mine'\n    definition = None\n"
    )
    done = call("--rule", rule, "--layers", 2, "--json", tmp_path / "v.json")
    assert done.exit_code == 1 and "nothing independent to compare dW with" in done.output
    found = json.loads((tmp_path / "v.json").read_text())
    assert not found["holds"] and {row["verdict"] for row in found["sums"]} == {"ok"}


def test_feedback_alignment_is_compared_through_its_random_weights_by_autograd_alone():
    for split in ("1", "layers"):
        done = call("--rule", "feedback_alignment", "--modules", split, "--layers", 2)
        assert done.exit_code == 0 and "gradient of no loss" not in done.output
    how = ("--modules", 1, "--layers", 2, "--method", "finite-difference")
    done = call("--rule", "feedback_alignment", *how)
    assert done.exit_code == 2 and "which is no slope" in done.output


def test_a_trained_run_is_verified_with_its_own_options(tmp_path):
    run = CliRunner().invoke(main, ["run", "--width", "0.04", "--layers", "2", "--batch", "4",
                                    "--rule", "clapp_s", "--weights", "symmetric", "--steps", "3",
                                    "--no-probe", "--out", str(tmp_path / "run")])  # fmt: skip
    assert run.exit_code == 0, run.output
    verify = lambda *a: CliRunner().invoke(main, ["verify", str(tmp_path / "run"), *a])  # noqa: E731
    done = verify("--json", str(tmp_path / "v.json"), "--seeds", "1")
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "v.json").read_text())
    assert {row["parameter"] for row in found["rows"]} == {"weight", "bias", "W_pred"}
    assert {row["tolerance"] for row in found["rows"]} == {1e-4}  # it was trained in float32
    done = verify("--tolerance", "1e-12", "--seeds", "1")
    assert done.exit_code == 1 and "differs" in done.output
    assert "--gate is for a fresh network" in verify("--gate", "off").output


def test_bad_input_is_one_sentence():
    for args, sentence in (
        (("--seeds", 0), "Invalid value for '--seeds'"),
        (("--against", "cuda:9", "--layers", 1), "cuda:9"),
        (("--rule", "none"), "unknown rule 'none'"),
        (("--no-dendrites", "--method", "finite-difference", "--layers", 1), "descends no loss"),
    ):
        done = call(*args)
        assert done.exit_code == 2 and sentence in done.output, done.output
