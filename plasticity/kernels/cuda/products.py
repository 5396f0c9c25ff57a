"""Products of matrices, and of stacks of them, by cuBLAS.

It is called by itself, since CuPy copies the matrices of a stack that are turned round, and tells
cuBLAS nothing of precision for stacks.
"""

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np

from plasticity.arrays import Array


def multiply(
    a: Array, b: Array, out: Array | None = None, add: bool = False, rounded: bool = False
) -> Array:
    """See `definition.products.multiply`; float32 or float64."""
    import cupy

    stack = {len(m) for m in (a, b) if m.ndim == 3}
    if len(stack) > 1 or a.shape[-1] != b.shape[-2]:
        raise ValueError(f"shapes {a.shape} and {b.shape} do not go into a product")
    shape = (*stack, a.shape[-2], b.shape[-1])
    if out is None:
        out = cupy.empty(shape, a.dtype)
    if out.shape != shape or not out.flags.c_contiguous:
        raise ValueError(f"a product of shape {shape} needs an array of it in C order")
    if out.size:
        gemm(a, b, out, add, rounded)
    return out


def gemm(a: Array, b: Array, out: Array, add: bool, rounded: bool = False) -> None:
    """One call of cuBLAS, which takes matrices column by column: `out^T = b^T a^T`."""
    from cupy.cuda import cublas, device

    (n, k), m = a.shape[-2:], b.shape[-1]
    if not k:
        return None if add else out.fill(0)
    (a, turned_a, lda, step_a), (b, turned_b, ldb, step_b) = map(_lying, (a, b))
    dtype, compute = _types(out.dtype, rounded)
    one, beta = _number(1, out.dtype), _number(int(add), out.dtype)
    call = getattr(_here, "call", None) or cublas.gemmStridedBatchedEx
    call(
        device.get_cublas_handle(), turned_b, turned_a, m, n, k, one.ctypes.data,
        b.data.ptr, dtype, ldb, step_b, a.data.ptr, dtype, lda, step_a, beta.ctypes.data,
        out.data.ptr, dtype, m, n * m, len(out) if out.ndim == 3 else 1,
        compute, cublas.CUBLAS_GEMM_DEFAULT,
    )  # fmt: skip


_here = threading.local()  # `call`: of cuBLAS, in a thread that calls it past CuPy


@contextmanager
def past_cupy(stream: Any) -> Iterator[Array]:
    """Products of this thread are asked of cuBLAS itself, on a stream that may be captured.

    cuBLAS allows it, and CuPy's binding does not (its issue 6290). Yields the workspace, which must
    live as long as a graph does that was captured here; it is as large as the one that cuBLAS would
    take, so that it chooses the same kernels. CuPy's next product sets stream and workspace anew.

    Raises:
        RuntimeError: cuBLAS refuses.
    """
    import cupy
    from cupy.cuda import cublas, device

    library, handle = ctypes.CDLL(cublas.__file__), device.get_cublas_handle()
    major = int(cupy.cuda.Device().compute_capability[:-1])
    workspace = cupy.empty(WORKSPACE.get(major, 4) * 2**20, np.uint8)
    set_stream, set_workspace, gemm = (_declared(library, *function) for function in CUBLAS.items())
    set_stream(handle, stream.ptr)
    set_workspace(handle, workspace.data.ptr, workspace.nbytes)
    _here.call = gemm
    try:
        yield workspace
    finally:
        del _here.call


_INT, _LONG, _AT, _SIZE = ctypes.c_int, ctypes.c_longlong, ctypes.c_void_p, ctypes.c_size_t
_MATRIX = (_AT, _INT, _INT, _LONG)  # address, type, leading dimension, stride
CUBLAS = {
    "cublasSetStream_v2": (_AT, _AT),
    "cublasSetWorkspace_v2": (_AT, _AT, _SIZE),
    "cublasGemmStridedBatchedEx": (
        *(_AT, *[_INT] * 5, _AT, *_MATRIX, *_MATRIX, _AT, *_MATRIX),
        *(_INT, _INT, _INT),
    ),
}
"""What each function takes, as cuBLAS's header declares it."""
WORKSPACE = {9: 32, 10: 32, 12: 12}  # MiB by the generation of a card, as cuBLAS takes it; else 4


def _declared(library: Any, name: str, takes: tuple) -> Any:
    function = library[name]
    function.argtypes, function.restype = takes, _INT

    def call(*args: object) -> None:
        if status := function(*args):
            raise RuntimeError(f"{name} of cuBLAS returns status {status}")

    return call


def _lying(a: Array) -> tuple[Array, int, int, int]:
    """The array, whether its matrices lie column by column, and in numbers how far their next row
    (or column) begins, and the next matrix of a stack."""
    import cupy

    (rows, columns), size = a.shape[-2:], a.itemsize
    down, along = (s // size for s in a.strides[-2:])
    step = a.strides[0] // size if a.ndim == 3 else 0
    if (along == 1 or columns == 1) and (down >= columns or rows == 1) and step >= 0:
        return a, 0, max(down, columns) if rows > 1 else columns, step
    if (down == 1 or rows == 1) and (along >= rows or columns == 1) and step >= 0:
        return a, 1, max(along, rows) if columns > 1 else rows, step
    return _lying(cupy.ascontiguousarray(a))


@cache
def _types(dtype: np.dtype, rounded: bool = False) -> tuple[int, int]:
    """The dtype in cuBLAS's numbers, and how it computes: in full precision, or, where operands
    have been rounded to tf32 or bfloat16 (which is tf32 with fewer bits), by matrix units."""
    from cupy.cuda import cublas, runtime

    if dtype == np.float64:
        return runtime.CUDA_R_64F, cublas.CUBLAS_COMPUTE_64F
    full, tf32 = cublas.CUBLAS_COMPUTE_32F, cublas.CUBLAS_COMPUTE_32F_FAST_TF32
    return runtime.CUDA_R_32F, tf32 if rounded else full


@cache
def _number(value: int, dtype: np.dtype) -> np.ndarray:
    """A number at an address of the host."""
    return np.array(value, dtype)
