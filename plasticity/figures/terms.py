"""Figures of a gradient that was taken apart."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from plasticity.figures.style import COLOURS, PAGE, styled

if TYPE_CHECKING:
    from plasticity.analysis import Analysis, Part


def _bars(axes: Axes, rows: Sequence["Part"], quantity: str, colours: Sequence[str]) -> None:
    """A group of bars for each layer, a bar for each kind of part."""
    layers = list(dict.fromkeys(row.layer for row in rows))
    kinds = list(dict.fromkeys((row.what, row.parameter) for row in rows))
    width = 0.8 / len(kinds)
    for i, (kind, colour) in enumerate(zip(kinds, colours, strict=False)):
        mine = {
            row.layer: getattr(row, quantity) for row in rows if (row.what, row.parameter) == kind
        }
        place = (
            np.array([layers.index(layer) for layer in mine]) + (i - (len(kinds) - 1) / 2) * width
        )
        axes.bar(place, list(mine.values()), width, color=colour, label=f"{kind[0]}: {kind[1]}")
    axes.set_xticks(range(len(layers)), layers)
    axes.axhline(0, color="black", linewidth=0.6)
    axes.legend(
        loc="outside lower center" if False else "upper center",
        bbox_to_anchor=(0.5, -0.12),
        handlelength=1,
    )


@styled
def cpc_terms(found: "Analysis") -> Figure:
    """By layer: how large the terms of Eq. (10) to (12) are, what is left of dW without them."""
    figure = Figure(figsize=(PAGE, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    _bars(left, found.terms, "size", [COLOURS[i] for i in (2, 3, 0, 4, 5, 1)])
    left.set_ylabel("norm of the term / norm of dW")
    left.set_yscale("log")
    _bars(right, found.needs, "without", [COLOURS[i] for i in (3, 0, 4, 5)])
    right.set_ylabel("cosine with dW of what is left without ...")
    right.set_ylim(-1, 1)
    return figure
