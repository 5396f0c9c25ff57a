"""Steps by CUDA graphs, on the stand-in for CuPy: it does again what was captured, and no more."""

import gc
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
from click.testing import CliRunner
from plasticity.cli import main

from plasticity.device import sent
from plasticity.errors import UserError
from plasticity.kernels.cuda import products
from plasticity.runs import lifecycle, replay, run, training
from plasticity.runs.options import RunOptions
from rules.bcm import Bcm
from tests import standin
from tests.kernels import emulation

pytestmark = pytest.mark.skipif(bool(emulation.MISSING), reason=emulation.MISSING)

STEPS = 9  # the first is measured, the second and third begin, the fourth is captured


@pytest.fixture
def card():
    with standin.installed() as machine:
        yield machine


def options(rule="clapp", graph="auto", **how):
    few = {"width": 0.02, "layers": 2, "batch": 2, "crop": 40, "steps": STEPS, "device": "cuda"}
    steps = {"prediction_steps": 2} if rule in ("clapp", "clapp_s", "hinge_cpc", "cpc") else {}
    return RunOptions(rule=rule, graph=graph, **few | steps | how)


def numbers(state):
    """Weights, moments and losses, as bytes."""
    told = [np.array(values) for name, values in state.metrics.items() if name != "seconds"]
    return [a.get().tobytes() for a in run.moved(state)] + [a.tobytes() for a in told]


def trained(folder, **how):
    state = run.begin(options(**how))
    folder.mkdir(exist_ok=True)
    training.train(state, folder)
    return state


def arriving(state, steps):
    return sent((state.batch(step) for step in steps), state.device)


RULES = ["clapp", "clapp_s", "hinge_cpc", "cpc", "supervised", "bcm"]


@pytest.mark.parametrize("rule", RULES)
def test_a_training_by_graphs_is_the_training_without_bit_for_bit(card, tmp_path, rule):
    state = trained(tmp_path / "graphs", rule=rule)
    assert not state.replay.refused and state.replay.count == STEPS - 4
    assert numbers(state) == numbers(trained(tmp_path / "as ever", rule=rule, graph="off"))


def test_the_memory_of_graphs_is_free_when_the_training_is_over(card, tmp_path):
    """A probe comes after it."""
    assert trained(tmp_path).replay.count
    gc.collect()
    assert not card.pooled


@pytest.mark.parametrize("optimiser", ["adam", "plain"])
def test_rates_that_change_reach_the_steps_that_are_replayed(card, tmp_path, optimiser):
    how = {"optimiser": optimiser, "schedule": "cosine", "weight_decay": 0.1, "lr": 1e-2}
    state = trained(tmp_path / "graphs", **how)
    assert state.replay.count
    assert numbers(state) == numbers(trained(tmp_path / "as ever", graph="off", **how))


def test_a_run_that_was_interrupted_goes_on_by_graphs_to_the_same_numbers(card, tmp_path):
    whole = trained(tmp_path / "whole", steps=12, graph="off")
    folder = tmp_path / "halves"
    folder.mkdir()
    state = lifecycle.plan(options(steps=12))
    lifecycle.make(state, folder)
    training.train(state, folder, stopped=lambda: state.step == 6)
    assert state.step == 6 and state.replay.count == 2
    again = lifecycle.resume(folder, {}, set())
    training.train(again, folder)
    assert again.replay.count == 12 - 6 - 4  # one is measured, and it begins anew
    assert numbers(again) == numbers(whole)


def test_a_step_that_is_replayed_asks_for_a_handful_of_operations(card, tmp_path):
    state = run.begin(options())
    asked = []

    def counted(progress):
        asked.append(sum(card.operations.values()) + card.launches.total())

    training.FLUSH, before = 1, training.FLUSH
    try:
        training.train(state, tmp_path, counted)
    finally:
        training.FLUSH = before
    steps = np.diff(asked)
    assert steps[-1] < 12 < 60 < steps[1]


def test_batches_of_other_forms_are_learned_from_as_ever(card):
    """Each has events of its own number; none is worth a graph."""
    state = run.begin(options(graph="on", batch=4, negatives=2))
    steps = replay.Replay(state, training.learn_batch)
    for coming in arriving(state, range(5)):
        steps.step(coming)
    assert steps.count == 0 and not steps.refused


class Asking(Bcm):
    """A rule that learns in other steps otherwise."""

    def roles(self, z, own, draw, layout):
        (role,) = super().roles(z, own, draw, layout)
        yield replace(role, dendrite=role.dendrite * (1 + draw.step % 2))


class Fetching(Bcm):
    """A rule that asks the card for a number."""

    def roles(self, z, own, draw, layout):
        (role,) = super().roles(z, own, draw, layout)
        yield replace(role, dendrite=role.dendrite * (1 + (float(z.mean()) > 0)))


class Counting(Bcm):
    """A rule that keeps a number on the host, which no graph can know."""

    steps: ClassVar[list[int]] = []

    def roles(self, z, own, draw, layout):
        (role,) = super().roles(z, own, draw, layout)
        self.steps.append(1)
        yield replace(role, dendrite=role.dendrite * len(self.steps))


def learned_by(rule, graph, folder):
    """A run whose layers all learn by this rule."""
    state = run.begin(options("bcm", graph))
    state.assigned = replace(state.assigned, rules=[rule()] * len(state.rules))
    folder.mkdir(exist_ok=True)
    training.train(state, folder)
    return state


@pytest.mark.parametrize("rule, why", [(Asking, "depends on its number"), (Fetching, "D2H")])
def test_a_rule_whose_step_cannot_be_captured_learns_as_ever(card, tmp_path, rule, why):
    found = learned_by(rule, "on", tmp_path / "on")
    assert why in found.replay.refused and not found.replay.count
    assert numbers(found) == numbers(learned_by(rule, "off", tmp_path / "off"))


def test_a_replayed_step_that_differs_is_noticed_before_it_counts(card, tmp_path):
    found = learned_by(Counting, "on", tmp_path)
    assert "differs" in found.replay.refused and not found.replay.count


def test_rules_that_are_not_of_the_package_are_captured_where_it_is_asked(card, tmp_path):
    class Own(Bcm):
        pass

    assert learned_by(Own, "auto", tmp_path / "auto").replay is None
    assert learned_by(Own, "on", tmp_path / "on").replay.count


def test_weights_that_others_have_put_in_place_are_captured_anew(card):
    state = run.begin(options())
    steps = replay.Replay(state, training.learn_batch)
    wanted = run.begin(options(graph="off"))
    for number, coming in enumerate(arriving(state, range(8))):
        if number == 5:
            state.weights["conv1"]["weight"] = state.weights["conv1"]["weight"].copy()
        steps.step(coming)
    assert steps.count == 8 - 3 - 1 and not steps.refused  # the sixth is captured anew
    for coming in arriving(wanted, range(8)):
        training.learn_batch(wanted, coming.item)
    assert numbers(state) == numbers(wanted)


def test_cublas_refusing_ends_graphs_and_no_training(card, tmp_path, monkeypatch):
    monkeypatch.setitem(products.WORKSPACE, 9, 0)
    state = trained(tmp_path / "refused")
    assert "of cuBLAS returns status" in state.replay.refused
    assert numbers(state) == numbers(trained(tmp_path / "as ever", graph="off"))


def test_graphs_are_refused_where_there_is_no_card(tmp_path):
    with pytest.raises(UserError, match="--graph on: they are of a GPU, and this run computes on"):
        training.train(run.begin(options(device="cpu", graph="on")), tmp_path)


def test_a_run_that_is_refused_for_its_graphs_leaves_nothing_behind(tmp_path):
    folder = tmp_path / "run"
    arguments = ["run", "--device", "cpu", "--graph", "on", "--out", str(folder), "--width", "0.02"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2 and "--graph on: they are of a GPU" in result.output
    assert not folder.exists()
