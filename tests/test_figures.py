"""Figures: drawn whole, and the same each time."""

import numpy as np
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
    assert smooth[150] == values[147:151].mean()


def test_probe_bars_are_drawn(tmp_path):
    figures.probe_bars(["conv1", "conv2"], [0.5, 0.6], [0.4, 0.5], 0.01, tmp_path / "p")
    assert "probe accuracy (%)" in (tmp_path / "p.svg").read_text()
