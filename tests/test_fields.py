"""Options are declared once, where they belong, and everybody reads them there."""

import dataclasses
from dataclasses import dataclass

import pytest
from click.testing import CliRunner
from plasticity.cli import main

from plasticity import fields, networks, rules
from plasticity.errors import UserError
from plasticity.fields import option
from plasticity.rule import Rule
from plasticity.runs.options import OF_RULES, OF_STIMULI, RunOptions
from plasticity.stimuli import STIMULI


@dataclass(frozen=True)
class Mine(Rule):
    tau: float = option(20.0, "A time constant.", least=1)
    part: float = option(0.5, "A part.", least=0, above=True, most=1)
    kind: str = option("hard", "hard or soft.", choices=("hard", "soft"))
    free: float = 0.0


@dataclass(frozen=True)
class Softer(Mine):
    kind: str = "soft"
    tau: float = 0.5


@pytest.mark.parametrize(
    "given, told",
    [
        ({"tau": 0.5}, "tau must be at least 1, got 0.5"),
        ({"tau": float("nan")}, "tau must be at least 1, got nan"),
        ({"part": 0.0}, "part must be above 0 and at most 1, got 0.0"),
        ({"part": 1.5}, "part must be above 0 and at most 1, got 1.5"),
        ({"kind": "firm"}, "unknown kind 'firm': expected hard or soft"),
    ],
)
def test_a_rule_refuses_what_its_fields_do_not_allow(given, told):
    with pytest.raises(UserError, match=told):
        Mine(**given)
    assert Mine(tau=1.0, part=1.0, kind="soft", free=-5.0).free == -5


def test_a_field_that_changes_its_default_alone_keeps_its_limits():
    assert fields.declared(Softer) == fields.declared(Mine)
    with pytest.raises(UserError, match="tau must be at least 1"):
        Softer()


def test_every_option_of_a_shipped_rule_or_stimulus_is_an_option_of_a_run():
    for cls in [*(rules.find(name) for name in rules.RULES), *STIMULI.values()]:
        for name, said in fields.declared(cls).items():
            if said.flag:
                assert said.flag in {f.name for f in dataclasses.fields(RunOptions)}
                assert cls in {**OF_RULES, **OF_STIMULI}[said.flag].of, (cls, name)


def test_the_value_of_an_option_and_of_the_field_that_it_stands_for_go_both_ways():
    for flag, given in OF_RULES.items():
        for word, value in (given.said.words or {}).items():
            assert given.value(word) == value and given.told(value) == word, flag
    assert RunOptions(rule="hinge_cpc", coin=True).rule_object().synchronous is False
    assert RunOptions(weights="symmetric").rule_object().symmetric is True
    assert RunOptions().resolved(0).weights == "retro"
    assert RunOptions(rule="cpc").resolved(0).weights == "symmetric"
    assert RunOptions(rule="hinge_cpc").resolved(0).coin is False


def test_an_option_of_two_meanings_is_refused():
    @dataclass(frozen=True)
    class Other:
        much: int = option(1, "As steps of another name.", flag="prediction_steps")

    with pytest.raises(TypeError, match="much is an option of Clapp too"):
        fields.gathered([rules.find("clapp"), Other])


def test_help_names_every_option_with_its_meaning():
    shown = CliRunner().invoke(main, ["run", "--help"], terminal_width=100).output
    squeezed = "".join(shown.split())
    for name, said in fields.declared(RunOptions).items():
        assert fields.dashed(name) in shown, name
        assert "".join(said.help.split()) in squeezed, name
    for name in (*rules.RULES, *networks.NETWORKS):
        assert name in shown
    for section in ("Options of rules:", "Options of images:", "Options of sound:"):
        assert section in shown


@pytest.mark.parametrize(
    "given, told",
    [
        ({"crop": 0}, "--crop must be at least 1"),
        ({"prediction_steps": -1}, "--prediction-steps must be at least 1"),
        ({"negatives": 10**7}, "--negatives is at most 1,000,000"),
        ({"weights": "both"}, "unknown --weights 'both': expected retro or symmetric"),
        ({"seed": 2**64}, "--seed is at most"),
        ({"optimiser": "sgd"}, "unknown --optimiser 'sgd': expected adam or plain"),
    ],
)
def test_options_of_a_run_are_checked_before_anything_is_opened(given, told):
    with pytest.raises(UserError, match=told):
        RunOptions(**given)
