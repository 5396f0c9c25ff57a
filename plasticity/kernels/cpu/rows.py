"""Compiled forms of the operations on rows, float32."""

from collections.abc import Sequence

import numpy as np

from plasticity.arrays import Array
from plasticity.kernels.by_row import ByRow
from plasticity.kernels.cpu import threads
from plasticity.kernels.cpu.compiled import njit

ADAM_PARTS = 2**18  # parameters that a thread moves at a time
ALONE = 2**14  # parameters that are moved sooner than shared out


def scores(a: Array, b: Array, in_a: Array, in_b: Array) -> Array:
    """See `definition.rows.scores`."""
    out = np.empty(len(in_a), a.dtype)
    _scores(a, b, in_a, in_b, out)
    return out


def add_rows(
    out: Array,
    to: Array,
    factor: Array,
    values: Array,
    source: Array,
    by_row: ByRow | None = None,
) -> None:
    """See `definition.rows.add_rows`."""
    _add_rows(out, to, factor.astype(out.dtype, copy=False), values, source)


def adam(
    parameters: Sequence[Sequence[Array]],
    pace: tuple[float, float] | Array,
    beta1: float,
    beta2: float,
) -> None:
    """See `definition.rows.adam`; large parameters are shared out to threads."""
    parts = []
    for one in parameters:
        flat = [a.reshape(-1) for a in one]
        parts += [
            [a[slice(*span)] for a in flat] for span in threads.spans(len(flat[0]), ADAM_PARTS)
        ]
    rate, epsilon = pace
    numbers = [np.float32(number) for number in (rate, beta1, beta2, epsilon)]
    if sum(len(part[0]) for part in parts) <= ALONE:
        for part in parts:
            _adam(*part, *numbers)
    else:
        threads.each(lambda part: _adam(*part, *numbers), parts)


@njit(fastmath={"reassoc", "contract", "nsz"})
def _scores(a, b, in_a, in_b, out):
    for e in range(len(in_a)):
        left, right = a[in_a[e]], b[in_b[e]]
        total = np.float32(0)
        for j in range(len(left)):
            total += left[j] * right[j]
        out[e] = total


@njit()
def _add_rows(out, to, factor, values, source):
    for e in range(len(to)):
        if factor[e] != 0:  # a closed gate changes nothing
            row, value, f = out[to[e]], values[source[e]], factor[e]
            for j in range(len(row)):
                row[j] += f * value[j]


# Without NumPy's error model a check for division by zero would keep it from vector instructions.
@njit(fastmath={"contract"}, error_model="numpy")
def _adam(parameter, dW, m, v, rate, beta1, beta2, epsilon):
    one = np.float32(1)
    for i in range(len(parameter)):
        m[i] += (one - beta1) * (dW[i] - m[i])
        v[i] += (one - beta2) * (dW[i] * dW[i] - v[i])
        parameter[i] += rate * m[i] / (np.sqrt(v[i]) + epsilon)
