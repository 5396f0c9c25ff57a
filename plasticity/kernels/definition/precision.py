"""Operands of products in fewer bits, as a card's matrix units take them."""

import numpy as np

from plasticity.arrays import Array, array_module
from plasticity.kernels.geometry import PRECISIONS


def rounded(a: Array, precision: str) -> Array:
    """Float32 numbers to the nearest of `precision`, of two as near the even one (IEEE 754).

    A float32 has 23 bits of mantissa behind its first; tf32 keeps 10 of them and bfloat16 7, with
    the exponents of float32. The numbers stay float32 in memory. What is not finite stays as it
    is, and what rounds up beyond the largest number is infinite.

    Raises:
        TypeError: numbers that are not float32.
    """
    if a.dtype != np.float32:
        raise TypeError(f"{precision} is made of float32, not of {a.dtype}")
    xp, drop = array_module(a), 23 - PRECISIONS[precision]
    a = xp.ascontiguousarray(a)
    bits = a.view(np.uint32)
    odd = (bits >> np.uint32(drop)) & np.uint32(1)
    # Half of the last bit that is kept, less one where that is even, carries into it.
    kept = (bits + (odd + np.uint32(2 ** (drop - 1) - 1))) & np.uint32(2**32 - 2**drop)
    return xp.where(xp.isfinite(a), kept.view(np.float32), a)
