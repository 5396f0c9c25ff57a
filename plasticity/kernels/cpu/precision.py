"""Rounding of float32 operands in one pass."""

import numpy as np

from plasticity.kernels.cpu import memory, threads
from plasticity.kernels.cpu.compiled import njit
from plasticity.kernels.geometry import PRECISIONS

PART = 2**18  # numbers that a thread rounds at a time


def rounded(a, precision):
    """See `definition.precision.rounded`."""
    out, drop = memory.empty(a.shape), 23 - PRECISIONS[precision]
    numbers = np.uint32(drop), np.uint32(2 ** (drop - 1) - 1), np.uint32(2**32 - 2**drop)
    bits, kept = (array.reshape(-1).view(np.uint32) for array in (a, out))

    def share(span):
        _rounded(bits[slice(*span)], *numbers, kept[slice(*span)])

    threads.each(share, threads.spans(a.size, PART))
    return out


@njit()
def _rounded(bits, drop, half, mask, kept):
    infinite = np.uint32(0x7F800000)
    for i in range(len(bits)):
        b = bits[i]
        nearest = (b + half + ((b >> drop) & np.uint32(1))) & mask
        kept[i] = b if (b & infinite) == infinite else nearest
