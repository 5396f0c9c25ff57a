"""Figures of the comparisons that a rule makes: scores against the hinge, gates, predictions."""

from collections.abc import Sequence
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from plasticity.figures.style import COLOURS, COLUMN, layer, styled

if TYPE_CHECKING:
    from plasticity.inspection.comparisons import ModuleEvents, Prediction

SIGNS = ((1, "#777777", "positive, y = +1"), (-1, COLOURS[5], "negative, y = −1"))
OUTSIDE = 0.005  # scores beyond these quantiles of both signs are in the last bin
FARTHEST, FEW = 6.0, 0.05  # and those this far off, where they are few: the hinge lies within 1
BINS = 40
LINES = (("-", "o"), ("--", "s"), (":", "^"))  # of the roles, in their order
PANELS = 2  # in a row, so that they can be read on a phone


def panels(count: int, height: float) -> tuple[Figure, np.ndarray]:
    """A figure as wide as a column, with a panel for each module, `PANELS` in a row."""
    columns = min(count, PANELS)
    rows = -(-count // columns)
    figure = Figure(figsize=(COLUMN, 0.5 + height * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for empty in grid[count:]:
        empty.remove()
    return figure, grid[:count]


@styled
def hinge(modules: "Sequence[ModuleEvents]") -> Figure:
    """How scores u of positive and negative samples lie against the hinge, Eq. (3), figure 6.

    Bars count events, lines are the loss `max(0, 1 - y u)`; they are left out where that is not the
    rule's loss. Scores beyond the axis are in its last bins.
    """
    figure, grid = panels(len(modules), 1.75)
    for axes, module in zip(grid, modules, strict=True):
        every = [own for s, *_ in SIGNS if (own := module.score[module.label == s]).size]
        ends = np.array([np.quantile(own, [OUTSIDE, 1 - OUTSIDE]) for own in every])
        low, high = ends[:, 0].min(), ends[:, 1].max()
        far = FARTHEST if (np.abs(module.score) > FARTHEST).mean() < FEW else np.inf
        low, high = np.clip([low, high], [-far, 1.5], [-1.5, far])
        edges = np.linspace(low, high, BINS + 1)
        for sign, colour, label in SIGNS:
            own = module.score[module.label == sign]
            if not len(own):
                continue
            counts, _ = np.histogram(np.clip(own, low, high), edges)
            solid = sign == 1  # grey on paper, too, one sign is an area and the other a line
            how = {"fill": True, "alpha": 0.45} if solid else {"linewidth": 1.2}
            axes.stairs(100 * counts / len(own), edges, color=colour, label=label, **how)
        axes.set_xlim(low, high)
        opened = ", ".join(
            f"{100 * module.open[module.label == sign].mean():.0f}%"
            for sign, *_ in SIGNS
            if (module.label == sign).any()
        )
        axes.set_title(f"{module.layer} (open {opened})", fontsize=7)
        if module.hinged:
            right = axes.twinx()
            right.spines["right"].set_visible(True)
            u = np.array([low, -1, 1, high])
            for sign, *_ in SIGNS:
                how = {"color": "black", "linewidth": 1, "linestyle": "-" if sign == 1 else "--"}
                loss = np.maximum(0, 1 - sign * u)
                right.plot(u, loss, **how)
                axes.plot([], [], label=f"loss, y = {'−+'[sign > 0]}1", **how)
            right.set_ylim(0, max(1 - low, 1 + high))
            right.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.set_ylim(0)
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    figure.supxlabel("score u (last bins: all beyond)", fontsize=8)
    figure.supylabel("events of a sign (%); right: loss max(0, 1 − y u)", fontsize=8)
    _legend_above(figure, grid[0])
    return figure


def _legend_above(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2, handlelength=2.4)


@styled
def gates(modules: "Sequence[ModuleEvents]") -> Figure:
    """Fraction of open gates by prediction step and sign, for each half that has its own."""
    figure, grid = panels(len(modules), 1.6)
    for axes, module in zip(grid, modules, strict=True):
        roles = dict.fromkeys(str(row["role"]) for row in module.gates)
        for role, (line, marker) in zip(roles, cycle(LINES), strict=False):
            for sign, colour, name in SIGNS:
                rows = [r for r in module.gates if (r["role"], r["sign"]) == (role, sign)]
                if not rows:
                    continue
                axes.plot(
                    [row["k"] for row in rows],
                    [100 * row["open"] for row in rows],
                    line,
                    marker=marker,
                    markersize=3.5,
                    markerfacecolor=colour if sign == 1 else "white",
                    linewidth=1.1,
                    color=colour,
                    label=f"{role}, {name.partition(',')[0]}",
                )
        axes.set_title(module.layer, fontsize=8)
        axes.set_ylim(-4, 104)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    figure.supxlabel("prediction step k", fontsize=8)
    figure.supylabel("open gates (%)", fontsize=8)
    _legend_above(figure, grid[0])
    return figure


@styled
def predictions(
    trained: "Sequence[Prediction]",
    random: "Sequence[Prediction]",
    recorded: dict[str, tuple[np.ndarray, np.ndarray]] | None = None,
) -> Figure:
    """Norm, alignment and spectrum of W_pred and W_retro.

    Norms stand beside their random start's; the alignment over training where it was recorded, by
    prediction step otherwise; singular values are those of k = 1.

    Args:
        recorded: by layer, the steps `(time,)` and the cosines by prediction step `(time, K)`.
    """
    aligned = any(one.cosine is not None for one in trained)
    rows = 3 if aligned else 2
    figure = Figure(figsize=(COLUMN, 0.5 + 2.1 * rows), layout="constrained")
    left, *middle, right = figure.subplots(rows, 1)
    for i, (one, start) in enumerate(zip(trained, random, strict=True)):
        own, k = layer(i), np.arange(1, len(one.norm) + 1)
        colour = own["color"]  # line styles tell the matrices apart here
        mark = {"color": colour, "marker": own["marker"], "linewidth": 1.1}
        dot = {**mark, "markersize": 3.5}
        left.plot(k, one.norm / start.norm, label=one.layer, **dot)
        if one.retro_norm is not None:
            left.plot(k, one.retro_norm / start.retro_norm, **{**dot, "linestyle": "--"})
        rank = np.arange(1, one.spectrum.shape[1] + 1)
        some = list(np.unique(np.geomspace(1, len(rank), 5).astype(int)) - 1)
        right.plot(rank, one.spectrum[0], markersize=3, markevery=some, **mark)
        right.plot(rank, start.spectrum[0], color=colour, linewidth=0.8, linestyle=":")
        if not aligned:
            continue
        if recorded and one.layer in recorded:
            steps, cosines = recorded[one.layer]
            gap = max(1, len(steps) // 6)
            middle[0].plot(steps, cosines.mean(axis=1), markersize=3, markevery=gap, **mark)
        elif one.cosine is not None and not recorded:
            middle[0].plot(k, one.cosine, **dot)
    left.set_xlabel("prediction step k")
    left.set_ylabel("norm / norm at the start")
    left.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    if aligned:
        left.set_title("— W_pred,  - - W_retro", fontsize=8)
        middle[0].set_ylabel("alignment (cosine)")
        middle[0].set_xlabel("step" if recorded else "prediction step k")
        middle[0].set_title("mean over k" if recorded else "W_pred with W_retroᵀ", fontsize=8)
        middle[0].axhline(0, color="#999999", linewidth=0.6, zorder=0)
        middle[0].xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
    right.set_xlabel("rank")
    right.set_ylabel("singular value, k = 1")
    right.set_xscale("log")
    right.set_yscale("log")
    right.set_title("— trained,  ··· at the start", fontsize=8)
    floor = min(float(one.spectrum[0].max()) for one in (*trained, *random)) * 1e-3
    right.set_ylim(bottom=floor)
    handles, labels = left.get_legend_handles_labels()
    columns = min(3, len(labels))
    figure.legend(handles, labels, loc="outside upper center", ncols=columns, handlelength=2)
    return figure
