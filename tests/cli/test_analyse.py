"""`plasticity analyse cpc-gradient`: tables, files, figure, errors."""

import csv
import json

import pytest
from click.testing import CliRunner
from PIL import Image
from plasticity.cli import main

FRESH = ["--width", "0.03", "--batch", "2"]


def call(*args):
    arguments = ["analyse", "cpc-gradient", *map(str, args)]
    return CliRunner().invoke(main, arguments, env={"COLUMNS": "120"})


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "gim"
    args = ["run", "--rule", "gim", "--width", "0.03", "--batch", "2", "--steps", "1", "--no-probe"]
    done = CliRunner().invoke(main, [*args, "--device", "cpu", "--out", str(folder)])
    assert done.exit_code == 0, done.output
    return folder


def test_terms_go_to_the_screen_to_json_to_csv_and_into_a_figure(tmp_path):
    paths = [tmp_path / name for name in ("t.json", "t.csv", "t.png")]
    done = call(*FRESH, "--json", paths[0], "--csv", paths[1], "--figure", paths[2])
    assert done.exit_code == 0, done.output
    found = json.loads(paths[0].read_text())
    assert found["agrees"] and "18 of 18 sums are the dW of the rule" in done.output
    assert f"{found['terms'][0]['size']:.4g}" in done.output
    with open(paths[1], newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["section"] for row in rows} == {"checks", "terms", "needs", "signals"}
    share = sum(
        float(row["value"])
        for row in rows
        if (row["section"], row["layer"], row["parameter"], row["quantity"])
        == ("terms", "conv3", "weight", "share")
    )
    assert share == pytest.approx(1)
    assert Image.open(paths[2]).size[0] > 1000


def test_a_run_is_analysed_with_its_own_modules(run, tmp_path):
    done = call(run, "--json", tmp_path / "t.json")
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "t.json").read_text())
    assert [s["layer"] for s in found["signals"]] == ["conv2", "conv4", "conv6"] and found[
        "step"
    ] == 2
    assert {part["layer"] for part in found["terms"]} == {f"conv{i}" for i in range(1, 7)}


def test_terms_that_are_not_the_update_fail(monkeypatch):
    from plasticity.rules.cpc import Cpc

    right = Cpc.gamma
    monkeypatch.setattr(Cpc, "gamma", lambda self, u, event: 1.001 * right(self, u, event))
    done = call(*FRESH)
    assert done.exit_code == 1 and "DIFFERS" in done.output and "0 of 18 sums" in done.output


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("nowhere",), "nowhere is no run folder"),
        ((*FRESH, "--figure", "terms.jpeg"), "a figure is written as"),
        ((*FRESH, "--modules", "5"), "--modules 5 does not split the 6 layers"),
        ((*FRESH, "--checkpoint", "c.h5"), "--checkpoint is a file of a run"),
        (("--batch", 7000), "--batch 7000 is more than the 6000 images"),
    ],
)
def test_what_is_asked_wrongly_is_told_in_a_sentence(args, told):
    done = call(*args)
    assert done.exit_code == 2 and told in " ".join(done.output.split())


def test_a_run_keeps_its_own_options(run):
    done = call(run, "--width", "0.3")
    assert done.exit_code == 2 and "--width is for a fresh network" in done.output
