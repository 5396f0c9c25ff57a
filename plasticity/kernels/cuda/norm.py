"""Batch normalisation with its ReLU and pool on a GPU: one pass over a map for each sum.

Nothing of the size of a map is kept but the drives of the convolution: yh is made again where it is
needed. Sums are float64, by spans of places in a fixed order.
"""

from collections.abc import Callable
from math import prod

import numpy as np

from plasticity.arrays import Array
from plasticity.kernels.cuda import volumes
from plasticity.kernels.geometry import Geometry

SPAN = 256  # places that a thread sums


def _run(name: str, dtype: np.dtype, columns: int, rows: int, *args: object) -> None:
    volumes.run("norm", name, dtype, columns, rows, *args)


def _spans(a: Array) -> tuple[int, int, int, int]:
    """Rows of a map, neurons, places that a thread sums, and threads for each neuron."""
    rows = a.size // max(1, a.shape[-1])
    return rows, a.shape[-1], SPAN, -(-rows // SPAN)


def norm_statistics(a: Array, relu_first: bool) -> tuple[Array, Array]:
    """See `definition.norm.norm_statistics`: the variance by a pass of its own."""
    import cupy

    a = cupy.ascontiguousarray(a)
    rows, O, _, spans = sizes = _spans(a)  # noqa: E741
    mean = cupy.zeros(O, float)
    for squared in (False, True):
        sums = cupy.empty((spans, O), float)
        _run("moments", a.dtype, O, spans, a, mean, relu_first, squared, *sizes, sums)
        found = sums.sum(axis=0) / max(1, rows)
        mean, var = (mean, found) if squared else (found, None)
    return mean.astype(a.dtype), var.astype(a.dtype)


def _shapes(a: Array, geometry: Geometry) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The pooled shape of a map `(N, *space, O)`, and N, space, O, pooled space and pools."""
    pooled = geometry.pooled(a.shape[1:-1])
    space, three = volumes.three(a.shape[1:-1]), volumes.three
    pools = *three(geometry.pool), *three(geometry.pool_stride)
    return pooled, (len(a), *space, a.shape[-1], *three(pooled), *pools)


def norm_forward(
    a: Array,
    gain: Array,
    shift: Array,
    mean: Array,
    var: Array,
    eps: float,
    geometry: Geometry,
    relu_first: bool,
) -> tuple[Array, Array]:
    """See `definition.norm.norm_forward`."""
    import cupy

    pooled, sizes = _shapes(a, geometry)
    a, *own = map(cupy.ascontiguousarray, (a, gain, shift, mean, var))
    shape, O = (len(a), *pooled, a.shape[-1]), a.shape[-1]  # noqa: E741
    y, winner = cupy.empty(shape, a.dtype), cupy.empty(shape, np.uint8)
    how = a.dtype.type(eps), relu_first, *sizes
    _run("normalised", a.dtype, O, len(a) * prod(pooled), a, *own, *how, y, winner)
    return y, winner


def norm_back(
    a: Array,
    winner: Array,
    drive: Array,
    gain: Array,
    mean: Array,
    var: Array,
    eps: float,
    geometry: Geometry,
    relu_first: bool,
    batch: bool,
    over: Callable[[Array], Array] | None = None,
) -> tuple[Array, Array, Array]:
    """See `definition.norm.norm_back`."""
    import cupy

    a, drive, gain, mean, var = map(cupy.ascontiguousarray, (a, drive, gain, mean, var))
    _, sizes = _shapes(a, geometry)
    rows, O, _, spans = _spans(a)  # noqa: E741
    D = cupy.empty(a.shape, a.dtype)
    winner, shared = cupy.ascontiguousarray(winner, np.uint8), drive.ndim == 2
    volumes.run("volumes", "posts", a.dtype, O, rows, winner, drive, shared, *sizes, D)
    how = a.dtype.type(eps), relu_first
    sums = cupy.empty((2, spans, O), float)
    _run("driven", a.dtype, O, spans, a, D, mean, var, *how, *_spans(a), sums)
    sums = sums.sum(axis=1)
    means = (sums if batch else cupy.zeros_like(sums)) / max(1, rows)
    of_one, of_yh = (means if over is None or not batch else over(means)).astype(a.dtype)
    dshift, dgain = sums.astype(a.dtype)
    _run("undone", a.dtype, O, rows, a, gain, mean, var, of_one, of_yh, *how, rows, O, D)
    return D, dgain, dshift
