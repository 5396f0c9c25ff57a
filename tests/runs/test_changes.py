"""What may be changed of a run on its way: `--resume RUN --change NAME=VALUE`."""

import csv

import numpy as np
import pytest
from click.testing import CliRunner
from plasticity.cli import main

from plasticity import runs
from plasticity.runs import lifecycle, run, training
from plasticity.runs.options import RunOptions

SMALL = ["--width", "0.03", "--batch", "4", "--layers", "2", "--no-probe", "--lr", "0.01"]


def call(*args):
    return CliRunner().invoke(main, ["run", *map(str, args)])


def begun(folder, *args, steps=3):
    done = call(*SMALL, *args, "--steps", steps, "--out", folder)
    assert done.exit_code == 0, done.output
    return folder


def resumed(folder, steps, *args):
    done = call("--resume", folder, "--steps", steps, *args)
    assert done.exit_code == 0, done.output
    return stored(folder)


def stored(folder):
    return runs.load(runs.checkpoint_path(folder))


def same(a, b):
    return all(np.array_equal(w, b[la][n]) for la, own in a.items() for n, w in own.items())


def test_a_rate_changes_from_the_next_step_on(tmp_path):
    """As three steps at one rate and two at another, taken by hand."""
    found = resumed(begun(tmp_path / "run"), 5, "--change", "lr=0.5", "--change", "optimiser=plain")
    state = run.begin(RunOptions(width=0.03, batch=4, layers=2, device="cpu", lr=0.01))
    for i in range(3):
        training.learn_batch(state, state.batch(i))
    plain = RunOptions(width=0.03, batch=4, layers=2, device="cpu", lr=0.5, optimiser="plain")
    second = run.begin(plain)
    second.weights, second.step = state.weights, 3
    for i in range(3, 5):
        training.learn_batch(second, second.batch(i))
    assert same(found.params, second.weights)
    assert found.options["changes"] == {"3": "lr=0.5, optimiser=plain"}
    assert found.options["lr"] == 0.5 and found.moments == {}


def test_moments_go_on_where_the_optimiser_is_the_same(tmp_path):
    a = resumed(begun(tmp_path / "a"), 5)
    b = resumed(begun(tmp_path / "b"), 5, "--change", "lr=0.01")
    assert same(a.params, b.params)


def test_another_rule_goes_on_with_the_layers_and_its_own_parameters(tmp_path):
    folder = begun(tmp_path / "run")
    before = stored(folder)
    found = resumed(folder, 6, "--change", "rule=oja")
    assert found.rule["name"] == "oja" and "W_pred" not in found.params["conv1"]
    assert found.options["lr"] == 2e-4 and found.options["changes"] == {"3": "rule=oja"}
    for layer in ("conv1", "conv2"):
        assert not np.array_equal(found.params[layer]["weight"], before.params[layer]["weight"])
    loss = found.metrics["loss"]
    np.testing.assert_array_equal(loss[:3], before.metrics["loss"])
    assert np.isnan(loss[3:]).all() and np.isfinite(found.metrics["open_gates"]).all()
    back = resumed(folder, 8, "--change", "rule=greedy_supervised")
    assert np.isnan(back.metrics["accuracy"][:6]).all()
    assert np.isfinite(back.metrics["accuracy"][6:]).all()
    assert np.isfinite(back.metrics["loss"][6:]).all()
    with open(folder / "metrics.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows[::2]] == [str(i) for i in range(1, 9)]
    assert rows[0]["loss"] and not rows[0]["accuracy"] and not rows[6]["loss"]
    assert float(rows[-1]["accuracy"]) == pytest.approx(back.metrics["accuracy"][-1, 1])
    assert lifecycle.reopen(folder, device="cpu").rule.name == "greedy_supervised"


def test_a_changed_run_resumes_bit_for_bit(tmp_path):
    a = resumed(begun(tmp_path / "a"), 7, "--change", "rule=bcm")
    resumed(begun(tmp_path / "b"), 5, "--change", "rule=bcm")
    b = resumed(tmp_path / "b", 7)
    assert same(a.params, b.params) and a.options["changes"] == b.options["changes"]
    assert all(np.array_equal(a.metrics[n], b.metrics[n], equal_nan=True)
               for n in a.metrics if n != "seconds")  # fmt: skip


def test_a_schedule_may_begin_on_the_way(tmp_path):
    how = ("--change", "schedule=step", "--change", "schedule-at=4", "--change",
           "schedule_factor=0")  # fmt: skip
    folder = begun(tmp_path / "run")
    at_four = resumed(folder, 4, *how)
    assert same(at_four.params, resumed(folder, 6).params), "from step 4 on the rate is 0"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("width=0.5", "--change width=0.5: a run on its way can be given another rule, lr"),
        ("lr", "--change lr: expected NAME=VALUE, such as --change lr=1e-4"),
        ("lr=fast", "--change lr=fast: expected a number"),
        ("lr=-1", "--lr must not be negative, got -1"),
        ("rule=ojo", "unknown rule 'ojo': did you mean 'oja'"),
        ("schedule=step", "--schedule step needs --schedule-at"),
        ("rule=nothing.py", "nothing.py cannot be read"),
    ],
)
def test_a_change_that_means_nothing_leaves_the_run_as_it_was(tmp_path, change, said):
    folder = begun(tmp_path / "run", steps=1)
    before = runs.checkpoint_path(folder).read_bytes()
    done = call("--resume", folder, "--change", change)
    assert done.exit_code == 2 and said in done.output, done.output
    assert runs.checkpoint_path(folder).read_bytes() == before


def test_a_new_run_is_not_changed(tmp_path):
    done = call(*SMALL, "--change", "lr=1", "--out", tmp_path / "no")
    assert done.exit_code == 2 and "--change goes with --resume" in done.output


def test_the_rate_of_one_layer_changes_and_the_other_goes_on(tmp_path):
    folder = begun(tmp_path / "run")
    before = stored(folder).params
    found = resumed(folder, 5, "--change", "layer.conv1.lr=1e-30", "--change",
                    "layer.conv1.optimiser=plain")  # fmt: skip
    assert same({"conv1": before["conv1"]}, found.params)
    assert not same({"conv2": before["conv2"]}, found.params)
    section = found.options["layer"]["conv1"]
    assert section["rule"] == "clapp" and section["lr"] == 1e-30
    assert found.options["changes"] == {"3": "layer.conv1.lr=1e-30, layer.conv1.optimiser=plain"}
    other = begun(tmp_path / "other")
    resumed(other, 4, "--change", "layer.conv1.lr=1e-30", "--change", "layer.conv1.optimiser=plain")
    assert same(resumed(other, 5).params, found.params)


@pytest.mark.parametrize(
    "change, told",
    [
        ("layer.conv9.lr=1", "has here the layers conv1, conv2"),
        ("layer.conv1.frozen=1", "of a layer lr, optimiser, weight_decay can be changed"),
        ("layer.lr=1", "of a layer lr, optimiser, weight_decay can be changed"),
        ("layer.conv1.lr=fast", "layer.conv1.lr=fast"),
        ("layer.conv1.lr=-1", "layer.conv1.lr"),
        ("width=2", "as layer.conv1.lr=1e-4"),
    ],
)
def test_a_change_of_a_layer_that_cannot_be_is_told_in_a_sentence(tmp_path, change, told):
    folder = begun(tmp_path / "run")
    done = call("--resume", folder, "--steps", 5, "--change", change)
    assert done.exit_code == 2 and told in done.output, done.output
    assert stored(folder).step == 3
