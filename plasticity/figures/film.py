"""Figures of film: clips and what excites a neuron in them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from plasticity.figures.style import COLOURS, PAGE, fitted, plain, styled

BOX = COLOURS[7]


@dataclass(frozen=True)
class Response:
    """A neuron and the clip that excites it most.

    Attributes:
        name: of the neuron; pixels: of the clip, uint8 `(T, h, w, 3)`.
        times: the middle of what each frame of the neuron's map sees, in frames of the clip `(t,)`.
        strongest, mean: of the map over its positions, at each of its frames `(t,)`.
        corner: row and column where the strongest place begins to see, in pixels `(t, 2)`; size:
            how far it sees from there.
    """

    name: str
    pixels: np.ndarray
    times: np.ndarray
    strongest: np.ndarray
    mean: np.ndarray
    corner: np.ndarray
    size: tuple[int, int]


@styled
def clips(responses: Sequence[Response], title: str, shown: int = 8) -> Figure:
    """For each neuron frames of its clip, boxed where it answers most, above its answer over time.

    Args:
        shown: frames, evenly over the clip.
    """
    tile = (PAGE - 0.9) / shown
    heights = [height for _ in responses for height in (tile, 0.62)]
    figure = Figure(
        figsize=(PAGE, sum(heights) + 0.18 * len(responses) + 0.8), layout="constrained"
    )
    grid = figure.subplots(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    for strip, line, one in zip(grid[::2], grid[1::2], responses, strict=True):
        T, h, w, _ = one.pixels.shape
        gap = T / min(shown, T)
        middles = gap * (np.arange(min(shown, T)) + 0.5) - 0.5
        chosen = np.floor(middles + 0.5).astype(int).clip(0, T - 1)
        strip.imshow(
            np.concatenate(list(one.pixels[chosen]), axis=1),
            extent=(-0.5, T - 0.5, h - 0.5, -0.5),
            aspect="auto",
            interpolation="nearest",
        )
        for middle, frame in zip(middles, chosen, strict=True):
            t = int(np.abs(one.times - frame).argmin())
            _box(strip, middle - gap / 2, gap / w, one.corner[t], one.size, (h, w))
            if middle > middles[0]:
                strip.axvline(middle - gap / 2, color="white", linewidth=1.2)
        strip.set_ylabel(plain(one.name), fontsize=7)
        line.plot(one.times, one.strongest, color=COLOURS[5], linewidth=1, label="strongest place")
        line.plot(one.times, one.mean, color=COLOURS[0], linewidth=1, label="mean of the map")
        for axes in (strip, line):
            axes.set_xlim(-0.5, T - 0.5)
        strip.set_ylim(h - 0.5, -0.5)
        strip.set_xticks([])
        strip.set_yticks([])
        for spine in strip.spines.values():
            spine.set_visible(False)
        line.set_ylabel("activity", fontsize=7)
        line.tick_params(labelsize=6, labelbottom=line is grid[-1])
    grid[-1].set_xlabel("frame of the clip")
    grid[0].set_title(fitted(title, figure, 8), fontsize=8)
    handles, labels = grid[1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2)
    return figure


def _box(
    axes: object,
    left: float,
    scale: float,
    corner: np.ndarray,
    size: tuple[int, int],
    frame: tuple[int, int],
) -> None:
    """What a place sees of a frame that begins at `left`, `scale` wide for each pixel."""
    (top, first), (bottom, last) = (
        np.clip(edge, 0, frame) for edge in (corner, corner + np.array(size))
    )
    axes.add_patch(
        Rectangle(
            (left + scale * first, top - 0.5),
            scale * (last - first),
            bottom - top,
            fill=False,
            edgecolor=BOX,
            linewidth=1.0,
        )
    )
