"""`plasticity plot`: every figure of a run, and sentences for what cannot be drawn."""

import sys

import pytest
from click.testing import CliRunner
from PIL import Image
from plasticity.cli import main

SMALL = ["--width", "0.04", "--layers", "2", "--batch", "4", "--steps", "2", "--no-probe"]

OWN = """
from dataclasses import dataclass
from typing import ClassVar

from plasticity.arrays import array_module
from plasticity.rule import Learning, Rule


@dataclass(frozen=True)
class MeanHebb(Rule):
    name: ClassVar[str] = "mean_hebb"
    equation: ClassVar[str] = "dW_ji = z_j x_i"

    def learn(self, z, own, draw, layout):
        xp = array_module(z)
        return Learning(drive=z / len(z), loss=xp.zeros(()), open_gates=xp.ones(()))
"""


def call(*args):
    return CliRunner().invoke(main, list(map(str, args)))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder, made = tmp_path_factory.mktemp("runs"), {}
    (folder / "mean_hebb.py").write_text(OWN)
    for name, more in {
        "clapp": ("--record", "layer=2,random=2", "--record-every", "1"),
        "random": ("--rule", "random"),
        "hinge_cpc": ("--rule", "hinge_cpc", "--modules", "1"),
        "supervised": ("--rule", "supervised"),
        "own": ("--rule", folder / "mean_hebb.py"),
    }.items():
        made[name] = folder / name
        done = call("run", *SMALL, "--device", "cpu", "--out", made[name], *more)
        assert done.exit_code == 0, done.output
    return made


def plot(run, *what):
    return call("plot", run, *what, "--images", "8")


def test_every_figure_of_a_run_is_drawn(runs, tmp_path):
    done = plot(runs["clapp"], "all", "--out", tmp_path)
    assert done.exit_code == 0, done.output
    names = {
        "losses",
        "measures",
        "hinge",
        "gates",
        "history",
        "predictions",
        "kernels",
        "patches",
        "spectrum",
        "tsne",
    }
    assert {path.name for path in tmp_path.iterdir()} == {f"{name}.png" for name in names}
    for path in tmp_path.iterdir():
        with Image.open(path) as image:
            assert 680 <= image.width <= 1400  # a column of 3.4 inches to a page, at 200 dots
            assert len(image.convert("RGB").getcolors(1 << 20)) > 5


def test_figures_go_where_and_how_they_are_asked_for(runs, tmp_path):
    done = plot(runs["clapp"], "kernels", "--format", "svg", "--format", "pdf")
    assert done.exit_code == 0, done.output
    folder = runs["clapp"] / "figures"
    assert (folder / "kernels.pdf").read_bytes().startswith(b"%PDF")
    assert "conv1, random weights" in (folder / "kernels.svg").read_text()
    done = plot(runs["clapp"], "gates", "--layer", "2", "--out", tmp_path / "g.svg")
    assert done.exit_code == 0, done.output
    drawn = (tmp_path / "g.svg").read_text()
    assert "conv2" in drawn and "conv1" not in drawn


@pytest.mark.parametrize(
    "rule, drawn",
    [
        ("random", {"measures", "kernels", "patches", "spectrum", "tsne"}),
        ("own", {"measures", "kernels", "patches", "spectrum", "tsne"}),
        ("supervised", {"losses", "measures", "kernels", "patches", "spectrum", "tsne"}),
        (
            "hinge_cpc",
            {
                "losses",
                "measures",
                "hinge",
                "gates",
                "predictions",
                "kernels",
                "patches",
                "spectrum",
                "tsne",
            },
        ),
    ],
)
def test_of_all_what_a_rule_does_not_have_is_left_out_with_a_word(runs, rule, drawn, tmp_path):
    done = plot(runs[rule], "all", "--out", tmp_path)
    assert done.exit_code == 0, done.output
    assert {path.stem for path in tmp_path.iterdir()} == drawn
    assert done.output.count("Left out, ") == 10 - len(drawn)


@pytest.mark.parametrize(
    "rule, args, told",
    [
        ("clapp", (), "nothing to plot: name one or more of losses, measures,"),
        ("clapp", ("losess",), "unknown plot 'losess': did you mean 'losses'?"),
        ("clapp", ("t-SNE",), "did you mean 'tsne'?"),
        ("clapp", ("xyz",), "unknown plot 'xyz': expected losses,"),
        ("clapp", ("gates", "--layer", "3"), "--layer 3: vgg6 has here the layers 1 to 2"),
        ("clapp", ("kernels", "--layer", "2"), "of the first layer alone, conv1"),
        ("clapp", ("losses", "gates", "--out", "a.png"), "a.png is one file for 2 plots"),
        ("clapp", ("losses", "--out", "a.jpg"), "a.jpg: a figure is written as .png, .svg, .pdf"),
        ("random", ("hinge",), "the rule random compares nothing"),
        ("random", ("history",), "nothing was recorded while training"),
        ("random", ("losses",), "the rule random has no loss"),
        ("hinge_cpc", ("hinge", "--layer", "1"), "conv1 is not the top of a module"),
        ("hinge_cpc", ("losses", "--layer", "1"), "conv1 is not the top of a module"),
        ("hinge_cpc", ("predictions", "--layer", "1"), "conv1 is not the top of a module"),
    ],
)
def test_what_is_asked_wrongly_is_told_in_a_sentence(runs, rule, args, told):
    done = plot(runs[rule], *args)
    assert done.exit_code == 2 and told in " ".join(done.output.split())


def test_a_run_that_is_not_there_is_told(tmp_path):
    done = plot(tmp_path / "none", "losses")
    assert done.exit_code == 2 and "is no run folder" in done.output


def test_a_missing_extra_is_told_with_what_mends_it(runs, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.manifold", None)
    done = plot(runs["clapp"], "tsne", "--layer", "1")
    assert done.exit_code == 2 and "pip install '.[plot]'" in done.output


def test_losses_of_several_runs_share_a_figure(runs, tmp_path):
    path = tmp_path / "deep" / "both.png"
    done = call("plot", runs["clapp"], "losses", "--with", runs["hinge_cpc"], "--out", path)
    assert done.exit_code == 0, done.output
    assert Image.open(path).width > 500


@pytest.mark.parametrize(
    "what, other, told",
    [
        ("hinge", "hinge_cpc", "--with is for the losses"),
        ("losses", "clapp", "named twice"),
        ("losses", "nothing", "no run"),
    ],
)
def test_runs_that_cannot_share_a_figure_are_told(runs, tmp_path, what, other, told):
    other = runs.get(other, tmp_path / other)
    done = call("plot", runs["clapp"], what, "--with", other, "--out", tmp_path / "out.png")
    assert done.exit_code == 2 and told in done.output, done.output
    assert not (tmp_path / "out.png").exists()
