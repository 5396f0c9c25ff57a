"""Convolutions in time on a GPU: matrix products over the windows of an input, as on the CPU.

See `cpu.windows`. Products are cuBLAS's, see `products`.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from plasticity.arrays import Array
from plasticity.kernels.cuda import launch, products
from plasticity.kernels.cuda.launch import CTYPES
from plasticity.kernels.geometry import Geometry

SPAN = 64  # frames that a thread sums for the mean


def _run(name: str, dtype: np.dtype, columns: int, rows: int, *args: object) -> None:
    args = (np.int64(a) if isinstance(a, int) else a for a in args)
    launch.run("windows", f"{name}<{CTYPES[dtype]}>", columns, rows, *args)


def _sizes(shape: Sequence[int], geometry: Geometry) -> tuple[int, ...]:
    """N, samples, C, frames, kernel, stride and padding for an input of this shape."""
    (frames,) = geometry.output(shape[1:-1])
    return *shape, frames, *geometry.kernel, *geometry.stride, *geometry.padding


def _chunks(sizes: tuple[int, ...], O: int, dtype: np.dtype) -> Iterator[tuple[slice, tuple]]:  # noqa: E741
    """Spans of inputs whose windows fit, and `_sizes` of each."""
    N, _, C, frames, kernel, *_ = sizes
    for part, _ in launch.chunks(N, frames, (kernel * C + O) * dtype.itemsize):
        yield part, (part.stop - part.start, *sizes[1:])


def _windows(x: Array, sizes: tuple[int, ...]) -> Array:
    """Every window in one row, `(N frames, K C)`."""
    import cupy

    N, _, C, frames, kernel, *_ = sizes
    met = cupy.empty((N * frames, kernel * C), x.dtype)
    _run("windows", x.dtype, kernel * C, N * frames, x, *sizes, met)
    return met


def _matrix(weight: Array) -> Array:
    """The weights `(O, K C)`, as they meet a window."""
    import cupy

    return cupy.ascontiguousarray(weight.transpose(0, 2, 1)).reshape(len(weight), -1)


def _posts(winner: Array | None, drive: Array, frames: int) -> Array:
    """The post factor of every frame, `(N frames, O)`."""
    import cupy

    N, O = len(drive), drive.shape[-1]  # noqa: E741
    post = cupy.empty((N * frames, O), drive.dtype)
    rectified, shared = np.bool_(winner is not None), np.bool_(drive.ndim == 2)
    won = cupy.empty(0, np.uint8) if winner is None else winner
    _run("posts", drive.dtype, O, N * frames, won, drive, rectified, shared, N, frames, O, post)
    return post


def _lying(winner: Array | None, dtype: np.dtype, *arrays: Array) -> list[Array | None]:
    """In C order, in the dtypes of the kernels: CuPy hands addresses over as they are."""
    import cupy

    lies = cupy.ascontiguousarray
    return [None if winner is None else lies(winner, np.uint8), *(lies(a, dtype) for a in arrays)]


def forward(
    x: Array, weight: Array, bias: Array, geometry: Geometry, winners: bool = True
) -> tuple[Array, Array | None, Array]:
    """See `definition.convolution.forward`."""
    import cupy

    _, x, weight, bias = _lying(None, x.dtype, x, weight, bias)
    sizes, O = _sizes(x.shape, geometry), len(weight)  # noqa: E741
    N, frames = sizes[0], sizes[3]
    spans, keep = -(-frames // SPAN), winners and geometry.rectified
    y, sums = cupy.empty((N, frames, O), x.dtype), cupy.empty((N, spans, O), x.dtype)
    winner, matrix = cupy.empty(y.shape if keep else (N, 0), np.uint8), _matrix(weight)
    for part, own in _chunks(sizes, O, x.dtype):
        made = y[part].reshape(-1, O)
        products.multiply(_windows(x[part], own), matrix.T, out=made, rounded=geometry.rounds)
        how = np.bool_(geometry.rectified), np.bool_(keep)
        made = y[part], winner[part], sums[part]
        rows = own[0] * spans
        _run("activities", x.dtype, O, rows, bias, own[0], frames, O, SPAN, spans, *how, *made)
    return y, winner if keep else None, sums.sum(axis=1) / x.dtype.type(max(frames, 1))


def correlate(
    x: Array, winner: Array | None, drive: Array, geometry: Geometry
) -> tuple[Array, Array]:
    """See `definition.convolution.correlate`. Sums go over inputs in a fixed order."""
    import cupy

    winner, x, drive = _lying(winner, x.dtype, x, drive)
    sizes, O = _sizes(x.shape, geometry), drive.shape[-1]  # noqa: E741
    C, frames, kernel = sizes[2:5]
    dW, db = cupy.empty((O, kernel * C), x.dtype), None
    for part, own in _chunks(sizes, O, x.dtype):
        post = _posts(None if winner is None else winner[part], drive[part], frames)
        how = {"add": db is not None, "rounded": geometry.rounds}
        products.multiply(post.T, _windows(x[part], own), out=dW, **how)
        db = post.sum(axis=0) if db is None else db + post.sum(axis=0)
    if db is None:  # no inputs
        return cupy.zeros((O, C, kernel), x.dtype), cupy.zeros(O, x.dtype)
    return cupy.ascontiguousarray(dW.reshape(O, kernel, C).transpose(0, 2, 1)), db


def back(
    winner: Array | None,
    drive: Array,
    weight: Array,
    space: tuple[int, ...],
    geometry: Geometry,
) -> Array:
    """See `definition.convolution.back`: windows of the error, added where they overlap."""
    import cupy

    winner, drive, weight = _lying(winner, drive.dtype, drive, weight)
    O, C = weight.shape[:2]  # noqa: E741
    error = cupy.empty((len(drive), *space, C), drive.dtype)
    sizes, matrix = _sizes(error.shape, geometry), _matrix(weight)
    for part, own in _chunks(sizes, O, drive.dtype):
        post = _posts(None if winner is None else winner[part], drive[part], own[3])
        parts = products.multiply(post, matrix, rounded=geometry.rounds)
        _run("errors", drive.dtype, C, own[0] * own[1], parts, *own, error[part])
    return error
