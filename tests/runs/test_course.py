"""Weights alone over time: `run --keep-weights`, in one file that grows."""

import os
import shutil
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from plasticity.cli import main

import plasticity as pl
from plasticity import runs
from plasticity.errors import UserError

SMALL = ["--width", "0.03", "--batch", "4", "--layers", "2", "--no-probe", "--device", "cpu"]


def call(*args):
    return CliRunner().invoke(main, [*map(str, args)], env={"COLUMNS": "120"})


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of eight steps that keeps checkpoints and weights of every second one."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    how = ["--keep-every", 2, "--keep-weights", 2]
    done = call("run", *SMALL, "--steps", 8, *how, "--out", folder)
    assert done.exit_code == 0, done.output
    return folder


def read(folder):
    with h5py.File(folder / "weights.h5") as file:
        found = {}
        file["weights"].visititems(
            lambda name, one: found.update({name: one[()]} if hasattr(one, "shape") else {})
        )
        return list(file["step"]), found


def same(one, other):
    steps, weights = one
    return (
        steps == other[0]
        and weights.keys() == other[1].keys()
        and all(np.array_equal(w, other[1][name]) for name, w in weights.items())
    )


def test_the_weights_of_a_step_are_those_of_the_checkpoint_that_was_kept_there(whole):
    run = pl.open(whole)
    assert read(whole)[0] == run.steps == [0, 2, 4, 6, 8]
    for step in run.steps:
        alone = runs.load(runs.record_path(whole, step), moments=False)
        full = runs.load(runs.kept_path(whole, step), moments=False)
        assert alone.step == step and alone.options["keep_weights"] == 2
        for layer, own in full.params.items():
            for name, w in own.items():
                assert np.array_equal(w, alone.params[layer][name])
                assert np.array_equal(w, run.weights_at(step)[layer][name])
    opened = pl.open(whole, checkpoint=whole / "weights.h5" / "4")
    assert opened.step == 4 and opened.encode("test", images=4)["conv2"].shape[0] == 4


@pytest.mark.parametrize("at", [4, 5])
def test_a_run_that_is_resumed_ends_with_the_same_file(whole, tmp_path, at):
    folder = tmp_path / "run"
    call("run", *SMALL, "--steps", at, "--keep-weights", 2, "--out", folder)
    shutil.copy(whole / "weights.h5", folder)  # killed at step 8, its checkpoint is older
    done = call("run", "--resume", folder, "--steps", 8)
    assert done.exit_code == 0, done.output
    assert same(read(folder), read(whole))


def test_a_run_that_was_killed_between_its_checkpoint_and_keeping_leaves_no_gap(whole, tmp_path):
    folder = tmp_path / "run"
    call("run", *SMALL, "--steps", 4, "--out", folder)
    done = call("run", "--resume", folder, "--steps", 8, "--keep-weights", 2, "--keep-every", 2)
    assert done.exit_code == 0, done.output
    assert read(folder)[0] == list(runs.kept(folder)) == [4, 6, 8]


def test_a_killed_writer_leaves_whole_records_and_the_run_goes_on(tmp_path):
    folder = tmp_path / "run"
    how = ["run", *SMALL, "--steps", "20000", "--keep-weights", "1", "--out", str(folder)]
    going = subprocess.Popen(
        [sys.executable, "-m", "plasticity", *how, "--checkpoint-minutes", "0"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    until = time.monotonic() + 60
    while time.monotonic() < until and len(list_of(folder)) < 5:
        time.sleep(0.05)
    os.kill(going.pid, signal.SIGKILL)
    going.wait()
    steps = list_of(folder)
    assert len(steps) >= 5 and steps == list(range(len(steps)))
    for step in steps:
        runs.load(runs.record_path(folder, step), moments=False)
    last = runs.head(runs.checkpoint_path(folder))[1] + 3
    done = call("run", "--resume", folder, "--steps", last)
    assert done.exit_code == 0, done.output
    assert read(folder)[0] == list(range(last + 1))


def list_of(folder):
    try:
        return list(runs.kept(folder))
    except UserError:  # it grows at this moment
        return []


def test_float16_is_the_rounded_weights_in_a_smaller_file(whole, tmp_path):
    folder = tmp_path / "run"
    how = ["--keep-weights", 2, "--keep-dtype", "float16"]
    assert call("run", *SMALL, "--steps", 8, *how, "--out", folder).exit_code == 0
    for name, w in read(whole)[1].items():
        rounded = read(folder)[1][name]
        assert rounded.dtype == np.float16 and np.array_equal(rounded, w.astype(np.float16))
    assert (folder / "weights.h5").stat().st_size < (whole / "weights.h5").stat().st_size
    done = call("run", "--resume", folder, "--steps", 9, "--keep-dtype", "float32")
    assert done.exit_code == 2 and "float16 of shape" in done.output, done.output
    assert read(folder)[0] == [0, 2, 4, 6, 8]


def test_kept_weights_are_probed_and_compared_as_kept_checkpoints_are(whole, tmp_path):
    alone = shutil.copytree(whole, tmp_path / "alone")
    shutil.rmtree(alone / "checkpoints")
    for folder in (whole, alone):
        done = call("probe", folder, "--kept", "--train", 40, "--test", 20, "--json",
                    tmp_path / f"{folder.name}.json")  # fmt: skip
        assert done.exit_code == 0, done.output
    found = [runs.read_json(tmp_path / f"{name}.json") for name in ("alone", "whole")]
    assert all(found[0][name] == found[1][name] for name in ("steps", "trained", "best"))
    done = call("compare", alone, "--with", "hinge_cpc", "--batches", 1)
    assert done.exit_code == 0 and "step 6" in done.output, done.output


@pytest.mark.parametrize(
    "given, told",
    [
        (["inspect", "weights.h5/4", "--layer", 1], "the optimiser's moments too"),
        (["probe", "weights.h5/5"], "it has no step 5: there are 0, 2, 4, 6, 8"),
        (["probe", "checkpoints/5"], "is no file"),
    ],
)
def test_what_cannot_be_read_is_told_in_a_sentence(whole, given, told):
    command, place, *more = given
    done = call(command, whole, "--checkpoint", whole / place, *more)
    assert done.exit_code == 2 and told in done.output and "Traceback" not in done.output


def test_a_damaged_file_is_named(whole, tmp_path):
    folder = shutil.copytree(whole, tmp_path / "run")
    content = (folder / "weights.h5").read_bytes()
    for damaged in (content[:3000], b"nothing", b""):
        (folder / "weights.h5").write_bytes(damaged)
        done = call("run", "--resume", folder, "--steps", 10)
        assert done.exit_code == 2 and "weights.h5 cannot be" in done.output, done.output


def test_options_that_mean_nothing_are_refused(tmp_path):
    done = call("run", *SMALL, "--keep-dtype", "float16", "--out", tmp_path / "run")
    assert done.exit_code == 2 and "--keep-weights N" in done.output
    with pytest.raises(UserError, match="keep-dtype"):
        pl.run(keep_weights=1, keep_dtype="int8", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
