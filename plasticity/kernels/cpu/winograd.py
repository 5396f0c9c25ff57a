"""The fast float32 forms of the convolution kernels on the CPU: 3x3, stride 1, padding 1.

A convolution is bilinear in its input and its weights, and a tile of it takes fewer products than
there are pairs: `y = A^T [(G g) * (B^T d)]` in each dimension (Lavin & Gray, CVPR 2016). Summed
over input channels, each of the products becomes a matrix product, which BLAS does at its best:

    forward     M[p] = V[p] @ U[p]        V = B^T d B of tiles, U = G g G^T
    correlate   Q[p] = V[p]^T @ S[p]      S = A post A^T of tiles, dW = G^T Q G

for p over 36 products (`winograd_4x4`, any map) or 9 (`winograd_2x2`, 2x2 maps). Patches go
through in blocks that fit the caches, a Python thread for each core; no temporary has the size of
the batch.
"""

import numpy as np

from plasticity.kernels.cpu import memory, threads, winograd_2x2, winograd_4x4
from plasticity.kernels.definition.convolution import post_factor

FORWARD_TILES = 256  # tiles of a block
TRANSFORM_TILES = 128  # that a thread transforms at a time for dW
CORRELATE_BYTES = 96 * 2**20  # of transformed tiles at a time


def _algorithm(H, W):
    return winograd_2x2 if (H, W) == (2, 2) else winograd_4x4


def _planes(name, products, rows, channels):
    """A matrix for each product, and a row between them: at distances that are powers of two all
    would meet in the same sets of the cache."""
    return memory.scratch(name, products, rows + 1, channels)


def _transformed(algorithm, weight):
    """`U (products, C, O)` of weights `(O, C, 3, 3)`."""
    O, C = weight.shape[:2]  # noqa: E741
    U = _planes("U", algorithm.PRODUCTS, C, O)
    w = np.ascontiguousarray(weight).reshape(O, C, 9)
    threads.each(lambda span: algorithm.weights(w, *span, U), threads.shares(C))
    return U[:, :C]


def forward(x, weight, bias, geometry, winners=True):
    """See `definition.convolution.forward`."""
    N, H, W, C = x.shape
    O, pool = len(weight), geometry.pool[0]  # noqa: E741
    algorithm = _algorithm(H, W)
    U = _transformed(algorithm, weight)
    y, encoding = memory.empty((N, H // pool, W // pool, O)), memory.empty((N, O))
    winner = memory.empty(y.shape if winners else (1, 1, 1, 0), np.uint8)
    per = algorithm.tiles(H) * algorithm.tiles(W)

    def block(span):
        part = slice(*span)
        rows = (span[1] - span[0]) * per
        V = _planes("V", algorithm.PRODUCTS, rows, C)
        M = _planes("M", algorithm.PRODUCTS, rows, O)
        algorithm.inputs(x, np.arange(*span), V, 0)
        np.matmul(V[:, :rows], U, out=M[:, :rows])
        kept = winner[part] if winners else winner
        algorithm.activities(M, bias, np.float32(0), H, W, pool, y[part], kept, encoding[part])

    threads.each(block, threads.even(N, max(1, FORWARD_TILES // per)))
    return y, winner if winners else None, encoding


def correlate(x, winner, drive, geometry):
    """See `definition.convolution.correlate`.

    Inputs that nothing drives (all gates closed) are left out.
    """
    H, W, C = x.shape[1:]
    O, pool = winner.shape[-1], geometry.pool[0]  # noqa: E741
    alive = np.flatnonzero(drive.any(axis=tuple(range(1, drive.ndim))))
    drive = np.ascontiguousarray(drive if drive.ndim == 4 else drive[:, None, None])
    algorithm = _algorithm(H, W)
    per = algorithm.tiles(H) * algorithm.tiles(W)
    tiles = CORRELATE_BYTES // (4 * algorithm.PRODUCTS * (C + O))
    size = min(max(1, tiles // per), max(1, len(alive)))
    V = _planes("V", algorithm.PRODUCTS, size * per, C)
    S = _planes("M", algorithm.PRODUCTS, size * per, O)
    Q = _planes("U", algorithm.PRODUCTS, C, O)
    db = np.zeros(O, np.float32)
    for start, stop in threads.spans(len(alive), size) or [(0, 0)]:
        rows = (stop - start) * per

        def transform(span, start=start):
            which = alive[start + span[0] : start + span[1]]
            share = np.zeros(O, np.float32)
            algorithm.inputs(x, which, V, span[0] * per)
            algorithm.posts(winner, drive, which, H, W, pool, S, span[0] * per, share)
            return share

        def product(p, rows=rows, first=start == 0):
            if first:
                np.matmul(V[p, :rows].T, S[p, :rows], out=Q[p, :C])
            else:
                Q[p, :C] += V[p, :rows].T @ S[p, :rows]

        # Summed in a fixed order, so that a run repeats bit for bit.
        parts = threads.spans(stop - start, max(1, TRANSFORM_TILES // per))
        for share in threads.each(transform, parts):
            db += share
        threads.each(product, range(algorithm.PRODUCTS))
    dW = memory.empty((O, C, 9))
    threads.each(lambda span: algorithm.gradients(Q, *span, dW), threads.shares(C))
    return dW.reshape(O, C, 3, 3), db


def back(winner, drive, weight, space, geometry):
    """See `definition.convolution.back`.

    It is the convolution of the post factor with the kernel turned by 180 degrees, from output to
    input channels.
    """
    (H, W), N = space, len(winner)
    O, C = weight.shape[:2]  # noqa: E741
    algorithm = _algorithm(H, W)
    U = _transformed(algorithm, weight[:, :, ::-1, ::-1].transpose(1, 0, 2, 3))
    per, error = algorithm.tiles(H) * algorithm.tiles(W), memory.empty((N, H, W, C))
    zero, none = np.zeros(C, np.float32), np.empty((1, 1, 1, 0), np.uint8)
    no_mean = np.empty((N, 0), np.float32)

    def block(span):
        part, count = slice(*span), span[1] - span[0]
        post = post_factor(winner[part], drive[part], geometry, space)
        V = _planes("V", algorithm.PRODUCTS, count * per, O)
        M = _planes("M", algorithm.PRODUCTS, count * per, C)
        algorithm.inputs(post, np.arange(count), V, 0)
        np.matmul(V[:, : count * per], U, out=M[:, : count * per])
        linear = winograd_4x4.LINEAR
        algorithm.activities(M, zero, linear, H, W, 1, error[part], none, no_mean[part])

    threads.each(block, threads.even(N, max(1, FORWARD_TILES // per)))
    return error
