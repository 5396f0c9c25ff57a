"""Checkpoints: exact, readable by others, and never half."""

import os
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest

from plasticity import runs
from plasticity.errors import UserError
from plasticity.runs import Checkpoint


def checkpoint(dtype=np.float32, step=7):
    rng = np.random.default_rng(step)
    array = lambda *shape: rng.standard_normal(shape).astype(dtype)  # noqa: E731
    params = {"conv1": {"weight": array(4, 1, 3, 3), "W_pred": array(2, 4, 4)}}
    moments = {
        "conv1": {
            n: {"m": array(*w.shape), "v": array(*w.shape)} for n, w in params["conv1"].items()
        }
    }
    metrics = {"loss": rng.standard_normal((step, 1)), "seconds": np.ones(step)}
    rule = {"name": "clapp", "equation": "dW = gamma d post pre", "citation": "Eq. (6)"}
    options = {"seed": 3, "rule": "clapp", "lr": 2e-4}
    return Checkpoint(step, params, moments, metrics, options, rule, {"numpy": np.__version__})


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_checkpoint_comes_back_bit_for_bit(tmp_path, dtype):
    saved = checkpoint(dtype)
    runs.save(tmp_path / "c.h5", saved)
    found = runs.load(tmp_path / "c.h5")
    for name, w in saved.params["conv1"].items():
        assert found.params["conv1"][name].dtype == dtype
        np.testing.assert_array_equal(found.params["conv1"][name], w)
        for m in "mv":
            np.testing.assert_array_equal(
                found.moments["conv1"][name][m], saved.moments["conv1"][name][m]
            )
    np.testing.assert_array_equal(found.metrics["loss"], saved.metrics["loss"])
    assert (found.step, found.options, found.rule) == (7, saved.options, saved.rule)


def test_any_viewer_finds_names_axes_and_the_equation(tmp_path):
    runs.save(tmp_path / "c.h5", checkpoint())
    with h5py.File(tmp_path / "c.h5") as file:
        assert file.attrs["equation"] == "dW = gamma d post pre"
        assert "target neuron" in file["weights/conv1/W_pred"].attrs["axes"]
        assert file["metrics/seconds"].attrs["units"] == "s"
        assert file["random"].attrs["seed"] == 3
        assert set(file["optimiser/conv1/weight"]) == {"m", "v"}


def test_weights_can_be_read_without_the_optimiser(tmp_path):
    runs.save(tmp_path / "c.h5", checkpoint())
    assert runs.load(tmp_path / "c.h5", moments=False).moments == {}


def test_a_damaged_or_foreign_file_is_named(tmp_path):
    path = tmp_path / "c.h5"
    runs.save(path, checkpoint())
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"something else"):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"c\.h5 cannot be read"):
            runs.load(path)
    with h5py.File(path, "w") as file:
        file["x"] = 1
    with pytest.raises(UserError, match="no checkpoint of this program"):
        runs.load(path)
    path.write_bytes(whole)
    with h5py.File(path, "a") as file:
        file.attrs["format"] = 99
    with pytest.raises(UserError, match="format 99"):
        runs.load(path)


def test_a_folder_without_a_run_is_named(tmp_path):
    with pytest.raises(UserError, match="is no run folder"):
        runs.checkpoint_of(tmp_path / "none")
    with pytest.raises(UserError, match=r"holds no checkpoint\.h5"):
        runs.checkpoint_of(tmp_path)


def test_weights_that_are_not_finite_are_refused():
    params = {"conv2": {"bias": np.array([0.0, np.nan])}}
    with pytest.raises(UserError, match=r"conv2\.bias holds values that are not finite"):
        runs.check_finite(params)


def test_killed_while_saving_a_whole_checkpoint_is_left(tmp_path):
    code = (
        "import sys\nfrom pathlib import Path\nfrom tests.test_runs import checkpoint\n"
        "from plasticity import runs\nstep = 1\n"
        "while True:\n    runs.save(Path(sys.argv[1]), checkpoint(step=step)); step += 1\n"
    )
    path = tmp_path / "c.h5"
    for wait in (0.01, 0.05, 0.13):
        path.unlink(missing_ok=True)
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(path)], env={**os.environ, "PYTHONPATH": "."}
        )
        while not path.exists():
            assert process.poll() is None
            time.sleep(0.005)
        time.sleep(wait)
        process.send_signal(signal.SIGKILL)
        process.wait()
        found = runs.load(path)
        wanted = checkpoint(step=found.step)
        np.testing.assert_array_equal(
            found.params["conv1"]["weight"], wanted.params["conv1"]["weight"]
        )
