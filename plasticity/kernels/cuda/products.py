"""Products of stacks of matrices, by cuBLAS."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from plasticity.arrays import Array


def stacked(a: Array, b: Array) -> Array:
    """`a @ b`, matrix by matrix: `(P, n, k)` times `(P, k, m)`, float32 or float64.

    In full precision unless `CUPY_TF32=1` asks for TF32. CuPy obeys it for products of two
    matrices alone; of stacks it tells cuBLAS nothing.
    """
    import cupy

    if a.dtype != np.float32 or not int(os.environ.get("CUPY_TF32", "0")):
        return cupy.matmul(a, b)
    with _tf32():
        return cupy.matmul(a, b)


@contextmanager
def _tf32() -> Iterator[None]:
    """cuBLAS takes TF32 for float32 meanwhile."""
    from cupy.cuda import cublas, device

    handle = device.get_cublas_handle()
    before = cublas.getMathMode(handle)
    cublas.setMathMode(handle, cublas.CUBLAS_TF32_TENSOR_OP_MATH)
    try:
        yield
    finally:
        cublas.setMathMode(handle, before)
