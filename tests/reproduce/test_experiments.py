"""The runs behind a table: made once, resumed, refused where they are others."""

from dataclasses import replace

import numpy as np
import pytest

from plasticity import reproduce, runs, sweeps
from plasticity.errors import UserError
from plasticity.reproduce import of_row
from plasticity.sweeps import carry_out

BUDGET = reproduce.Budget(
    "tiny",
    {"data": "sample", "width": 0.02, "steps": 3, "batch": 4, "images": 40},
    probe_train=40,
    probe_test=30,
    probe_epochs=2,
    probe_views=2,
)
TABLE = reproduce.TABLES["table1"]
CLAPP_S = next(row for row in TABLE.rows if row.label == "CLAPP-s")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run that was carried out, its folder, and all that was told meanwhile."""
    folder, told = tmp_path_factory.mktemp("made"), []
    wanted = of_row(CLAPP_S, BUDGET, 0)
    assert carry_out(wanted, folder, lambda *what: told.append(what))
    return wanted, folder, told


def test_a_run_is_trained_to_its_end_and_probed_by_both_protocols(made):
    wanted, folder, told = made
    place = folder / wanted.name
    assert runs.load(runs.checkpoint_path(place)).step == 3
    for protocol in ("published", "regularised"):
        found = wanted.measured(place, protocol)
        assert len(found) == 6 and all(0 <= accuracy <= 1 for accuracy in found)
    stages = list(dict.fromkeys(what for what, _, _ in told))
    assert stages == ["training", "published probe", "regularised probe"]


def test_what_is_done_is_left_as_it_is(made):
    wanted, folder, _ = made
    before = {p: p.stat().st_mtime_ns for p in (folder / wanted.name).iterdir()}
    told = []
    assert carry_out(wanted, folder, lambda *what: told.append(what)) and not told
    assert before == {p: p.stat().st_mtime_ns for p in (folder / wanted.name).iterdir()}


def test_a_probe_that_asks_for_something_else_is_made_again(made):
    wanted, folder, _ = made
    other = replace(BUDGET, probe_test=20)
    assert wanted.complete(folder) and not of_row(CLAPP_S, other, 0).complete(folder)


def test_a_run_of_another_budget_is_refused(made):
    _, folder, _ = made
    for changed, sentence in (({"lr": 0.1}, "lr 0.0002, this budget asks for 0.1"),
                              ({"steps": 5}, "steps 3, this budget asks for 5")):  # fmt: skip
        other = replace(BUDGET, options={**BUDGET.options, **changed})
        with pytest.raises(UserError, match=f"seed=0 was made with {sentence}"):
            carry_out(of_row(CLAPP_S, other, 0), folder, lambda *what: None)


def test_random_weights_are_probed_as_they_were_drawn(tmp_path):
    wanted = of_row(TABLE.rows[0], BUDGET, 0)
    assert wanted.steps() == 0 and carry_out(wanted, tmp_path, lambda *what: None)
    stored = runs.load(runs.checkpoint_path(tmp_path / wanted.name))
    start = wanted.options.network().prepare(0)
    assert stored.step == 0
    np.testing.assert_array_equal(
        stored.params["conv3"]["weight"], start["conv3"]["weight"].astype("f4")
    )


def test_a_run_that_fails_does_not_stop_the_others(tmp_path):
    bad, good = of_row(CLAPP_S, BUDGET, 1), of_row(TABLE.rows[0], BUDGET, 1)
    bad = replace(bad, options=bad.options.changed(lr=1e30, steps=30))
    ended = []
    failed = sweeps.carry_out_all(
        [bad, good], tmp_path, 1, lambda name, what, *_: ended.append((name, what))
    )
    assert list(failed) == [bad.name] and "take a smaller --lr" in failed[bad.name]
    assert ended[-1] == (good.name, sweeps.DONE)


def test_work_counts_what_is_done_and_how_long_the_rest_takes(made):
    wanted, folder, _ = made
    fresh = of_row(CLAPP_S, BUDGET, 7)
    work = sweeps.Work([wanted, fresh], folder)
    one = 3 * 3 * 4 + (2 * 40 + 30) + (40 + 30)  # training, published and regularised probe
    assert work.todo == [fresh] and (work.done, work.total) == (one, 2 * one)
    assert work.remaining(1.0) is None
    work.report(fresh.name, "training", 1, 3)  # what an earlier session did, for all we know
    assert work.remaining(1.0) is None
    work.report(fresh.name, "training", 3, 3)
    assert work.done == one + 36
    assert work.remaining(12.0) == pytest.approx(12 * (one - 36) / 24)
    work.report(fresh.name, sweeps.DONE, 1, 1)
    assert work.done == work.total and work.remaining(50.0) == 0


def test_film_is_trained_and_probed_by_options_of_its_own(tmp_path):
    row = next(row for row in reproduce.TABLES["video"].rows if "CLAPP-s" in row.label)
    tiny = {"data": "sample", "width": 0.02, "steps": 1, "batch": 2}
    wanted = of_row(row, replace(BUDGET, film=tiny, probe_train=30), 0)
    assert wanted.options.weights == "" and not wanted.options.images
    assert wanted.probes["published"]["train_images"] == 30
    paper = reproduce.BUDGETS["paper"].of(row)
    published = {"epochs": 300, "batch": 8, "lr": 1e-3, "weight_decay": 1e-5, "clip_frames": 54}
    assert published.items() <= paper.items()
    cheap = replace(wanted, probes={"regularised": {**wanted.probes["regularised"],
                                                    "test_images": 20}})  # fmt: skip
    assert carry_out(cheap, tmp_path, lambda *_: None)
    assert len(cheap.measured(tmp_path / cheap.name, "regularised")) == 5
