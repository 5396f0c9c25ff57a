"""Operations on rows of encodings and on parameters, on a GPU."""

from collections.abc import Sequence
from itertools import chain

import numpy as np

from plasticity.arrays import Array
from plasticity.kernels.cuda import launch
from plasticity.kernels.cuda.launch import CTYPES, integers

ADAM_AT_ONCE = 4  # parameters: weight, bias, W_pred, W_retro


def scores(a: Array, b: Array, in_a: Array, in_b: Array) -> Array:
    """See `definition.rows.scores`."""
    import cupy

    events, D = len(in_a), a.shape[1]
    out = cupy.empty(events, a.dtype)
    a, b = map(cupy.ascontiguousarray, (a, b))
    shape = map(np.int64, (events, D))
    # A warp for each event, so threads along x alone.
    name = f"scores<{CTYPES[a.dtype]}>"
    launch.run("rows", name, 32 * events, 1, a, b, *integers(in_a, in_b), *shape, out)
    return out


def add_rows(out: Array, to: Array, factor: Array, values: Array, source: Array) -> None:
    """See `definition.rows.add_rows`: the events of a row one after the other, in their order."""
    import cupy

    if not len(to):
        return
    rows, D = out.shape
    order = cupy.argsort(to, kind="stable")
    start = cupy.searchsorted(to[order], cupy.arange(rows + 1))
    launch.run(
        "rows",
        f"add_rows<{CTYPES[out.dtype]}>",
        D,
        rows,
        *integers(order, start),
        cupy.ascontiguousarray(factor, out.dtype),
        cupy.ascontiguousarray(values),
        *integers(source),
        *map(np.int64, (rows, D)),
        out,
    )


def adam(
    parameters: Sequence[Sequence[Array]], rate: float, beta1: float, beta2: float, epsilon: float
) -> None:
    """See `definition.rows.adam`: one launch for every four parameters."""
    import cupy

    for start in range(0, len(parameters), ADAM_AT_ONCE):
        some = parameters[start : start + ADAM_AT_ONCE]
        dtype = some[0][0].dtype
        none = [some[0][0].reshape(-1)[:0]] * 4
        arrays = [[p, cupy.ascontiguousarray(dW), m, v] for p, dW, m, v in some]
        arrays += [none] * (ADAM_AT_ONCE - len(some))
        sizes = [p.size for p, *_ in arrays]
        scalars = map(dtype.type, (rate, 1 - beta1, 1 - beta2, epsilon))
        name = f"adam<{CTYPES[dtype]}>"
        launch.run("rows", name, max(sizes), 1, *chain(*arrays), *map(np.int64, sizes), *scalars)
