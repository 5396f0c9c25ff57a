"""`plasticity inspect`: the sum matches, on a fresh network and on a run."""

import csv
import json

import h5py
import pytest
from click.testing import CliRunner
from plasticity.cli import main

FRESH = ["--width", "0.04", "--batch", "2"]


def call(*args):
    return CliRunner().invoke(main, ["inspect", *map(str, args)], env={"COLUMNS": "80"})


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "one"
    args = ["run", "--width", "0.04", "--batch", "4", "--steps", "2", "--no-probe", "--device"]
    record = ["--record", "layer=4,synapse=2:1:0:2", "--record-every", "1"]
    done = CliRunner().invoke(main, [*args, "cpu", "--out", str(folder), *record])
    assert done.exit_code == 0, done.output
    return folder


@pytest.mark.parametrize(
    "which",
    [("--synapse", "2,1,0,2"), ("--bias", "3"), ("--prediction", "1,0,3"), ("--retro", "2,3,1")],
)
def test_the_sum_over_events_is_what_the_next_step_applies(run, which, tmp_path):
    done = call(run, "--layer", "4", *which, "--json", tmp_path / "s.json")
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "s.json").read_text())
    assert found["agrees"] and found["step"] == 3 and found["rule"] == "clapp"
    assert f"{found['sum']:+.12e}" in done.output and "within rounding" in done.output


def test_the_long_table_has_a_row_for_each_event_in_csv_and_hdf5(tmp_path):
    paths = tmp_path / "e.csv", tmp_path / "e.h5"
    args = ("--layer", "conv2", "--synapse", "2,1,0,2", "--csv", paths[0], "--hdf5", paths[1])
    done = call(*FRESH, *args)
    assert done.exit_code == 0, done.output
    with open(paths[0], newline="") as file:
        rows = list(csv.DictReader(file))
    with h5py.File(paths[1]) as file:
        total = json.loads(file.attrs["inspection"])["sum"]
        assert file["share"].shape == (len(rows),) and file["role"].asstr()[0] == rows[0]["role"]
    assert sum(float(row["share"]) for row in rows) == pytest.approx(total)


def test_an_update_that_its_events_do_not_make_fails(monkeypatch):
    from plasticity.rules.clapp import Clapp

    right = Clapp.learn

    def learn(self, z, own, draw, layout):
        found = right(self, z, own, draw, layout)
        found.drive *= 1.001
        return found

    monkeypatch.setattr(Clapp, "learn", learn)
    done = call(*FRESH, "--layer", "2", "--synapse", "2,1,0,2")
    assert done.exit_code == 1 and "MORE THAN rounding" in done.output


def test_a_layer_is_shown_and_written(run, tmp_path):
    paths = [tmp_path / name for name in ("l.csv", "l.json", "l.h5")]
    done = call(run, "--layer", 4, "--csv", paths[0], "--json", paths[1], "--hdf5", paths[2])
    assert done.exit_code == 0, done.output
    found = json.loads(paths[1].read_text())
    assert f"{found['distributions'][0]['max']:.4g}" in done.output
    with h5py.File(paths[2]) as file:
        assert abs(file["dW_weight"][()]).max() == pytest.approx(abs(found["synapses"][0]["dW"]))
    with open(paths[0], newline="") as file:
        assert {row["section"] for row in csv.DictReader(file)} >= {"gates", "optimiser"}


@pytest.mark.parametrize(
    ("which", "axis"),
    [
        (("--synapse", "2,1,0,2"), "kernel column"),
        (("--bias", "3"), "share of dW"),
        (("--prediction", "1,0,3"), "share of dW"),
        ((), "neuron j"),
        (("--recorded",), "open gates (%)"),
        (("--recorded", "--synapse", "2,1,0,2"), "won and"),
    ],
)
def test_what_is_shown_is_drawn_too(run, which, axis, tmp_path):
    done = call(run, "--layer", "4", *which, "--figure", tmp_path / "f.svg")
    assert done.exit_code == 0, done.output
    assert axis in (tmp_path / "f.svg").read_text()


def test_a_recording_is_shown_and_written(run, tmp_path):
    done = call(run, "--recorded")
    assert done.exit_code == 0 and "2 records, steps 1 to 2" in " ".join(done.output.split())
    done = call(run, "--recorded", "--layer", 4, "--json", tmp_path / "g.json")
    assert done.exit_code == 0 and "Open gates over training" in done.output
    assert json.loads((tmp_path / "g.json").read_text())["alignment"]
    paths = tmp_path / "t.csv", tmp_path / "t.json"
    args = ("--recorded", "--layer", "conv4", "--synapse", "2,1,0,2")
    done = call(run, *args, "--csv", paths[0], "--json", paths[1])
    assert done.exit_code == 0, done.output
    records = json.loads(paths[1].read_text())["records"]
    with open(paths[0], newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["quantity"] == "share"]
    assert len(records) == 2 and len(rows) == 2 * 2 * 5  # steps, roles, prediction steps
    assert sum(float(row["value"]) for row in rows) == pytest.approx(
        sum(row["dW"] for row in records), rel=1e-3, abs=1e-9
    )
    done = call(run, "--recorded", "--csv", tmp_path / "all.csv")
    assert done.exit_code == 0 and "rows" in done.output


@pytest.mark.parametrize(
    ("args", "told"),
    [
        ((), "name a --layer"),
        (("--layer", "2", "--synapse", "a,b"), "--synapse a,b: expected whole numbers"),
        (("--layer", "2", "--bias", "1", "--retro", "1,1,1"), "one of --synapse"),
        (("--layer", "7", "--bias", "1"), "has here the layers 1 to 6"),
        (("--layer", "2", "--bias", "1", "--step", "9"), "--step 9 cannot be recomputed"),
        (("--layer", "2", "--figure", "a.bmp"), "a.bmp: a figure is written as .png, .svg, .pdf"),
        (("--layer", "2", "--recorded"), "--recorded reads the recording of a RUN"),
    ],
)
def test_what_is_asked_wrongly_is_told_in_a_sentence(args, told):
    done = call(*FRESH, *args)
    assert done.exit_code == 2 and told in " ".join(done.output.split())


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("--layer", "9"), "--layer 9: the run has the layers 1 to 6"),
        (("--layer", "conv4", "--bias", "1"), "at most a --layer and a --synapse"),
        (("--synapse", "2,1,0,2"), "--synapse of a recording wants a --layer too"),
        (("--layer", "4", "--synapse", "2,1,0"), "does not hold the synapse 2,1,0 of conv4"),
        (("--hdf5", "a.h5"), "which is HDF5 already"),
    ],
)
def test_what_a_recording_does_not_have_is_told(run, args, told):
    done = call(run, "--recorded", *args)
    assert done.exit_code == 2 and told in " ".join(done.output.split())


def test_a_run_keeps_its_own_options(run):
    done = call(run, "--layer", "2", "--bias", "1", "--width", "0.3")
    assert done.exit_code == 2 and "--width is for a fresh network" in done.output
