"""`plasticity compare` as a user meets it."""

import csv
import json

import pytest
from click.testing import CliRunner
from plasticity.cli import main

TINY = ["--width", "0.04", "--layers", "2", "--batch", "4", "--images", "40", "--seed", "1"]


def call(*args):
    return CliRunner().invoke(main, [str(a) for a in args])


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    place = tmp_path_factory.mktemp("runs")
    for rule in ("clapp", "oja"):
        sizes = ["--steps", 2, "--keep-every", 1, "--probe-train", 40, "--probe-test", 30]
        done = call("run", "--rule", rule, *TINY, *sizes, "--out", place / rule)
        assert done.exit_code == 0, done.output
    return place


def test_two_rules_over_a_training_as_table_csv_json_and_figure(runs, tmp_path):
    files = {flag: tmp_path / f"found.{flag}" for flag in ("csv", "json")}
    files["figure"] = tmp_path / "found.png"
    more = [part for flag, path in files.items() for part in (f"--{flag}", path)]
    done = call("compare", runs / "clapp", "--with", "clapp_s", "--batches", 2, *more)
    assert done.exit_code == 0, done.output
    assert "clapp beside clapp_s" in done.output and "step 2" in done.output
    rows = list(csv.DictReader(files["csv"].open()))
    assert {row["step"] for row in rows} == {"0", "1", "2"}
    assert len(json.loads(files["json"].read_text())["pairs"]) == len(rows)
    assert files["figure"].read_bytes().startswith(b"\x89PNG")


def test_a_rule_beside_itself_with_another_setting_on_a_fresh_network():
    fresh = ["--rule", "clapp", "--width", 0.04, "--layers", 2, "--batch", 4]
    done = call("compare", *fresh, "--set", "weights=symmetric", "--batches", 1)
    assert done.exit_code == 0, done.output
    assert "retro" in done.output and "symmetric" in done.output


def test_two_runs_by_their_layers_and_their_probes(runs, tmp_path):
    figure = tmp_path / "runs.png"
    done = call("compare", runs / "clapp", runs / "oja", "--images", 30, "--figure", figure)
    assert done.exit_code == 0, done.output
    assert "Linear CKA" in done.output and "oja - clapp" in done.output
    assert figure.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "given, told",
    [
        (["RUN"], "nothing to compare"),
        (["RUN", "--with", "no_such"], "unknown rule"),
        (["RUN", "RUN"], "named twice"),
        (["RUN", "OTHER", "--with", "cpc"], "--with is for one run"),
        (["RUN", "--with", "cpc", "--steps", "7"], "7"),
        (["RUN", "--with", "cpc", "--steps", "x"], "whole numbers"),
        (["RUN", "--with", "cpc", "--images", "30"], "--images"),
        (["RUN", "--with", "cpc", "--set", "nonsense=1"], "nonsense"),
        (["RUN/nothing", "--with", "cpc"], "no run"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_told_in_a_sentence(runs, given, told):
    there = {"RUN": runs / "clapp", "OTHER": runs / "oja", "RUN/nothing": runs / "nothing"}
    done = call("compare", *(there.get(part, part) for part in given))
    assert done.exit_code == 2 and told in done.output, done.output
    assert "Traceback" not in done.output
