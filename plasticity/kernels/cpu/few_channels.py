"""The first layer: few input channels, so the work is reading and writing maps, not products.

Compiled float32 forms of `forward` and `correlate` for 3x3 kernels without pooling.
Each position's 3x3 window is gathered once and met with all output neurons.
"""

import numpy as np

from plasticity.kernels.cpu import memory, threads
from plasticity.kernels.cpu.compiled import njit
from plasticity.kernels.geometry import SILENT

COMPILE = {"fastmath": True}


@njit(**COMPILE)
def _gather(image, r, s, window):
    """The zero-padded 3x3 window around (r, s), in the order (row, column, channel)."""
    H, W, C = image.shape
    at = 0
    for i in range(r - 1, r + 2):
        for j in range(s - 1, s + 2):
            inside = 0 <= i < H and 0 <= j < W
            for c in range(C):
                window[at] = image[i, j, c] if inside else np.float32(0)
                at += 1


@njit(**COMPILE)
def _forward(x, taps, bias, y, winner, encoding):
    N, H, W, C = x.shape
    O = len(bias)  # noqa: E741
    window = np.empty(9 * C, np.float32)
    keep = winner.size > 0
    for n in range(N):
        total = encoding[n]
        total[:] = np.float32(0)
        for r in range(H):
            for s in range(W):
                _gather(x[n], r, s, window)
                out = y[n, r, s]
                for o in range(O):
                    out[o] = bias[o]
                for k in range(9 * C):
                    value, tap = window[k], taps[k]
                    for o in range(O):
                        out[o] += value * tap[o]
                for o in range(O):
                    out[o] = max(out[o], np.float32(0))
                    total[o] += out[o]
                if keep:
                    code = winner[n, r, s]
                    for o in range(O):
                        code[o] = np.uint8(0) if out[o] > 0 else np.uint8(SILENT)
        for o in range(O):
            total[o] /= np.float32(H * W)


@njit(**COMPILE)
def _correlate(x, winner, drive, dW, db):
    """`dW (9C, O)` and `db (O,)` are added to; drive `(N, H or 1, W or 1, O)`."""
    N, H, W, C = x.shape
    O = len(db)  # noqa: E741
    window = np.empty(9 * C, np.float32)
    post = np.empty(O, np.float32)
    shared = drive.shape[1] == 1 and drive.shape[2] == 1
    for n in range(N):
        for r in range(H):
            for s in range(W):
                _gather(x[n], r, s, window)
                code = winner[n, r, s]
                signal = drive[n, 0, 0] if shared else drive[n, r, s]
                for o in range(O):
                    post[o] = signal[o] if code[o] == 0 else np.float32(0)
                    db[o] += post[o]
                for k in range(9 * C):
                    value, row = window[k], dW[k]
                    for o in range(O):
                        row[o] += value * post[o]


def forward(x, weight, bias, geometry, winners=True):
    """See `definition.convolution.forward`."""
    O, C = weight.shape[:2]  # noqa: E741
    N, H, W, _ = x.shape
    taps = np.ascontiguousarray(weight.transpose(2, 3, 1, 0)).reshape(9 * C, O)
    y = memory.empty((N, H, W, O))
    winner = memory.empty(y.shape if winners else (0, 0, 0, 0), np.uint8)
    encoding = memory.empty((N, O))

    def share(span):
        part = slice(*span)
        _forward(x[part], taps, bias, y[part], winner[part], encoding[part])

    threads.each(share, threads.shares(N))
    return y, winner if winners else None, encoding


def correlate(x, winner, drive, geometry):
    """See `definition.convolution.correlate`."""
    C, O = x.shape[-1], winner.shape[-1]  # noqa: E741
    drive = np.ascontiguousarray(drive if drive.ndim == 4 else drive[:, None, None])

    def share(span):
        part = slice(*span)
        dW, db = np.zeros((9 * C, O), np.float32), np.zeros(O, np.float32)
        _correlate(x[part], winner[part], drive[part], dW, db)
        return dW, db

    # Summed in a fixed order, so that a run repeats bit for bit.
    found = threads.each(share, threads.shares(len(x)))
    dW = sum((part[0] for part in found), np.zeros((9 * C, O), np.float32))
    db = sum((part[1] for part in found), np.zeros(O, np.float32))
    return np.ascontiguousarray(dW.reshape(3, 3, C, O).transpose(3, 2, 0, 1)), db
