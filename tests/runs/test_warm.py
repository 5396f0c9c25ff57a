"""Runs that begin with another run's weights: `--init`."""

import numpy as np
import pytest
from click.testing import CliRunner
from plasticity.cli import main

from plasticity import runs
from plasticity.errors import UserError
from plasticity.inspection import beside
from plasticity.runs import lifecycle, run, warm
from plasticity.runs.options import RunOptions

SMALL = ["--width", "0.03", "--batch", "4", "--layers", "2", "--lr", "0.01", "--no-probe"]


def call(*args):
    return CliRunner().invoke(main, ["run", *map(str, args)])


def made(folder, *args):
    done = call(*SMALL, *args, "--out", folder)
    assert done.exit_code == 0, done.output
    return runs.load(runs.checkpoint_path(folder))


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    folder = tmp_path_factory.mktemp("first") / "run"
    return folder, made(folder, "--steps", 3)


def planned(first, **changed):
    options = {"width": 0.03, "batch": 4, "layers": 2, "device": "cpu", "init": str(first[0])}
    return lifecycle.plan(RunOptions(**{**options, **changed}))


def test_a_run_begins_with_the_weights_of_another_and_its_own_moments(first):
    state = planned(first)
    for layer, own in first[1].params.items():
        for name, w in own.items():
            np.testing.assert_array_equal(state.weights[layer][name], w)
    assert state.step == 0 and not state.optimiser.moments["conv1"]["weight"]["m"].any()


def test_another_rule_takes_the_layers_and_draws_what_it_keeps_itself(first):
    state, drawn = planned(first, rule="bcm"), run.begin(RunOptions(
        width=0.03, batch=4, layers=2, device="cpu", rule="bcm"))  # fmt: skip
    for layer in ("conv1", "conv2"):
        np.testing.assert_array_equal(state.weights[layer]["weight"],
                                      first[1].params[layer]["weight"])  # fmt: skip
        kept = set(state.weights[layer]) - {"weight", "bias"}
        assert kept and all(
            np.array_equal(state.weights[layer][name], drawn.weights[layer][name]) for name in kept
        )


def test_layers_that_the_other_run_lacks_stay_as_drawn(first):
    state = planned(first, layers=3)
    drawn = run.begin(state.options).weights
    np.testing.assert_array_equal(state.weights["conv3"]["weight"], drawn["conv3"]["weight"])
    np.testing.assert_array_equal(state.weights["conv2"]["weight"],
                                  first[1].params["conv2"]["weight"])  # fmt: skip


def test_a_warm_run_resumes_bit_for_bit_and_measures_its_drift_from_there(first, tmp_path):
    how = ("--init", first[0], "--rule", "oja", "--steps")
    whole = made(tmp_path / "whole", *how, 20)
    made(tmp_path / "parts", *how, 4)
    assert call("--resume", tmp_path / "parts", "--steps", 20).exit_code == 0
    parts = runs.load(runs.checkpoint_path(tmp_path / "parts"))
    for layer, own in whole.params.items():
        assert all(np.array_equal(w, parts.params[layer][n]) for n, w in own.items())
    for name, values in whole.measures.items():
        np.testing.assert_array_equal(values, parts.measures[name])
    start, end = (first[1].params["conv1"]["weight"], whole.params["conv1"]["weight"])
    drift = np.linalg.norm(end - start) / np.linalg.norm(start)
    assert whole.measures["drift"][-1, 0] == pytest.approx(drift, rel=1e-5)
    began = beside.checkpoints(tmp_path / "whole")[0]
    np.testing.assert_array_equal(runs.load(began).params["conv1"]["weight"], start)
    warm.path_of(tmp_path / "parts").unlink()
    done = call("--resume", tmp_path / "parts", "--steps", 21)
    assert (
        done.exit_code == 2 and "lacks init.h5, the weights that the run began with" in done.output
    )


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"width": 0.05}, r"weight of conv1 has shape .* there, and shape .* here: take the same"),
        ({"net": "vgg5_video", "width": 0.1}, "of conv1 has"),
        ({"init": "/nowhere"}, "/nowhere is no run folder"),
    ],
)
def test_weights_that_do_not_fit_are_refused(first, changed, said):
    with pytest.raises(UserError, match=said):
        planned(first, **changed)


def test_a_refused_start_leaves_nothing_behind(first, tmp_path):
    done = call(*SMALL[2:], "--width", "0.05", "--init", first[0], "--out", tmp_path / "no")
    assert done.exit_code == 2 and not (tmp_path / "no").exists()
