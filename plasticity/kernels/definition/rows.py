"""Operations on rows of encodings and on parameters."""

from collections.abc import Sequence

from plasticity.arrays import Array, array_module


def scores(a: Array, b: Array, in_a: Array, in_b: Array) -> Array:
    """`u[e] = sum over j of a[in_a[e], j] * b[in_b[e], j]`."""
    return (a[in_a] * b[in_b]).sum(axis=1)


def add_rows(out: Array, to: Array, factor: Array, values: Array, source: Array) -> None:
    """`out[to[e]] += factor[e] * values[source[e]]` for each event e in turn.

    A factor of 0, a closed gate, adds nothing, whatever the values are.
    """
    opened = factor != 0
    to, factor, source = to[opened], factor[opened], source[opened]
    array_module(out).add.at(out, to, factor[:, None] * values[source])


def adam(
    parameters: Sequence[Sequence[Array]], rate: float, beta1: float, beta2: float, epsilon: float
) -> None:
    """`m` and `v` move towards `dW` and `dW**2`; the parameter along `m / (sqrt(v) + epsilon)`.

    Args:
        parameters: of each `(parameter, dW, m, v)`.
    """
    for parameter, dW, m, v in parameters:
        m += (1 - beta1) * (dW - m)
        v += (1 - beta2) * (dW * dW - v)
        parameter += rate * m / (array_module(v).sqrt(v) + epsilon)
