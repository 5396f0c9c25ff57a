"""The one door to the explicit computations. Which form runs is chosen here, never by a rule.

Each operation has a readable definition in array operations (any dtype, NumPy or CuPy). Float32
arrays on the CPU take compiled forms, and CuPy arrays CUDA's; they compute the same and are
tested against it.
"""

import math
from collections.abc import Sequence
from types import ModuleType

import numpy as np

from plasticity.arrays import Array, array_module
from plasticity.kernels import blocks, direct, memory, rows, threads
from plasticity.kernels.direct import SILENT, output_space, pooled_space, post_factor, pre_factor
from plasticity.kernels.pairs import coactivity
from plasticity.kernels.patches import extract
from plasticity.kernels.residual import add_skip, rectified, rectify
from plasticity.kernels.threads import own as own_threads

__all__ = [
    "SILENT",
    "adam",
    "add_rows",
    "add_skip",
    "back",
    "coactivity",
    "correlate",
    "empty_like",
    "extract_patches",
    "forward",
    "output_space",
    "own_threads",
    "pooled_space",
    "post_factor",
    "pre_factor",
    "product",
    "products",
    "rectified",
    "rectify",
    "scores",
]


def _form(
    x: Array, kernel: tuple[int, ...], pool: object, stride: object, padding: object, linear: bool
) -> ModuleType:
    """The module whose convolution kernels fit these arrays and this geometry."""
    if (
        kernel == (3, 3)
        and not linear
        and pool in (1, 2, (1, 1), (2, 2))
        and stride in (1, (1, 1))
        and padding in (1, (1, 1))
    ):
        if _on_device(x):
            from plasticity.kernels import cuda

            return cuda
        if array_module(x) is np and x.dtype == np.float32:
            from plasticity.kernels import winograd

            return winograd
    return blocks if array_module(x) is np and x.dtype == np.float32 else direct


def _on_device(*arrays: Array) -> bool:
    """Whether the CUDA kernels take these arrays: all float32 or all float64."""
    dtypes = {a.dtype.char for a in arrays}
    return array_module(*arrays) is not np and dtypes in ({"f"}, {"d"})


def extract_patches(
    pixels: Array,
    top: Array,
    left: Array,
    flip: Array,
    *,
    crop: int,
    patch: int,
    mean: float,
    std: float,
    dtype: np.dtype,
) -> Array:
    """Crop, flip, normalise and cut into patches that overlap by half: see `patches.extract`."""
    cut = extract
    on_device = array_module(pixels, top, left, flip) is not np
    if on_device and pixels.dtype == np.uint8 and np.dtype(dtype).char in "fd":
        from plasticity.kernels.cuda import extract_patches as cut
    return cut(pixels, top, left, flip, crop=crop, patch=patch, mean=mean, std=std, dtype=dtype)


def forward(
    x: Array,
    weight: Array,
    bias: Array,
    pool: int | tuple[int, ...] = 1,
    *,
    stride: int | tuple[int, ...] = 1,
    padding: int | tuple[int, ...] = 1,
    winners: bool = True,
    linear: bool = False,
) -> tuple[Array, Array | None, Array]:
    """Convolution, ReLU, MaxPool as lateral inhibition, encoding: see `direct.forward`."""
    array_module(x, weight, bias)
    form = _form(x, weight.shape[2:], pool, stride, padding, linear)
    if form in (direct, blocks):
        how = {"stride": stride, "padding": padding, "winners": winners, "linear": linear}
        return form.forward(x, weight, bias, pool, **how)
    return form.forward(x, weight, bias, _side(pool), winners=winners)


def correlate(
    x: Array,
    winner: Array | None,
    drive: Array,
    kernel: tuple[int, ...],
    pool: int | tuple[int, ...] = 1,
    *,
    stride: int | tuple[int, ...] = 1,
    padding: int | tuple[int, ...] = 1,
) -> tuple[Array, Array]:
    """The pre x post correlation, `dW (O, C, *kernel)` and `db (O,)`: see `direct.correlate`."""
    array_module(x, winner, drive)
    form = _form(x, kernel, pool, stride, padding, winner is None)
    if form in (direct, blocks):
        return form.correlate(x, winner, drive, kernel, pool, stride=stride, padding=padding)
    return form.correlate(x, winner, drive, _side(pool))


def back(
    winner: Array | None,
    drive: Array,
    weight: Array,
    space: tuple[int, ...],
    pool: int | tuple[int, ...] = 1,
    *,
    stride: int | tuple[int, ...] = 1,
    padding: int | tuple[int, ...] = 1,
) -> Array:
    """The error at a layer's input `(N, *space, C)`: see `direct.back`."""
    array_module(winner, drive, weight)
    form = _form(drive, weight.shape[2:], pool, stride, padding, winner is None)
    if form in (direct, blocks):
        return form.back(winner, drive, weight, space, pool, stride=stride, padding=padding)
    return form.back(winner, drive, weight, space, _side(pool))


def _side(pool: int | tuple[int, ...]) -> int:
    return pool if isinstance(pool, int) else pool[0]


def empty_like(a: Array) -> Array:
    """An array of the same shape and dtype, not cleared, for what every step makes anew."""
    xp = array_module(a)
    return memory.empty(a.shape, a.dtype) if xp is np else xp.empty_like(a)


def product(a: Array, b: Array) -> Array:
    """The matrix product `a @ b` of two matrices."""
    return products([(a, b)])[0]


def products(
    pairs: Sequence[tuple[Array, Array]], out: Array | Sequence[Array] | None = None
) -> Array | Sequence[Array]:
    """The matrix products `a @ b` of pairs of matrices, written to those of `out` if given."""
    xp = array_module(*(matrix for pair in pairs for matrix in pair))
    out = [xp.empty((len(a), b.shape[1]), a.dtype) for a, b in pairs] if out is None else out
    triples = [(a, b, c) for (a, b), c in zip(pairs, out, strict=True)]
    if xp is np and sum(a.size * b.shape[1] for a, b in pairs) > 2**21:
        # A share of the longer side for each thread: BLAS's own would linger and fight with ours.
        shares = [part for triple in triples for part in _shares(*triple)]
        threads.each(lambda part: np.matmul(part[0], part[1], out=part[2]), shares)
    else:
        for a, b, c in triples:
            xp.matmul(a, b, out=c)
    return out


def _shares(a: Array, b: Array, c: Array) -> list[tuple[Array, Array, Array]]:
    """The product `c = a @ b` as one for each thread, of columns or of rows."""
    parts = [slice(*span) for span in threads.shares(max(c.shape))]
    if len(a) < b.shape[1]:
        return [(a, b[:, part], c[:, part]) for part in parts]
    return [(a[part], b, c[part]) for part in parts]


def scores(a: Array, b: Array, in_a: Array, in_b: Array) -> Array:
    """For each event e the scalar product of row `in_a[e]` of `a` and row `in_b[e]` of `b`."""
    array_module(a, b, in_a, in_b)
    if _on_device(a, b):
        from plasticity.kernels import cuda

        return cuda.scores(a, b, in_a, in_b)
    return rows.scores(a, b, in_a, in_b)


def add_rows(out: Array, to: Array, factor: Array, values: Array, source: Array) -> None:
    """For each event e, in order: `out[to[e]] += factor[e] * values[source[e]]`, in place."""
    array_module(out, to, factor, values, source)
    if _on_device(out, values) and out.flags.c_contiguous:
        from plasticity.kernels import cuda

        cuda.add_rows(out, to, factor, values, source)
        return
    rows.add_rows(out, to, factor, values, source)


def adam(
    parameters: Sequence[Sequence[Array]],
    step: int,
    rate: float,
    *,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
) -> None:
    """One step of Adam (Kingma & Ba 2015) along the ascent direction `dW`, in place.

    Args:
        parameters: of each `(parameter, dW, m, v)`, where m and v are its moments; on a GPU those
            of a layer move in one launch.
        step: counts from 1.
    """
    arrays = [a for one in parameters for a in one]
    array_module(*arrays)
    # The two corrections for the start at zero, drawn into the rate and into epsilon.
    root = math.sqrt(1 - beta2**step)
    form: ModuleType = rows
    kept = (a for p, _, m, v in parameters for a in (p, m, v))
    if _on_device(*arrays) and all(a.flags.c_contiguous for a in kept):
        from plasticity.kernels import cuda as form
    form.adam(parameters, rate * root / (1 - beta1**step), beta1, beta2, epsilon * root)
