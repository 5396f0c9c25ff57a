"""Figures of images: kernels, the patches that neurons prefer, embeddings."""

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from plasticity.figures.style import COLOURS, COLUMN, PAGE, fitted, plain, styled
from plasticity.figures.updates import SIGNED

BOX = COLOURS[5]
# Ten colours that the colour-blind can tell apart: Paul Tol's "muted", black in place of its grey.
CLASSES = (
    "#332288",
    "#88CCEE",
    "#44AA99",
    "#117733",
    "#999933",
    "#DDCC77",
    "#CC6677",
    "#882255",
    "#AA4499",
    "#000000",
)
MARKERS = "os^Dv"


def _marker(kind: int) -> str:
    """Of a class: neighbours differ also in grey, and classes of one colour too."""
    return MARKERS[(kind + kind // len(CLASSES)) % len(MARKERS)]


def _bare(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


@styled
def kernel_grid(mosaics: dict[str, np.ndarray], layer: str) -> Figure:
    """The kernels of a layer, side by side for each set of weights, on one scale.

    Args:
        mosaics: by name, kernels in one image with NaN between them, as `mosaic`; those of colours
            `(h, w, 3)` are shown in them, grey where the weight is 0.
    """
    limit = max(float(np.nanmax(np.abs(image))) for image in mosaics.values()) or 1.0
    rows, columns, *colours = next(iter(mosaics.values())).shape
    width = COLUMN / len(mosaics) if len(mosaics) > 1 else COLUMN * 0.6
    height = min(width * rows / columns, 6.0) + 0.75
    figure = Figure(figsize=(COLUMN, height), layout="constrained")
    grid = figure.subplots(1, len(mosaics), squeeze=False)[0]
    for axes, (name, image) in zip(grid, mosaics.items(), strict=True):
        if colours:
            image = np.where(np.isnan(image), 1.0, 0.5 + image / (2 * limit))
        shown = axes.imshow(image, cmap=SIGNED, vmin=-limit, vmax=limit, interpolation="nearest")
        axes.set_title(f"{layer}, {name}", fontsize=8)
        _bare(axes)
    figure.get_layout_engine().set(wspace=0.12)
    if colours:
        figure.supxlabel(f"grey: a weight of 0; black and full colours: {limit:.2g}", fontsize=7)
        return figure
    bar = figure.colorbar(shown, ax=list(grid), location="bottom", shrink=0.6, aspect=30)
    bar.set_label("weight (blue: inhibits, red: excites)")
    bar.outline.set_linewidth(0.5)
    return figure


@styled
def patches(
    blocks: dict[str, tuple[np.ndarray, np.ndarray]], names: Sequence[str], patch: int
) -> Figure:
    """Images that hold the patches which excite a neuron most, a row for each neuron; figure 8.

    Args:
        blocks: for each set of weights the images `(J, count, h, w)`, or `(J, count, h, w, 3)` in
            colour, uint8, and the boxes' left and top `(J, count, 2)` in their pixels; names: of
            the rows; patch: side of a box.
    """
    J, count, h, w, *colours = next(iter(blocks.values()))[0].shape
    gap = max(1, w // 24)
    tile = (PAGE - 0.9) / (len(blocks) * count + 0.3 * (len(blocks) - 1))
    figure = Figure(figsize=(PAGE, 0.35 + J * tile * (h + gap) / (w + gap)), layout="constrained")
    grid = figure.subplots(1, len(blocks), squeeze=False)[0]
    for number, (axes, (title, (images, boxes))) in enumerate(
        zip(grid, blocks.items(), strict=True)
    ):
        canvas = np.full((J * (h + gap) - gap, count * (w + gap) - gap, *colours), 255, np.uint8)
        for j in range(J):
            for i in range(count):
                top, left = j * (h + gap), i * (w + gap)
                canvas[top : top + h, left : left + w] = images[j, i]
                x, y = boxes[j, i]
                axes.add_patch(
                    # Pixel centres are whole numbers, so a box begins half a pixel before.
                    Rectangle(
                        (left + x - 0.5, top + y - 0.5),
                        patch,
                        patch,
                        fill=False,
                        edgecolor=BOX,
                        linewidth=1.0,
                    )
                )
        axes.imshow(canvas, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        _bare(axes)
        axes.set_title(fitted(title, figure, 8), fontsize=8)
        if number == 0:
            axes.set_yticks([j * (h + gap) + h / 2 for j in range(J)], names, fontsize=7)
            axes.tick_params(length=0)
    return figure


@styled
def embeddings(
    points: dict[str, Sequence[np.ndarray | None]],
    layers: Sequence[str],
    labels: np.ndarray | None,
    classes: Sequence[str],
) -> Figure:
    """Embeddings of images by layer (rows) and set of weights (columns), by class.

    Args:
        points: for each set of weights a layer's `(n, 2)`, or None where there is nothing to draw;
            labels: `(n,)` from 0, or None; classes: their names.
    """
    cells = [(who, place) for place in range(len(layers)) for who in points]
    rows, columns = len(layers), len(points)
    width, height = COLUMN, COLUMN / max(2, columns) * 0.8 * rows + 0.6
    figure = Figure(figsize=(width, height), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    kinds = [None] if labels is None else range(len(classes))
    for axes, (who, place) in zip(grid.ravel(), cells, strict=True):
        _bare(axes)
        if who == cells[0][0]:
            axes.set_ylabel(plain(layers[place]))
        if place == 0:
            axes.set_title(plain(who), fontsize=8)
        own = points[who][place]
        if own is None:
            axes.text(0.5, 0.5, "silent", ha="center", transform=axes.transAxes)
            continue
        for kind in kinds:
            axes.scatter(
                *own[slice(None) if kind is None else labels == kind].T,
                s=5,
                c=COLOURS[0] if kind is None else CLASSES[kind % len(CLASSES)],
                marker=_marker(kind or 0),
                linewidths=0,
                rasterized=True,
            )
        axes.set_aspect("equal", "datalim")
    if labels is not None:
        handles = [
            matplotlib.lines.Line2D(
                [],
                [],
                linestyle="",
                marker=_marker(kind),
                markersize=4,
                color=CLASSES[kind % len(CLASSES)],
                label=plain(name),
            )
            for kind, name in enumerate(classes[: 5 * len(CLASSES)])
        ]
        fit = max(1, min(len(handles), round(width * 0.75)))
        figure.legend(handles=handles, loc="outside lower center", ncols=fit, handletextpad=0.1)
    return figure


def kernels(weight: np.ndarray, colour: bool = False) -> np.ndarray:
    """The kernels of a layer `(O, C, h, w)` to look at, `(O, h, w)`: means over its inputs.

    Args:
        colour: its inputs are red, green and blue, and are kept, `(O, h, w, 3)`.
    """
    return np.moveaxis(weight, 1, -1) if colour else weight.mean(axis=1)


def mosaic(tiles: np.ndarray, columns: int, gap: int = 1) -> np.ndarray:
    """Images `(n, h, w)` or `(n, h, w, 3)` side by side, row by row, with `gap` empty (NaN) pixels
    between them."""
    rows, (h, w, *colours) = -(-len(tiles) // columns), tiles.shape[1:]
    found = np.full((rows * (h + gap) - gap, columns * (w + gap) - gap, *colours), np.nan)
    for place, tile in enumerate(tiles):
        row, column = divmod(place, columns)
        top, left = row * (h + gap), column * (w + gap)
        found[top : top + h, left : left + w] = tile
    return found
