"""Figures of updates and of their factors: a kernel, a layer, a synapse and the gates over time."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from plasticity.figures.run import smooth
from plasticity.figures.style import COLOURS, COLUMN, PAGE, fitted, styled

SIGNED, UNSIGNED = "RdBu_r", "cividis"  # distinct also to the colour-blind
PIXELS = 240  # of an image at most, along a side
GREY = "#777777"
HUES = ((COLOURS[0], COLOURS[4]), (COLOURS[5], COLOURS[1]), (COLOURS[2], "#7FD1B9"))
"""For each role a colour for y = +1 and one for y = -1."""


@styled
def kernel(
    dW: np.ndarray,
    at: tuple[int, int] | None = None,
    shares: Sequence[Mapping[str, object]] = (),
    title: str = "",
) -> Figure:
    """The dW of one kernel as a map, beside what made one of its entries.

    Args:
        dW: `(rows, columns)`; one of a single dimension is a map of one row.
        at: row and column of the entry that is framed.
        shares: of that entry, as `Synapse.by_role` gives them: role, k, sign, share.
    """
    dW = np.atleast_2d(dW)
    figure = Figure(figsize=(PAGE * 0.8 if shares else COLUMN * 0.75, 2.5), layout="constrained")
    if shares:
        axes, right = figure.subplots(1, 2, width_ratios=(1, 1.4))
        _share_bars(figure, right, shares)
    else:
        axes = figure.subplots()
    image = _signed(axes, dW)
    axes.set_aspect("equal")
    power = _power(image.norm.vmax)
    for (row, column), value in np.ndenumerate(dW) if dW.size <= 49 else ():
        colour = "white" if abs(value) > 0.6 * image.norm.vmax else "black"
        axes.text(
            column,
            row,
            _number(value / 10.0**power, ".2f"),
            ha="center",
            va="center",
            fontsize=7,
            color=colour,
        )
    if at is not None:
        frame = Rectangle((at[1] - 0.47, at[0] - 0.47), 0.94, 0.94, fill=False, linewidth=1.4)
        axes.add_patch(frame)
    axes.set_xticks(range(dW.shape[1]))
    axes.set_yticks(range(dW.shape[0]))
    axes.set_xlabel("kernel column")
    axes.set_ylabel("kernel row")
    _bar(figure, image, axes, "dW")
    figure.suptitle(fitted(title, figure, 8), fontsize=8)
    return figure


def _share_bars(figure: Figure, axes: Axes, shares: Sequence[Mapping[str, object]]) -> None:
    """Shares by prediction step: a hue for each role, darker where y = +1."""
    kinds = sorted({(str(row["role"]), int(row["sign"])) for row in shares}, reverse=True)
    names = list(dict.fromkeys(role for role, _ in kinds))
    steps = sorted({int(row["k"]) for row in shares})
    width = 0.8 / len(kinds)
    for i, (role, sign) in enumerate(kinds):
        rows = [row for row in shares if (row["role"], row["sign"]) == (role, sign)]
        axes.bar(
            [steps.index(int(row["k"])) - 0.4 + (i + 0.5) * width for row in rows],
            [float(row["share"]) for row in rows],
            width,
            color=HUES[names.index(role) % len(HUES)][int(sign < 0)],
            label=role if sign == 0 else f"{role}, y = {'+1' if sign > 0 else '−1'}",
        )
    axes.axhline(0, color="black", linewidth=0.6)
    axes.set_xticks(range(len(steps)), [str(k) if k else "all" for k in steps])
    axes.set_xlabel("prediction step k")
    power = _power(max(abs(float(row["share"])) for row in shares))
    axes.yaxis.set_major_formatter(lambda value, _: _number(value / 10.0**power))
    axes.set_ylabel(f"share of dW{_times(power)}")
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, handlelength=1)


@styled
def layer_update(
    dW: np.ndarray,
    drive: np.ndarray,
    post: np.ndarray,
    pre: np.ndarray,
    gate: np.ndarray | None = None,
    gate_rows: Sequence[str] = (),
    title: str = "",
) -> Figure:
    """A layer's dW as an image beside the factors it is the product of.

    Rows of `drive`, `post` and dW are the layer's neurons; columns of `pre` and dW its input
    neurons. A pixel that stands for many entries shows the one of largest magnitude.

    Args:
        dW: `(O, C, *kernel)`; of each kernel its largest entry is shown, or, where there is one
            input neuron, all.
        drive, post: `(N, O)`, over patches; pre: `(N, C)`.
        gate: `(rows, N)`, mean gamma by role and prediction step, or None; gate_rows: their names.
    """
    flat = dW.reshape(*dW.shape[:2], -1)
    single = flat.shape[1] == 1
    image = flat[:, 0] if single else _largest(flat, axis=2)
    figure = Figure(figsize=(PAGE, 4.4), layout="constrained")
    grid = figure.subplots(2, 3, width_ratios=(1, 1, 1.25), height_ratios=(1, 1.6))
    (top, formula, above), (left, middle, right) = grid

    if gate is not None and len(gate):
        shown = _signed(top, gate, limit=float(np.abs(gate).max()))
        names = list(gate_rows)
        top.set_yticks(range(len(names)), names, fontsize=5.5)
        top.set_xlabel("patch n")
        _bar(figure, shown, top, "mean of gate γ = yH")
    else:
        top.axis("off")
        note = "no gate here: the error\ncomes from the layer above"
        top.text(0.5, 0.5, note, ha="center", va="center", color=GREY, transform=top.transAxes)
    formula.axis("off")
    text = "dW = Σ gate × dendritic signal\n× post × pre\n\n(sum over patches n and positions)"
    formula.text(0.5, 0.5, text, ha="center", va="center", transform=formula.transAxes)

    for axes, values, low, label, xlabel in (
        (left, drive.T, None, "Σ gate × dendritic signal", "patch n"),
        (middle, post.T, 0, "post: won and active (fraction)", "patch n"),
        (above, pre, 0, "pre: mean input", "input neuron i"),
    ):
        unsigned = low == 0 and values.min() >= 0
        shown = _unsigned(axes, values) if unsigned else _signed(axes, values)
        axes.set_xlabel(xlabel)
        axes.set_ylabel("patch n" if axes is above else "neuron j")
        _bar(figure, shown, axes, label)
    shown = _signed(right, image)
    right.set_xlabel("kernel offset" if single else "input neuron i")
    right.set_ylabel("neuron j")
    _bar(figure, shown, right, "dW" if single else "dW, largest of each kernel")
    figure.suptitle(fitted(title, figure, 9), fontsize=9)
    return figure


@styled
def trace(
    steps: np.ndarray,
    factors: Mapping[str, np.ndarray],
    roles: Sequence[str] = (),
    title: str = "",
) -> Figure:
    """One synapse over training: its dW, and the factors that made it.

    Args:
        steps: `(time,)`, those recorded.
        factors: `dW (time,)`, and what there is of `share`, `dendrite`, `post`, `pre`
            `(time, role, prediction step)`, `error` and `weight` `(time,)`: as `Recording.trace`
            gives them. Shares and dendritic signals are summed over prediction steps, post and
            pre averaged over those with an open gate. For an entry of `W_pred` or `W_retro` there
            is a `gate` in place of the dendritic signal, and roles are signs, each with one step.
    """
    labels = {
        "dW": "dW",
        "dendrite": "gate × dendritic\nsignal",
        "error": "error from\nabove",
        "post": "post: won and\nactive (%)",
        "pre": "pre: mean\ninput",
        "weight": "weight",
    }
    own = "gate" in factors
    if own:
        labels |= {"gate": "Σ gate × weight", "post": "post:\nencoding", "pre": "pre:\nencoding"}
    order = ("dW", "dendrite", "gate", "error", "post", "pre", "weight")
    panels = [name for name in order if name in factors]
    figure = Figure(figsize=(COLUMN, 0.7 + 0.95 * len(panels)), layout="constrained")
    grid = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axes, name in zip(grid, panels, strict=True):
        values, curves = factors[name], []
        if values.ndim == 1:
            curves.append((values, "black", name))
        else:
            for r, role in enumerate(roles):
                curve = _over_steps(values[:, r], name)
                curve = 100 * curve if name == "post" and not own else curve
                curves.append((curve, HUES[r % len(HUES)][0], role))
        if name == "dW" and "share" in factors:
            for r, role in enumerate(roles):
                share = factors["share"][:, r].sum(axis=1)
                curves.append((share, HUES[r % len(HUES)][0], f"share, {role}"))
        for curve, colour, label in curves:
            axes.plot(steps, curve, color=colour, label=label, **_mark(steps))
        if name in ("dW", "dendrite", "gate", "error"):
            axes.axhline(0, color="#999999", linewidth=0.5, zorder=0)
        if name == "post" and not own and all((curve <= 100.5).all() for curve, *_ in curves):
            axes.set_ylim(-5, 105)  # per cent, so that rounding is not drawn at full height
        power = _power(
            max((float(np.abs(curve).max(initial=0)) for curve, *_ in curves), default=0)
        )
        axes.yaxis.set_major_formatter(lambda value, _, p=power: _number(value / 10.0**p, ".6g"))
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.set_ylabel(labels[name] + _times(power), fontsize=7)
        axes.margins(x=0.02)
    grid[-1].set_xlabel("step")
    grid[-1].xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    figure.align_ylabels(grid)
    handles, names = grid[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=3, handlelength=1.2)
    figure.suptitle(fitted(title, figure, 8), fontsize=8)
    return figure


def _mark(steps: np.ndarray) -> dict[str, object]:
    """How a curve is drawn: with a dot for each step where they are few."""
    return {"linewidth": 0.9} | ({"marker": ".", "markersize": 4} if len(steps) <= 60 else {})


def _over_steps(values: np.ndarray, name: str) -> np.ndarray:
    """One curve of `(time, prediction step)`: the sum of drives, the mean of post and pre."""
    if name in ("dendrite", "gate"):
        return values.sum(axis=1)
    return values.sum(axis=1) / np.maximum((values > 0).sum(axis=1), 1)


@styled
def gate_history(
    steps: np.ndarray,
    gates: np.ndarray,
    roles: Sequence[str],
    ks: Sequence[int],
    alignment: np.ndarray | None = None,
    title: str = "",
) -> Figure:
    """Open gates over training by role, sign and prediction step; the alignment beside them.

    Args:
        steps: `(time,)`; gates: `(time, role, prediction step, sign +1 and -1)`, fractions, NaN
            where no event had that sign; ks: the prediction steps.
        alignment: cosine of `W_pred` and `W_retro` transposed, `(time, prediction step)`, or None.
    """
    kinds = [
        (r, s)
        for r in range(len(roles))
        for s in range(gates.shape[3])
        if np.isfinite(gates[:, r, :, s]).any()
    ]
    count = max(1, len(kinds) + (alignment is not None))
    rows = 1 if count < 6 else 2
    columns = -(-count // rows)
    width = min(PAGE, 0.6 + 1.6 * columns)
    figure = Figure(figsize=(width, 2.0 * rows), layout="constrained")
    grid = [figure.add_subplot(rows, columns, place + 1) for place in range(count)]
    colours = [ScalarMappable(Normalize(-0.1, 1.15), UNSIGNED).to_rgba(i) for i in _levels(ks)]
    for axes, (r, s) in zip(grid, kinds, strict=False):
        for i, k in enumerate(ks):
            seen = np.isfinite(gates[:, r, i, s])
            values = 100 * gates[seen, r, i, s]
            if len(steps) > 60:  # the fraction in one batch jumps: its running mean is the curve
                axes.plot(steps[seen], values, color=colours[i], linewidth=0.4, alpha=0.25)
                values = smooth(values)
            axes.plot(steps[seen], values, color=colours[i], label=f"k = {k}", **_mark(steps))
        axes.set_title(f"{roles[r]}, y = {'+1' if s == 0 else '−1'}", fontsize=8)
        axes.set_ylim(-4, 104)
    for place, axes in enumerate(grid[: len(kinds)]):
        if place % columns == 0:
            axes.set_ylabel("open gates (%)")
        else:
            axes.tick_params(labelleft=False)
    if alignment is not None:
        for i in range(alignment.shape[1]):
            label = f"k = {ks[i]}"
            grid[-1].plot(steps, alignment[:, i], color=colours[i], label=label, **_mark(steps))
        grid[-1].axhline(0, color="#999999", linewidth=0.5, zorder=0)
        grid[-1].set_title("cosine of W_pred, W_retroᵀ", fontsize=8)
    for axes in grid:
        axes.set_xlabel("step")
        axes.xaxis.set_major_locator(MaxNLocator(3, integer=True, min_n_ticks=1))
        axes.margins(x=0.04)
    handles, names = grid[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right center", handlelength=1.2)
    figure.suptitle(fitted(title, figure, 9), fontsize=9)
    return figure


def _levels(ks: Sequence[int]) -> np.ndarray:
    return np.linspace(0, 1, max(len(ks), 2))[: len(ks)]


def _largest(values: np.ndarray, axis: int) -> np.ndarray:
    """The entry of largest magnitude along an axis, with its sign."""
    high, low = values.max(axis=axis), values.min(axis=axis)
    return np.where(high >= -low, high, low)


def _thinned(image: np.ndarray) -> np.ndarray:
    """At most `PIXELS` along a side, each the entry of largest magnitude of its block."""
    for axis, count in enumerate(image.shape):
        if count > PIXELS:
            starts = np.linspace(0, count, PIXELS, endpoint=False).astype(int)
            high, low = (f.reduceat(image, starts, axis) for f in (np.maximum, np.minimum))
            image = np.where(high >= -low, high, low)
    return image


def _signed(axes: Axes, values: np.ndarray, limit: float = 0.0) -> ScalarMappable:
    """An image around zero; the rarest half percent of entries may be beyond its colours."""
    limit = limit or float(np.quantile(np.abs(values), 0.995)) or float(np.abs(values).max()) or 1.0
    return _image(axes, values, SIGNED, -limit, limit)


def _unsigned(axes: Axes, values: np.ndarray) -> ScalarMappable:
    most = float(np.quantile(values, 0.995)) or float(values.max()) or 1.0
    return _image(axes, values, UNSIGNED, 0.0, most)


def _image(axes: Axes, values: np.ndarray, colours: str, low: float, high: float) -> ScalarMappable:
    rows, columns = values.shape
    axes.spines[:].set_visible(True)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True, min_n_ticks=1))
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True, min_n_ticks=1))
    return axes.imshow(
        _thinned(values),
        cmap=colours,
        vmin=low,
        vmax=high,
        aspect="auto",
        interpolation="nearest",
        extent=(-0.5, columns - 0.5, rows - 0.5, -0.5),
    )


def _bar(figure: Figure, image: ScalarMappable, axes: Axes, label: str) -> None:
    """A colour bar above its image, with the image's name and the power of ten of its numbers."""
    power = _power(image.norm.vmax)
    bar = figure.colorbar(image, ax=axes, location="top", aspect=25, pad=0.02, shrink=0.9)
    bar.ax.tick_params(labelsize=6, length=2, pad=1)
    bar.ax.xaxis.set_major_locator(MaxNLocator(4))
    bar.ax.xaxis.set_major_formatter(lambda value, _: _number(value / 10.0**power))
    bar.set_label(label + _times(power), fontsize=7, labelpad=2)
    bar.outline.set_linewidth(0.5)


def _power(value: float) -> int:
    """The power of ten to count in: 0 for numbers that are short without one."""
    power = int(np.floor(np.log10(abs(value)))) if value else 0
    return 0 if -2 < power < 4 else power


def _number(value: float, form: str = ".3g") -> str:
    """With a true minus sign, and none before zero."""
    return f"{value:z{form}}".replace("-", "−")


def _times(power: int) -> str:
    return "" if power == 0 else f" ($10^{{{power}}}$)"
