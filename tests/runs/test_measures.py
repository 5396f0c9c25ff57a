"""Measures of layers in the course of a run: of every network, and not a bit of it changes."""

from dataclasses import replace

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from plasticity.cli import main

from plasticity import figures, networks, runs
from plasticity.errors import UserError
from plasticity.reports import plots
from plasticity.runs import lifecycle, measures, run, training
from plasticity.runs.measures import Measures
from plasticity.runs.options import RunOptions
from tests import standin
from tests.kernels import emulation
from tests.small import NETWORK

SMALL = {"width": 0.03, "batch": 4, "layers": 2, "device": "cpu", "probe": False}


@pytest.fixture(autouse=True)
def often(monkeypatch):
    """Short runs are measured too."""
    monkeypatch.setattr(measures, "EVERY", 2)
    monkeypatch.setattr(measures, "WINDOW", 4)


def trained(folder, steps=5, **more):
    state, _ = lifecycle.start(RunOptions(**{**SMALL, "steps": steps, **more}), str(folder))
    training.train(state, folder)
    return runs.load(runs.checkpoint_path(folder))


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name, values in one.items():
        np.testing.assert_array_equal(values, other[name], err_msg=name)


def test_the_first_step_and_every_so_many_are_measured_in_every_layer(tmp_path):
    stored = trained(tmp_path / "run")
    assert stored.measures["step"].tolist() == [1, 2, 4]
    assert {n: v.shape for n, v in stored.measures.items() if n != "step"} == dict.fromkeys(
        runs.MEASURES, (3, 2)
    )


def test_they_are_those_of_the_steps_outputs_and_of_the_weights_after_it(tmp_path):
    stored = trained(tmp_path / "run", steps=2)
    options = RunOptions.from_dict(stored.options)
    begun = run.begin(options)
    state = run.begin(options)
    training.learn_batch(state, state.batch(0))
    x = state.stimulus.inputs(state.batch(1), np.dtype("float32"))
    for i, layer in enumerate(state.network.layers):
        x, *_ = layer.forward(x, state.weights)
        found = {name: values[-1, i] for name, values in stored.measures.items() if name != "step"}
        assert found["activity"] == pytest.approx(x.mean(dtype=float), rel=1e-5)
        constant = (x == x[:1]).all(axis=tuple(range(x.ndim - 1)))
        assert found["dead"] <= constant.mean()
        start, now = (w[layer.name]["weight"].astype(float) for w in (begun.weights, stored.params))
        drift = np.linalg.norm(now - start) / np.linalg.norm(start)
        assert found["drift"] == pytest.approx(drift, rel=1e-4) and drift > 0


def test_a_run_that_is_not_measured_learns_the_same_bits(tmp_path, monkeypatch):
    one = trained(tmp_path / "measured")
    monkeypatch.setattr(measures, "due", lambda step: False)
    other = trained(tmp_path / "not")
    assert one.measures and not other.measures
    for layer, own in one.params.items():
        assert_same(own, other.params[layer])
    np.testing.assert_array_equal(one.metrics["loss"], other.metrics["loss"])


@pytest.mark.parametrize(
    "rule, net, layers", [("clapp", "vgg6", 2), ("oja", "vgg6", 2), ("clapp_s", "audio", 6)]
)
def test_a_run_in_two_parts_has_the_series_of_the_run_in_one(tmp_path, rule, net, layers):
    """Also with a GRU, which has two matrices of its own."""
    how = {"rule": rule, "net": net, "layers": layers}
    whole = trained(tmp_path / "whole", steps=6, **how)
    first = trained(tmp_path / "parts", steps=3, **how)
    state = lifecycle.resume(tmp_path / "parts", {"steps": 6}, {"steps"})
    assert len(first.answered) == layers
    assert_same(first.answered, state.measures.answered)
    training.train(state, tmp_path / "parts")
    parts = runs.load(runs.checkpoint_path(tmp_path / "parts"))
    assert_same(whole.measures, parts.measures)
    assert_same(whole.answered, parts.answered)


@pytest.mark.parametrize("net", networks.NETWORKS)
def test_every_network_is_measured(tmp_path, net):
    stored = trained(tmp_path / "run", steps=1, net=net, batch=2, layers=0, width=0.02)
    layers = len(run.begin(RunOptions.from_dict(stored.options)).network.layers)
    for name in runs.MEASURES:
        assert stored.measures[name].shape == (1, layers)
        assert np.isfinite(stored.measures[name]).all()
    assert ((stored.measures["sparsity"] >= 0) & (stored.measures["sparsity"] <= 1)).all()
    assert len(stored.answered) == layers


def test_a_neuron_is_dead_that_has_not_answered_in_the_steps_of_the_window():
    own, layer = Measures.of(NETWORK, NETWORK.prepare(0)), NETWORK.layers[0]
    answers = {1: [0, 1], 2: [1], 4: [2], 6: [2, 3]}  # neuron 4 never does
    for step, neurons in answers.items():
        y = np.zeros((2, 3, 3, 5))
        y[1, 0, 2, neurons] = 1
        look = own.watching(step, None)
        for each in NETWORK.layers:
            look(each, y if each is layer else np.ones((2, 1, 1, each.outputs)))
        own.stepped(step, NETWORK, NETWORK.prepare(0))
    assert own.watching(5, None) is None
    own.flush()
    # At step 1: 2, 3, 4. At 2 the same, at 4 (steps 1 to 4) 3 and 4, at 6 (steps 3 to 6) 0, 1, 4.
    dead = [values[0] for values in own.values["dead"]]
    np.testing.assert_allclose(dead, [3 / 5, 3 / 5, 2 / 5, 3 / 5])
    assert own.answered["conv1"].tolist() == [1, 2, 6, 6, 0]


def test_an_earlier_run_without_them_goes_on(tmp_path):
    trained(tmp_path / "run", steps=3)
    with h5py.File(tmp_path / "run" / "checkpoint.h5", "r+") as file:
        del file["measures"], file["answered"]
    with pytest.raises(UserError, match="no step of the run was measured"):
        plots.measures(plots.open_look(tmp_path / "run"))
    state = lifecycle.resume(tmp_path / "run", {"steps": 5}, {"steps"})
    training.train(state, tmp_path / "run")
    assert runs.load(runs.checkpoint_path(tmp_path / "run")).measures["step"].tolist() == [4]


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda m: m.pop("drift"), "measures should hold step, activity"),
        (lambda m: m.update(drift=m["drift"][:, :1]), "of 2 layers"),
        (lambda m: m.update(step=m["step"] + 9), "rising steps from 1 to 3"),
        (lambda m: m.update(step=m["step"][::-1].copy()), "rising steps from 1 to 3"),
        (lambda m: m.update(step=m["step"][:, None]), "measures should hold"),
    ],
)
def test_measures_that_are_not_the_runs_are_refused(tmp_path, change, said):
    stored = trained(tmp_path / "run", steps=3)
    change(stored.measures)
    runs.save(tmp_path / "run" / "checkpoint.h5", stored)
    with pytest.raises(UserError, match=said):
        lifecycle.reopen(tmp_path / "run")


def test_neurons_that_are_not_the_runs_are_refused(tmp_path):
    stored = trained(tmp_path / "run", steps=1)
    answered = {name: last[:1] for name, last in stored.answered.items()}
    runs.save(tmp_path / "run" / "checkpoint.h5", replace(stored, answered=answered))
    with pytest.raises(UserError, match="answered should hold a number for each neuron of conv1"):
        lifecycle.reopen(tmp_path / "run")


def test_a_rule_without_a_loss_shows_them_and_no_loss_anywhere(tmp_path):
    def call(*args):
        return CliRunner().invoke(main, list(map(str, args)))

    small = ("--width", 0.03, "--batch", 4, "--layers", 2, "--steps", 3, "--no-probe")
    done = call("run", "--rule", "oja", *small, "--out", tmp_path / "run")
    assert done.exit_code == 0, done.output
    for text in ("Layers at step 2", "activity", "drift", "measures.png"):
        assert text in done.output
    assert "loss" not in done.output.replace(str(tmp_path), "").replace("descends no loss", "")
    summary = runs.read_summary(tmp_path / "run")
    assert summary["measures"]["step"] == 2 and set(summary["measures"]["norm"]) == {
        "conv1",
        "conv2",
    }
    assert call("plot", tmp_path / "run", "measures").exit_code == 0
    refused = call("plot", tmp_path / "run", "losses")
    assert refused.exit_code == 2 and "the rule oja has no loss to draw" in refused.output
    done = call("report", tmp_path / "run", "--out", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "Activity and weights" in page and "first loss" not in page and "images/s" in page


def test_the_figure_shows_every_measure_and_layer():
    steps, rng = np.array([1, 2, 4]), np.random.default_rng(0)
    found = {label: rng.random((3, 2)) for label in plots.LABELS.values()}
    figure = figures.measures(steps, found, ["conv1", "conv2"], "oja")
    assert [axes.get_title() for axes in figure.axes[:5]] == list(found)
    styles = [(line.get_marker(), line.get_linestyle()) for line in figure.axes[0].get_lines()]
    assert len(set(styles)) == 2  # told apart without colour
    np.testing.assert_array_equal(
        figure.axes[4].get_lines()[1].get_ydata(), found["drift of W"][:, 1]
    )


@pytest.mark.skipif(bool(emulation.MISSING), reason=emulation.MISSING)
def test_on_a_device_they_are_the_same_and_nothing_waits_for_them_before_they_are_read():
    y = np.random.default_rng(3).standard_normal((4, 3, 3, 5)).astype(np.float32).clip(0)
    y[..., 2] = 0
    weights = NETWORK.prepare(0)
    one = Measures.of(NETWORK, weights)
    with standin.installed() as machine:
        import cupy

        there = {la: {n: cupy.asarray(w) for n, w in own.items()} for la, own in weights.items()}
        two, on_device = Measures.of(NETWORK, there), cupy.asarray(y)
        outputs = {la.name: cupy.ones((2, 1, 1, la.outputs)) for la in NETWORK.layers[1:]}
        machine.forget()
        look = two.watching(2, None)
        for layer in NETWORK.layers:
            look(layer, outputs.get(layer.name, on_device))
        two.stepped(2, NETWORK, there)
        assert not machine.waits and not machine.fetched
        two.flush()
        answered = two.answered["conv1"].get()
    look = one.watching(2, None)
    for layer in NETWORK.layers:
        look(layer, y if layer.name == "conv1" else np.ones((2, 1, 1, layer.outputs)))
    one.stepped(2, NETWORK, weights)
    one.flush()
    assert answered.tolist() == one.answered["conv1"].tolist() == [2, 2, 0, 2, 2]
    for name in runs.MEASURES:
        np.testing.assert_allclose(two.values[name], one.values[name], rtol=1e-6)
