"""Figures: drawn whole, and the same each time."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from plasticity import figures


def metrics(steps=30):
    rng = np.random.default_rng(0)
    return {"loss": 2 - rng.random((steps, 2)), "open_gates": rng.random((steps, 2))}


def test_losses_are_drawn_as_png_and_svg_and_repeat(tmp_path):
    for name in ("a", "b"):
        figures.losses(metrics(), ["conv1", "conv2"], tmp_path / name, "clapp")
    with Image.open(tmp_path / "a.png") as image:
        assert image.width == 1400  # 7 inches at 200 dots
        assert len(image.convert("RGB").getcolors(1 << 20)) > 20  # something is on it
    drawn = (tmp_path / "a.svg").read_text()
    assert drawn == (tmp_path / "b.svg").read_text()
    for text in ("step", "loss", "open gates (%)", "conv1", "conv2"):
        assert text in drawn


def test_the_smooth_curve_is_a_running_mean():
    values = np.arange(200.0)
    smooth = figures._smooth(values)
    assert smooth[0] == 0 and smooth[2] == 1.0
    assert smooth[150] == values[141:151].mean()
    np.testing.assert_array_equal(figures._smooth(values[:4]), values[:4])  # too few to average


@pytest.mark.parametrize("steps", [1, 2, figures.POINTS, 20 * figures.POINTS + 1])
def test_a_run_of_any_length_is_drawn_small_and_to_its_last_step(steps):
    axes = Figure().subplots()
    figures._curves(axes, metrics(steps)["loss"], ["conv1", "conv2"])
    for line in axes.get_lines():
        x = line.get_xdata()
        assert x[-1] == steps and min(steps, figures.POINTS / 2) <= len(x) <= figures.POINTS
        assert len(x) > 1 or line.get_marker() == "."  # a line of one point shows nothing


@pytest.mark.parametrize("lowest, scale", [(1.0, "linear"), (1e-3, "log"), (0.0, "linear")])
def test_losses_over_decades_are_drawn_on_a_logarithmic_axis(tmp_path, monkeypatch, lowest, scale):
    drawn = []
    monkeypatch.setattr(figures, "_write", lambda figure, stem: drawn.append(figure))
    loss = np.geomspace(1, 2, 40)[:, None] * [1.0, 1.0]
    loss[-1] = lowest
    figures.losses({**metrics(40), "loss": loss}, ["conv1", "conv2"], tmp_path / "a", "clapp")
    left, right = drawn[0].axes
    assert left.get_yscale() == scale and right.get_yscale() == "linear"


def test_probe_bars_are_drawn(tmp_path):
    figures.probe_bars(["conv1", "conv2"], [0.5, 0.6], [0.4, 0.5], 0.01, tmp_path / "p")
    assert "probe accuracy (%)" in (tmp_path / "p.svg").read_text()
