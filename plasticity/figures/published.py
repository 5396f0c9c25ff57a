"""Figures of what was measured here beside what was published."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from plasticity.figures.run import curves
from plasticity.figures.style import COLOURS, COLUMN, PAGE, plain, styled


@styled
def beside_published(
    labels: Sequence[str],
    published: Sequence[float | None],
    ours: Mapping[str, Sequence[Sequence[float]]],
    title: str,
) -> Figure:
    """A line for each way to learn: the published accuracy, and ours with every seed.

    Args:
        published: accuracies in percent, None where there is no number.
        ours: by the name of a probe, for each label the accuracies of its seeds, in percent.
    """
    figure = Figure(figsize=(PAGE * 0.75, 0.9 + 0.3 * len(labels)), layout="constrained")
    axes = figure.subplots()
    place = np.arange(len(labels))
    own = {"linestyle": "none", "zorder": 3}
    known = [(at, value) for at, value in zip(place, published, strict=True) if value is not None]
    axes.plot(
        [value for _, value in known], [at for at, _ in known],
        marker="D", markersize=5, color="#000000", markerfacecolor="none", label="published", **own,
    )  # fmt: skip
    shifts = np.linspace(-0.15, 0.15, len(ours)) if len(ours) > 1 else [0.0]
    for (name, rows), shift, colour in zip(ours.items(), shifts, COLOURS, strict=False):
        points = [(at + shift, v) for at, values in zip(place, rows, strict=True) for v in values]
        axes.plot(
            [v for _, v in points], [at for at, _ in points],
            marker=".", markersize=3, alpha=0.5, color=colour, **own,
        )  # fmt: skip
        means = [(at + shift, np.mean(v)) for at, v in zip(place, rows, strict=True) if len(v)]
        axes.plot(
            [v for _, v in means], [at for at, _ in means],
            marker="o", markersize=5, color=colour, label=name, **own,
        )  # fmt: skip
    axes.set_yticks(place, labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)  # the first row on top
    axes.set_xlim(left=0)
    axes.set_xlabel("accuracy of a linear probe (%)")
    axes.grid(axis="both", linewidth=0.3, color="#CCCCCC", zorder=0)
    axes.tick_params(axis="y", length=0)
    axes.set_title(plain(title), fontsize=9, loc="left")
    figure.legend(loc="outside lower center", ncols=3, handletextpad=0.3)
    return figure


@styled
def over_layers(
    labels: Sequence[str], layers: Sequence[int], ours: Sequence[Sequence[float]], title: str
) -> Figure:
    """A curve for each label: accuracy by layer, the mean over seeds and their spread.

    Args:
        labels, layers: of each entry of `ours`, the accuracies of its seeds, in percent.
    """
    figure = Figure(figsize=(PAGE * 0.65, 2.8), layout="constrained")
    axes = figure.subplots()
    for name, colour in zip(dict.fromkeys(labels), COLOURS, strict=False):
        points = [
            (layer, np.mean(values), np.std(values, ddof=1) if len(values) > 1 else 0.0)
            for label, layer, values in zip(labels, layers, ours, strict=True)
            if label == name and len(values)
        ]
        if points:
            x, mean, spread = zip(*points, strict=True)
            axes.errorbar(x, mean, spread, marker="o", markersize=3, linewidth=1.2, capsize=2,
                          elinewidth=0.8, color=colour, label=name)  # fmt: skip
    axes.set_xticks(sorted(set(layers)))
    axes.set_xlabel("layer")
    axes.set_ylabel("probe accuracy (%)")
    axes.set_title(plain(title), fontsize=9, loc="left")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=1.2)
    return figure


@styled
def losses_of_splits(losses: Mapping[str, np.ndarray], title: str) -> Figure:
    """Losses over steps, a panel for each split into modules.

    Args:
        losses: by the name of a split, `(steps, modules)`.
    """
    figure = Figure(figsize=(max(COLUMN, PAGE / 3 * len(losses)), 2.6), layout="constrained")
    panels = figure.subplots(1, max(1, len(losses)), sharey=True, squeeze=False)[0]
    for axes, (name, loss) in zip(panels, losses.items(), strict=False):
        curves(axes, loss, [f"module {i + 1}" for i in range(loss.shape[1])])
        axes.set_title(name, fontsize=8)
    panels[0].set_ylabel("loss")
    widest = max(losses, key=lambda name: losses[name].shape[1], default=None)
    if widest is not None:
        handles, names = panels[list(losses).index(widest)].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=6, handlelength=1.2)
    figure.suptitle(plain(title), fontsize=9)
    return figure
