"""Figures of what was measured here beside what was published."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from plasticity.figures.style import COLOURS, PAGE, styled


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
    axes.set_title(title, fontsize=9, loc="left")
    figure.legend(loc="outside lower center", ncols=3, handletextpad=0.3)
    return figure
