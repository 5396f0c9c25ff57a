"""Figures: drawn whole, and the same each time."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from plasticity import figures
from plasticity.errors import UserError
from plasticity.figures import run


def metrics(steps=30):
    rng = np.random.default_rng(0)
    return {"loss": 2 - rng.random((steps, 2)), "open_gates": rng.random((steps, 2))}


def test_losses_are_drawn_as_png_and_svg_and_repeat(tmp_path):
    for name in ("a", "b"):
        figures.save_both(figures.losses(metrics(), ["conv1", "conv2"], "clapp"), tmp_path / name)
    with Image.open(tmp_path / "a.png") as image:
        assert image.width == 1400  # 7 inches at 200 dots
        assert len(image.convert("RGB").getcolors(1 << 20)) > 20  # something is on it
    drawn = (tmp_path / "a.svg").read_text()
    assert drawn == (tmp_path / "b.svg").read_text()
    for text in ("step", "loss", "open gates (%)", "conv1", "conv2"):
        assert text in drawn


def test_the_smooth_curve_is_a_running_mean():
    values = np.arange(200.0)
    smooth = run.smooth(values)
    assert smooth[0] == 0 and smooth[2] == 1.0
    assert smooth[150] == values[141:151].mean()
    np.testing.assert_array_equal(run.smooth(values[:4]), values[:4])  # too few to average


@pytest.mark.parametrize("steps", [1, 2, run.POINTS, 20 * run.POINTS + 1])
def test_a_run_of_any_length_is_drawn_small_and_to_its_last_step(steps):
    axes = Figure().subplots()
    run.curves(axes, metrics(steps)["loss"], ["conv1", "conv2"])
    for line in axes.get_lines():
        x = line.get_xdata()
        assert x[-1] == steps and min(steps, run.POINTS / 2) <= len(x) <= run.POINTS
        assert len(x) > 1 or line.get_marker() == "."  # a line of one point shows nothing


@pytest.mark.parametrize("lowest, scale", [(1.0, "linear"), (1e-3, "log"), (0.0, "linear")])
def test_losses_over_decades_are_drawn_on_a_logarithmic_axis(lowest, scale):
    loss = np.geomspace(1, 2, 40)[:, None] * [1.0, 1.0]
    loss[-1] = lowest
    left, right = figures.losses({**metrics(40), "loss": loss}, ["conv1", "conv2"], "clapp").axes
    assert left.get_yscale() == scale and right.get_yscale() == "linear"


def test_probe_bars_are_drawn(tmp_path):
    figures.save(figures.probe_bars(["a", "b"], [0.5, 0.6], [0.4, 0.5], 0.01), tmp_path / "p.svg")
    assert "probe accuracy (%)" in (tmp_path / "p.svg").read_text()


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf", ".SVG"])
def test_a_figure_is_written_as_its_suffix_says_and_the_same_each_time(tmp_path, suffix):
    for name in ("a", "b"):
        bars = figures.probe_bars(["a", "b"], [0.5, 0.6], [0.4, 0.5], 0.01)
        figures.save(bars, tmp_path / f"{name}{suffix}")
    written = (tmp_path / f"a{suffix}").read_bytes()
    assert written == (tmp_path / f"b{suffix}").read_bytes()
    assert written[:5] in (b"\x89PNG\r", b"<?xml", b"%PDF-")


def test_a_figure_of_an_unknown_kind_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"a\.bmp: a figure is written as \.png, \.svg, \.pdf"):
        figures.save(Figure(), tmp_path / "a.bmp")
    assert not list(tmp_path.iterdir())
