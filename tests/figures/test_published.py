"""Figures beside the published: what is drawn is what was measured."""

import numpy as np
import pytest

from plasticity import figures


def points(axes, label):
    """x and y of the curve with this label."""
    (line,) = (line for line in axes.get_lines() if line.get_label() == label)
    return list(line.get_xdata()), list(line.get_ydata())


def test_published_and_ours_stand_in_the_row_of_their_label():
    ours = {"one probe": [(30.0, 34.0), (), (10.0,)], "other": [(31.0, 33.0), (40.0,), ()]}
    (axes,) = figures.beside_published(["a", "b", "c"], [80.0, None, 20.0], ours, "t").axes
    assert [text.get_text() for text in axes.get_yticklabels()] == ["a", "b", "c"]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first row on top
    assert points(axes, "published") == ([80.0, 20.0], [0, 2])
    x, y = points(axes, "one probe")
    assert x == [32.0, 10.0] and np.round(y).tolist() == [0, 2]
    assert points(axes, "other")[0] == [32.0, 40.0]


def test_curves_over_layers_are_means_and_skip_what_was_not_run():
    labels, layers = ["a", "a", "b", "b"], [1, 2, 1, 2]
    values = [(10.0, 14.0), (20.0, 20.0), (), (30.0,)]
    (axes,) = figures.over_layers(labels, layers, values, "t").axes
    means = [
        line
        for line in axes.get_lines()
        if len(line.get_xdata()) and line.get_marker() in ("o", "s")
    ]
    assert [list(line.get_ydata()) for line in means] == [[12.0, 20.0], [30.0]]
    assert list(means[1].get_xdata()) == [2]
    spread = axes.collections[0].get_segments()[0][:, 1]
    assert (spread[1] - spread[0]) / 2 == pytest.approx(8**0.5)  # of 10 and 14


def test_losses_have_a_panel_for_each_split(tmp_path):
    losses = {"6": np.ones((30, 6)), "1": np.full((30, 1), 2.0)}
    figure = figures.losses_of_splits(losses, "Losses")
    assert [axes.get_title() for axes in figure.axes] == ["6", "1"]
    assert [len(axes.get_legend_handles_labels()[1]) for axes in figure.axes] == [6, 1]
    assert [text.get_text() for text in figure.legends[0].get_texts()][-1] == "module 6"


@pytest.mark.parametrize("draw", [
    lambda: figures.beside_published(["a"], [None], {"ours": [()]}, "t"),
    lambda: figures.over_layers(["a"], [1], [()], "t"),
    lambda: figures.losses_of_splits({}, "t"),
])  # fmt: skip
def test_what_nothing_was_run_of_is_drawn_empty(draw, tmp_path):
    figures.save_both(draw(), tmp_path / "empty")
    assert (tmp_path / "empty.svg").read_text().rstrip().endswith("</svg>")
