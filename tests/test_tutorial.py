"""The tutorial, as a stranger follows it: its files are written, its commands run, in order."""

import re

import pytest

from tests.pages import blocks, follow

PAGE = "own_rule.md"


@pytest.fixture(scope="module")
def followed(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("stranger"))
        return follow(PAGE)


def outputs(followed, start: str) -> list[str]:
    return [done.output for done in followed if done.command.startswith(start)]


def test_every_command_ends_as_the_page_says(followed):
    assert len(followed) == 15
    for done in followed:
        assert done.came == done.promised, f"{done.command}: {done.output}"


def test_the_events_of_the_synapse_add_up_to_its_dW(followed):
    output, _ = outputs(followed, "plasticity inspect")
    (promised,) = [text for language, text in blocks(PAGE) if language == "text"]
    assert promised.strip() in output and "decay" in output and "post" in output


def test_a_rule_without_a_loss_is_checked_for_locality_and_sums(followed):
    (output,) = outputs(followed, "plasticity verify runs/hebb")
    assert "gated_hebb is the gradient of no loss" in output and "Locality: layer" in output
    assert re.search(r"add up to dW at (\d+) of \1 ", output) and "depends" not in output
    assert "its equation for one synapse" in output and "differs" not in output


def test_the_loss_is_compared_by_torch_and_by_differences_and_the_sign_fails(followed):
    *_, torch, differences, wrong = outputs(followed, "plasticity verify --rule")
    assert "torch, float64" in torch and "central differences" in differences
    assert "differs" not in torch + differences
    assert "it points the other way: check the signs" in wrong
    assert wrong.count("differs") == wrong.count("-1.000000") == 4


def test_a_factor_that_the_equation_does_not_have_is_caught(followed):
    """Covariance and STDP, each as it is written, and then with "active and won" besides."""
    covariance, its_winners, stdp, its_winners_too, *_ = outputs(
        followed, "plasticity verify --rule"
    )
    for right in (covariance, stdp):
        assert "its equation for one synapse" in right and "differs" not in right
    for wrong in (its_winners, its_winners_too):
        assert wrong.count("differs") == 3 and "depends" not in wrong
        assert re.search(r"add up to dW at (\d+) of \1 ", wrong)


def test_the_factor_of_the_weight_and_the_constraint_are_shown(followed):
    _, output = outputs(followed, "plasticity inspect")
    assert "share = gate x weight x dendritic x pre x synapse" in output
    assert "after the optimiser" in output and "within rounding" in output
