"""How every figure looks, and how it gets into files."""

import textwrap
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from plasticity.errors import UserError
from plasticity.files import shown, whole

# Okabe & Ito's palette: distinct also to the colour-blind.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000", "#F0E442")
MARKERS, LINES = "os^DvPX*", ("-", "--", "-.", ":")
COLUMN, PAGE = 3.4, 7.0
"""Widths in inches: a column of a journal, and its page."""
STYLE = {
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "legend.frameon": False,
    "svg.hashsalt": "plasticity",
    "svg.fonttype": "none",
}
styled = matplotlib.rc_context(STYLE)
"""Decorates what draws or saves: this style inside, the caller's own outside."""

FORMATS = {
    ".png": {"dpi": 200},
    ".svg": {"metadata": {"Date": None}},
    ".pdf": {"metadata": {"CreationDate": None}},
}


def layer(i: int) -> dict[str, object]:
    """How the curve of the i-th layer is drawn: told apart also in grey, on paper."""
    number = i % len(COLOURS)
    line = LINES[(i + i // len(COLOURS)) % len(LINES)]
    return {"color": COLOURS[number], "marker": MARKERS[number], "linestyle": line}


def label_ends(axes: Axes, labels: Sequence[tuple[float, float, str, str]]) -> None:
    """Names of curves beside their ends, moved apart where they would lie on each other.

    Args:
        labels: of each curve the end `x, y` in data, its name and its colour; drawn limits stand.
    """
    axes.autoscale_view()
    to_axes = axes.transData + axes.transAxes.inverted()
    known = [(*to_axes.transform((x, y)), x, y, name, c) for x, y, name, c in labels if y == y]
    known.sort(key=lambda one: one[1])
    height = axes.get_position().height * axes.figure.get_figheight() * 72
    apart, heights = 7.5 / height, []  # of one line of small text
    for _, at, *_ in known:
        heights.append(max(at, heights[-1] + apart) if heights else at)
    for i in reversed(range(len(heights))):  # down again where they rose above the axes
        heights[i] = min(heights[i], heights[i + 1] - apart if i + 1 < len(heights) else 1.0)
    for (_, _, x, y, name, colour), at in zip(known, heights, strict=True):
        axes.annotate(
            plain(name), (x, y), (1.04, at), textcoords="axes fraction", va="center", fontsize=7,
            color=colour, arrowprops={"arrowstyle": "-", "linewidth": 0.4, "color": colour,
                                      "shrinkA": 0, "shrinkB": 1},
        )  # fmt: skip


def plain(text: str) -> str:
    """A text with names of a user's, drawn as it is: without mathematics between dollars."""
    return shown(text).replace("$", r"\$")


def fitted(text: str, figure: Figure, size: float) -> str:
    """A title in as many lines as it needs in a figure's width, at this size of letters."""
    letters = int(figure.get_figwidth() * 72 / (0.55 * size))
    return plain(textwrap.fill(text, letters))


@styled
def save(figure: Figure, path: Path) -> None:
    """Write a figure as its suffix says, PNG, SVG or PDF; equal figures make equal files.

    Raises:
        UserError: another suffix, a full disk, or a folder that cannot be written to.
    """
    path = Path(path)
    check_suffix(path)
    content = BytesIO()  # a disk that is full is met by one write, which says so
    figure.savefig(content, format=path.suffix.lower()[1:], **FORMATS[path.suffix.lower()])
    with whole(path) as part:
        part.write_bytes(content.getbuffer())


def check_suffix(path: Path) -> None:
    """Say that a figure cannot be written under this name, before anything is computed for it.

    Raises:
        UserError: a suffix that is none of `FORMATS`.
    """
    if Path(path).suffix.lower() not in FORMATS:
        raise UserError(f"{path}: a figure is written as {', '.join(FORMATS)}, by the file's name")


def save_both(figure: Figure, stem: Path) -> None:
    """Write `stem.png` to look at and `stem.svg` to print."""
    for suffix in (".png", ".svg"):
        save(figure, Path(stem).with_suffix(suffix))
