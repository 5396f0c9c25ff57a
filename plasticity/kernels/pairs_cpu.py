"""The compiled CPU form of `pairs`, float32, two spatial dimensions."""

import numpy as np
from numba import njit, prange


@njit(nogil=True, cache=True, parallel=True)
def coactivity(x, winner, synapses, pool, stride, padding, out):
    N, H, W = x.shape[:3]
    for n in prange(N):
        for s in range(len(synapses)):
            j, i = synapses[s, 0], synapses[s, 1]
            dy, dx = synapses[s, 2] - padding, synapses[s, 3] - padding
            total = np.float32(0)
            for row in range(winner.shape[1]):
                for column in range(winner.shape[2]):
                    code = int(winner[n, row, column, j])
                    if code != 255:  # the one of its pool that is active
                        y = (row * pool + code // pool) * stride + dy
                        at = (column * pool + code % pool) * stride + dx
                        if 0 <= y < H and 0 <= at < W:
                            total += x[n, y, at, i]
            out[n, s] = total
