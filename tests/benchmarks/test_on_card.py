"""The script for a card, rehearsed on the stand-in as on a machine that lacks most packages."""

import json
import os
import subprocess
import sys

import pytest

from benchmarks import on_card
from tests.kernels import emulation


@pytest.mark.skipif(bool(emulation.MISSING), reason=emulation.MISSING)
def test_every_stage_ends_and_leaves_what_it_found_where_most_packages_are_missing(tmp_path):
    how = ["-m", "tests.bare", "benchmarks/on_card.py", "--out", str(tmp_path), "--rehearse"]
    done = subprocess.run(
        [sys.executable, *how],
        cwd=on_card.ROOT,
        env={**os.environ, emulation.FOLDER: str(emulation.folder()), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert {name: stage["how"] for name, stage in summary.items()} == dict.fromkeys(
        on_card.STAGES, "ended"
    )
    told = {path.stem: path.read_text() for path in tmp_path.glob("*.txt")}
    assert len(list(tmp_path.iterdir())) <= 12
    assert "conv6" in told["kernels"] and "2560x1->" in told["kernels"]
    assert "images/s" in told["step"] and "utterances/s" in told["step"]
    assert {"gru_states", "gru_posts", "windows", "conv5"} <= set(told["step"].split())
    assert "passed" in told["tests"] and "failed" not in told["tests"]
    assert "utterances/s" in told["torch"] and "at its best, TF32" in told["torch"]
    assert "failed" not in told["torch"]
    assert "random weights" in told["train"]
    assert "bfloat16: " in told["step"] and "clips/s" in told["step"]
    assert told["graph"].count("the same bits; 3 steps replayed") == 4
    assert told["repeat"].count("the same bits") == 5 and "9x72x72x3->" in told["kernels"]
    assert "compute-sanitizer" in told["sanitizer"] and "ncu" in told["profile"]
    slowest = json.loads((tmp_path / "slowest.json").read_text())
    assert len(slowest) == 2 and all(name in told["step"] for name in slowest)


@pytest.mark.parametrize(
    ("code", "how"),
    [
        ("import time; print('begun', flush=True); time.sleep(60)", "stopped after 1 s"),
        ("print('begun', flush=True); raise SystemExit(3)", "failed with 3"),
        ("print('begun')", "ended"),
    ],
)
def test_a_stage_that_hangs_or_fails_ends_and_keeps_what_it_printed(code, how, tmp_path):
    found = on_card.watched([sys.executable, "-c", code], tmp_path / "a.txt", 1)
    assert found["how"] == how and (tmp_path / "a.txt").read_text() == "begun\n"


def test_all_stages_together_stay_within_eight_minutes():
    assert sum(stage.seconds for stage in on_card.STAGES.values()) <= 480
