"""Figures of two rules, or of several runs, beside each other."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullFormatter

from plasticity.figures.run import chance
from plasticity.figures.style import COLUMN, PAGE, fitted, plain, styled
from plasticity.figures.style import layer as layer_style

if TYPE_CHECKING:
    from plasticity.inspection.beside import Beside, Pair
    from plasticity.inspection.similarity import Probe, RunsBeside

LINE = {"markersize": 4, "linewidth": 1, "capsize": 2, "elinewidth": 0.7}


def _curves(
    axes: Axes, rows: Mapping[tuple[str, str], list["Pair"]], quantity: str, layers: Sequence[str]
) -> None:
    """A quantity of every matrix over training, or by layer where there is one step alone.

    A layer has one colour and marker; of several matrices the further ones are dashed.
    """
    single = all(len(pairs) == 1 for pairs in rows.values())
    lines, names, seen = {name: layer_style(i) for i, name in enumerate(layers)}, [], []
    for i, ((layer, parameter), pairs) in enumerate(rows.items()):
        names.append(layer if parameter in ("weight", "W_pred") else f"{layer} {parameter}")
        values, error = (
            np.array([getattr(pair, what) for pair in pairs])
            for what in (quantity, f"{quantity}_error")
        )
        axes.errorbar(
            [i] if single else [pair.step for pair in pairs],
            values,
            np.nan_to_num(error),
            label=names[-1],
            **LINE,
            **lines[layer] | ({"linestyle": "--"} if layer in seen else {}),
        )
        seen.append(layer)
    if single:
        axes.set_xticks(range(len(rows)), names, rotation=45)
        axes.margins(x=0.15)
    else:
        axes.set_xlabel("step of training")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))


@styled
def updates_beside(found: "Beside") -> Figure:
    """Cosine and relative size of two rules' updates, by layer and over training.

    A panel for the cosine of the weights' dW, one for the ratio of their norms, and where both
    rules keep W_pred one for its cosine; with standard errors over batches.
    """

    def rows(kind: str) -> dict[tuple[str, str], list["Pair"]]:
        made: dict[tuple[str, str], list[Pair]] = {}
        for pair in found.pairs:
            if pair.parameter.startswith(kind):
                made.setdefault((pair.layer, pair.parameter), []).append(pair)
        return made

    weights, predictions = rows("weight"), rows("W_pred")
    panels = [("cosine of dW", weights, "cosine"), ("norm of dW, 2nd / 1st", weights, "ratio")]
    if predictions:
        panels.append(("cosine of dW_pred", predictions, "cosine"))
    figure = Figure(figsize=(COLUMN, 2.1 * len(panels) + 0.6), layout="constrained")
    layers = list(dict.fromkeys(layer for layer, _ in (*weights, *predictions)))
    grid = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
    for axes, (label, shown, quantity) in zip(grid, panels, strict=True):
        _curves(axes, shown, quantity, layers)
        axes.set_ylabel(label)
        if quantity == "cosine":
            axes.axhline(0, color="#999999", linewidth=0.5, zorder=0)
            axes.set_ylim(min(-0.05, *axes.get_ylim()), 1.05)
        else:
            axes.axhline(1, color="#999999", linewidth=0.5, zorder=0)
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")
            low, high = axes.get_ylim()
            axes.yaxis.set_minor_formatter("{x:g}" if high < 10 * low else NullFormatter())
            axes.tick_params(axis="y", which="minor", labelsize=6)
    if len(found.steps) > 1:
        handles, names = grid[0].get_legend_handles_labels()
        below = {"loc": "outside lower center", "ncols": 3, "handlelength": 2.4, "fontsize": 7}
        figure.legend(handles, names, **below)
    figure.suptitle(fitted(found.title, figure, 9), fontsize=9)
    return figure


@styled
def runs_beside(found: "RunsBeside", names: Sequence[str]) -> Figure:
    """CKA of the layers of every pair of runs, and the first probe that all of them have had.

    Args:
        names: of the runs.
    """
    pairs = list(dict.fromkeys((row.first, row.second) for row in found.similar))
    count, layers = len(found.layers), found.layers
    panels = len(pairs) + bool(found.probes)
    rows = -(-panels // 3)
    columns = min(3, panels)
    width = {1: COLUMN, 2: 0.75 * PAGE, 3: PAGE}[columns]
    figure = Figure(figsize=(width, 2.7 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (a, b) in zip(grid, pairs, strict=False):
        values = [row.cka for row in found.similar if (row.first, row.second) == (a, b)]
        image = np.reshape(values, (count, count))
        shown = axes.imshow(image, cmap="viridis", vmin=0, vmax=1, origin="lower")
        if count <= 8:
            for i, j in np.ndindex(image.shape):
                colour = "white" if image[i, j] < 0.6 else "black"
                text = f"{image[i, j]:.2f}".replace("-", "−")
                axes.text(j, i, text, ha="center", va="center", fontsize=5.5, color=colour)
        every = slice(None, None, -(-count // 12))
        axes.set_xticks(np.arange(count)[every], layers[every], rotation=45)
        axes.set_yticks(np.arange(count)[every], layers[every])
        axes.set_xlabel(plain(names[b]))
        axes.set_ylabel(plain(names[a]))
        figure.colorbar(shown, ax=axes, shrink=0.8, label="linear CKA")
    if found.probes:
        _probe(grid[len(pairs)], found.probes[0], names)
    for axes in grid[panels:]:
        axes.set_axis_off()
    return figure


def _probe(axes: Axes, probe: "Probe", names: Sequence[str]) -> None:
    """Accuracies by layer, a curve for each run, with standard errors and the level of chance."""
    place = np.arange(len(probe.layers))
    for i, (name, accuracy) in enumerate(zip(names, probe.accuracy, strict=True)):
        error = 100 * probe.error[i]
        values = 100 * np.array(accuracy)
        axes.errorbar(place, values, error, label=plain(name), **LINE, **layer_style(i))
    if probe.classes:
        chance(axes, probe.classes)
    _layers(axes, probe.layers)
    axes.set_ylabel("probe accuracy (%)")
    axes.set_title(fitted(f"{probe.task} of {probe.data}", axes.figure, 8), fontsize=8)
    below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.2), "ncols": 2, "handlelength": 2.6}
    axes.legend(fontsize=6, **below)


def _layers(axes: Axes, layers: Sequence[str]) -> None:
    """Names of layers below an axis, of many of them some."""
    every = slice(None, None, -(-len(layers) // 12))
    axes.set_xticks(np.arange(len(layers))[every], [plain(n) for n in layers[every]], rotation=45)


@styled
def probes_of_runs(probe: "Probe", names: Sequence[str]) -> Figure:
    """A probe that all runs have had: accuracies by layer with one standard error, and chance.

    Args:
        names: of the runs.
    """
    figure = Figure(figsize=(COLUMN, 2.9), layout="constrained")
    _probe(figure.subplots(), probe, names)
    return figure


@styled
def measures_of_runs(
    found: Mapping[str, Sequence[np.ndarray]], layers: Sequence[str], names: Sequence[str]
) -> Figure:
    """Measures by layer, a panel for each and a curve for each run.

    Args:
        found: by its label each measure, of every run `(layers,)`; names: of the runs.
    """
    rows = -(-(len(found) + 1) // 2)
    figure = Figure(figsize=(COLUMN, 1.4 * rows + 0.4), layout="constrained")
    panels = figure.subplots(rows, 2, sharex=True).ravel()
    for axes, (label, values) in zip(panels, found.items(), strict=False):
        for i, of in enumerate(values):
            axes.plot(range(len(layers)), of, linewidth=1, markersize=3, **layer_style(i))
        axes.set_title(label, fontsize=8)
        axes.margins(x=0.06)
        if not np.any(values):
            axes.set_ylim(-0.05, 1)
        axes.ticklabel_format(axis="y", scilimits=(-3, 4), useOffset=False)
        _layers(axes, layers)
    for axes in panels[: len(found)][-2:]:
        axes.tick_params(labelbottom=True)
    for axes in panels[len(found) :]:
        axes.axis("off")
    keys = [Line2D([], [], linewidth=1, markersize=3, label=plain(name), **layer_style(i))
            for i, name in enumerate(names)]  # fmt: skip
    panels[-1].legend(handles=keys, loc="center", fontsize=7 if len(names) <= 8 else 5)
    return figure
