"""Metrics as they come: every step once, whole lines, whatever ended the run."""

import csv
import errno
import os
import struct
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from plasticity.cli import main

from plasticity import runs
from plasticity.errors import UserError
from plasticity.runs import journal, lifecycle, measures, training
from plasticity.runs.options import RunOptions

SMALL = {"width": 0.03, "batch": 4, "layers": 2, "device": "cpu", "probe": False}
COMMAND = ("--width", 0.03, "--batch", 4, "--layers", 2, "--no-probe")


@pytest.fixture(autouse=True)
def often(monkeypatch):
    monkeypatch.setattr(measures, "EVERY", 2)


def call(*args):
    return CliRunner().invoke(main, ["run", *map(str, args)])


def trained(folder, steps=5, **more):
    state, _ = lifecycle.start(RunOptions(**{**SMALL, "steps": steps, **more}), str(folder))
    training.train(state, folder)
    return runs.load(runs.checkpoint_path(folder))


def resumed(folder, steps, **more):
    state = lifecycle.resume(folder, {"steps": steps, **more}, {"steps", *more})
    training.train(state, folder)


def told(folder):
    with open(folder / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


def without_time(rows):
    return [{name: cell for name, cell in row.items() if name != "seconds"} for row in rows]


def test_a_row_is_a_layer_in_a_step_as_the_checkpoint_has_it(tmp_path):
    stored, rows = trained(tmp_path / "run"), told(tmp_path / "run")
    assert list(rows[0]) == ["step", "layer", "loss", "open_gates", *runs.MEASURES, "seconds"]
    at = [(int(row["step"]), row["layer"]) for row in rows]
    assert at == [(step, layer) for step in range(1, 6) for layer in ("conv1", "conv2")]
    for i, row in enumerate(rows):
        step, module = divmod(i, 2)
        assert float(row["loss"]) == pytest.approx(stored.metrics["loss"][step, module], rel=1e-5)
        measured = np.flatnonzero(stored.measures["step"] == step + 1)
        for name in runs.MEASURES:
            wanted = stored.measures[name][measured, module]
            assert [float(cell) for cell in (row[name],) if cell] == pytest.approx(wanted, rel=1e-5)


def test_a_rule_without_a_loss_has_no_such_column(tmp_path):
    trained(tmp_path / "run", rule="oja", steps=1)
    assert "loss" not in told(tmp_path / "run")[0]


def test_modules_of_several_layers_have_their_numbers_at_their_tops(tmp_path):
    trained(tmp_path / "run", rule="hinge_cpc", modules="1", steps=1)
    rows = {row["layer"]: row for row in told(tmp_path / "run")}
    assert set(rows) == {"conv1", "conv2"} and rows["conv2"]["loss"]
    assert not rows["conv1"]["loss"] and rows["conv1"]["activity"]


@pytest.mark.parametrize("left", ["4,conv1,9,9,,,,,,1\n4,conv2,9", ""])
def test_what_a_killed_run_told_beyond_its_checkpoint_is_told_once(tmp_path, left):
    trained(tmp_path / "whole")
    trained(tmp_path / "killed", steps=3)
    path = tmp_path / "killed" / "metrics.csv"
    path.write_text(path.read_text() + left)
    if not left:  # a run of an earlier version
        path.unlink()
    resumed(tmp_path / "killed", 5)
    text = path.read_text()
    assert text.count("step,layer") == 1 and text.endswith("\n")
    assert without_time(told(tmp_path / "killed")) == without_time(told(tmp_path / "whole"))


def test_where_the_disk_is_full_whole_lines_stay_and_a_sentence_says_so(tmp_path, monkeypatch):
    write, folder = os.write, tmp_path / "run"

    def full(file, text):
        if text.startswith(b"3,"):
            return write(file, text[: len(text) // 2])
        return write(file, text)

    monkeypatch.setattr(journal.os, "write", full)
    with pytest.raises(UserError, match=r"metrics.csv could not be written: the disk is full"):
        trained(folder)
    assert [row["step"] for row in told(folder)] == ["1", "1", "2", "2"]
    assert (folder / "metrics.csv").read_text().endswith("\n")
    monkeypatch.undo()
    resumed(folder, 4)
    assert [row["step"] for row in told(folder)] == [s for s in "1234" for _ in range(2)]


def test_a_file_that_may_not_be_written_is_named(tmp_path, monkeypatch):
    def closed(*args, **how):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    state, folder = lifecycle.start(RunOptions(**SMALL, steps=1), str(tmp_path / "run"))
    monkeypatch.setattr(journal.os, "open", closed)
    with pytest.raises(UserError, match="could not be written: Permission denied"):
        training.train(state, folder)


def scalars(folder):
    """What TensorBoard finds in a folder: (tag, step, value)."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted(folder.iterdir()):
        content, at = path.read_bytes(), 0
        while at < len(content):
            (size,) = struct.unpack_from("<Q", content, at)
            event = Event.FromString(content[at + 12 : at + 12 + size])
            found += [(v.tag, event.step, v.simple_value) for v in event.summary.value]
            at += 16 + size
    return found


def test_tensorboard_is_told_the_same(tmp_path):
    pytest.importorskip("tensorboardX")
    stored = trained(tmp_path / "run", steps=3, tensorboard=True)
    found = {(tag, step): value for tag, step, value in scalars(tmp_path / "run" / "tensorboard")}
    for step in range(3):
        loss = stored.metrics["loss"][step, 1]
        assert found["loss/conv2", step + 1] == pytest.approx(loss, rel=1e-6)
    assert ("drift/conv1", 2) in found and ("drift/conv1", 3) not in found
    resumed(tmp_path / "run", 4)
    steps = [s for tag, s, _ in scalars(tmp_path / "run" / "tensorboard") if tag == "loss/conv1"]
    assert steps == [1, 2, 3, 4]


def test_tensorboard_that_is_asked_for_later_is_told_all(tmp_path):
    pytest.importorskip("tensorboardX")
    trained(tmp_path / "run", steps=2)
    resumed(tmp_path / "run", 3, tensorboard=True)
    steps = [s for tag, s, _ in scalars(tmp_path / "run" / "tensorboard") if tag == "loss/conv1"]
    assert steps == [1, 2, 3]


def test_tensorboard_that_is_missing_is_said_before_anything_is_made(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    done = call(*COMMAND, "--tensorboard", "--out", tmp_path / "run")
    assert done.exit_code == 2 and not (tmp_path / "run").exists()
    assert "--tensorboard needs tensorboardX: pip install '.[tensorboard]'" in done.output


def test_the_log_has_what_the_screen_said_with_times_and_goes_on_when_resumed(tmp_path):
    done = call(*COMMAND, "--steps", 2, "--out", tmp_path / "run")
    log = (tmp_path / "run" / "log.txt").read_text()
    for line in done.output.splitlines():
        assert line.strip() in log
    assert "step 1/2  loss" in log and "Layers at step 2" in log
    assert "━" not in done.output.partition("Training")[0]  # no bar where there is no terminal
    call("--resume", tmp_path / "run", "--steps", 3, "--no-probe")
    again = (tmp_path / "run" / "log.txt").read_text()
    assert again.startswith(log) and "step 3/3" in again and again.count("  $ ") == 2


def test_the_log_ends_with_what_went_wrong(tmp_path, monkeypatch):
    def no_room(*args):
        raise UserError("no room for this")

    monkeypatch.setattr(training, "learn_batch", no_room)
    assert call(*COMMAND, "--steps", 2, "--out", tmp_path / "run").exit_code == 2
    assert (tmp_path / "run" / "log.txt").read_text().endswith("  Error: no room for this\n")


def test_a_log_that_cannot_be_written_stops_no_run(tmp_path):
    call(*COMMAND, "--steps", 1, "--out", tmp_path / "run")
    (tmp_path / "run" / "log.txt").unlink()
    (tmp_path / "run" / "log.txt").mkdir()
    assert call("--resume", tmp_path / "run", "--steps", 2, "--no-probe").exit_code == 0
