"""Rules and networks from files and from installed packages: found, bound to a run, or refused."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from plasticity.cli import main

from plasticity import networks, rules, runs
from plasticity.errors import UserError
from plasticity.runs.options import RunOptions

RULE = """
from dataclasses import dataclass
from typing import ClassVar

from plasticity.arrays import array_module
from plasticity.rule import Learning, Rule


@dataclass(frozen=True)
class Mean(Rule):
    rate: float = 0.5
    twice: bool = False
    steps: int = 2

    name: ClassVar[str] = "mean"
    equation: ClassVar[str] = "dW_ji = rate z_j x_i"

    def learn(self, z, own, draw, layout):
        xp = array_module(z)
        return Learning((1 + self.twice) * self.rate * z / len(z), xp.zeros(()), xp.ones(()))
"""
NETWORK = """
from plasticity.network import Conv, Network


def build(width=1.0):
    return Network("tiny", (Conv("one", 1, 4, pool=2), Conv("two", 4, 4, pool=2)))
"""
SMALL = ("--batch", "4", "--no-probe")


@pytest.fixture
def files(tmp_path):
    (tmp_path / "mean.py").write_text(RULE)
    (tmp_path / "tiny.py").write_text(NETWORK)
    return tmp_path


def call(*args):
    return CliRunner().invoke(main, list(map(str, args)), env={"COLUMNS": "200"})


def ok(*args):
    done = call(*args)
    assert done.exit_code == 0, done.output
    return done.output


def refused(*args):
    done = call(*args)
    assert done.exit_code == 2, done.output
    return done.output.replace("\n", " ")


def test_a_rule_and_a_network_are_files_and_the_run_keeps_copies(files):
    ok("run", "--rule", files / "mean.py", "--net", files / "tiny.py", "--set", "rate=2",
       "--steps", 2, *SMALL, "--out", files / "run")  # fmt: skip
    assert (files / "run/rule.py").read_text() == RULE
    assert (files / "run/net.py").read_text() == NETWORK
    stored = runs.load(files / "run/checkpoint.h5")
    assert set(stored.params) == {"one", "two"} and stored.rule["name"] == "mean"
    assert stored.options["set"] == {"rate": "2"}
    assert set(map(len, stored.options["files"].values())) == {64}  # SHA-256


def test_the_stored_config_makes_the_same_run_and_set_adds_to_it(files):
    ok("run", "--rule", files / "mean.py", "--net", files / "tiny.py", "--set", "rate=2",
       "--steps", 2, *SMALL, "--out", files / "a")  # fmt: skip
    ok("run", "--config", files / "a/config.toml", "--no-probe", "--out", files / "b")
    ok("run", "--config", files / "a/config.toml", "--set", "twice=true", "--no-probe",
       "--out", files / "c")  # fmt: skip
    a, b, c = (runs.load(files / f"{n}/checkpoint.h5") for n in "abc")
    np.testing.assert_array_equal(a.params["two"]["weight"], b.params["two"]["weight"])
    assert c.options["set"] == {"rate": "2", "twice": "true"}


def test_a_resumed_run_cannot_meet_another_text_of_its_rule(files):
    path, run = files / "mean.py", files / "run"
    ok("run", "--rule", path, "--net", files / "tiny.py", "--steps", 2, *SMALL, "--out", run)
    path.write_text(RULE.replace("0.5", "0.6"))
    ok("inspect", run, "--layer", 1)  # the run has a copy of its own
    text = (run / "rule.py").read_text()
    (run / "rule.py").write_text(text.replace("0.5", "0.6"))
    for command in (("run", "--resume", run), ("inspect", run, "--layer", 1), ("probe", run)):
        assert "which had another text" in refused(*command)
    (run / "rule.py").write_text(text)
    (files / "other.py").write_text(RULE + "# another\n")
    for command in (("run", "--resume", run), ("inspect", run, "--layer", 1), ("probe", run)):
        assert "which had another text" in refused(*command, "--rule", files / "other.py")
    assert "would make another run" in refused("run", "--resume", run, "--rule", "clapp")
    ok("run", "--resume", run, "--rule", run / "rule.py", "--steps", 3, "--no-probe")
    path.unlink()
    ok("inspect", run, "--layer", 1)  # the run has moved to its copy


def test_options_reach_the_fields_a_rule_has_and_others_are_refused(files):
    rule = str(files / "mean.py")
    made = RunOptions(rule=rule, prediction_steps=3, set={"rate": "1e-2"}).rule_object()
    assert (made.rate, made.twice, made.steps) == (0.01, False, 3)
    takes = "mean takes rate (float), twice (bool), steps (int)"
    for changed in ({"gate": "off"}, {"dendrites": False}, {"negatives": 3}, {"coin": True}):
        with pytest.raises(UserError, match="has no meaning for the rule mean: ") as told:
            RunOptions(rule=rule, **changed).rule_object()
        assert takes in str(told.value)
    with pytest.raises(UserError, match="--set tau: mean has no such field"):
        RunOptions(rule=rule, set={"tau": "1"}).rule_object()
    with pytest.raises(UserError, match="--set twice=1: expected true or false"):
        RunOptions(rule=rule, set={"twice": "1"}).rule_object()
    default = RunOptions().rule_object()
    assert default == rules.get("clapp")


BROKEN = {
    "no class": ("from plasticity.rule import Rule", "holds no rule: expected a class"),
    "two classes": (RULE + "\n\nclass Other(Mean):\n    pass\n", "name one of them, such as"),
    "syntax": ("def f(:\n", r"cannot be imported: SyntaxError: .*\(line 1\)"),
    "import": ("import none_such", "cannot be imported: ModuleNotFoundError"),
    "no dataclass": (RULE.replace("@dataclass(frozen=True)", ""), "is no frozen dataclass"),
    "not frozen": (RULE.replace("(frozen=True)", ""), "is no frozen dataclass|cannot be imported"),
    "no name": (RULE.replace('name: ClassVar[str] = "mean"', ""), "has no name: expected name: "),
    "no equation": (RULE.replace("    equation", "    formula"), "has no equation"),
    "no learn": (RULE[: RULE.index("    def learn")], "fails in learn: the method is missing"),
    "fails": (RULE.replace("len(z)", "len(w)"), r"NameError: name 'w' is not defined \(line 20\)"),
    "arguments": (RULE.replace("own, draw, layout", "own"), "fails in learn, .* TypeError"),
    "shape": (RULE.replace("* z /", "* z[:, :2] /"), r"a drive of shape .* not \(24, 2\)"),
    "kind": (RULE.replace("return Learning(", "return ("), "give a Learning, not tuple"),
    "loss": (RULE.replace("xp.zeros(())", "xp.zeros(2)"), "a single number for loss"),
    "gates": (RULE.replace("xp.ones(())", "xp.ones(3)"), "a single number for open_gates"),
    "prepare": (
        RULE + "\n    def prepare(self, neurons, rng):\n        return [1]\n",
        "prepare should give a dict of arrays, not list",
    ),
    "draw": (
        RULE + "\n    def draw(self, layout, rng):\n        pass\n",
        "draw should give a Draw, not nothing",
    ),
    "changes": (
        RULE.replace("xp.ones(()))", "xp.ones(()), {'W': z})"),
        "changes of what prepare gives, not of W",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_wrong_with_a_rule_is_said_before_training(case, tmp_path):
    text, sentence = BROKEN[case]
    (tmp_path / "broken.py").write_text(text)
    with pytest.raises(UserError, match=sentence) as told:
        RunOptions(rule=str(tmp_path / "broken.py")).rule_object()
    assert "broken" in str(told.value)


def test_one_of_several_rules_is_named_after_the_path(tmp_path):
    (tmp_path / "two.py").write_text(RULE + "\n\nclass Other(Mean):\n    pass\n")
    assert rules.find(f"{tmp_path}/two.py:Other").__name__ == "Other"
    with pytest.raises(UserError, match="holds no class None"):
        rules.find(f"{tmp_path}/two.py:None")


def test_a_file_that_builds_no_network_is_told(tmp_path):
    path = tmp_path / "net.py"
    for text, sentence in (
        ("x = 1", "holds no function build"),
        ("def build(width):\n    return 3\n", "is a int: build must return"),
        ("def build():\n    return 3\n", r"cannot be built: TypeError: .*width"),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=sentence):
            networks.get(str(path), width=1.0)


def test_installed_packages_offer_rules_and_networks(tmp_path, monkeypatch):
    (tmp_path / "another_package.py").write_text(RULE + NETWORK)
    about = tmp_path / "another_package-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: another-package\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(
        "[plasticity.rules]\nmean = another_package:Mean\nlost = none_such:Rule\n"
        "[plasticity.networks]\ntiny = another_package:build\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    output = ok("run", "--rule", "mean", "--net", "tiny", "--steps", 1, *SMALL,
                "--out", tmp_path / "run")  # fmt: skip
    assert "mean on tiny" in output
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert summary["layers"] == ["one", "two"]
    with pytest.raises(UserError, match="the rule lost of another-package cannot be imported"):
        rules.find("lost")
    with pytest.raises(UserError, match="did you mean 'mean'"):
        rules.find("meen")
