"""Operations on rows of encodings and on parameters: definitions and compiled CPU forms."""

from collections.abc import Sequence

import numpy as np

from plasticity.arrays import Array, array_module
from plasticity.kernels import threads

ADAM_PARTS = 2**18  # parameters that a thread moves at a time
ALONE = 2**14  # parameters that are moved sooner than shared out


def scores(a: Array, b: Array, in_a: Array, in_b: Array) -> Array:
    """`u[e] = sum over j of a[in_a[e], j] * b[in_b[e], j]`."""
    if _compiled(a, b):
        from plasticity.kernels import rows_cpu

        out = np.empty(len(in_a), a.dtype)
        rows_cpu.scores(a, b, in_a, in_b, out)
        return out
    return (a[in_a] * b[in_b]).sum(axis=1)


def add_rows(out: Array, to: Array, factor: Array, values: Array, source: Array) -> None:
    """`out[to[e]] += factor[e] * values[source[e]]` for each event e in turn."""
    if _compiled(out, values):
        from plasticity.kernels import rows_cpu

        rows_cpu.add_rows(out, to, factor.astype(out.dtype, copy=False), values, source)
    else:
        array_module(out).add.at(out, to, factor[:, None] * values[source])


def adam(
    parameters: Sequence[Sequence[Array]], rate: float, beta1: float, beta2: float, epsilon: float
) -> None:
    """`m` and `v` move towards `dW` and `dW**2`; the parameter along `m / (sqrt(v) + epsilon)`.

    Args:
        parameters: of each `(parameter, dW, m, v)`.
    """
    parts = []
    for parameter, dW, m, v in parameters:
        if _compiled(parameter, dW):
            flat = [a.reshape(-1) for a in (parameter, dW, m, v)]
            spans = threads.spans(parameter.size, ADAM_PARTS)
            parts += [[a[slice(*span)] for a in flat] for span in spans]
            continue
        m += (1 - beta1) * (dW - m)
        v += (1 - beta2) * (dW * dW - v)
        parameter += rate * m / (array_module(v).sqrt(v) + epsilon)
    if parts:
        from plasticity.kernels import rows_cpu

        numbers = [np.float32(number) for number in (rate, beta1, beta2, epsilon)]
        if sum(len(part[0]) for part in parts) <= ALONE:
            for part in parts:
                rows_cpu.adam(*part, *numbers)
        else:
            threads.each(lambda part: rows_cpu.adam(*part, *numbers), parts)


def _compiled(*arrays: Array) -> bool:
    """Whether the compiled forms take these: contiguous float32 arrays on the CPU."""
    return all(
        isinstance(a, np.ndarray) and a.dtype == np.float32 and a.flags.c_contiguous for a in arrays
    )
