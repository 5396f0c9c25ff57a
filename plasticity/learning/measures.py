"""Measures of a layer that need no loss: how active it is, and how its weights have moved."""

import math
from collections.abc import Iterator, Sequence

import numpy as np

from plasticity.arrays import Array, array_module
from plasticity.layers import Layer, Parameters
from plasticity.layers.layer import Peers

PIECE = 2**18  # numbers that the CPU takes at once, so that they stay in its cache
WIDE = 512


def outputs(y: Array, peers: Peers | None = None) -> tuple[Array, Array, Array]:
    """Activity, sparsity and, neuron by neuron, whether any input changes the output.

        activity = mean y
        sparsity = mean of 1 - (mean_j |y_j|)^2 / mean_j y_j^2 over inputs and places

    The fraction is the sparseness a of Treves & Rolls (1991, Network 2, 371-397): 1 - a is 0 where
    all neurons j of a place answer alike, and 1 - 1/n where one of n does; it is 1 where none does.
    A neuron that never answers has the same output for all inputs and places; of a rectified layer
    it is one that is never active.

    Args:
        y: output of a layer `(M, *space, D)`; peers: who has other inputs of the same batch.

    Returns:
        activity and sparsity, scalar arrays in float64, and answers `(D,)`, bool.
    """
    xp, rows = array_module(y), y.reshape(-1, y.shape[-1])
    over = xp.full(rows.shape[1], 1 / rows.shape[1], rows.dtype)  # a product with it is a mean
    total, dense, low, high = xp.zeros(()), xp.zeros(()), rows[0], rows[0]
    for part in _pieces(rows):
        size = xp.abs(part)
        mean, square = size @ over, (size * size) @ over
        total = total + (part @ over).sum(dtype=float)
        dense = dense + (mean * mean / xp.where(square > 0, square, 1)).sum(dtype=float)
        # Rows side by side: over few columns a minimum is slow.
        beside = part.reshape(-1, math.gcd(len(part), max(1, WIDE // len(low))), len(low))
        low = xp.minimum(low, beside.min(axis=0).min(axis=0))
        high = xp.maximum(high, beside.max(axis=0).max(axis=0))
    found = xp.concatenate([xp.stack([total, dense]) / len(rows), (high > low).astype(float)])
    found = found if peers is None else peers.mean(found)
    return found[0], 1 - found[1], found[2:] > 0


def matrices(layer: Layer, weights: Parameters) -> list[Array]:
    """The weights by which a layer's units meet their inputs, and a recurrent one itself.

    Each is `(rows, ...)`: a row for each neuron, of a GRU for each gate of a neuron.
    """
    return [
        w
        for unit in layer.convolutions
        for name, w in weights[unit.name].items()
        if name == unit.main or (name.startswith("weight") and "." not in name)
    ]


def synapses(found: Sequence[Array], start: Sequence[Array]) -> tuple[Array, Array]:
    """Norm and drift of a layer's weights, scalar arrays in float64.

        norm = mean over rows j of |W_j|        drift = |W - W_start| / |W_start|

    The norm is that of the weights onto a neuron, the drift that of all of them together; where all
    began at 0 it is |W|.

    Args:
        found: as `matrices` gives them, now; start: at the run's start.
    """
    xp = array_module(*found)
    norms = xp.concatenate([xp.sqrt(_squares(w)) for w in found])
    moved = sum(_squares(w, before).sum() for w, before in zip(found, start, strict=True))
    began = sum(_squares(before).sum() for before in start)
    return norms.mean(), xp.sqrt(moved / xp.where(began > 0, began, 1))


def _squares(w: Array, less: Array | None = None) -> Array:
    """The sums of squares of the rows of `w`, or of `w - less`, in float64."""
    xp, rows = array_module(w), w.reshape(len(w), -1)
    away = None if less is None else _pieces(less.reshape(len(w), -1))
    found = []
    for part in _pieces(rows):
        part = part if away is None else part - next(away)
        found.append((part * part).sum(axis=1).astype(float))
    return xp.concatenate(found)


def _pieces(rows: Array) -> Iterator[Array]:
    """Rows `(n, m)` by and by, or all at once on a GPU."""
    many = max(1, PIECE // rows.shape[1]) if isinstance(rows, np.ndarray) else len(rows)
    for first in range(0, len(rows), many):
        yield rows[first : first + many]
