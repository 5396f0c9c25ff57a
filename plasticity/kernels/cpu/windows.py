"""Float32 convolutions in time on the CPU: matrix products over the windows of an input.

With channels last a window of a map is one run of kernel x channels numbers. Windows overlap, but
as many taps of them as a stride do not: those lie in memory as the rows of a matrix, and a
convolution, its dW and its transpose are a product for each such group of taps, without a copy.
Some hundred frames at a time, so that bias, ReLU and post factor meet them in the cache.
"""

import numpy as np

from plasticity.kernels.cpu import memory, threads
from plasticity.kernels.cpu.compiled import njit
from plasticity.kernels.geometry import SILENT

BLOCK = 2**18  # numbers in a block of frames: a megabyte
FEWEST = 64  # frames in a block, below which BLAS is slow
NARROW = 64  # numbers in a group of taps, below which windows are better copied whole


def _met(x, geometry, n, a, b):
    """The windows of frames a to b of an input, one in each row, `(b - a, K C)`.

    They overlap in memory; only where they reach beyond the input's ends is it copied.
    """
    (kernel,), (stride,), (pad,) = geometry.kernel, geometry.stride, geometry.padding
    (samples, C), first, last = x.shape[1:], a * stride - pad, (b - 1) * stride + kernel - pad
    rows = x[n, max(first, 0) : max(last, 0)]
    if first < 0 or last > samples:
        padded = memory.scratch("padded", last - first, C)
        before = min(max(-first, 0), len(padded))
        padded[:before], padded[before + len(rows) :] = 0, 0
        padded[before : before + len(rows)] = rows
        rows = padded
    sizes, steps = (b - a, kernel * C), (4 * stride * C, 4)
    return np.lib.stride_tricks.as_strided(rows, sizes, steps, writeable=False)


def _groups(geometry, C):
    """The columns of windows that are rows of a matrix as they lie: of as many taps as a stride."""
    (kernel,), (stride,) = geometry.kernel, geometry.stride
    return [slice(k * C, min(k + stride, kernel) * C) for k in range(0, kernel, stride)]


def _parts(met, groups):
    """Windows as matrices for BLAS, and the columns of each."""
    if len(groups) > 1 and groups[0].stop < NARROW:
        return [(np.ascontiguousarray(met), slice(None))]
    return [(met[:, group], group) for group in groups]


def _matrix(weight):
    """The weights `(K C, O)`, as they meet a window."""
    O, C, K = weight.shape  # noqa: E741
    return np.ascontiguousarray(weight.transpose(2, 1, 0)).reshape(K * C, O)


def _blocks(N, frames, O):  # noqa: E741
    """Sample, first and last frame of all blocks."""
    spans = threads.spans(frames, max(FEWEST, BLOCK // max(1, O)))
    return [(n, *span) for n in range(N) for span in spans]


@njit()
def _activities(y, bias, rectified, winner, sums):
    """Bias and ReLU in place over `y (frames, O)`, winners if there is room, and their sums."""
    keep = winner.size > 0
    for f in range(y.shape[0]):
        for o in range(y.shape[1]):
            a = y[f, o] + bias[o]
            value = np.float32(0) if rectified and a <= 0 else a
            y[f, o] = value
            sums[o] += value
        if keep:
            for o in range(y.shape[1]):
                winner[f, o] = np.uint8(0) if y[f, o] > 0 else np.uint8(SILENT)


def forward(x, weight, bias, geometry, winners=True):
    """See `definition.convolution.forward`."""
    N, O = len(x), len(weight)  # noqa: E741
    (frames,), x = geometry.output(x.shape[1:-1]), np.ascontiguousarray(x)
    y, matrix, rectified = memory.empty((N, frames, O)), _matrix(weight), geometry.rectified
    winner = memory.empty(y.shape if winners and rectified else (N, 0, O), np.uint8)
    blocks, groups = _blocks(N, frames, O), _groups(geometry, x.shape[-1])
    sums = np.zeros((len(blocks), O), np.float32)

    def block(i):
        n, a, b = blocks[i]
        (met, taps), *others = _parts(_met(x, geometry, n, a, b), groups)
        out = np.matmul(met, matrix[taps], out=y[n, a:b])
        for met, taps in others:
            out += np.matmul(met, matrix[taps], out=memory.scratch("more", b - a, O))
        _activities(out, bias, rectified, winner[n, a:b], sums[i])

    threads.each(block, range(len(blocks)))
    mean = sums.reshape(N, len(blocks) // max(N, 1), O).sum(axis=1) / np.float32(max(frames, 1))
    return y, winner if winners and rectified else None, mean


@njit()
def _posts(drive, winner, post, db):
    """The post factor of some frames, `(frames, O)`; `db` is added to. A linear layer has no
    winners; the drive is that of each frame, or one for all."""
    for f in range(post.shape[0]):
        signal = drive[f] if drive.shape[0] > 1 else drive[0]
        for o in range(post.shape[1]):
            post[f, o] = signal[o] if winner.size == 0 or winner[f, o] == 0 else np.float32(0)
            db[o] += post[f, o]


def _post(winner, drive, n, a, b, db):
    post = memory.scratch("post", b - a, drive.shape[-1])
    won = np.empty((0, 0), np.uint8) if winner is None else winner[n, a:b]
    _posts(drive[n, a:b] if drive.ndim == 3 else drive[n : n + 1], won, post, db)
    return post


def correlate(x, winner, drive, geometry):
    """See `definition.convolution.correlate`."""
    N, C, O = len(x), x.shape[-1], drive.shape[-1]  # noqa: E741
    (frames,), (K,), x = geometry.output(x.shape[1:-1]), geometry.kernel, np.ascontiguousarray(x)
    blocks, groups = _blocks(N, frames, O), _groups(geometry, C)

    def share(span):
        dW, db = np.zeros((K * C, O), np.float32), np.zeros(O, np.float32)
        for n, a, b in blocks[slice(*span)]:
            post = _post(winner, drive, n, a, b, db)
            for met, taps in _parts(_met(x, geometry, n, a, b), groups):
                dW[taps] += np.matmul(met.T, post, out=memory.scratch("more", met.shape[1], O))
        return dW, db

    # Summed in a fixed order, so that a run repeats bit for bit.
    dW, db = np.zeros((K * C, O), np.float32), np.zeros(O, np.float32)
    for found in threads.each(share, threads.shares(len(blocks))):
        dW += found[0]
        db += found[1]
    return np.ascontiguousarray(dW.reshape(K, C, O).transpose(2, 1, 0)), db


def back(winner, drive, weight, space, geometry):
    """See `definition.convolution.back`: windows of the error, added where they overlap."""
    N, (O, C, _) = len(drive), weight.shape  # noqa: E741
    (frames,), (stride,), (pad,) = geometry.output(space), geometry.stride, geometry.padding
    matrix = np.ascontiguousarray(_matrix(weight).T)
    error, spans = memory.empty((N, *space, C)), [span[1:] for span in _blocks(1, frames, O)]

    def sample(n):
        padded, db = np.zeros((space[0] + 2 * pad, C), np.float32), np.zeros(O, np.float32)
        for a, b in spans:
            post = _post(winner, drive, n, a, b, db)
            for k, taps in enumerate(_groups(geometry, C)):
                met, sizes = padded[a * stride + k * stride :], (b - a, taps.stop - taps.start)
                met = np.lib.stride_tricks.as_strided(met, sizes, (4 * stride * C, 4))
                met += np.matmul(post, matrix[:, taps], out=memory.scratch("more", *sizes))
        error[n] = padded[pad : pad + space[0]]

    threads.each(sample, range(N))
    return error
