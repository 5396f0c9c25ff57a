"""A run ends when its loss falls no more: `--stop-early`."""

import numpy as np
import pytest
from click.testing import CliRunner
from plasticity.cli import main

from plasticity import runs
from plasticity.errors import UserError
from plasticity.runs.training import plateau

SMALL = ["--width", "0.03", "--batch", "4", "--layers", "2", "--no-probe"]


def metrics(losses):
    return {"seconds": [0.0] * len(losses), "loss": [np.array([x, x + 2.0]) for x in losses]}


def call(*args):
    return CliRunner().invoke(main, ["run", *map(str, args)])


def stored(folder):
    return runs.load(runs.checkpoint_path(folder))


@pytest.mark.parametrize(
    ("losses", "every", "ends"),
    [
        ([5, 4, 3, 2], 2, False),
        ([5, 4, 3, 6], 2, True),  # 4.5, then 4.5
        ([5, 4, 3, 6, 9], 2, True),  # the rest of a block is not asked
        ([5, 4, 3, 2, 9], 2, False),
        ([5, 1, 2, 3, 4, 4], 2, True),  # 3, 2.5, 4
        ([5, 4], 2, False),  # nothing before it
        ([1, 2, 3], 0, False),
    ],
)
def test_a_plateau_is_a_block_that_is_not_the_lowest(losses, every, ends):
    assert plateau(metrics(losses), every) is ends


def test_modules_without_a_loss_are_left_out_and_a_run_without_any_is_refused():
    found = metrics([5, 4, 3, 6])
    for row in found["loss"]:
        row[1] = np.nan
    assert plateau(found, 2)
    with pytest.raises(UserError, match="no rule of this run descends one: leave it away"):
        plateau({"seconds": [0.0] * 4}, 2)


def test_a_run_ends_where_its_losses_say_however_it_was_interrupted(tmp_path):
    """A rate of 0: the losses of batches go up and down."""
    how = [*SMALL, "--lr", "1e-30", "--stop-early", 3, "--steps"]
    done = call(*how, 60, "--out", tmp_path / "whole")
    assert done.exit_code == 0, done.output
    whole = stored(tmp_path / "whole")
    assert whole.step < 60 and whole.step % 3 == 0
    losses = {"seconds": whole.metrics["seconds"], "loss": list(whole.metrics["loss"])}
    assert plateau(losses, 3)
    cut = {name: values[: whole.step - 3] for name, values in losses.items()}
    assert not plateau(cut, 3), "and no sooner"
    assert call(*how, 2, "--out", tmp_path / "parts").exit_code == 0
    done = call("--resume", tmp_path / "parts", "--steps", 60)
    assert done.exit_code == 0, done.output
    assert stored(tmp_path / "parts").step == whole.step
    assert call("--resume", tmp_path / "whole").exit_code == 0
    assert stored(tmp_path / "whole").step == whole.step, "it has ended"
    more = call("--resume", tmp_path / "whole", "--stop-early", 0, "--steps", whole.step + 2)
    assert more.exit_code == 0 and stored(tmp_path / "whole").step == whole.step + 2


def test_a_rule_without_a_loss_cannot_stop_early(tmp_path):
    done = call(*SMALL, "--rule", "oja", "--stop-early", 2, "--out", tmp_path / "no")
    assert done.exit_code == 2 and "no rule of this run descends one" in done.output


def test_a_run_without_a_loss_is_refused_before_it_begins(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = call(*SMALL, "--rule", "oja", "--steps", 6, "--stop-early", 3)
    assert done.exit_code == 2 and "no rule of this run descends one" in done.output
    assert not list(tmp_path.iterdir())  # nor an empty runs/
    assert call(*SMALL, "--rule", "oja", "--steps", 2, "--out", "run").exit_code == 0
    done = call("--resume", "run", "--steps", 9, "--stop-early", 3)
    assert done.exit_code == 2 and "no rule of this run descends one" in done.output
    assert stored(tmp_path / "run").step == 2
