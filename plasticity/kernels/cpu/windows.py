"""Float32 convolutions in time on the CPU: matrix products over the windows of an input.

With channels last a window of a map is one run of kernel x channels numbers. Some hundred windows
at a time are copied side by side, so that a convolution, its dW and its transpose are each one long
product a block, and post factor, ReLU and bias meet a block while it is in the cache.
"""

import numpy as np

from plasticity.kernels.cpu import memory, threads
from plasticity.kernels.geometry import SILENT

BLOCK = 2**18  # numbers in a block of windows: a megabyte
FEWEST = 64  # windows in a block, below which BLAS is slow


def _padded(x, geometry):
    (pad,) = geometry.padding
    return np.pad(x, [(0, 0), (pad, pad), (0, 0)]) if pad else np.ascontiguousarray(x)


def _windows(padded, geometry, frames):
    """Every window in one row, `(N, frames, K C)`, without a copy; windows overlap."""
    (kernel,), (stride,) = geometry.kernel, geometry.stride
    (N, _, C), (sample, frame, number) = padded.shape, padded.strides
    return np.lib.stride_tricks.as_strided(
        padded, (N, frames, kernel * C), (sample, stride * frame, number), writeable=False
    )


def _matrix(weight):
    """The weights `(K C, O)`, as they meet a window."""
    O, C, K = weight.shape  # noqa: E741
    return np.ascontiguousarray(weight.transpose(2, 1, 0)).reshape(K * C, O)


def _spans(frames, width):
    """The blocks of a sample's frames, for windows of so many numbers."""
    return threads.spans(frames, max(FEWEST, BLOCK // max(1, width)))


def _blocks(N, frames, width):
    """Sample, first and last frame of all blocks."""
    return [(n, *span) for n in range(N) for span in _spans(frames, width)]


def forward(x, weight, bias, geometry, winners=True):
    """See `definition.convolution.forward`."""
    N, O = len(x), len(weight)  # noqa: E741
    (frames,) = geometry.output(x.shape[1:-1])
    y, matrix = memory.empty((N, frames, O)), _matrix(weight)
    rectified = geometry.rectified
    winner = memory.empty(y.shape, np.uint8) if winners and rectified else None
    met = _windows(_padded(x, geometry), geometry, frames)
    blocks = _blocks(N, frames, len(matrix))
    sums = np.zeros((len(blocks), O), np.float32)

    def share(span):
        room = np.empty((max(b - a for _, a, b in blocks[slice(*span)]), len(matrix)), np.float32)
        for i in range(*span):
            n, a, b = blocks[i]
            copied, out = room[: b - a], y[n, a:b]
            np.copyto(copied, met[n, a:b])
            np.matmul(copied, matrix, out=out)
            out += bias
            if rectified:
                if winner is not None:
                    np.multiply(~(out > 0), np.uint8(SILENT), out=winner[n, a:b])
                np.maximum(out, 0, out=out)
            sums[i] = out.sum(axis=0)

    threads.each(share, threads.shares(len(blocks)))
    mean = sums.reshape(N, len(blocks) // max(N, 1), O).sum(axis=1) / np.float32(max(frames, 1))
    return y, winner, mean


def _post(winner, drive, n, a, b):
    """The post factor of a block of frames, `(b - a, O)`."""
    here = drive[n, a:b] if drive.ndim == 3 else np.broadcast_to(drive[n], (b - a, drive.shape[1]))
    return np.ascontiguousarray(here) if winner is None else here * (winner[n, a:b] == 0)


def correlate(x, winner, drive, geometry):
    """See `definition.convolution.correlate`."""
    N, C, O = len(x), x.shape[-1], drive.shape[-1]  # noqa: E741
    (frames,), (K,) = geometry.output(x.shape[1:-1]), geometry.kernel
    met = _windows(_padded(x, geometry), geometry, frames)
    blocks = _blocks(N, frames, K * C)

    def share(span):
        dW, db = np.zeros((O, K * C), np.float32), np.zeros(O, np.float32)
        more = np.empty_like(dW)
        for n, a, b in blocks[slice(*span)]:
            post = _post(winner, drive, n, a, b)
            dW += np.matmul(post.T, np.ascontiguousarray(met[n, a:b]), out=more)
            db += post.sum(axis=0)
        return dW, db

    # Summed in a fixed order, so that a run repeats bit for bit.
    dW, db = np.zeros((O, K * C), np.float32), np.zeros(O, np.float32)
    for found in threads.each(share, threads.shares(len(blocks))):
        dW += found[0]
        db += found[1]
    return np.ascontiguousarray(dW.reshape(O, K, C).transpose(0, 2, 1)), db


def back(winner, drive, weight, space, geometry):
    """See `definition.convolution.back`: windows of the error, added where they overlap."""
    N, (_, C, K) = len(drive), weight.shape
    (frames,), (stride,), (pad,) = geometry.output(space), geometry.stride, geometry.padding
    matrix = np.ascontiguousarray(_matrix(weight).T)
    error = memory.empty((N, *space, C))

    def sample(n):
        padded = np.zeros((space[0] + 2 * pad, C), np.float32)
        for a, b in _spans(frames, K * C):
            part = (_post(winner, drive, n, a, b) @ matrix).reshape(b - a, K, C)
            for k in range(0, K, stride):
                # As many taps as a stride: they lie side by side in the input.
                taps = part[:, k : k + stride]
                rows = padded[a * stride + k :][: (b - a) * stride]
                whole = len(rows) // stride if taps.shape[1] == stride else 0
                if whole:
                    rows[: whole * stride].reshape(whole, stride, C)[...] += taps[:whole]
                for t in range(whole, b - a):
                    at = (a + t) * stride + k
                    padded[at : at + taps.shape[1]] += taps[t]
        error[n] = padded[pad : pad + space[0]]

    threads.each(sample, range(N))
    return error
