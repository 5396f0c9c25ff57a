"""A run's folder belongs to one process at a time."""

import json
import os
import signal
import subprocess
import sys
import textwrap

import pytest
from click.testing import CliRunner
from plasticity.cli import main

from plasticity import claims, runs
from plasticity.errors import UserError
from tests.processes import reached

RUN = ["run", "--width", "0.03", "--batch", "4", "--layers", "1", "--no-probe"]


def invoke(*args):
    return CliRunner().invoke(main, [*map(str, args)])


def holder(folder, then="input()"):
    """A process that holds the folder until it is told to go on."""
    code = f"""
    from pathlib import Path
    from plasticity import claims
    with claims.held(Path({str(folder)!r})):
        print("held", flush=True)
        {then}
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    return process


def test_a_held_folder_names_who_holds_it_and_is_free_afterwards(tmp_path):
    process = holder(tmp_path)
    with pytest.raises(UserError, match=f"is being written to by process {process.pid} on"):
        claims.held(tmp_path).__enter__()
    process.communicate("\n")
    assert not (tmp_path / claims.OWNER).exists()
    with claims.held(tmp_path):
        assert json.loads((tmp_path / claims.OWNER).read_text())["process"] == os.getpid()


def test_the_claim_of_a_process_that_was_killed_is_taken_over(tmp_path):
    process = holder(tmp_path)
    process.kill()
    process.wait()
    assert (tmp_path / claims.OWNER).exists()
    with claims.held(tmp_path):
        assert json.loads((tmp_path / claims.OWNER).read_text())["process"] == os.getpid()


def test_an_owner_that_cannot_be_read_is_left_out_of_the_sentence(tmp_path):
    process = holder(tmp_path)
    (tmp_path / claims.OWNER).write_text("{")
    with pytest.raises(UserError, match="is being written to: wait"):
        claims.held(tmp_path).__enter__()
    process.communicate("\n")


def test_names_that_others_have_taken_are_numbered(tmp_path):
    with claims.new(tmp_path / "run", numbered=True) as first:
        (first / "kept").write_text("")
        with claims.new(tmp_path / "run", numbered=True) as second:
            assert (first.name, second.name) == ("run", "run-2")
    assert first.is_dir() and not second.exists()  # nothing was written to the second


def test_a_run_that_never_began_leaves_no_folder_and_blocks_no_other(tmp_path):
    done = invoke(*RUN, "--crop", 32, "--out", tmp_path / "deep" / "run")
    assert done.exit_code == 2 and not (tmp_path / "deep" / "run").exists()
    assert invoke(*RUN, "--steps", 1, "--out", tmp_path / "deep" / "run").exit_code == 0


def test_an_empty_folder_that_was_there_stays_when_a_run_fails(tmp_path):
    done = invoke(*RUN, "--crop", 32, "--out", tmp_path)
    assert done.exit_code == 2 and tmp_path.is_dir()
    assert invoke(*RUN, "--steps", 1, "--out", tmp_path).exit_code == 0


def test_a_file_in_the_folders_place_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    done = invoke(*RUN, "--steps", 1, "--out", tmp_path / "file" / "run")
    assert done.exit_code == 2 and "cannot be made" in done.output


def test_of_two_starts_into_one_folder_one_wins(tmp_path):
    """At the same moment, several times: one result, and one sentence each time."""
    for number in range(3):
        out = tmp_path / str(number)
        call = [sys.executable, "-m", "plasticity", *RUN, "--steps", "3", "--out", str(out)]
        both = [
            subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            for _ in range(2)
        ]
        said = [process.communicate()[0] for process in both]
        codes = [process.returncode for process in both]
        assert sorted(codes) == [0, 2], said
        lost = said[codes.index(2)]
        assert "being written to" in lost or "holds something already" in lost
        assert runs.load(runs.checkpoint_path(out)).step == 3


@pytest.mark.parametrize("name", ["SIGHUP", "SIGUSR1", "SIGTERM"])
def test_a_live_run_cannot_be_resumed_and_is_saved_when_a_scheduler_ends_it(tmp_path, name):
    out = tmp_path / "run"
    call = [sys.executable, "-m", "plasticity", *RUN, "--steps", "100000", "--out", str(out)]
    call += ["--checkpoint-minutes", "0.001"]
    process = subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    reached(out, 2, process)
    beside = invoke("run", "--resume", out)
    assert beside.exit_code == 2 and f"by process {process.pid}" in beside.output
    process.send_signal(getattr(signal, name))
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130 and "and saved" in said
    step = runs.load(runs.checkpoint_path(out)).step
    assert invoke("run", "--resume", out, "--steps", step + 1).exit_code == 0


def test_a_signal_that_the_process_ignores_stays_ignored(tmp_path):
    """As `nohup` has it."""
    out = tmp_path / "run"
    call = [sys.executable, "-m", "plasticity", *RUN, "--steps", "100000", "--out", str(out)]
    process = subprocess.Popen(
        [*call, "--checkpoint-minutes", "0.001"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    reached(out, 2, process)
    process.send_signal(signal.SIGHUP)
    reached(out, runs.load(runs.checkpoint_path(out)).step + 5, process)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
