"""Float32 on the CPU for every geometry without a form of its own: 1x1, strides, other kernels.

The definition itself, by blocks of patches that fit the caches, a thread for each core: its
matrix products keep BLAS busy, and what it does besides never leaves the cache. Where input
channels are few, a convolution is taken as one of 1x1 over the windows of its input.
"""

import math

import numpy as np

from plasticity.kernels import direct, memory, threads

BLOCK_BYTES = 2**20  # of the larger of a block's two maps
FEW = 4  # channels at most for which single kernel offsets would make too thin products


def _patches(*shapes):
    """How many patches a block has, for maps of these shapes."""
    return max(1, BLOCK_BYTES // (4 * max(1, *(math.prod(shape[1:]) for shape in shapes))))


def _by_tap(weight):
    """The same weights, the matrix of each kernel offset in one piece, as BLAS takes it."""
    dims = weight.ndim - 2
    taps = np.ascontiguousarray(weight.transpose(*range(2, 2 + dims), 0, 1))
    return taps.transpose(dims, dims + 1, *range(dims))


def _windows(x, kernel, stride, padding):
    """What each position of the output meets, in one row: `(N, *space, C K)`."""
    dims = len(kernel)
    stride, padding = direct.each(stride, dims), direct.each(padding, dims)
    padded = np.pad(x, [(0, 0), *((p, p) for p in padding), (0, 0)])
    every = np.lib.stride_tricks.sliding_window_view(padded, kernel, tuple(range(1, 1 + dims)))
    met = every[:, *(slice(None, None, s) for s in stride)]
    return met.reshape(*met.shape[: 1 + dims], -1)


def forward(x, weight, bias, pool, *, stride, padding, winners, linear):
    """See `direct.forward`."""
    N, O, C, *kernel = len(x), *weight.shape  # noqa: E741
    how = {"stride": stride, "padding": padding}
    space = direct.output_space(x.shape[1:-1], kernel, **how)
    pooled = space if linear else direct.pooled_space(space, pool)
    y, z = memory.empty((N, *pooled, O)), memory.empty((N, O))
    winner = memory.empty(y.shape, np.uint8) if winners and not linear else None
    few = C <= FEW
    taps = weight.reshape(O, -1, *(1 for _ in kernel)) if few else _by_tap(weight)

    def block(span):
        part = slice(*span)
        met, geometry = x[part], how
        if few:
            met, geometry = _windows(met, kernel, **how), {"padding": 0}
        y[part], won, z[part] = direct.forward(
            met, taps, bias, pool, winners=winners, linear=linear, **geometry
        )
        if winner is not None:
            winner[part] = won

    threads.each(block, threads.even(N, _patches(x.shape, (N, *space, O))))
    return y, winner, z


def correlate(x, winner, drive, kernel, pool, *, stride, padding):
    """See `direct.correlate`."""
    C, O = x.shape[-1], drive.shape[-1]  # noqa: E741
    how = {"stride": stride, "padding": padding}
    size = _patches(x.shape, (1, *direct.output_space(x.shape[1:-1], kernel, **how), O))
    few, ones = C <= FEW, tuple(1 for _ in kernel)

    def share(span):
        dW, db = np.zeros((O, C, *kernel), np.float32), np.zeros(O, np.float32)
        for start, stop in threads.spans(span[1] - span[0], size):
            part = slice(span[0] + start, span[0] + stop)
            won = None if winner is None else winner[part]
            met, geometry = x[part], {"kernel": kernel, **how}
            if few:
                met, geometry = _windows(met, kernel, **how), {"kernel": ones, "padding": 0}
            more, bias = direct.correlate(met, won, drive[part], pool=pool, **geometry)
            dW += more.reshape(dW.shape)
            db += bias
        return dW, db

    # Summed in a fixed order, so that a run repeats bit for bit.
    dW, db = np.zeros((O, C, *kernel), np.float32), np.zeros(O, np.float32)
    for found in threads.each(share, threads.shares(len(x))):
        dW += found[0]
        db += found[1]
    return dW, db


def back(winner, drive, weight, space, pool, *, stride, padding):
    """See `direct.back`."""
    N, (O, C) = len(drive), weight.shape[:2]  # noqa: E741
    how = {"stride": stride, "padding": padding}
    out = direct.output_space(space, weight.shape[2:], **how)
    error, taps = memory.empty((N, *space, C)), _by_tap(weight)

    def block(span):
        part = slice(*span)
        won = None if winner is None else winner[part]
        error[part] = direct.back(won, drive[part], taps, space, pool, **how)

    threads.each(block, threads.even(N, _patches(error.shape, (N, *out, O))))
    return error
