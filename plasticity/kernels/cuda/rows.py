"""Operations on rows of encodings and on parameters, on a GPU."""

from collections.abc import Sequence
from itertools import chain

import numpy as np

from plasticity.arrays import Array
from plasticity.kernels.by_row import ByRow
from plasticity.kernels.cuda import launch
from plasticity.kernels.cuda.launch import CTYPES, integers

HINGE = 256  # events that a warp sums, see rows.cu
ADAM_AT_ONCE = 4  # parameters: weight, bias, W_pred, W_retro


def scores(a: Array, b: Array, in_a: Array, in_b: Array) -> Array:
    """See `definition.rows.scores`."""
    import cupy

    events, D = len(in_a), a.shape[1]
    out = cupy.empty(events, a.dtype)
    a, b = map(cupy.ascontiguousarray, (a, b))
    where, index = _indices(in_a, in_b)
    # A warp for each event, so threads along x alone.
    name = f"scores<{CTYPES[a.dtype]}{index}>"
    launch.run("rows", name, 32 * events, 1, a, b, *where, *map(np.int64, (events, D)), out)
    return out


def add_rows(
    out: Array,
    to: Array,
    factor: Array,
    values: Array,
    source: Array,
    by_row: ByRow | None = None,
) -> None:
    """See `definition.rows.add_rows`: the events of a row one after the other, in their order."""
    import cupy

    if not len(to):
        return
    rows, D = out.shape
    if by_row is None:
        order = cupy.argsort(to, kind="stable")
        by_row = ByRow(order, cupy.searchsorted(to[order], cupy.arange(rows + 1)))
    where, index = _indices(by_row.order, by_row.start, source)
    launch.run(
        "rows",
        f"add_rows<{CTYPES[out.dtype]}{index}>",
        D,
        rows,
        *where[:2],
        *map(np.int64, (by_row.segments, by_row.base)),
        cupy.ascontiguousarray(factor, out.dtype),
        cupy.ascontiguousarray(values),
        where[2],
        *map(np.int64, (rows, D)),
        out,
    )


def add_stack(out: Array, parts: Array) -> None:
    """See `definition.rows.add_stack`: one pass, and nothing in between."""
    sizes = map(np.int64, (len(parts), out.size))
    launch.run("rows", f"add_stack<{CTYPES[out.dtype]}>", out.size, 1, parts, *sizes, out)


def _indices(*arrays: Array) -> tuple[list[Array], str]:
    """Arrays of row numbers as a kernel takes them, 32 bits wide if all are, and what it adds to
    the kernel's name."""
    if all(a.dtype == np.int32 and a.flags.c_contiguous for a in arrays):
        return list(arrays), ", int"
    return integers(*arrays), ""


def hinge(u: Array, y: Array, weight: Array, share: Array) -> tuple[Array, Array, Array]:
    """See `definition.rows.hinge`: a warp sums `HINGE` events, and array operations their sums."""
    import cupy

    gamma, chunks = cupy.empty_like(u), -(-len(u) // HINGE)
    sums = cupy.empty((chunks, 2), u.dtype)
    name = f"hinge<{CTYPES[u.dtype]}>"
    launch.run("rows", name, 32 * chunks, 1, u, y, weight, share, np.int64(len(u)), gamma, sums)
    loss, opened = sums.sum(axis=0)
    return gamma, loss, opened


def hinge_pairs(
    u: Array, number: Array, true: Array, other: Array, share: Array
) -> tuple[Array, Array, Array]:
    """See `definition.rows.hinge_pairs`: a warp sums `HINGE` pairs of a context."""
    chunks = len(u) * -(-u.shape[1] // HINGE)
    return _of_pairs("hinge_pairs", chunks, u, number, (true, other, share))


def infonce(
    u: Array, number: Array, weight: Array, share: Array, epsilon: float
) -> tuple[Array, Array, Array]:
    """See `definition.rows.infonce`: a warp takes a context."""
    return _of_pairs("infonce", len(u), u, number, (weight, share), u.dtype.type(epsilon))


def _of_pairs(
    kernel: str, warps: int, u: Array, number: Array, by_context: Sequence[Array], *scalars: Array
) -> tuple[Array, Array, Array]:
    """gamma of scores `(contexts, targets)`, and the two sums, to which each warp gives a part."""
    import cupy

    wide, index = (np.int32, "int") if u.size < launch.NARROW else (np.int64, "i64")
    gamma, sums = cupy.empty(u.shape, u.dtype), cupy.empty((warps, 2), u.dtype)
    u, *by_context = map(cupy.ascontiguousarray, (u, *by_context))
    given = u, cupy.ascontiguousarray(number, wide), *by_context, *map(np.int64, u.shape), *scalars
    name = f"{kernel}<{CTYPES[u.dtype]}, {index}>"
    launch.run("rows", name, 32 * warps, 1, *given, gamma, sums)
    loss, opened = sums.sum(axis=0)
    return gamma, loss, opened


def adam(
    parameters: Sequence[Sequence[Array]],
    pace: tuple[float, float] | Array,
    beta1: float,
    beta2: float,
) -> None:
    """See `definition.rows.adam`: one launch for every four parameters.

    The pace lies on the card, where a training brings it with the batch: a step that is captured
    reads there what changes from step to step.
    """
    import cupy

    if isinstance(pace, tuple):
        pace = cupy.asarray(np.array(pace, parameters[0][0].dtype))
    for start in range(0, len(parameters), ADAM_AT_ONCE):
        some = parameters[start : start + ADAM_AT_ONCE]
        dtype = some[0][0].dtype
        none = [some[0][0].reshape(-1)[:0]] * 4
        arrays = [[p, cupy.ascontiguousarray(dW), m, v] for p, dW, m, v in some]
        arrays += [none] * (ADAM_AT_ONCE - len(some))
        sizes = [p.size for p, *_ in arrays]
        numbers = *map(np.int64, sizes), pace, *map(dtype.type, (1 - beta1, 1 - beta2))
        n = launch.at_once(16 // dtype.itemsize, 0, *chain(*arrays))
        name, threads = f"adam<{CTYPES[dtype]}, {n}>", -(-max(sizes) // n)
        launch.run("rows", name, threads, 1, *chain(*arrays), *numbers)
