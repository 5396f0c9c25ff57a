"""Convolutions of any geometry on a GPU, of sound and film above all: products over their windows.

Every window of a map is copied into a row of a matrix, so that a convolution, its dW and its
transpose are each one product for a chunk of inputs. Frames that lie between the windows of a
stride in time are never read. Maps of fewer dimensions are films of one frame, or of one row.
Products are cuBLAS's, see `products`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import numpy as np

from plasticity.arrays import Array
from plasticity.kernels.cuda import launch, products
from plasticity.kernels.cuda.launch import CTYPES
from plasticity.kernels.geometry import Geometry

Three = tuple[int, int, int]


def three(sizes: tuple[int, ...], fill: int = 1) -> Three:
    """Sizes of one to three dimensions as of three."""
    return (*(fill,) * (3 - len(sizes)), *sizes)


@dataclass(frozen=True)
class Sizes:
    """The shapes of a convolution in three dimensions, of N inputs.

    Attributes:
        space: of the input; out: of the convolution's output; pooled: of its pooled map.
    """

    N: int
    C: int
    O: int  # noqa: E741
    space: Three
    out: Three
    pooled: Three
    geometry: Geometry

    @classmethod
    def of(cls, N: int, C: int, O: int, space: tuple[int, ...], g: Geometry) -> "Sizes":  # noqa: E741
        out = g.output(space)
        return cls(N, C, O, three(space), three(out), three(g.pooled(out)), g)

    @property
    def kernel(self) -> Three:
        return three(self.geometry.kernel)

    @property
    def width(self) -> int:
        """Numbers of a window."""
        return prod(self.kernel) * self.C

    @property
    def windows(self) -> int:
        return self.N * prod(self.out)

    @property
    def convolved(self) -> tuple[int, ...]:
        """Kernel, stride and padding, one after the other."""
        g = self.geometry
        return *self.kernel, *three(g.stride), *three(g.padding, 0)

    @property
    def competing(self) -> tuple[int, ...]:
        """The pool's size and stride."""
        g = self.geometry
        return *three(g.pool), *three(g.pool_stride)

    def chunks(self, dtype: np.dtype) -> Iterator[tuple[slice, "Sizes"]]:
        """Spans of inputs whose windows fit, and the sizes of each."""
        per = (self.width + self.O) * dtype.itemsize
        for part, _ in launch.chunks(self.N, prod(self.out), per):
            own = self.__dict__ | {"N": part.stop - part.start}
            yield part, Sizes(**own)


def run(file: str, name: str, dtype: np.dtype, columns: int, rows: int, *args: object) -> None:
    """Run a kernel whose indices are as wide as its arrays need."""
    arrays = [a for a in args if hasattr(a, "dtype") and getattr(a, "ndim", 0)]
    index = index_of(*(a.size for a in arrays))
    number = np.int32 if index == "int" else np.int64
    args = (number(a) if isinstance(a, int) and not isinstance(a, bool) else a for a in args)
    args = (np.bool_(a) if isinstance(a, bool) else a for a in args)
    launch.run(file, f"{name}<{CTYPES[dtype]}, {index}>", columns, rows, *args)


def index_of(*sizes: int) -> str:
    """The type of an index into arrays of these sizes."""
    return "int" if max(sizes, default=0) < launch.NARROW else "i64"


def _windows(x: Array, s: Sizes) -> Array:
    """Every window in one row, `(N t h w, kernel C)`."""
    import cupy

    met = cupy.empty((s.windows, s.width), x.dtype)
    sizes = s.N, *s.space, s.C, *s.out, *s.convolved
    run("volumes", "windows", x.dtype, s.width, s.windows, x, *sizes, met)
    return met


def _matrix(weight: Array) -> Array:
    """The weights `(O, kernel C)`, as they meet a window."""
    import cupy

    axes = (0, *range(2, weight.ndim), 1)
    return cupy.ascontiguousarray(weight.transpose(axes)).reshape(len(weight), -1)


def posts(winner: Array | None, drive: Array, s: Sizes) -> Array:
    """The post factor of every place, `(N t h w, O)`: see `definition.convolution.post_factor`."""
    import cupy

    post = cupy.empty((s.windows, s.O), drive.dtype)
    if winner is None:
        each = drive.reshape(s.N, -1, s.O)
        post.reshape(s.N, -1, s.O)[...] = each
        return post
    sizes = s.N, *s.out, s.O, *s.pooled, *s.competing
    shared = drive.ndim == 2
    run("volumes", "posts", drive.dtype, s.O, s.windows, winner, drive, shared, *sizes, post)
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
    s, space = Sizes.of(len(x), x.shape[-1], len(weight), x.shape[1:-1], geometry), x.shape[1:-1]
    out = geometry.output(space)
    shape = (s.N, *(geometry.pooled(out) if geometry.rectified else out), s.O)
    y, matrix, keep = cupy.empty(shape, x.dtype), _matrix(weight), winners and geometry.rectified
    winner = cupy.empty(shape if keep else (s.N, 0), np.uint8)
    for part, own in s.chunks(x.dtype):
        a = y[part].reshape(-1, s.O) if not geometry.pools else None
        a = products.multiply(_windows(x[part], own), matrix.T, out=a, rounded=geometry.rounds)
        sizes = own.N, *s.out, s.O, *s.pooled, *s.competing, geometry.rectified, keep
        rows = own.N * prod(s.pooled)
        given = a, bias, *sizes, y[part], winner[part]
        run("volumes", "compete", x.dtype, s.O, rows, *given)
    mean = y.reshape(s.N, -1, s.O).mean(axis=1) if y.size else cupy.zeros((s.N, s.O), x.dtype)
    return y, winner if keep else None, mean


def correlate(
    x: Array, winner: Array | None, drive: Array, geometry: Geometry
) -> tuple[Array, Array]:
    """See `definition.convolution.correlate`. Sums go over inputs in a fixed order."""
    import cupy

    winner, x, drive = _lying(winner, x.dtype, x, drive)
    s = Sizes.of(len(x), x.shape[-1], drive.shape[-1], x.shape[1:-1], geometry)
    dW, db = cupy.empty((s.O, s.width), x.dtype), None
    for part, own in s.chunks(x.dtype):
        post = posts(None if winner is None else winner[part], drive[part], own)
        how = {"add": db is not None, "rounded": geometry.rounds}
        products.multiply(post.T, _windows(x[part], own), out=dW, **how)
        db = post.sum(axis=0) if db is None else db + post.sum(axis=0)
    if db is None:  # no inputs
        dW, db = cupy.zeros(dW.shape, x.dtype), cupy.zeros(s.O, x.dtype)
    dW = dW.reshape(s.O, *geometry.kernel, s.C)
    return cupy.ascontiguousarray(dW.transpose(0, dW.ndim - 1, *range(1, dW.ndim - 1))), db


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
    s, matrix = Sizes.of(len(drive), C, O, space, geometry), _matrix(weight)
    error = cupy.empty((s.N, *space, C), drive.dtype)
    for part, own in s.chunks(drive.dtype):
        post = posts(None if winner is None else winner[part], drive[part], own)
        parts = products.multiply(post, matrix, rounded=geometry.rounds)
        sizes = own.N, *s.space, C, *s.out, *s.convolved
        rows = own.N * prod(s.space)
        run("volumes", "errors", drive.dtype, C, rows, parts, *sizes, error[part])
    return error
