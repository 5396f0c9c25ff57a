"""`plasticity runs`: what is there, sorted, and what cannot be read."""

import csv
import json

import pytest
from click.testing import CliRunner
from plasticity.cli import main

TINY = ["--width", "0.04", "--layers", "1", "--batch", "4", "--images", "40"]


def call(*args):
    return CliRunner().invoke(main, [str(a) for a in args])


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("all")
    for name, rule, steps in (("b", "clapp", 2), ("deep/a", "oja", 1)):
        done = call("run", "--rule", rule, *TINY, "--steps", steps, "--no-probe", "--out",
                    folder / name)  # fmt: skip
        assert done.exit_code == 0, done.output
    probe = {"layers": ["conv1", "conv2"], "trained": [0.25, 0.5], "random": [], "error": 0.1}
    probe |= {"protocol": "regularised", "data": "sample", "test_images": 30}
    (folder / "b" / "probe-regularised-sample.json").write_text(json.dumps(probe))
    return folder


def rows(place, *more):
    done = call("runs", place, "--csv", place / "runs.csv", *more)
    assert done.exit_code == 0, done.output
    return list(csv.DictReader((place / "runs.csv").open())), done.output


def test_every_run_below_a_folder_is_told_with_its_best_layer(place):
    found, output = rows(place)
    assert [row["run"] for row in found] == [str(place / "b"), str(place / "deep" / "a")]
    assert [row["rule"] for row in found] == ["clapp", "oja"]
    assert [row["step"] for row in found] == ["2", "1"]
    assert float(found[0]["accuracy"]) == 50 and found[0]["layer"] == "conv2"
    assert "50.0 (conv2)" in output and "2/2" in output


def test_runs_are_sorted_by_a_column_both_ways_and_those_without_a_value_come_last(place):
    assert [row["rule"] for row in rows(place, "--sort", "step")[0]] == ["oja", "clapp"]
    assert [row["rule"] for row in rows(place, "--sort", "-rule")[0]] == ["oja", "clapp"]
    for by in ("accuracy", "-accuracy"):
        assert [row["rule"] for row in rows(place, "--sort", by)[0]] == ["clapp", "oja"]


def test_a_damaged_checkpoint_is_named_and_the_others_are_told(place):
    (place / "broken").mkdir()
    (place / "broken" / "checkpoint.h5").write_bytes(b"nothing")
    try:
        found, output = rows(place)
    finally:
        (place / "broken" / "checkpoint.h5").unlink()
    assert len(found) == 2 and "broken" in output and "damaged" in output


@pytest.mark.parametrize(
    "given, told", [(["nothing"], "no folder"), (["{}", "--sort", "size"], "--sort size")]
)
def test_what_cannot_be_listed_is_told_in_a_sentence(place, given, told):
    done = call("runs", *(part.format(place) for part in given))
    assert done.exit_code == 2 and told in done.output, done.output


def test_an_empty_folder_has_no_runs(tmp_path):
    done = call("runs", tmp_path)
    assert done.exit_code == 0 and "none" in done.output
