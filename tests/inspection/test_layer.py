"""One layer: distributions, gates, inhibition and optimiser, against numbers found another way."""

import numpy as np
import pytest

from plasticity import inspection
from plasticity.runs import training
from plasticity.runs.options import RunOptions


def fresh(gain=2.0, **values):
    small = {"width": 0.04, "batch": 2, "crop": 32, "prediction_steps": 1, "dtype": "float64"}
    return inspection.fresh(RunOptions(**{**small, "device": "cpu", "layers": 4, **values}), gain)


@pytest.fixture(scope="module")
def view():
    return inspection.inspect_layer(inspection.look(fresh(seed=1), 2))


def test_the_parts_of_all_patches_make_the_whole_dw():
    step = inspection.look(fresh(seed=1), 2)
    view = inspection.inspect_layer(step, top=10**6)
    assert len(view.patches) == step.layout.rows
    assert sum(row["part of dW"] for row in view.patches) == pytest.approx(1)


def test_every_position_lost_or_is_silent_or_is_reached(view):
    fractions = list(view.silenced.values())[:3]
    assert sum(fractions) == pytest.approx(1) and fractions[2] > 0
    assert fractions[0] == pytest.approx(3 * fractions[2])  # of four neurons one wins


def test_the_open_gates_are_those_that_the_rule_reports(view):
    step = inspection.look(fresh(seed=1), 2)
    opened = sum(row["events"] * row["open"] for row in view.gates)
    halves = [np.mean(role.gamma != 0) for role in step.roles]
    events = [len(role.gamma) for role in step.roles]
    assert opened == pytest.approx(np.dot(halves, events))
    assert np.mean(halves) == pytest.approx(float(step.losses[0].learning.open_gates))
    assert 0 < opened < sum(events)


def test_the_step_of_the_optimiser_is_what_training_does_to_the_weights(view):
    state = fresh(seed=1)
    before = {n: w.copy() for n, w in state.weights["conv2"].items()}
    training.learn_batch(state, state.batch(0))
    for row in view.optimiser:
        moved = state.weights["conv2"][row["parameter"]] - before[row["parameter"]]
        assert row["norm of the step (Adam)"] == pytest.approx(np.linalg.norm(moved))
    assert {row["parameter"] for row in view.optimiser} == {"weight", "bias", "W_pred", "W_retro"}


def test_inspecting_moves_no_weight():
    state = fresh()
    before = state.weights["conv2"]["weight"].copy()
    inspection.inspect_layer(inspection.look(state, 2))
    np.testing.assert_array_equal(state.weights["conv2"]["weight"], before)
    assert not state.optimiser.moments["conv2"]["weight"]["v"].any() and state.step == 0


def test_matrices_that_are_each_others_transpose_are_aligned():
    W = np.random.default_rng(0).standard_normal((3, 4, 4))
    own = {"W_pred": W, "W_retro": np.stack([W[0].T, -W[1].T, 2 * W[2].T])}
    cosines = [row["cosine"] for row in inspection.alignment(own)]
    assert cosines == pytest.approx([1, -1, 1])


def test_what_changed_most_leads(view):
    dW = view.arrays["dW_weight"]
    assert abs(view.synapses[0]["dW"]) == np.abs(dW).max()
    norms = [row["norm of dW"] for row in view.neurons]
    assert norms[0] == pytest.approx(np.linalg.norm(dW.reshape(len(dW), -1), axis=1).max())


@pytest.mark.parametrize("layer", [1, 2, 3])
def test_layers_inside_a_module_are_seen_too(layer):
    view = inspection.inspect_layer(inspection.look(fresh(rule="hinge_cpc", modules="3+1"), layer))
    assert bool(view.gates) == (layer == 3) and "<table>" in view._repr_html_()
