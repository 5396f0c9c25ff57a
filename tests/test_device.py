"""Training, probing and inspecting on a GPU: the same numbers as on the CPU.

On the stand-in for CuPy in every test run, and on a card with `pytest -m gpu`.
"""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from plasticity.cli import main

from plasticity import inspection, rules, runs, training
from plasticity.arrays import to_host
from plasticity.data.loader import learning_batch
from plasticity.options import RunOptions
from tests import standin
from tests.kernels import emulation
from tests.kernels.test_gpu import MISSING

SMALL = {"width": 0.03, "batch": 4, "crop": 40, "dtype": "float64"}
MODULES = {"hinge_cpc": "2", "cpc": "1+2+3"}  # of several layers, not all of one size


@pytest.fixture(
    params=[
        pytest.param(
            "stand-in",
            marks=pytest.mark.skipif(bool(emulation.MISSING), reason=emulation.MISSING),
        ),
        pytest.param(
            "card", marks=[pytest.mark.gpu, pytest.mark.skipif(bool(MISSING), reason=MISSING)]
        ),
    ]
)
def gpu(request):
    """The machine of the stand-in, or None on a card."""
    if request.param == "card":
        yield None
    else:
        with standin.installed() as machine:
            yield machine


def begun(rule="clapp", device="cuda", **more):
    options = {**SMALL, "modules": MODULES.get(rule, ""), **more}
    if hasattr(rules.find(rule), "steps"):
        options["prediction_steps"] = 2
    return training.begin(RunOptions(rule=rule, device=device, **options))


def steps(state, count):
    """Train for so many steps; the losses."""
    options, losses = state.options, []
    images = options.learning_set()
    for step in range(state.step, state.step + count):
        batch = learning_batch(images, options.batch, options.crop, options.seed, step)
        found = training.learn_batch(state, batch, images)
        losses.append([float(loss) for loss in found["loss"]])
    return np.array(losses)


def weights(state):
    return {(la, n): to_host(w) for la, own in state.weights.items() for n, w in own.items()}


def assert_same(found, wanted, limit=1e-10):
    assert found.keys() == wanted.keys()
    for key, w in wanted.items():
        assert found[key].dtype == w.dtype
        scale = np.nanmax(np.abs(w), initial=0)
        np.testing.assert_allclose(found[key], w, rtol=0, atol=limit * scale, err_msg=str(key))


@pytest.mark.parametrize("rule", rules.RULES)
def test_every_rule_learns_the_same_on_a_gpu(gpu, rule):
    found, wanted = begun(rule), begun(rule, "cpu")
    assert found.device == "cuda:0"
    np.testing.assert_allclose(steps(found, 2), steps(wanted, 2), rtol=1e-10)
    assert_same(weights(found), weights(wanted))


CALL = [
    *("--width", "0.03", "--batch", "4", "--crop", "40", "--prediction-steps", "2"),
    *("--dtype", "float64", "--images", "40", "--no-probe"),
]
PROBE = ["--protocol", "published", "--epochs", "2", "--views", "1", "--train", "10", "--test", "6"]


def call(*args):
    return CliRunner().invoke(main, [*map(str, args)], env={"COLUMNS": "120"})


def stored(folder):
    params = runs.load(runs.checkpoint_path(folder)).params
    return {(la, n): w for la, own in params.items() for n, w in own.items()}


def test_a_run_is_trained_resumed_probed_and_inspected_on_a_gpu(gpu, tmp_path):
    record = ("--record", "layer=2,synapse=1:1:0:2,random=3,neurons=0:2,weights;layer=1,all")
    folders = {device: tmp_path / device for device in ("cpu", "cuda")}
    found = {}
    for device, folder in folders.items():
        on = ("--device", device)
        for args in (
            ("run", *CALL, *on, "--steps", 2, *record, "--record-every", 1, "--out", folder),
            ("run", "--resume", folder, *on, "--steps", 3, "--no-probe"),
            ("probe", folder, *on, *PROBE, "--json", folder / "probe.json"),
            ("inspect", folder, *on, "--layer", 2, "--synapse", "1,1,0,2"),
        ):
            done = call(*args)
            assert done.exit_code == 0, done.output
        found[device] = inspection.read(folder / "record.h5")
    assert_same(stored(folders["cuda"]), stored(folders["cpu"]))
    assert_same(found["cuda"], found["cpu"], limit=1e-6)  # what is recorded is float32
    probes = [json.loads((f / "probe.json").read_text()) for f in folders.values()]
    assert probes[0]["trained"] == probes[1]["trained"]
