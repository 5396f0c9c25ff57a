"""Figures of a whole run: losses, gates and probes."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from plasticity.figures.style import COLOURS, COLUMN, PAGE, layer, plain, styled

POINTS = 600  # of one curve at most: an SVG of a long run stays small


def smooth(values: np.ndarray) -> np.ndarray:
    """The mean over the last fiftieth of the run, or over 10 steps where that is more."""
    width = max(1, min(len(values) // 5, max(len(values) // 50, 10)))
    sums = np.cumsum(np.concatenate([[0.0], values]))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(0, ends - width)
    return (sums[ends] - sums[starts]) / (ends - starts)


def curves(axes: Axes, values: np.ndarray, names: list[str]) -> None:
    """Every module's running mean, over its single steps, faint; of a long run every so many."""
    every = -(-len(values) // POINTS)
    shown = slice((len(values) - 1) % every, None, every)  # the last step is always shown
    steps = np.arange(1, len(values) + 1)[shown]
    marker = "." if len(steps) == 1 else None
    for i, name in enumerate(names):
        own = {"color": COLOURS[i % len(COLOURS)], "marker": marker}
        axes.plot(steps, values[shown, i], linewidth=0.4, alpha=0.25, zorder=1, **own)
        axes.plot(steps, smooth(values[:, i])[shown], linewidth=1.2, label=name, zorder=2, **own)
    axes.set_xlabel("step")
    ticks = MaxNLocator(6, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1)
    axes.xaxis.set_major_locator(ticks)
    axes.margins(x=0.01)


@styled
def losses(metrics: dict[str, np.ndarray], names: list[str], title: str) -> Figure:
    """Loss and open gates, or accuracy, of every module over steps.

    The axis of the loss is logarithmic where losses span more than two decades.

    Args:
        metrics: `loss` and `open_gates`, `(steps, modules)`, at least one step, NaN of a module
            that has none; `accuracy`, where all modules have it, is drawn in place of the gates.
    """
    figure = Figure(figsize=(PAGE, 2.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    curves(left, metrics["loss"], names)
    left.set_ylabel("loss")
    least, most = np.nanmin(metrics["loss"]), np.nanmax(metrics["loss"])
    if least > 0 and most > 100 * least:
        left.set_yscale("log")
    known = np.isfinite(metrics.get("accuracy", np.nan)).all()
    beside = "accuracy" if known else "open_gates"
    curves(right, 100 * metrics[beside], names)
    right.set_ylabel("training accuracy (%)" if beside == "accuracy" else "open gates (%)")
    right.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=1.2)
    figure.suptitle(plain(title), fontsize=9)
    return figure


@styled
def measures(
    steps: np.ndarray, found: dict[str, np.ndarray], names: list[str], title: str
) -> Figure:
    """Measures of every layer over the steps that were measured, a panel for each.

    Args:
        steps: `(n,)`; found: by its label each measure, `(n, layers)`; names: of the layers.
    """
    rows = -(-(len(found) + 1) // 2)
    figure = Figure(figsize=(COLUMN, 1.4 * rows + 0.4), layout="constrained")
    panels = figure.subplots(rows, 2, sharex=True).ravel()
    for axes, (label, values) in zip(panels, found.items(), strict=False):
        for i, _ in enumerate(names):
            every = max(1, len(steps) // 6)
            axes.plot(steps, values[:, i], linewidth=1, markersize=3, markevery=every, **layer(i))
        axes.set_title(label, fontsize=8)
        axes.margins(x=0.03)
        axes.ticklabel_format(axis="y", scilimits=(-3, 4), useOffset=False)
        axes.xaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10], integer=True))
    for axes in panels[: len(found)][-2:]:
        axes.set_xlabel("step")
        axes.tick_params(labelbottom=True)
    for axes in panels[len(found) :]:
        axes.axis("off")
    keys = [Line2D([], [], linewidth=1, markersize=3, label=plain(n), **layer(i))
            for i, n in enumerate(names)]  # fmt: skip
    columns = 1 if len(keys) <= 9 else 2
    panels[-1].legend(handles=keys, loc="center", ncols=columns, fontsize=8 if columns == 1 else 6)
    figure.suptitle(plain(title), fontsize=9)
    return figure


@styled
def probe_bars(names: list[str], trained: list[float], random: list[float], error: float) -> Figure:
    """Probe accuracy by layer, trained beside random weights, with one standard error."""
    figure = Figure(figsize=(COLUMN, 2.5), layout="constrained")
    axes = figure.subplots()
    place = np.arange(len(names))
    for shift, values, colour, label in (
        (-0.2, random, "#999999", "random weights"),
        (0.2, trained, COLOURS[0], "trained"),
    ):
        axes.bar(
            place + shift,
            100 * np.array(values),
            0.38,
            yerr=100 * error,
            color=colour,
            label=label,
            error_kw={"linewidth": 0.8},
        )
    axes.set_xticks(place, names)
    axes.set_ylabel("probe accuracy (%)")
    figure.legend(loc="outside upper center", ncols=2)
    return figure
