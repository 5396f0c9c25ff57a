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
        assert image.width == 680  # 3.4 inches at 200 dots
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
        assert len(x) > 1 or line.get_marker() != "None"  # a line of one point shows nothing


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


def test_a_probe_shows_its_data_set_and_the_level_of_chance():
    (axes,) = figures.probe_bars(["a"], [0.5], [0.4], 0.01, "classes of stl10", 10).axes
    assert axes.get_title() == "classes of stl10"
    (line,) = axes.get_lines()[-1:]
    assert list(line.get_ydata()) == [10, 10] and line.get_label() == "chance, 1 of 10"


def test_names_stand_at_the_ends_of_their_curves_and_not_on_each_other():
    names = [f"conv{i}" for i in range(1, 7)]
    found = {"loss": np.full((30, 6), 2.0), "open_gates": np.zeros((30, 6))}
    found["loss"][:, 2] = 5
    top = figures.losses(found, names, "clapp").axes[0]
    places = {text.get_text(): text.xyann[1] for text in top.texts}
    assert set(places) == set(names) and max(places, key=places.get) == "conv3"
    apart = np.diff(sorted(places.values())) * top.get_position().height * 4.4 * 72
    assert (apart > 7).all() and max(places.values()) <= 1  # points, of text of 7


def test_layers_are_told_apart_without_colour():
    axes = Figure().subplots()
    run.curves(axes, np.random.default_rng(0).random((30, 16)), [f"conv{i}" for i in range(16)])
    shown = [line for line in axes.get_lines() if line.get_label().startswith("conv")]
    assert len({(line.get_marker(), line.get_linestyle()) for line in shown}) == 16


def test_a_spectrum_is_drawn_as_parts_of_its_sum_and_a_silent_layer_not_at_all():
    values = [np.array([3.0, 1, 0]), np.zeros(3)]
    figure = figures.spectrum(["a", "b"], {"trained": values}, {"trained": [1.6, 0]}, "clapp")
    (line,) = figure.axes[0].get_lines()
    assert line.get_ydata().tolist() == [0.75, 0.25] and line.get_label() == "a"
    assert figure.axes[1].get_lines()[0].get_ydata().tolist() == [1.6, 0]


def test_a_long_title_is_broken_inside_the_figure():
    """As of a mixture, whose title names the rule of every layer."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    title = ", ".join(f"conv{i} learns by greedy_supervised" for i in range(1, 7))
    values = {"loss": np.ones((3, 1)), "open_gates": np.ones((3, 1))}
    figure = figures.losses(values, ["conv1"], f"{title} on vgg6, sample")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    box = figure._suptitle.get_window_extent(canvas.get_renderer())
    assert box.x0 >= 0 and box.x1 <= figure.bbox.width and box.y1 <= figure.bbox.height
