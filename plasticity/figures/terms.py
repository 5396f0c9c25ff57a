"""Figures of a gradient that was taken apart."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from plasticity.figures.style import COLOURS, PAGE, styled

if TYPE_CHECKING:
    from plasticity.inspection.cpc_gradient import Analysis, Part

Kind = tuple[str, str]  # what a part is, and of which parameter
TERMS = ("#0072B2", "#99C7E0", "#009E73", "#99D8C7", "#E69F00", "#F5D899")
"""A colour for each equation, (11), (12), (10), pale for its expected part."""


def _bars(axes: Axes, rows: Sequence["Part"], quantity: str, colours: Mapping[Kind, str]) -> None:
    """A group of bars for each layer, a bar for each kind of part."""
    layers = list(dict.fromkeys(row.layer for row in rows))
    width = 0.8 / len(colours)
    for i, (kind, colour) in enumerate(colours.items()):
        mine = {
            row.layer: getattr(row, quantity) for row in rows if (row.what, row.parameter) == kind
        }
        place = np.array([layers.index(layer) for layer in mine], float)
        place += (i - (len(colours) - 1) / 2) * width
        what, parameter = kind
        axes.bar(place, list(mine.values()), width, color=colour, label=f"{what} ({parameter})")
    axes.set_xticks(range(len(layers)), layers)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), handlelength=1)


def _colours(rows: Sequence["Part"], colours: Sequence[str]) -> dict[Kind, str]:
    kinds = dict.fromkeys((row.what, row.parameter) for row in rows)
    return dict(zip(kinds, colours, strict=False))


@styled
def cpc_terms(found: "Analysis") -> Figure:
    """By layer: how large the terms of Eq. (10) to (12) are, what is left of dW without them."""
    figure = Figure(figsize=(PAGE, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    _bars(left, found.terms, "size", _colours(found.terms, TERMS))
    left.axhline(1, color="black", linewidth=0.6, linestyle=":")
    left.set_ylabel("norm of a term / norm of dW")
    _bars(right, found.needs, "without", _colours(found.needs, COLOURS[3:]))
    right.axhline(0, color="black", linewidth=0.6)
    right.set_ylim(min(0, right.get_ylim()[0]), 1)
    right.set_ylabel("cosine with dW of a rule without ...")
    return figure
