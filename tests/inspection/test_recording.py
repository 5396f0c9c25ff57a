"""Recording while training: true, harmless, resumable, readable after a kill."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner
from plasticity.cli import main

from plasticity import inspection, runs
from plasticity.errors import UserError
from plasticity.inspection import measure, recording
from plasticity.inspection.spec import parse
from plasticity.runs import run
from plasticity.runs.options import RunOptions
from tests.rounding import adds_up

SMALL = ["--width", "0.04", "--batch", "2", "--layers", "3", "--no-probe", "--device", "cpu"]
SPEC = "layer=2,synapse=3:1:0:2,random=4,neurons=0:2,weights;layer=conv3,all"
EVERY = ["--record", SPEC, "--record-every", "2"]


def call(*args):
    return CliRunner().invoke(main, ["run", *map(str, args)])


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A run of 7 steps, recorded at steps 1, 3, 5, 7; and the same without a record."""
    folder = tmp_path_factory.mktemp("runs")
    for name, extra in (("with", EVERY), ("without", [])):
        done = call(*SMALL, "--steps", 7, "--out", folder / name, *extra)
        assert done.exit_code == 0, done.output
    return folder


def test_the_shares_of_roles_and_steps_make_the_dw(recorded):
    found = inspection.read(recorded / "with")
    np.testing.assert_array_equal(found["step"], [1, 3, 5, 7])
    dW, share = (found[f"conv2/synapses/{name}"] for name in ("dW", "share"))
    adds_up(share, dW)


def test_a_record_holds_what_the_inspector_finds(recorded):
    """At the first step, from a fresh network with the same options."""
    found = inspection.read(recorded / "with")
    options = RunOptions.from_dict(runs.load(recorded / "with" / "checkpoint.h5").options)
    step = inspection.look(run.begin(options), 2)
    one = inspection.inspect(step, "weight", (3, 1, 0, 2))
    np.testing.assert_array_equal(found["conv2/synapses/index"][0], (3, 1, 0, 2))
    assert found["conv2/synapses/dW"][0, 0] == np.float32(one.applied)
    c, shares = one.columns, one.shares
    for r, role in enumerate(("target", "context")):
        for k in range(1, 6):
            here = (c["role"] == role) & (c["k"] == k)
            drives = (c["gate"] * c["weight"] * c["dendrite"])[here]
            for name, parts in (("share", shares[here]), ("dendrite", drives)):
                got = found[f"conv2/synapses/{name}"][0, 0, r, k - 1]
                assert got == pytest.approx(parts.sum(), abs=1e-5 * np.abs(parts).sum())
            opened = np.abs(c["gate"] * c["weight"])[here]  # closed gates count for nothing
            means = {"post": one.post.sum(axis=1) / one.positions}
            means["pre"] = step.seen.x[..., 1].mean(axis=(1, 2))
            for name, mean in means.items():
                wanted = (opened * mean[one.post_row[here]]).sum() / max(opened.sum(), 1e-30)
                got = found[f"conv2/synapses/{name}"][0, 0, r, k - 1]
                assert got == pytest.approx(wanted, rel=1e-4, abs=1e-6)
    view = inspection.inspect_layer(step)
    for row in view.gates:
        at = (0, ("target", "context").index(row["role"]), row["k"] - 1, int(row["sign"] < 0))
        assert found["conv2/gates"][at] == pytest.approx(row["open"])
    cosines = [row["cosine"] for row in view.alignment]
    np.testing.assert_allclose(found["conv2/alignment"][0], cosines, atol=1e-6)
    np.testing.assert_array_equal(found["conv2/neurons/dW"][0], step.seen.changes["weight"][:2])
    np.testing.assert_array_equal(found["conv2/neurons/bias"][0], step.seen.changes["bias"][:2])


def test_recording_changes_no_bit_of_the_run(recorded):
    a, b = (runs.load(recorded / name / "checkpoint.h5") for name in ("with", "without"))
    for layer, own in a.params.items():
        for name, w in own.items():
            np.testing.assert_array_equal(w, b.params[layer][name])


def test_a_resumed_recording_equals_one_that_was_never_interrupted(recorded, tmp_path):
    folder = tmp_path / "part"
    assert call(*SMALL, "--steps", 4, "--out", folder, *EVERY).exit_code == 0
    before = inspection.read(folder)
    np.testing.assert_array_equal(before["step"], [1, 3])
    # Records beyond the checkpoint, as a kill leaves them behind.
    shutil.copy(recorded / "with" / "record.h5", folder / "record.h5")
    done = call("--resume", folder, "--steps", 7, "--no-probe")
    assert done.exit_code == 0, done.output
    found, wanted = inspection.read(folder), inspection.read(recorded / "with")
    assert set(found) == set(wanted)
    for name, array in wanted.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


@pytest.mark.skipif(sys.platform == "win32", reason="kills by signal are of POSIX")
def test_a_killed_run_leaves_a_record_that_reads_and_goes_on(tmp_path):
    folder = tmp_path / "killed"
    command = [sys.executable, "-m", "plasticity", "run", *SMALL, "--steps", "100000"]
    command += ["--out", str(folder), *EVERY, "--checkpoint-minutes", "0"]
    with open(tmp_path / "log", "w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ})
    end = time.monotonic() + 60
    while not (folder / "record.h5").exists() or len(inspection.read(folder)["step"]) < 6:
        assert process.poll() is None and time.monotonic() < end, (tmp_path / "log").read_text()
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    found = inspection.read(folder)
    count = len(found["step"])
    np.testing.assert_array_equal(found["step"], 1 + 2 * np.arange(count))
    assert np.isfinite(found["conv3/neurons/dW"]).all()
    step = runs.load(folder / "checkpoint.h5").step
    done = call("--resume", folder, "--steps", step + 3, "--no-probe")
    assert done.exit_code == 0, done.output
    again = inspection.read(folder)
    np.testing.assert_array_equal(again["step"], np.arange(1, step + 4, 2))
    same = min(count, len(again["step"]))
    np.testing.assert_array_equal(
        again["conv2/synapses/dW"][:same], found["conv2/synapses/dW"][:same]
    )


def test_a_recording_that_does_not_fit_is_refused_before_it_begins(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=10_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    done = call(*SMALL, "--steps", 700, "--out", tmp_path / "none", *EVERY)
    assert done.exit_code == 2 and "350 records" in done.output and "10,000 free" in done.output
    assert not (tmp_path / "none").exists()


def test_the_estimate_is_the_size_of_a_record(recorded):
    options = RunOptions.from_dict(runs.load(recorded / "with" / "checkpoint.h5").options)
    found = inspection.read(recorded / "with")
    one = sum(a[0].nbytes for n, a in found.items() if not n.endswith("index") and n != "step")
    assert recording.plan(run.begin(options), SPEC, 1).bytes == one


def test_a_layer_with_nothing_but_its_weights_records_some_synapses():
    state = run.begin(RunOptions(width=0.04, batch=2, layers=3, device="cpu"))
    (wish,) = parse("layer=2,weights", state)
    assert len(wish.synapses) == 100 and wish.weights


def test_what_is_said_of_a_layer_by_name_and_among_all_adds_up():
    state = run.begin(RunOptions(width=0.04, batch=2, layers=3, device="cpu"))
    wishes = parse("layer=2,synapse=3:1:0:2;layer=*,random=5;layer=conv2,neurons=0:2", state)
    assert [len(wish.synapses) for wish in wishes] == [5, 6, 5]
    assert wishes[1].synapses[0].tolist() == [3, 1, 0, 2]
    assert wishes[1].neurons.tolist() == [0, 1]


def test_every_spec_of_the_docs_is_understood():
    page = (Path(__file__).parents[2] / "docs" / "inspect.md").read_text()
    state = run.begin(RunOptions(width=0.1, batch=2, device="cpu"))
    specs = re.findall(r"--record '(.*?)'", page)
    assert specs and all(parse(spec, state) for spec in specs)


def test_the_long_table_holds_every_number_once(recorded):
    found = inspection.read(recorded / "with")
    table = found.table()
    arrays = {n: a for n, a in found.items() if n != "step" and not n.endswith("/index")}
    assert len(table["value"]) == sum(array.size for array in arrays.values())
    layer, quantity = table["layer"], table["quantity"]
    for name, array in arrays.items():
        own, _, what = name.partition("/")
        np.testing.assert_array_equal(
            table["value"][(layer == own) & (quantity == what)], array.ravel()
        )
    one = (layer == "conv2") & (table["post"] == 3) & (table["pre"] == 1)
    one &= (table["row"] == 0) & (table["col"] == 2) & (table["step"] == 3)
    dW = table["value"][one & (quantity == "synapses/dW")]
    share = table["value"][one & (quantity == "synapses/share")]
    assert len(dW) == 1
    adds_up(share[None], dW)
    assert set(table["role"][one & (quantity == "synapses/share")]) == {"target", "context"}
    kernels = (layer == "conv3") & (quantity == "neurons/dW") & (table["step"] == 5)
    at = [table[name][kernels] for name in ("post", "pre", "row", "col")]
    np.testing.assert_array_equal(table["value"][kernels], found["conv3/neurons/dW"][2][tuple(at)])
    signs = table["sign"][(layer == "conv2") & (quantity == "gates")]
    assert set(signs) == {1, -1} and not table["sign"][kernels].any()


def test_the_trace_of_a_synapse_is_its_part_of_the_arrays(recorded):
    found = inspection.read(recorded / "with")
    one = found.trace("conv2", (3, 1, 0, 2))
    assert set(one) == {"dW", "weight", "share", "dendrite", "post", "pre"}
    np.testing.assert_array_equal(one["share"], found["conv2/synapses/share"][:, 0])
    whole = found.trace("conv3", (4, 2, 1, 0))  # of a neuron that was recorded as a whole
    assert "share" not in whole
    np.testing.assert_array_equal(whole["dW"], found["conv3/neurons/dW"][:, 4, 2, 1, 0])
    np.testing.assert_array_equal(whole["pre"], found["conv3/neurons/pre"][:, 2])
    parts = found.table("conv2", (3, 1, 0, 2))
    assert set(parts["quantity"]) == set(one) and set(parts["post"]) == {3}
    assert len(parts["value"]) == sum(values.size for values in one.values())
    with pytest.raises(UserError, match="does not hold the synapse 5,1,0,2 of conv2"):
        found.trace("conv2", (5, 1, 0, 2))
    with pytest.raises(UserError, match="holds nothing of conv9: it was recorded by"):
        list(found.rows("conv9"))


def test_a_recording_tells_how_gates_and_alignment_went(recorded):
    found = inspection.read(recorded / "with")
    gates = found["conv2/gates"]
    for row in found.gates("conv2"):
        at = found.roles.index(row["role"]), found.ks.index(row["k"]), int(row["sign"] < 0)
        assert row["mean"] == pytest.approx(np.nanmean(gates[:, *at]))
    first, last = found["conv2/alignment"][[0, -1], 4]
    assert found.alignment("conv2")[4] == {"k": 5, "first": first, "last": last}
    assert "conv2" in found._repr_html_() and "<table>" in found._repr_html_()


def test_a_rule_without_events_records_its_drive(tmp_path):
    args = [*SMALL, "--steps", 1, "--out", tmp_path / "r", "--rule", "random"]
    assert call(*args, "--record", "layer=2,random=3", "--record-every", 1).exit_code == 0
    found = inspection.read(tmp_path / "r")
    assert found.roles == [] and not found["conv2/synapses/error"].any()
    assert set(found.trace("conv2", found["conv2/synapses/index"][0])) == {"dW", "error"}


def test_a_rule_with_labels_records_the_role_of_its_readout(tmp_path):
    args = [*SMALL, "--steps", 1, "--out", tmp_path / "s", "--rule", "greedy_supervised"]
    done = call(*args, "--record", "layer=2,random=3", "--record-every", 1)
    assert done.exit_code == 0, done.output
    found = inspection.read(tmp_path / "s")
    assert found.roles == ["label"] and found.ks == [0]
    dW, share = found["conv2/synapses/dW"], found["conv2/synapses/share"]
    adds_up(share, dW)


def test_the_gaps_that_growing_leaves_are_taken_out(tmp_path):
    """Each step saves a checkpoint, so each record is written by itself into a growing chunk."""
    folder = tmp_path / "gaps"
    args = ["--steps", 40, "--out", folder, "--checkpoint-minutes", 0, "--record-every", 1]
    assert call(*SMALL, *args, "--record", "layer=3,all").exit_code == 0
    found = inspection.read(folder)
    assert len(found.steps) == 40
    stored = sum(array.nbytes for array in found.values())
    assert (folder / "record.h5").stat().st_size < stored + 2**20


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("", "--record is empty"),
        ("synapse=1:1:1:1", "names no layer first"),
        ("layer=9", "layers 1 to 3"),
        ("layer=2,synapse=99:0:0:0", "has no synapse 99:0:0:0: expected 0:0:0:0 to 9:4:2:2"),
        ("layer=2,prediction=0:1:1", "W_pred of conv2 has no entry 0:1:1: expected 1:0:0 to 5:9:9"),
        ("layer=2,retro=1:1", "W_retro of conv2 has no entry 1:1: expected 1:0:0 to 5:9:9"),
        ("layer=2,prediction=1", "has no entry 1: expected 1:0:0"),
        ("layer=2,neurons=4:99", "has no neurons 4:99: it has 0:10"),
        ("layer=2,random=many", "'random=many' is not understood"),
    ],
)
def test_a_spec_that_is_wrong_is_told_in_a_sentence(spec, told):
    options = RunOptions(width=0.04, batch=2, layers=3, device="cpu")
    with pytest.raises(UserError, match=told):
        parse(spec, run.begin(options))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"weights": "symmetric"}, "conv2 has no W_retro here: it has weight, bias, W_pred"),
        ({"learn_prediction": False}, "W_retro of conv2 is frozen in this run"),
    ],
)
def test_a_matrix_that_is_not_there_or_never_learns_is_told(options, told):
    state = run.begin(RunOptions(width=0.04, batch=2, layers=3, device="cpu", **options))
    with pytest.raises(UserError, match=told):
        recording.plan(state, "layer=2,retro=1:0:0", 1)


ENTRIES = "layer=2,prediction=1:3:2,prediction=5:0:7,retro=2:1:4,weights"


@pytest.mark.parametrize("variant", [[], ["--context", "above"], ["--gate", "shared"]])
def test_recorded_entries_of_predictions_add_up_by_sign(variant, tmp_path):
    """The factors are those that the inspector finds in the same step."""
    args = [*SMALL, "--dtype", "float64", "--batch", 4, "--steps", 2, "--out", tmp_path / "p"]
    done = call(*args, *variant, "--record", ENTRIES, "--record-every", 1)
    assert done.exit_code == 0, done.output
    found = inspection.read(tmp_path / "p")
    assert not any("synapses" in name for name in found)
    options = RunOptions.from_dict(runs.load(tmp_path / "p" / "checkpoint.h5").options)
    step = inspection.look(run.begin(options), 2)
    for name, (k, post, pre) in (
        ("W_pred", (1, 3, 2)),
        ("W_pred", (5, 0, 7)),
        ("W_retro", (2, 1, 4)),
    ):
        one = inspection.inspect(step, name, (k, post, pre))
        trace = found.trace("conv2", (k, post, pre), name)
        assert set(trace) == {"dW", "weight", "share", "gate", "post", "pre"}
        adds_up(trace["share"], trace["dW"])
        assert trace["dW"][0] == pytest.approx(one.applied, rel=1e-6) and one.scale > 0
        assert trace["weight"][0] == step.own[name][k - 1, post, pre]
        c, shares = one.columns, one.shares
        for s, sign in enumerate((1, -1)):
            here = (c["sign"] == sign) & (c["gate"] != 0)
            parts = shares[here]
            near = pytest.approx(parts.sum(), abs=1e-5 * np.abs(parts).sum())
            assert trace["share"][0, s] == near
            gamma = (c["gate"] * c["weight"])[here]
            assert trace["gate"][0, s] == pytest.approx(gamma.sum(), rel=1e-5)
            for side, values in (("post", one.post[one.post_row]), ("pre", one.pre[one.pre_row])):
                mean = (np.abs(gamma) * values[here, 0]).sum() / max(np.abs(gamma).sum(), 1e-30)
                assert trace[side][0, s] == pytest.approx(mean, rel=1e-5)
    whole, table = found.table(), found.table("conv2", (2, 1, 4), "W_retro")
    mine = (whole["quantity"] == "W_retro/share") & (whole["sign"] == -1)
    assert set(whole["role"][mine]) == {"context"} and set(whole["k"][mine]) == {2}
    mine = (table["quantity"] == "share") & (table["sign"] == -1)
    np.testing.assert_array_equal(table["value"][mine], trace["share"][:, 1])
    assert found.trace_rows("conv2", (2, 1, 4), "W_retro")[1]["dW"] == trace["dW"][1]
    with pytest.raises(UserError, match="does not hold the entry 2,1,5 of W_retro of conv2"):
        found.trace("conv2", (2, 1, 5), "W_retro")


@pytest.mark.parametrize(
    "rule, entries",
    [
        ("bcm", {"theta": [(0,), (3,)]}),
        ("supervised", {"W_readout": [(2, 0), (9, 3)], "b_readout": [(1,)]}),
        ("clapp", {"W_pred": [(5, 0, 1)]}),
    ],
)
def test_entries_of_whatever_a_rule_keeps_are_recorded_with_their_changes(rule, entries, tmp_path):
    """A value is its last one plus its change, times the rate where an optimiser moves it."""
    words = [f"{n}={':'.join(map(str, i))}" for n, chosen in entries.items() for i in chosen]
    done = call("--width", "0.04", "--batch", "4", "--layers", 2, "--no-probe", "--rule", rule,
        "--dtype", "float64", "--optimiser", "plain", "--lr", "0.25", "--steps", 3,
        "--record", f"layer=2,{','.join(words)},weights", "--record-every", 1,
        "--out", tmp_path / "run")  # fmt: skip
    assert done.exit_code == 0, done.output
    found, rate = inspection.read(tmp_path / "run"), 1 if rule == "bcm" else 0.25
    for name, chosen in entries.items():
        dW, value = (found[f"conv2/{name}/{what}"] for what in ("dW", "weight"))
        assert dW.shape == (3, len(chosen)) and (dW != 0).any()
        np.testing.assert_allclose(value[1:], value[:-1] + rate * dW[:-1], rtol=1e-9, atol=1e-12)
        np.testing.assert_array_equal(found[f"conv2/{name}/index"], chosen)
        np.testing.assert_array_equal(found.trace("conv2", chosen[0], name)["dW"], dW[:, 0])
        table = found.table("conv2", chosen[0], name)
        assert set(table["post"]) == {chosen[0][-2] if len(chosen[0]) > 1 else chosen[0][0]}
        asked = f"{name},{','.join(map(str, chosen[0]))}"
        how = ["--recorded", "--layer", "2", "--entry", asked]
        shown = CliRunner().invoke(main, ["inspect", str(tmp_path / "run"), *how])
        assert shown.exit_code == 0, shown.output


@pytest.mark.parametrize("rule", ["oja", "bcm", "hebbian"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rules_that_read_maps_and_let_weights_decay_add_up(rule, dtype, tmp_path):
    args = [*SMALL, "--steps", 2, "--out", tmp_path / "m", "--rule", rule, "--dtype", dtype]
    done = call(*args, "--record", "layer=*,random=5,neurons=0:2", "--record-every", 1)
    assert done.exit_code == 0, done.output
    found = inspection.read(tmp_path / "m")
    assert ("decay" in found.roles) == (rule != "bcm")
    for layer in ("conv1", "conv2", "conv3"):
        dW, share = (found[f"{layer}/synapses/{name}"] for name in ("dW", "share"))
        adds_up(share, dW)


def test_another_recording_in_the_folder_is_not_overwritten(recorded):
    done = call("--resume", recorded / "with", "--record", "layer=1", "--no-probe")
    assert done.exit_code == 2 and "was recorded by --record" in " ".join(done.output.split())


def test_layers_inside_a_module_record_their_error(tmp_path):
    args = [*SMALL, "--steps", 1, "--out", tmp_path / "m", "--rule", "hinge_cpc"]
    done = call(*args, "--record", "layer=*,random=3", "--record-every", 1)
    assert done.exit_code == 0, done.output
    found = inspection.read(tmp_path / "m")
    assert found["conv1/synapses/error"].shape == (1, 3) and "conv1/gates" not in found
    assert found["conv3/synapses/share"].shape == (1, 3, 2, 5)


def test_an_error_that_positions_share_is_summed_over_them():
    """As the same error, written out for each of three positions."""
    error = np.random.default_rng(0).standard_normal((4, 5))
    wish = SimpleNamespace(synapses=np.zeros((0, 4), int), neurons=np.array([3, 1]))
    shared, apart = (
        measure._error(SimpleNamespace(error=e, positions=3), wish)["neurons/error"]
        for e in (error, np.repeat(error[:, None], 3, axis=1))
    )
    np.testing.assert_allclose(shared, apart, rtol=1e-12)
    np.testing.assert_allclose(shared, 3 * error.sum(axis=0)[[3, 1]], rtol=1e-12)


def test_post_and_pre_are_means_over_the_events_whose_gate_is_open():
    small = {"width": 0.04, "layers": 3, "crop": 40, "batch": 3, "prediction_steps": 2}
    options = RunOptions(**small, dtype="float64", device="cpu")
    step = inspection.look(inspection.fresh(options, 4.0), 3)
    one = inspection.inspect(step, "weight", (3, 1, 0, 2))
    role = next(r for r in step.roles if 0 < (r.gamma != 0).mean() < 1)
    wish = SimpleNamespace(synapses=np.array([[3, 1, 0, 2]]), neurons=np.zeros(0, int))
    sums = measure._Sums(step.seen, wish, (1, 1), step.state.stimulus.reading)
    sums.add(role, (0, 0))
    size, rows = np.abs(role.gamma), role.learner
    means = {"post": one.post.sum(axis=1) / one.positions}
    means["pre"] = step.seen.x[..., 1].mean(axis=(1, 2))
    for name, mean in means.items():
        wanted = (size * mean[rows]).sum() / size.sum()
        got = sums.found()[f"synapses/{name}"].item()
        assert got == pytest.approx(wanted, rel=1e-5)
