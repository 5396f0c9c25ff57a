"""Float32 on the CPU for every geometry without a form of its own: 1x1, strides, other kernels.

The definition itself, by blocks of patches that fit the caches, a thread for each core: its
matrix products keep BLAS busy, and what it does besides never leaves the cache. Where input
channels are few, a convolution is taken as one of 1x1 over the windows of its input.
"""

import math
from dataclasses import replace

import numpy as np

from plasticity.kernels.cpu import memory, threads
from plasticity.kernels.definition import convolution
from plasticity.kernels.forms import FEW_CHANNELS

BLOCK_BYTES = 2**20  # of the larger of a block's two maps


def _patches(*shapes):
    """How many patches a block has, for maps of these shapes."""
    return max(1, BLOCK_BYTES // (4 * max(1, *(math.prod(shape[1:]) for shape in shapes))))


def _by_tap(weight):
    """The same weights, the matrix of each kernel offset in one piece, as BLAS takes it."""
    dims = weight.ndim - 2
    taps = np.ascontiguousarray(weight.transpose(*range(2, 2 + dims), 0, 1))
    return taps.transpose(dims, dims + 1, *range(dims))


def _windows(x, geometry):
    """What each position of the output meets, in one row: `(N, *space, C K)`."""
    axes = tuple(range(1, 1 + geometry.dims))
    padded = np.pad(x, [(0, 0), *((p, p) for p in geometry.padding), (0, 0)])
    every = np.lib.stride_tricks.sliding_window_view(padded, geometry.kernel, axes)
    met = every[:, *(slice(None, None, s) for s in geometry.stride)]
    return met.reshape(*met.shape[: 1 + geometry.dims], -1)


def _of_windows(geometry):
    """The 1x1 convolution of windows, with the pool of theirs."""
    one, none = (1,) * geometry.dims, (0,) * geometry.dims
    return replace(geometry, kernel=one, stride=one, padding=none)


def forward(x, weight, bias, geometry, winners=True):
    """See `definition.convolution.forward`."""
    N, O, C, *kernel = len(x), *weight.shape  # noqa: E741
    space = geometry.output(x.shape[1:-1])
    y, z = memory.empty((N, *geometry.pooled(space), O)), memory.empty((N, O))
    winner = memory.empty(y.shape, np.uint8) if winners and geometry.rectified else None
    few = C <= FEW_CHANNELS
    taps = weight.reshape(O, -1, *(1 for _ in kernel)) if few else _by_tap(weight)
    its = _of_windows(geometry) if few else geometry

    def block(span):
        part = slice(*span)
        met = _windows(x[part], geometry) if few else x[part]
        y[part], won, z[part] = convolution.forward(met, taps, bias, its, winners)
        if winner is not None:
            winner[part] = won

    threads.each(block, threads.even(N, _patches(x.shape, (N, *space, O))))
    return y, winner, z


def correlate(x, winner, drive, geometry):
    """See `definition.convolution.correlate`."""
    C, O, kernel = x.shape[-1], drive.shape[-1], geometry.kernel  # noqa: E741
    size = _patches(x.shape, (1, *geometry.output(x.shape[1:-1]), O))
    few = C <= FEW_CHANNELS
    its = _of_windows(geometry) if few else geometry

    def share(span):
        dW, db = np.zeros((O, C, *kernel), np.float32), np.zeros(O, np.float32)
        for start, stop in threads.spans(span[1] - span[0], size):
            part = slice(span[0] + start, span[0] + stop)
            won = None if winner is None else winner[part]
            met = _windows(x[part], geometry) if few else x[part]
            more, bias = convolution.correlate(met, won, drive[part], its)
            dW += more.reshape(dW.shape)
            db += bias
        return dW, db

    # Summed in a fixed order, so that a run repeats bit for bit.
    dW, db = np.zeros((O, C, *kernel), np.float32), np.zeros(O, np.float32)
    for found in threads.each(share, threads.shares(len(x))):
        dW += found[0]
        db += found[1]
    return dW, db


def back(winner, drive, weight, space, geometry):
    """See `definition.convolution.back`."""
    N, (O, C) = len(drive), weight.shape[:2]  # noqa: E741
    out = geometry.output(space)
    error, taps = memory.empty((N, *space, C)), _by_tap(weight)

    def block(span):
        part = slice(*span)
        won = None if winner is None else winner[part]
        error[part] = convolution.back(won, drive[part], taps, space, geometry)

    threads.each(block, threads.even(N, _patches(error.shape, (N, *out, O))))
    return error
