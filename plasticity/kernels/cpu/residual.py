"""A residual block's maps by blocks of inputs that fit the caches, a thread for each core."""

from collections.abc import Callable

import numpy as np

from plasticity.arrays import Array
from plasticity.kernels.cpu import threads
from plasticity.kernels.definition import residual

BLOCK_BYTES = 2**18  # of one map


def _each(work: Callable[[slice], object], maps: Array) -> None:
    """`work` on all inputs, in blocks where that is faster."""
    if maps.nbytes > BLOCK_BYTES:
        size = max(1, len(maps) * BLOCK_BYTES // maps.nbytes)
        threads.each(lambda span: work(slice(*span)), threads.even(len(maps), size))
    else:
        work(slice(None))


def rectify(x: Array) -> Array:
    """See `definition.residual.rectify`."""
    r = np.empty_like(x)
    _each(lambda part: residual.rectify(x[part], out=r[part]), x)
    return r


def add_skip(y: Array, skip: Array) -> Array:
    """See `definition.residual.add_skip`."""
    z = np.empty((len(y), y.shape[-1]), y.dtype)

    def add(part: slice) -> None:
        z[part] = residual.add_skip(y[part], skip[part])

    _each(add, y)
    return z


def rectified(
    r: Array, error: Array, *, inside: Array | None = None, beside: Array | None = None
) -> Array:
    """See `definition.residual.rectified`."""

    def join(part: slice) -> None:
        its, skipping = (None if a is None else a[part] for a in (inside, beside))
        residual.rectified(r[part], error[part], inside=its, beside=skipping)

    _each(join, r)
    return error
