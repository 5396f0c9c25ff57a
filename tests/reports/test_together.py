"""`plasticity report RUN RUN`: several runs as one page."""

import json
import shutil

import pytest
from plasticity.cli import main

from tests import browser
from tests.reports.test_page import SMALL, Page, call


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """CLAPP at two rates and random weights, all probed."""
    folder = tmp_path_factory.mktemp("runs")
    more = ["--probe-train", "30", "--probe-test", "20"]
    for name, own in {
        "slow": ["--lr", "1e-4"],
        "fast": ["--lr", "1e-3"],
        "still": ["--rule", "random"],
    }.items():
        done = call("run", *SMALL, *more, *own, "--out", folder / name)
        assert done.exit_code == 0, done.output
    return folder


def page_of(tmp_path, *given):
    done = call("report", *given, "--out", tmp_path / "new" / "page.html")
    assert done.exit_code == 0, done.output
    return (tmp_path / "new" / "page.html").read_text(encoding="utf-8"), done.output


def test_the_page_says_what_differs_and_sets_losses_probes_and_measures_beside_each_other(
    runs, tmp_path
):
    text, _ = page_of(tmp_path, runs / "slow", runs / "fast")
    page = Page(text)
    assert list(page.sections) == ["runs", "losses", "probe", "measures"]
    told = page.sections["runs"]
    assert "Options that differ: lr." in told and "0.0001" in told and "0.001" in told
    assert "rule clapp, net vgg6, data sample" in told
    for name in ("slow", "fast"):
        summary = json.loads((runs / name / "summary.json").read_text())
        assert f"{summary['loss_last'][-1]:.3f}" in page.sections["losses"]
        probe, drift = summary["probe"], summary["measures"]["drift"]
        for accuracy in probe["trained"]:
            assert f"{100 * accuracy:.1f} ± {100 * probe['error']:.1f}" in page.sections["probe"]
        for value in drift.values():
            assert f"{value:.3g}" in page.sections["measures"]
    assert len(page.those("img")) == 3 and all(len(i["alt"]) > 40 for i in page.those("img"))
    assert {a["href"][1:] for a in page.those("a")} == set(page.sections)


def test_a_run_without_a_loss_is_named_below_those_that_have_one(runs, tmp_path):
    text, _ = page_of(tmp_path, runs / "slow", runs / "still")
    page = Page(text)
    assert "Without a loss: still." in page.sections["losses"]
    assert "Options that differ: rule, " in page.sections["runs"]


def test_what_the_runs_do_not_share_is_left_out_with_a_word(runs, tmp_path):
    done = call("run", *SMALL[:2], "--layers", "1", *SMALL[4:], "--no-probe", "--out",
                tmp_path / "one")  # fmt: skip
    assert done.exit_code == 0, done.output
    text, told = page_of(tmp_path, runs / "slow", tmp_path / "one")
    assert list(Page(text).sections) == ["runs", "losses", "left-out"]
    for word in ("one had none", "the runs have different layers"):
        assert word in told and word in Page(text).sections["left-out"]


def test_the_images_need_not_be_there(runs, tmp_path, monkeypatch):
    monkeypatch.setattr("plasticity.runs.sets.split", lambda *_: pytest.fail("images were opened"))
    page_of(tmp_path, runs / "slow", runs / "fast")


@pytest.mark.parametrize(
    "given, told",
    [
        (["slow", "slow"], "slow is named twice"),
        (["slow", "none"], "is no run folder"),
        (["slow", "fast", "--images", "3"], "--images is for the page of one run: 2 are named"),
        (["slow", "fast", "--seed", "3"], "--seed is for the page of one run"),
        (["slow", "fast", "--out", "/proc/page.html"], "/proc/page.html could not be written"),
    ],
)  # fmt: skip
def test_what_cannot_be_one_page_is_told_in_a_sentence(runs, tmp_path, given, told):
    names = ("slow", "fast", "none")
    done = call("report", *(runs / one if one in names else one for one in given),
                *([] if "--out" in given else ["--out", tmp_path / "page.html"]))  # fmt: skip
    assert done.exit_code == 2 and told in done.output and not list(tmp_path.iterdir())


def test_names_of_runs_do_not_become_markup(runs, tmp_path):
    odd = tmp_path / "<b>run</b>$x$"
    shutil.copytree(runs / "slow", odd)
    text, _ = page_of(tmp_path, odd, runs / "fast")
    assert "&lt;b&gt;run&lt;/b&gt;" in text and "<b>run" not in text


def test_a_browser_shows_the_page_inside_a_narrow_window(runs, tmp_path):
    text, _ = page_of(tmp_path, runs / "slow", runs / "fast")
    found = browser.look(tmp_path, text, 360)
    assert found["console"] == "" and found["width"] <= 360 and len(found["images"]) == 3


def test_the_command_wants_a_run():
    from click.testing import CliRunner

    assert CliRunner().invoke(main, ["report"]).exit_code == 2
