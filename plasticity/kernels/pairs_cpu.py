"""The compiled CPU form of `pairs`, float32, two spatial dimensions."""

import numpy as np
from numba import njit

from plasticity.kernels import threads


def coactivity(
    x: np.ndarray,
    winner: np.ndarray,
    synapses: np.ndarray,
    pool: int,
    stride: int,
    padding: int,
    out: np.ndarray,
) -> None:
    """See `pairs.coactivity`; synapses of the same neuron are best neighbours."""

    def share(span: tuple[int, int]) -> None:
        part = slice(*span)
        _coactivity(x[part], winner[part], synapses, pool, stride, padding, out[part])

    threads.each(share, threads.shares(len(x)))


@njit(nogil=True, cache=True, error_model="numpy")
def _coactivity(x, winner, synapses, pool, stride, padding, out):
    N, H, W, C = x.shape
    width = W + 2 * padding
    padded = np.zeros((H + 2 * padding, width, C), np.float32)
    flat, shift = padded.reshape(-1), np.zeros(256, np.int64)
    for code in range(pool * pool):  # of a pool
        shift[code] = (code // pool * width + code % pool) * stride * C
    won = np.empty(winner.shape[1] * winner.shape[2], np.int64)
    for n in range(N):
        padded[padding : padding + H, padding : padding + W] = x[n]
        last, count = -1, 0
        for s in range(len(synapses)):
            j = synapses[s, 0]
            if j != last:  # where neuron j has won, listed once for its synapses
                last, count = j, 0
                for row in range(winner.shape[1]):
                    for column in range(winner.shape[2]):
                        code = winner[n, row, column, j]
                        won[count] = (row * width + column) * pool * stride * C + shift[code]
                        count += code != 255
            offset = (synapses[s, 2] * width + synapses[s, 3]) * C + synapses[s, 1]
            total = np.float32(0)
            for p in range(count):
                total += flat[won[p] + offset]
            out[n, s] = total
