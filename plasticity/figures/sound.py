"""Figures of sound: an utterance and what a network makes of it, confusions of phones, traces."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from plasticity.figures.style import COLOURS, PAGE, fitted, plain, styled

RATE = 16_000
WINDOW, HOP = 400, 80  # of the spectrogram, in samples: 25 ms and 5 ms

KINDS = {
    "silence": "pau h# sil sp spn",
    "vowels": "aa ae ah ao aw ax ax-h axr ay eh er ey ih ix iy ow oy uh uw ux",
    "stops": "b d g k p t dx q bcl dcl gcl kcl pcl tcl",
    "fricatives": "f v th dh s z sh zh hh hv",
    "affricates": "ch jh",
    "nasals": "m n ng em en eng nx",
    "glides": "l r w y el",
}
"""Phones by the way they are made, in ARPAbet."""


def kind_of(phone: str) -> str:
    """The kind of a phone by its name; `other` for names that are not ARPAbet's."""
    name = phone.lower().rstrip("012")
    return next((kind for kind, names in KINDS.items() if name in names.split()), "other")


def spectrogram(samples: np.ndarray) -> np.ndarray:
    """The power of samples `(S,)` in dB below its peak, `(frequencies, frames)`, Hann windows."""
    windows = np.lib.stride_tricks.sliding_window_view(samples.astype(float), WINDOW)[::HOP]
    power = np.abs(np.fft.rfft(windows * np.hanning(WINDOW), axis=1)).T ** 2
    return 10 * np.log10(np.maximum(power / max(power.max(), 1e-30), 1e-8))


@styled
def utterance(
    samples: np.ndarray,
    phones: Sequence[tuple[str, float, float]],
    activity: np.ndarray,
    seconds: np.ndarray,
    gates: Mapping[str, np.ndarray],
    surprise: Mapping[str, np.ndarray],
    title: str,
    layer: str,
) -> Figure:
    """An utterance above the activity of a layer, its gates and the rule's surprise, over time.

    Args:
        samples: `(S,)` at 16 kHz; phones: name, beginning and end of each in seconds.
        activity: `(T, H)` at `seconds (T,)`; gates: of a recurrent layer by name, means over its
            neurons `(T,)`, may be empty; surprise: fractions of open gates by the kind of event
            `(T,)`, NaN where there is none; may be empty.
    """
    rows = [2.2, 2.2] + [1.0] * (bool(gates) + bool(surprise))
    figure = Figure(figsize=(PAGE, 1.05 * sum(rows) + 0.4), layout="constrained")
    axes = figure.subplots(len(rows), 1, sharex=True, height_ratios=rows, squeeze=False)[:, 0]
    length = len(samples) / RATE
    axes[0].imshow(
        spectrogram(samples),
        extent=(WINDOW / 2 / RATE, length - WINDOW / 2 / RATE, 0, RATE / 2000),
        origin="lower", aspect="auto", cmap="gray_r", vmin=-70, vmax=0,
    )  # fmt: skip
    axes[0].set_ylabel("frequency (kHz)")
    axes[0].set_title(fitted(title, figure, 8), fontsize=8, pad=14)
    for name, start, end in phones:
        axes[0].axvline(start, color=COLOURS[5], linewidth=0.4)
        if end - start > 0.03:
            axes[0].text(
                (start + end) / 2, 1.01, plain(name), transform=axes[0].get_xaxis_transform(),
                ha="center", va="bottom", fontsize=6,
            )  # fmt: skip
    order = np.argsort(activity.argmax(axis=0), kind="stable")
    limit = float(np.quantile(np.abs(activity), 0.995)) or 1.0
    image = axes[1].imshow(
        activity[:, order].T,
        extent=(seconds[0], seconds[-1], 0, activity.shape[1]),
        origin="lower", aspect="auto", cmap="RdBu_r", vmin=-limit, vmax=limit,
        interpolation="nearest",
    )  # fmt: skip
    axes[1].set_ylabel(f"neurons of {plain(layer)}\nby time of their peak")
    figure.colorbar(image, ax=axes[1], label="activity", pad=0.01, aspect=12)
    place = 2
    for values, label in ((gates, "gates, mean"), (surprise, "open gates")):
        if not values:
            continue
        for colour, (name, line) in zip(COLOURS, values.items(), strict=False):
            axes[place].plot(seconds, line, color=colour, linewidth=0.9, label=name)
        axes[place].set_ylim(-0.03, 1.25)
        axes[place].set_ylabel(label)
        axes[place].legend(loc="upper right", ncols=2, fontsize=7, borderaxespad=0)
        place += 1
    axes[-1].set_xlabel("time (s)")
    axes[-1].set_xlim(0, length)
    return figure


@styled
def confusions(counts: np.ndarray, names: Sequence[str], title: str) -> Figure:
    """How often frames of a phone (rows) are taken for another (columns), as fractions of a row.

    Args:
        counts: `(C, C)`; names: of the phones `(C,)`.
    """
    met = counts.sum(axis=1) > 0
    order = sorted(np.flatnonzero(met), key=lambda i: (_rank(names[i]), names[i]))
    shares = counts[np.ix_(order, order)] / counts[order].sum(axis=1, keepdims=True)
    figure = Figure(figsize=(PAGE, PAGE * 0.93), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="viridis", vmin=0, vmax=max(0.5, float(shares.max())))
    labels = [plain(names[i]) for i in order]
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(range(len(order)), labels, fontsize=6)
    axes.tick_params(axis="x", rotation=90)
    ranks = [_rank(names[i]) for i in order]
    for edge in np.flatnonzero(np.diff(ranks)) + 1:  # between kinds of phones
        axes.axhline(edge - 0.5, color="white", linewidth=0.6)
        axes.axvline(edge - 0.5, color="white", linewidth=0.6)
    axes.set_xlabel("told")
    axes.set_ylabel("spoken")
    axes.set_title(fitted(title, figure, 8), fontsize=8)
    figure.colorbar(image, ax=axes, label="fraction of the frames of a phone", aspect=30)
    return figure


def _rank(name: str) -> int:
    kinds = [*KINDS, "other"]
    return kinds.index(kind_of(name))


@styled
def traces(
    seconds: np.ndarray,
    rows: Sequence[tuple[str, np.ndarray, np.ndarray, np.ndarray]],
    title: str,
) -> Figure:
    """Eligibility traces of synapses over an utterance, with the signals that they are read by.

    Args:
        seconds: `(T,)`; rows: of each synapse its name, its immediate post x pre, its trace, and
            the signal at its neuron, each `(T,)`.
    """
    figure = Figure(figsize=(PAGE, 1.5 * len(rows) + 0.4), layout="constrained")
    grid = figure.subplots(len(rows), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (name, now, trace, signal) in zip(grid, rows, strict=True):
        axes.plot(seconds, now, color=COLOURS[4], linewidth=0.7, label="post x pre")
        axes.plot(seconds, trace, color=COLOURS[0], linewidth=1.1, label="trace e")
        axes.set_ylabel(plain(name))
        beside = axes.twinx()
        beside.spines["right"].set_visible(True)
        beside.plot(seconds, signal, color=COLOURS[5], linewidth=0.7, label="signal L")
        beside.set_ylabel("signal")
        handles = [*axes.get_lines(), *beside.get_lines()]
        if axes is grid[0]:
            axes.legend(handles=handles, loc="upper right", ncols=3, fontsize=7)
    grid[0].set_title(fitted(title, figure, 8), fontsize=8)
    grid[-1].set_xlabel("time (s)")
    return figure
