"""Checkpoints: exact, readable by others, and never half."""

import os
import signal
import subprocess
import sys
import time
import tomllib

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
    versions, axes = {"numpy": np.__version__}, {"W_pred": "(k, target neuron j, neuron k)"}
    return Checkpoint(step, params, moments, metrics, options, rule, versions, axes)


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
    cuts = (len(whole) - 1, len(whole) // 2, 600, 8, 0)
    for damaged in (*(whole[:cut] for cut in cuts), b"something else"):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"c\.h5 cannot be read"):
            runs.load(path)
    with h5py.File(path, "w") as file:
        file["x"] = 1
    with pytest.raises(UserError, match="no checkpoint of this program"):
        runs.load(path)
    for name, value, told in (
        ("format", 99, "format 99"),
        ("format", "later", "format is no whole number"),
        ("options", 3, "checksum"),
    ):
        path.write_bytes(whole)
        with h5py.File(path, "a") as file:
            file.attrs[name] = value
        with pytest.raises(UserError, match=rf"c\.h5 .*{told}"):
            runs.load(path)
    with pytest.raises(UserError, match=r"none\.h5 is no file"):
        runs.load(tmp_path / "none.h5")


def test_a_folder_without_a_run_is_named(tmp_path):
    with pytest.raises(UserError, match="is no run folder"):
        runs.checkpoint_of(tmp_path / "none")
    with pytest.raises(UserError, match=r"holds no checkpoint\.h5"):
        runs.checkpoint_of(tmp_path)


def test_weights_that_are_not_finite_are_refused():
    params = {"conv2": {"bias": np.array([0.0, np.nan])}}
    with pytest.raises(UserError, match=r"conv2\.bias holds values that are not finite"):
        runs.check_finite(params)


def test_the_options_come_back_from_toml(tmp_path):
    options = {
        "rule": "clapp", "data": 'a "quoted" \\ path\n\x7f', "data_dir": "Bücher/😀",
        "lr": 2e-4, "width": 1.0, "seed": -3, "block_grad": False, "layers": [1, 2],
    }  # fmt: skip
    runs.write_config(tmp_path, options)
    assert tomllib.loads((tmp_path / "config.toml").read_text(encoding="utf-8")) == options


def test_a_path_that_is_not_utf8_stops_no_run(tmp_path):
    runs.write_config(tmp_path, {"data_dir": os.fsdecode(b"/\xff"), "seed": 1})
    assert "seed = 1" in (tmp_path / "config.toml").read_text(encoding="utf-8")


def test_the_summary_comes_back_or_is_missed(tmp_path):
    with pytest.raises(UserError, match=r"holds no summary\.json"):
        runs.read_summary(tmp_path)
    runs.write_summary(tmp_path, {"steps": 3, "loss_last": [1.5, 2.0]})
    assert runs.read_summary(tmp_path) == {"steps": 3, "loss_last": [1.5, 2.0]}
    (tmp_path / "summary.json").write_text("{")
    with pytest.raises(UserError, match=r"summary\.json cannot be read"):
        runs.read_summary(tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="limits of file size are of POSIX")
def test_where_room_runs_out_the_earlier_checkpoint_stands(tmp_path):
    code = (
        "import resource, sys\nfrom pathlib import Path\nimport numpy as np\n"
        "from tests.runs.test_folder import checkpoint\nfrom plasticity import runs\n"
        "from plasticity.errors import UserError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "more = checkpoint(step=9)\n"
        "for size in range(10_000, 30_000, 500):\n"
        "    more.params['conv1']['weight'] = np.ones(size, 'f4')\n"
        "    try:\n        runs.save(Path(sys.argv[1]), more)\n"
        "    except UserError as error:\n        print(error)\n"
    )
    path = tmp_path / "c.h5"
    runs.save(path, checkpoint())
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        env={**os.environ, "PYTHONPATH": "."},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "c.h5 could not be written: File too large; the file that stood" in done.stdout
    assert runs.load(path).step == 9 and list(tmp_path.iterdir()) == [path]


def test_killed_while_saving_a_whole_checkpoint_is_left(tmp_path):
    code = (
        "import sys\nfrom pathlib import Path\nfrom tests.runs.test_folder import checkpoint\n"
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
