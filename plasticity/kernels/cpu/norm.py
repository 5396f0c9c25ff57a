"""Batch normalisation with its ReLU and pool on the CPU, float32: one pass over a map for each sum.

Nothing of the size of a map is kept but the drives of the convolution: yh is made again where it is
needed, and the winner's place in a window is looked for in o as it is made.
"""

import numpy as np

from plasticity.kernels.cpu import memory, threads
from plasticity.kernels.cpu.compiled import njit
from plasticity.kernels.geometry import SILENT

FRAMES = 16  # parts of the map whose sums are added in float64


def _volumes(shape, dims):
    """Maps of one, two or three dimensions as of three."""
    return (shape[0], *(1,) * (3 - dims), *shape[1:])


def _three(sizes):
    return (*(1,) * (3 - len(sizes)), *sizes)


def norm_statistics(a, relu_first):
    """See `definition.norm.norm_statistics`; sums are float64."""
    rows = a.reshape(-1, a.shape[-1])
    spans = threads.spans(len(rows), max(1, -(-len(rows) // (4 * FRAMES))))
    shift = rows[0].astype(float) if len(rows) else np.zeros(a.shape[-1])
    shift = np.maximum(shift, 0) if relu_first else shift

    def sums(span):
        found = np.zeros((2, a.shape[-1]))
        _sums(rows[slice(*span)], shift, relu_first, found)
        return found

    total = sum(threads.each(sums, spans), np.zeros((2, a.shape[-1]))) / max(1, len(rows))
    mean = total[0] + shift
    return mean.astype(np.float32), np.maximum(total[1] - total[0] ** 2, 0).astype(np.float32)


def _line(gain, shift, mean, var, eps):
    """`o = slope y + rest`, each `(O,)`."""
    slope = gain / np.sqrt(var + np.float32(eps))
    return slope, shift - slope * mean


def norm_forward(a, gain, shift, mean, var, eps, geometry, relu_first):
    """See `definition.norm.norm_forward`."""
    pooled, O = geometry.pooled(a.shape[1:-1]), a.shape[-1]  # noqa: E741
    y = memory.empty((len(a), *pooled, O))
    winner = memory.empty(y.shape, np.uint8)
    slope, rest = _line(gain, shift, mean, var, eps)
    dims = geometry.dims
    maps = [m.reshape(_volumes(m.shape, dims)) for m in (a, y, winner)]
    pool = np.array([*_three(geometry.pool), *_three(geometry.pool_stride)])
    N, T = maps[1].shape[:2]

    def frames(span):
        _compete(*maps, *span, T, slope, rest, pool, relu_first)

    threads.each(frames, threads.spans(N * T, max(1, -(-N * T // FRAMES))))
    return y, winner


def norm_back(a, winner, drive, gain, mean, var, eps, geometry, relu_first, batch, over=None):
    """See `definition.norm.norm_back`."""
    O, dims, M = a.shape[-1], geometry.dims, a.size // max(1, a.shape[-1])  # noqa: E741
    if drive.ndim == 2:
        drive = drive.reshape(len(drive), *(1,) * dims, O)
    drive = np.ascontiguousarray(np.broadcast_to(drive, winner.shape))
    inner = memory.empty(a.shape)
    maps = [m.reshape(_volumes(m.shape, dims)) for m in (a, winner, drive, inner)]
    pool = np.array([*_three(geometry.pool), *_three(geometry.pool_stride)])
    s = np.sqrt(var + np.float32(eps))
    N = len(a)

    def passed(n):
        found = np.zeros((2, O))
        _pass(*maps, n, mean, 1 / s, pool, relu_first, found)
        return found

    sums = sum(threads.each(passed, range(N)), np.zeros((2, O)))
    dshift, dgain = sums.astype(np.float32)
    of_one, of_yh = means = (
        (sums / max(1, M)).astype(np.float32) if batch else np.zeros_like(sums, np.float32)
    )
    if batch and over is not None:
        of_one, of_yh = over(means)
    rows, drives = (m.reshape(-1, O) for m in (a, inner))

    def through(span):
        part = slice(*span)
        _through(rows[part], drives[part], gain / s, mean, 1 / s, of_one, of_yh, relu_first)

    threads.each(through, threads.spans(len(rows), max(1, -(-len(rows) // FRAMES))))
    return inner, dgain, dshift


@njit(fastmath={"contract"})
def _sums(rows, shift, relu_first, found):
    for i in range(len(rows)):
        row = rows[i]
        for j in range(len(row)):
            y = row[j]
            if relu_first and y < 0:
                y = np.float32(0)
            d = y - shift[j]
            found[0, j] += d
            found[1, j] += d * d


@njit(fastmath={"contract"})
def _compete(a, y, winner, start, stop, T, slope, rest, pool, relu_first):
    O = y.shape[4]  # noqa: E741
    for f in range(start, stop):
        n, t = f // T, f % T
        for i in range(y.shape[2]):
            for j in range(y.shape[3]):
                best, won = y[n, t, i, j], winner[n, t, i, j]
                code = 0
                for p in range(pool[0]):
                    for q in range(pool[1]):
                        for r in range(pool[2]):
                            row = a[n, t * pool[3] + p, i * pool[4] + q, j * pool[5] + r]
                            for c in range(O):
                                v = row[c]
                                if relu_first and v < 0:
                                    v = np.float32(0)
                                o = slope[c] * v + rest[c]
                                if code == 0:
                                    best[c] = o
                                    won[c] = 0
                                elif o > best[c]:
                                    best[c] = o
                                    won[c] = code
                            code += 1
                if not relu_first:
                    for c in range(O):
                        if not best[c] > 0:
                            best[c] = 0
                            won[c] = SILENT


@njit(fastmath={"contract"})
def _pass(a, winner, drive, inner, n, mean, scale, pool, relu_first, found):
    """The drive at the winners, summed where windows overlap; dshift and dgain on the way."""
    inner[n] = 0
    O = a.shape[4]  # noqa: E741
    for t in range(winner.shape[1]):
        for i in range(winner.shape[2]):
            for j in range(winner.shape[3]):
                won, driven = winner[n, t, i, j], drive[n, t, i, j]
                for c in range(O):
                    code = won[c]
                    if code == SILENT:
                        continue
                    r = code % pool[2]
                    q = code // pool[2] % pool[1]
                    p = code // (pool[2] * pool[1])
                    x, y, z = t * pool[3] + p, i * pool[4] + q, j * pool[5] + r
                    v = a[n, x, y, z, c]
                    if relu_first and v < 0:
                        v = np.float32(0)
                    D = driven[c]
                    found[0, c] += D
                    found[1, c] += D * ((v - mean[c]) * scale[c])
                    inner[n, x, y, z, c] += D


@njit(fastmath={"contract"})
def _through(rows, drives, slope, mean, scale, of_one, of_yh, relu_first):
    zero = np.float32(0)
    for i in range(len(rows)):
        row, D = rows[i], drives[i]
        for c in range(len(row)):
            v = row[c]
            silent = relu_first and not v > 0
            if relu_first and v < 0:
                v = zero
            yh = (v - mean[c]) * scale[c]
            through = slope[c] * (D[c] - of_one[c] - yh * of_yh[c])
            D[c] = zero if silent else through
