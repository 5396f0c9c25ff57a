"""Figures of a whole run: losses, gates and probes."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from plasticity.figures.style import COLOURS, COLUMN, fitted, label_ends, layer, plain, styled

MANY, FLOOR = 10, 1e-6
"""Curves that still have room for their names; the smallest part of a spectrum that is drawn."""
POINTS = 600  # of one curve at most: an SVG of a long run stays small


def smooth(values: np.ndarray) -> np.ndarray:
    """The mean over the last fiftieth of the run, or over 10 steps where that is more.

    Steps without a value, NaN, are left out; it is NaN where there is none.
    """
    width = max(1, min(len(values) // 5, max(len(values) // 50, 10)))
    known = np.isfinite(values)
    sums, counts = (
        np.cumsum(np.concatenate([[0.0], part])) for part in (np.where(known, values, 0), known)
    )
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(0, ends - width)
    total, count = sums[ends] - sums[starts], counts[ends] - counts[starts]
    return np.divide(total, count, out=np.full(len(values), np.nan), where=count > 0)


def curves(axes: Axes, values: np.ndarray, names: list[str]) -> None:
    """Every module's running mean, over its single steps, faint; of a long run every so many."""
    every = -(-len(values) // POINTS)
    shown = slice((len(values) - 1) % every, None, every)  # the last step is always shown
    steps = np.arange(1, len(values) + 1)[shown]
    for i, name in enumerate(names):
        own, gap = layer(i), max(1, len(steps) // 5)
        faint = {"color": own["color"], "marker": "." if len(steps) == 1 else None}
        axes.plot(steps, values[shown, i], linewidth=0.4, alpha=0.25, zorder=1, **faint)
        # Markers of one curve lie between those of others.
        marks = {"markersize": 3, "markevery": (i * gap // len(names) % len(steps), gap)}
        running = smooth(values[:, i])[shown]
        axes.plot(steps, running, linewidth=1.1, label=plain(name), zorder=2, **marks, **own)
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
    figure = Figure(figsize=(COLUMN, 4.4), layout="constrained")
    left, right = figure.subplots(2, 1)
    curves(left, metrics["loss"], names)
    left.set_ylabel("loss")
    least, most = np.nanmin(metrics["loss"]), np.nanmax(metrics["loss"])
    if least > 0 and most > 100 * least:
        left.set_yscale("log")
    known = np.isfinite(metrics.get("accuracy", np.nan)).all()
    beside = "accuracy" if known else "open_gates"
    curves(right, 100 * metrics[beside], names)
    right.set_ylabel("training accuracy (%)" if beside == "accuracy" else "open gates (%)")
    for axes in (left, right):
        ends(axes, names)
    figure.suptitle(fitted(title, figure, 9), fontsize=9)
    return figure


def ends(axes: Axes, names: list[str]) -> None:
    """Each curve's name at its end, or a legend where there are too many."""
    known = [line for line in axes.get_lines() if line.get_label() in map(plain, names)]
    if len(names) > MANY:
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=5, handlelength=2.5)
        return
    last = [(line.get_xdata()[-1], line.get_ydata()[-1], line.get_color()) for line in known]
    label_ends(axes, [(x, y, name, c) for (x, y, c), name in zip(last, names, strict=True)])


@styled
def spectrum(
    names: list[str], found: dict[str, list[np.ndarray]], ratios: dict[str, list[float]], title: str
) -> Figure:
    """Eigenvalues of the covariance of encodings by layer, and their participation ratios.

    Args:
        found: for each set of weights, of every layer the eigenvalues, the largest first; they are
            drawn as parts of their sum; ratios: of these.
    """
    figure = Figure(figsize=(COLUMN, 2.2 * len(found) + 2.2), layout="constrained")
    *above, below = figure.subplots(len(found) + 1, 1)
    for axes in above[1:]:
        axes.sharex(above[0])
    for axes, (who, layers) in zip(above, found.items(), strict=True):
        for i, (name, values) in enumerate(zip(names, layers, strict=True)):
            if not values[0] > 0:
                continue
            parts = values[values > values[0] * FLOOR] / values.sum()
            rank = np.arange(1, len(parts) + 1)
            marks = np.unique(np.geomspace(1, len(rank), 7).astype(int)) - 1
            how = {"markevery": list(marks), "markersize": 3, "linewidth": 1, **layer(i)}
            axes.loglog(rank, parts, label=plain(name), **how)
        axes.set_title(plain(who), fontsize=8)
        axes.set_ylabel("eigenvalue / sum")
        axes.set_xlabel("rank")
    handles, labels = above[0].get_legend_handles_labels()
    small = {"fontsize": 6.5, "handlelength": 2.6, "ncols": 1 if len(labels) <= 6 else 2}
    above[0].legend(handles, labels, loc="lower left", labelspacing=0.2, **small)
    for i, (who, values) in enumerate(ratios.items()):
        how = {"linestyle": ("--", "-")[i % 2], "marker": "so"[i % 2], "linewidth": 1}
        face = {"markersize": 4, "markerfacecolor": "white" if i % 2 == 0 else COLOURS[0]}
        colour = "#666666" if i % 2 == 0 else COLOURS[0]
        below.plot(range(len(names)), values, color=colour, label=who, **how, **face)
    below.set_xticks(range(len(names)), [plain(n) for n in names],
                     rotation=45 if len(names) > 7 else 0)  # fmt: skip
    below.set_ylabel("participation ratio")
    below.set_ylim(0, 1.1 * max(1.0, *(max(values) for values in ratios.values())))
    below.legend(loc="best")
    figure.suptitle(fitted(title, figure, 9), fontsize=9)
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
        if not values.any():  # as of neurons where none is dead
            axes.set_ylim(-0.05, 1)
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
    figure.suptitle(fitted(title, figure, 9), fontsize=9)
    return figure


@styled
def losses_of_runs(runs: Mapping[str, Mapping[str, np.ndarray]], title: str) -> Figure:
    """The running mean of the last module's loss, and of its open gates or accuracy, by run.

    Args:
        runs: by name `loss` and `open_gates` or `accuracy`, each `(steps,)`, at least one step.
    """
    rows = -(-len(runs) // 2)
    figure = Figure(figsize=(COLUMN, 4.3 + 0.16 * rows), layout="constrained")
    left, right = figure.subplots(2, 1)
    beside = "accuracy" if all("accuracy" in of for of in runs.values()) else "open_gates"
    for i, (name, of) in enumerate(runs.items()):
        for axes, values in ((left, of["loss"]), (right, of.get(beside))):
            if values is None:
                continue
            every = -(-len(values) // POINTS)
            shown = slice((len(values) - 1) % every, None, every)
            steps, scale = np.arange(1, len(values) + 1)[shown], 1 if axes is left else 100
            axes.plot(steps, scale * smooth(values)[shown], linewidth=1.2, markersize=3,
                      markevery=max(1, len(steps) // 6), label=plain(name), **layer(i))  # fmt: skip
    lowest, highest = (of(v["loss"].mean() for v in runs.values()) for of in (min, max))
    if lowest > 0 and highest > 30 * lowest:
        left.set_yscale("log")
    left.set_ylabel("loss")
    right.set_ylabel("training accuracy (%)" if beside == "accuracy" else "open gates (%)")
    for axes in (left, right):
        axes.set_xlabel("step")
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10], integer=True))
    handles, names = left.get_legend_handles_labels()
    below = {"loc": "outside lower center", "ncols": 2, "handlelength": 2.4, "fontsize": 7}
    figure.legend(handles, names, **below)
    figure.suptitle(fitted(title, figure, 9), fontsize=9)
    return figure


@styled
def kept_probes(
    steps: Sequence[int],
    accuracy: np.ndarray,
    names: list[str],
    error: float,
    title: str,
    classes: int = 0,
    best: int | None = None,
) -> Figure:
    """Probe accuracy of every layer over training, and the step that is the best.

    Args:
        accuracy: `(steps, layers)`, fractions; error: one standard error of one of them.
        classes: how many there are, for the level of chance; best: that step.
    """
    figure = Figure(figsize=(COLUMN, 2.9), layout="constrained")
    axes = figure.subplots()
    how = {"markersize": 3.5, "linewidth": 1, "capsize": 2, "elinewidth": 0.6}
    for i, name in enumerate(names):
        values = 100 * accuracy[:, i]
        axes.errorbar(steps, values, 100 * error, label=plain(name), **how, **layer(i))
    if classes:
        chance(axes, classes)
    if best is not None:
        axes.axvline(best, color="#555555", linewidth=0.8, zorder=0)
        mark = {"xycoords": ("data", "axes fraction"), "xytext": (2, -2), "fontsize": 6.5}
        axes.annotate("best", (best, 1), textcoords="offset points", va="top", **mark)
    axes.set_xlabel("step")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.set_ylabel("probe accuracy (%)")
    axes.set_title(fitted(title, figure, 8), fontsize=8)
    figure.legend(loc="outside right center", fontsize=6.5, handlelength=2.4)
    return figure


@styled
def probe_bars(
    names: list[str],
    trained: list[float],
    random: list[float],
    error: float,
    title: str = "",
    classes: int = 0,
) -> Figure:
    """Probe accuracy by layer, trained beside random weights, with one standard error.

    Args:
        title: of what, such as the data set's name; classes: how many there are, for the level of
            chance; 0 draws none.
    """
    figure = Figure(figsize=(COLUMN, 2.7), layout="constrained")
    axes = figure.subplots()
    place = np.arange(len(names))
    for shift, values, colour, hatch, label in (
        (-0.2, random, "#DDDDDD", "////", "random weights"),
        (0.2, trained, COLOURS[0], "", "trained"),
    ):
        if not len(values):
            continue
        axes.bar(
            place + shift,
            100 * np.array(values),
            0.38,
            yerr=100 * error,
            color=colour,
            hatch=hatch,
            edgecolor="#444444",
            linewidth=0.5,
            label=label,
            error_kw={"linewidth": 0.8},
        )
    if classes:
        chance(axes, classes)
    axes.set_xticks(place, [plain(name) for name in names], rotation=45 if len(names) > 7 else 0)
    axes.set_ylabel("probe accuracy (%)")
    axes.set_title(fitted(title, figure, 8), fontsize=8)
    figure.legend(loc="outside upper center", ncols=3, handlelength=1.4, columnspacing=1)
    return figure


def chance(axes: Axes, classes: int, upright: bool = False) -> None:
    """The accuracy, in percent, of who guesses among so many classes, as a line."""
    draw = axes.axvline if upright else axes.axhline
    how = {"color": "#000000", "linestyle": (0, (1, 1.5)), "linewidth": 1.2, "zorder": 4}
    draw(100 / classes, label=f"chance, 1 of {classes}", **how)
