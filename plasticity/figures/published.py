"""Figures of what was measured here beside what was published."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from plasticity.figures.run import chance, curves
from plasticity.figures.style import COLUMN, PAGE, fitted, layer, plain, styled


@styled
def beside_published(
    labels: Sequence[str],
    published: Sequence[float | None],
    ours: Mapping[str, Sequence[Sequence[float]]],
    title: str,
    classes: int = 0,
    unit: str = "accuracy of a linear probe (%)",
) -> Figure:
    """A line for each way to learn: the published value, if there is one, and ours, every seed.

    Args:
        published: accuracies in percent, None where there is no number.
        ours: by the name of a probe, for each label the accuracies of its seeds, in percent.
        classes: how many there are, for the level of chance; 0 draws none.
    """
    figure = Figure(figsize=(PAGE * 0.75, 0.9 + 0.3 * len(labels)), layout="constrained")
    axes = figure.subplots()
    place = np.arange(len(labels))
    own = {"linestyle": "none", "zorder": 3}
    known = [(at, value) for at, value in zip(place, published, strict=True) if value is not None]
    if known:
        axes.plot(
            [value for _, value in known], [at for at, _ in known], marker="D", markersize=5,
            color="#000000", markerfacecolor="none", label="published", **own,
        )  # fmt: skip
    shifts = np.linspace(-0.15, 0.15, len(ours)) if len(ours) > 1 else [0.0]
    for i, ((name, rows), shift) in enumerate(zip(ours.items(), shifts, strict=True)):
        colour, mark = layer(i)["color"], layer(i)["marker"]
        points = [(at + shift, v) for at, values in zip(place, rows, strict=True) for v in values]
        axes.plot(
            [v for _, v in points], [at for at, _ in points],
            marker=".", markersize=3, alpha=0.5, color=colour, **own,
        )  # fmt: skip
        means = [(at + shift, np.mean(v)) for at, v in zip(place, rows, strict=True) if len(v)]
        axes.plot(
            [v for _, v in means], [at for at, _ in means],
            marker=mark, markersize=5, color=colour, label=name, **own,
        )  # fmt: skip
    if classes:
        chance(axes, classes, upright=True)
    axes.set_yticks(place, [plain(label) for label in labels])
    axes.set_ylim(len(labels) - 0.5, -0.5)  # the first row on top
    axes.set_xlim(left=0)
    axes.set_xlabel(unit)
    axes.grid(axis="both", linewidth=0.3, color="#CCCCCC", zorder=0)
    axes.tick_params(axis="y", length=0)
    axes.set_title(fitted(title, figure, 9), fontsize=9, loc="left")
    figure.legend(loc="outside lower center", ncols=3, handletextpad=0.3)
    return figure


BARS = {"markersize": 3, "linewidth": 1.2, "capsize": 2, "elinewidth": 0.8}


@styled
def over_layers(
    labels: Sequence[str],
    layers: Sequence[int],
    ours: Sequence[Sequence[float]],
    title: str,
    classes: int = 0,
) -> Figure:
    """A curve for each label: accuracy by layer, the mean over seeds and their spread.

    Args:
        labels, layers: of each entry of `ours`, the accuracies of its seeds, in percent.
        classes: how many there are, for the level of chance; 0 draws none.
    """
    figure = Figure(figsize=(COLUMN, 3.4), layout="constrained")
    axes = figure.subplots()
    for i, name in enumerate(dict.fromkeys(labels)):
        points = [
            (layer, np.mean(values), np.std(values, ddof=1) if len(values) > 1 else 0.0)
            for label, layer, values in zip(labels, layers, ours, strict=True)
            if label == name and len(values)
        ]
        if points:
            x, mean, spread = zip(*points, strict=True)
            axes.errorbar(x, mean, spread, label=plain(name), **BARS, **layer(i))
    if classes:
        chance(axes, classes)
    axes.set_xticks(sorted(set(layers)))
    axes.set_xlabel("layer")
    axes.set_ylabel("probe accuracy (%)")
    axes.set_title(fitted(title, figure, 9), fontsize=9, loc="left")
    if axes.get_legend_handles_labels()[0]:
        figure.legend(loc="outside lower center", ncols=2, handlelength=2.6, fontsize=7)
    return figure


@styled
def over_values(
    lines: Mapping[str, Sequence[tuple[float, Sequence[float]]]],
    key: str,
    unit: str,
    title: str,
    classes: int = 0,
) -> Figure:
    """A curve for each line over the values of an option: the mean over seeds and their spread.

    The axis is logarithmic where positive values span more than a decade.

    Args:
        lines: by name the values of the option, each with what its seeds found, in `unit`.
        classes: how many there are, for the level of chance; 0 draws none.
    """
    figure = Figure(figsize=(PAGE * 0.65, 2.8), layout="constrained")
    axes = figure.subplots()
    for i, (name, points) in enumerate(lines.items()):
        there = sorted((x, of) for x, of in points if len(of))
        if there:
            mean = [np.mean(of) for _, of in there]
            spread = [np.std(of, ddof=1) if len(of) > 1 else 0.0 for _, of in there]
            axes.errorbar(
                [x for x, _ in there], mean, spread, label=plain(name), **BARS, **layer(i)
            )
    if classes:
        chance(axes, classes)
    values = [x for points in lines.values() for x, _ in points]
    if min(values) > 0 and max(values) > 10 * min(values):
        axes.set_xscale("log")
    axes.set_xlabel(key)
    axes.set_ylabel(unit)
    axes.set_title(fitted(title, figure, 9), fontsize=9, loc="left")
    if any(lines):
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=1.2)
    return figure


@styled
def losses_of_splits(losses: Mapping[str, np.ndarray], title: str) -> Figure:
    """Losses over steps, a panel for each split into modules.

    Args:
        losses: by the name of a split, `(steps, modules)`.
    """
    rows = max(1, len(losses))
    figure = Figure(figsize=(COLUMN, 1.9 * rows + 0.8), layout="constrained")
    panels = figure.subplots(rows, 1, sharey=True, squeeze=False)[:, 0]
    for axes, (name, loss) in zip(panels, losses.items(), strict=False):
        curves(axes, loss, [f"module {i + 1}" for i in range(loss.shape[1])])
        axes.set_title(plain(name), fontsize=8)
        axes.set_ylabel("loss")
    widest = max(losses, key=lambda name: losses[name].shape[1], default=None)
    if widest is not None:
        handles, names = panels[list(losses).index(widest)].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=3, handlelength=2.6)
    figure.suptitle(fitted(title, figure, 9), fontsize=9)
    return figure
