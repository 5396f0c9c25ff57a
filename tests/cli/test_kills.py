"""Runs that are killed at random moments, again and again, end as if nothing had happened."""

import os
import random
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from plasticity.cli import main

from plasticity import runs

RUN = ["--width", "0.03", "--images", "80", "--batch", "8", "--seed", "5", "--steps", "40",
       "--checkpoint-minutes", "0", "--no-probe"]  # fmt: skip
RECORD = ["--record", "layer=*,random=3;layer=2,prediction=1:0:0", "--record-every", "3"]


def process(*args):
    return subprocess.Popen(
        [sys.executable, "-m", "plasticity", "run", *map(str, args)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )


def go_on(folder, *more):
    """The arguments that begin a run in the folder, or go on with it if it has begun."""
    begun = runs.checkpoint_path(folder).is_file()
    return ["--resume", folder] if begun else [*RUN, *more, "--out", folder]


def kill_soon(folder, chance, *more):
    """Start the run or go on with it, and kill it at a random moment. Whether it was killed."""
    running = process(*go_on(folder, *more))
    while running.poll() is None and not (folder / "running.json").is_file():
        time.sleep(0.005)
    time.sleep(chance.uniform(0, 1.0))
    killed = running.poll() is None
    running.kill()
    running.wait()
    return killed


def content(path):
    """Every array of an HDF5 file by its name, but for times."""
    found = {}
    with h5py.File(path, "r") as file:
        file.visititems(
            lambda name, item: (
                found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None
            )
        )
    return {name: array for name, array in found.items() if "seconds" not in name}


def check(tmp_path, folders, kills, seed, more):
    chance, count = random.Random(seed), 0
    done = CliRunner().invoke(main, ["run", *map(str, go_on(tmp_path / "whole", *more))])
    assert done.exit_code == 0, done.output
    files = ["checkpoint.h5"] + (["record.h5"] if more else [])
    for number in range(folders):
        folder = tmp_path / str(number)
        count += sum(kill_soon(folder, chance, *more) for _ in range(kills))
        done = CliRunner().invoke(main, ["run", *map(str, go_on(folder, *more))])
        assert done.exit_code == 0, done.output
        for name in files:
            whole, found = content(tmp_path / "whole" / name), content(folder / name)
            assert whole.keys() == found.keys()
            for key, array in whole.items():
                assert np.array_equal(array, found[key], equal_nan=array.dtype.kind == "f"), key
        left = {path.name for path in folder.iterdir()}
        assert left == {path.name for path in (tmp_path / "whole").iterdir()}
    return count


def test_a_recorded_run_that_is_killed_twice_ends_bit_for_bit_with_its_whole_recording(tmp_path):
    assert check(tmp_path, folders=1, kills=2, seed=1, more=RECORD) > 0


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], RECORD], ids=["plain", "recorded"])
def test_after_25_kills_at_random_moments_runs_end_bit_for_bit(tmp_path, more):
    assert check(tmp_path, folders=5, kills=5, seed=2, more=more) >= 20
