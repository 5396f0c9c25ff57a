"""`plasticity reproduce`, as a user sees it."""

import csv
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from click.testing import CliRunner
from plasticity.cli import main

from plasticity import runs

BUDGET = """
data = "sample"
width = 0.02
steps = 8
batch = 4
images = 40
checkpoint_minutes = 0.0
probe_train = 40
probe_test = 30
probe_epochs = 2
probe_views = 1
"""
KINDS = ("md", "csv", "tex", "png", "svg")


def call(*args):
    return CliRunner().invoke(main, ["reproduce", *map(str, args)], env={"COLUMNS": "200"})


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A table at a tiny budget that nothing interrupted, and how it was asked for."""
    folder = tmp_path_factory.mktemp("reproduce")
    (folder / "tiny.toml").write_text(BUDGET)
    how = ("retro", "--budget", folder / "tiny.toml", "--seeds", 1)
    with pytest.MonkeyPatch.context() as patch:  # runs side by side have one thread each
        patch.setenv("OMP_NUM_THREADS", "1")
        done = call(*how, "--jobs", 1, "--out", folder / "out")
    assert done.exit_code == 0, done.output
    return folder / "out", how, done.output


def test_a_table_is_run_and_written_whole(whole):
    folder, _, output = whole
    files = {path.name for path in folder.iterdir() if path.is_file()}
    assert files == {f"retro.{kind}" for kind in KINDS}
    assert all((folder / name).stat().st_size > 200 for name in files)
    assert "run 4 of 4" in output and "Hinge Loss CPC, W_retro" in output and "80.2" in output
    with open(folder / "retro.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["published"] for row in rows] == ["80.3", "80.2", "75.0", "74.1"]
    for row in rows:
        assert float(row["published_probe_mean"]) == float(row["published_probe_seed0"])


def test_the_same_command_again_runs_nothing_and_writes_the_same(whole):
    folder, how, _ = whole
    before = (folder / "retro.csv").read_bytes()
    done = call(*how, "--out", folder)
    assert done.exit_code == 0 and "All 4 runs are done already" in done.output
    assert (folder / "retro.csv").read_bytes() == before


def test_a_table_shares_the_runs_of_another(whole):
    folder, how, _ = whole
    done = call("table6", *how[1:], "--show", "--out", folder)
    assert done.exit_code == 0, done.output
    with open(folder / "table6.csv", newline="") as file:
        seeds = [row["published_probe_seeds"] for row in csv.DictReader(file)]
    assert seeds == ["1", "0", "0", "0", "0", "1"]  # its first row and its last are done


def test_interrupted_side_by_side_and_resumed_it_has_the_same_numbers(whole, tmp_path, monkeypatch):
    folder, how, _ = whole
    command = [sys.executable, "-m", "plasticity", "reproduce", *map(str, how), "--jobs", "2"]
    command += ["--out", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )
    deadline = time.monotonic() + 120
    while not any(p.is_file() for p in tmp_path.glob("*/checkpoint.h5")):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[0]
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 130, output
    assert "the same command goes on" in output and "Traceback" not in output
    assert len(list(tmp_path.glob("*/probe-*.json"))) < 8
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    done = call(*how, "--jobs", 1, "--out", tmp_path)
    assert done.exit_code == 0, done.output
    assert (tmp_path / "retro.csv").read_bytes() == (folder / "retro.csv").read_bytes()
    for run in folder.glob("*/checkpoint.h5"):
        ours, theirs = (runs.load(p).params for p in (run, tmp_path / run.parent.name / run.name))
        for layer, own in ours.items():
            for name, w in own.items():
                np.testing.assert_array_equal(w, theirs[layer][name])


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["tabel1"], "unknown table 'tabel1': did you mean 'table1'"),
        ([], "name a table: table1"),
        (["table1", "--budget", "none.toml"], "--budget none.toml: not a readable TOML file"),
        (["table1", "--budget", "large"], "unknown budget 'large'"),
        (["table1", "--data-dir", "nowhere"], "nowhere/stl10_binary: put it there, name another"),
        (["table1", "--seeds", "0"], "0 is not in the range x>=1"),
    ],
)
def test_bad_input_is_one_sentence_and_status_2(args, sentence, tmp_path):
    done = call(*args, "--out", tmp_path / "out")
    assert done.exit_code == 2 and sentence in done.output.replace("\n", " ")
    assert not (tmp_path / "out").exists()


def test_the_list_has_every_table_and_its_rows():
    output = call("--list").output
    for part in ("table1", "table6", "block_grad", "Random init", "modules=3+1+1+1", "81.1"):
        assert part in output
