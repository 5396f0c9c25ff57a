"""Probes of the checkpoints that a run has kept, and the best of them."""

import pytest
from click.testing import CliRunner
from plasticity.cli import main

from plasticity import runs
from plasticity.errors import UserError
from plasticity.probes.kept import Kept
from plasticity.probes.probe import probe_run
from plasticity.runs import lifecycle


def call(*args):
    return CliRunner().invoke(main, [*map(str, args)], env={"COLUMNS": "120"})


def test_the_best_of_a_layer_is_its_highest_the_first_of_equals():
    over = Kept(["a", "b"], [0, 5, 9], [[0.1, 0.4], [0.3, 0.2], [0.3, 0.5]], 0.1, {})
    assert over.best == {"a": 5, "b": 9}


def test_every_kept_checkpoint_is_probed_as_it_is_alone(tmp_path):
    small = ["--width", "0.03", "--batch", "8", "--layers", "2", "--lr", "0.01", "--no-probe"]
    folder = tmp_path / "run"
    assert call("run", *small, "--steps", 5, "--keep-every", 2, "--out", folder).exit_code == 0
    done = call("probe", folder, "--kept", "--train", 40, "--test", 20)
    assert done.exit_code == 0 and "best at" in done.output, done.output
    found = runs.read_json(folder / "kept-probes.json")
    assert found["steps"] == [0, 2, 4, 5] and set(found["best"]) == {"conv1", "conv2"}
    for step, path in runs.kept(folder).items():
        state = lifecycle.reopen(folder, path, device="cpu")
        alone = probe_run(state, train_images=40, test_images=20, beside_random=False)
        assert found["trained"][found["steps"].index(step)] == pytest.approx(alone.trained)
    done = call("probe", folder, "--kept", "--checkpoint", path)
    assert done.exit_code == 2 and "leave --checkpoint" in done.output


def test_a_run_that_has_kept_none_says_how_to(tmp_path):
    small = ["--width", "0.03", "--batch", "4", "--layers", "1", "--steps", "1", "--no-probe"]
    assert call("run", *small, "--out", tmp_path / "run").exit_code == 0
    done = call("probe", tmp_path / "run", "--kept")
    assert done.exit_code == 2 and "--keep-every N" in done.output


OVER = Kept(["a", "b"], [0, 5, 9], [[0.1, 0.4], [0.5, 0.2], [0.3, 0.5]], 0.1, {}, ["0", "5", "9"])


@pytest.mark.parametrize(
    "by, step, layer, accuracy",
    [("a", 5, "a", 0.5), ("b", 9, "b", 0.5), ("mean", 9, "", 0.4), ("any", 5, "a", 0.5)],
)
def test_the_best_checkpoint_is_that_of_the_layer_or_criterion_asked_for(by, step, layer, accuracy):
    best = OVER.best_by(by)
    assert (best.step, best.layer, best.checkpoint) == (step, layer, str(step))
    assert best.accuracy == pytest.approx(accuracy)


def test_a_run_names_the_best_of_what_it_kept_and_draws_the_curves(tmp_path):
    small = ["--width", "0.03", "--batch", "8", "--layers", "2", "--lr", "0.01", "--no-probe"]
    how = ["--keep-weights", 2, "--best-by", "conv2", "--probe-train", 40, "--probe-test", 20]
    folder = tmp_path / "run"
    done = call("run", *small, "--steps", 4, *how, "--out", folder)
    assert done.exit_code == 0, done.output
    best, over = runs.read_summary(folder)["best"], Kept.read(folder)
    assert over.steps == [0, 2, 4] and best == vars(over.best_by("conv2"))
    assert f"Best by conv2: step {best['step']}" in done.output
    assert (folder / "kept-probes.png").is_file() and (folder / "kept-probes.svg").is_file()
    state = lifecycle.reopen(folder, best["checkpoint"])
    assert state.step == best["step"]
    done = call("report", folder, "--images", 4)
    assert (
        done.exit_code == 0 and "of every layer over steps" in (folder / "report.html").read_text()
    )


@pytest.mark.parametrize(
    "given, told",
    [
        (["run", "--best-by", "conv2"], "name --keep-every N or --keep-weights N too"),
        (["run", "--best-by", "conv7", "--keep-every", "1"], "expected a layer, conv1"),
        (["probe", "RUN", "--best-by", "any"], "--best-by goes with --kept"),
        (["probe", "RUN", "--kept", "--best-by", "top"], "expected a layer, conv1, or mean"),
    ],
)
def test_a_criterion_that_is_none_is_refused_at_the_start(tmp_path, monkeypatch, given, told):
    monkeypatch.chdir(tmp_path)
    small = ["--width", "0.03", "--batch", "4", "--layers", "1", "--steps", "1", "--no-probe"]
    if "RUN" in given:
        assert call("run", *small, "--keep-every", 1, "--out", "RUN").exit_code == 0
    done = call(*given)
    assert done.exit_code == 2 and told in done.output, done.output
    assert not (tmp_path / "runs").exists()


def test_a_damaged_file_of_probes_is_named(tmp_path):
    for text in (
        "{}",
        "[]",
        '{"layers": ["a"], "steps": [1], "trained": [], "error": 0, "about": {}}',
    ):
        (tmp_path / "kept-probes.json").write_text(text)
        with pytest.raises(UserError, match=r"kept-probes.json holds no probes"):
            Kept.read(tmp_path)
