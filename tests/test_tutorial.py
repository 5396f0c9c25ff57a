"""The tutorial, as a stranger follows it: its files are written, its commands run, in order."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner
from plasticity.cli import main

PAGE = Path(__file__).parent.parent / "docs/own_rule.md"


def blocks() -> list[tuple[str, str]]:
    """Language and text of every block of the page."""
    return re.findall(r"^```(\w+)\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)


@pytest.fixture(scope="module")
def followed(tmp_path_factory):
    """Every command of the page, with what it printed and its exit status."""
    folder, done = tmp_path_factory.mktemp("stranger"), []
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for language, text in blocks():
            if language == "python":
                Path(re.match(r"# (\w+\.py)\n", text)[1]).write_text(text)
            elif language == "sh":
                done += [run(line) for line in text.splitlines()]
    return done


def run(line: str) -> tuple[str, int, int, str]:
    """The command, the exit status that the page promises, the one that came, and the output."""
    command, _, promised = line.partition("  # exit status ")
    if not command.startswith("plasticity "):
        subprocess.run(command, shell=True, check=True)
        return command, 0, 0, ""
    words = shlex.split(command)[1:]
    result = CliRunner().invoke(main, words, env={"COLUMNS": "160"}, catch_exceptions=False)
    return command, int(promised or 0), result.exit_code, result.output


def outputs(followed, start: str) -> list[str]:
    return [output for command, *_, output in followed if command.startswith(start)]


def test_every_command_ends_as_the_page_says(followed):
    assert len(followed) == 7
    for command, promised, came, output in followed:
        assert came == promised, f"{command}: {output}"


def test_the_events_of_the_synapse_add_up_to_its_dW(followed):
    (output,) = outputs(followed, "plasticity inspect")
    (promised,) = [text for language, text in blocks() if language == "text"]
    assert promised.strip() in output and "decay" in output and "post" in output


def test_a_rule_without_a_loss_is_checked_for_locality_and_sums(followed):
    (output,) = outputs(followed, "plasticity verify runs/hebb")
    assert "gated_hebb is the gradient of no loss" in output and "Locality: layer" in output
    assert re.search(r"add up to dW at (\d+) of \1 ", output) and "depends" not in output


def test_the_loss_is_compared_by_torch_and_by_differences_and_the_sign_fails(followed):
    torch, differences, wrong = outputs(followed, "plasticity verify --rule")
    assert "torch, float64" in torch and "central differences" in differences
    assert "differs" not in torch + differences
    assert "it points the other way: check the signs" in wrong
    assert wrong.count("differs") == wrong.count("-1.000000") == 4
