"""The compiled form of `coactivity`, float32, two spatial dimensions, without a drive."""

import numpy as np

from plasticity.kernels.cpu import threads
from plasticity.kernels.cpu.compiled import njit
from plasticity.kernels.geometry import Geometry


def coactivity(
    x: np.ndarray,
    winner: np.ndarray,
    synapses: np.ndarray,
    geometry: Geometry,
    drive: None = None,
) -> np.ndarray:
    """See `definition.pairs.coactivity`; synapses of the same neuron are best neighbours."""
    x, winner = map(np.ascontiguousarray, (x, winner))
    sizes = geometry.pool[0], geometry.stride[0], geometry.padding[0]
    out = np.empty((len(x), len(synapses)), x.dtype)

    def share(span: tuple[int, int]) -> None:
        part = slice(*span)
        _coactivity(x[part], winner[part], synapses, *sizes, out[part])

    threads.each(share, threads.shares(len(x)))
    return out


@njit(error_model="numpy")
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
