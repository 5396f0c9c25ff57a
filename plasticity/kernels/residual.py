"""What a residual block does besides its convolutions, in array operations: ReLU, skip, mean.

On the CPU each thread takes blocks of patches that fit its cache.
"""

from collections.abc import Callable

import numpy as np

from plasticity.arrays import Array, array_module
from plasticity.kernels import threads

BLOCK_BYTES = 2**18  # of one map


def _each(work: Callable[[slice], None], maps: Array) -> None:
    """`work` on all patches, in blocks where that is faster."""
    if array_module(maps) is np and maps.nbytes > BLOCK_BYTES:
        size = max(1, len(maps) * BLOCK_BYTES // maps.nbytes)
        threads.each(lambda span: work(slice(*span)), threads.even(len(maps), size))
    else:
        work(slice(None))


def rectify(x: Array) -> Array:
    """rho(x) of maps `(N, *space, C)`."""
    xp, r = array_module(x), array_module(x).empty_like(x)
    _each(lambda part: xp.maximum(x[part], 0, out=r[part]), x)
    return r


def add_skip(y: Array, skip: Array) -> Array:
    """`y += skip` in place, maps `(N, *space, C)`; returns the mean over positions `(N, C)`."""
    xp = array_module(y, skip)
    z = xp.empty((len(y), y.shape[-1]), y.dtype)

    def add(part: slice) -> None:
        y[part] += skip[part]
        z[part] = y[part].mean(axis=tuple(range(1, y.ndim - 1)))

    _each(add, y)
    return z


def rectified(
    r: Array, error: Array, *, inside: Array | None = None, beside: Array | None = None
) -> Array:
    """The error before the ReLU `r = rho(x)`: `rho'(x) (error + inside) + beside`.

    `error` and `inside` have the shape of r and come from what reads r, `beside` from what reads x
    itself; it may also be `(N, C)`, shared by all positions. The array `error` is overwritten.
    """
    if beside is not None and beside.ndim == 2:
        beside = beside.reshape(len(beside), *(1 for _ in r.shape[1:-1]), beside.shape[1])

    def join(part: slice) -> None:
        found = error[part]
        if inside is not None:
            found += inside[part]
        found *= r[part] > 0
        if beside is not None:
            found += beside[part]

    _each(join, r)
    return error
