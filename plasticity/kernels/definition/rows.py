"""Operations on rows of encodings and on parameters."""

from collections.abc import Sequence

from plasticity.arrays import Array, array_module
from plasticity.kernels.by_row import ByRow


def scores(a: Array, b: Array, in_a: Array, in_b: Array) -> Array:
    """`u[e] = sum over j of a[in_a[e], j] * b[in_b[e], j]`."""
    return (a[in_a] * b[in_b]).sum(axis=1)


def add_rows(
    out: Array,
    to: Array,
    factor: Array,
    values: Array,
    source: Array,
    by_row: ByRow | None = None,
) -> None:
    """`out[to[e]] += factor[e] * values[source[e]]` for each event e in turn.

    A factor of 0, a closed gate, adds nothing, whatever the values are. Here nobody needs `by_row`.
    """
    opened = factor != 0
    to, factor, source = to[opened], factor[opened], source[opened]
    array_module(out).add.at(out, to, factor[:, None] * values[source])


def add_stack(out: Array, parts: Array) -> None:
    """`out += sum over k of parts[k]`, in place."""
    out += parts.sum(axis=0)


def hinge(u: Array, y: Array, weight: Array, share: Array) -> tuple[Array, Array, Array]:
    """What Eq. (3), `L = max(0, 1 - y u)`, makes of the scores u of events `(E,)`.

    Returns:
        `gamma = y H weight` with H = 1 where L > 0; the loss, the sum over events of `L weight`;
        and the sum of `share` over events whose gamma is not 0.
    """
    left = 1 - y * u
    gamma = y * (left > 0) * weight
    return gamma, (left.clip(0) * weight).sum(), ((gamma != 0) * share).sum()


def hinge_pairs(
    u: Array, number: Array, true: Array, other: Array, share: Array
) -> tuple[Array, Array, Array]:
    """`hinge` of all pairs, whose scores are u `(contexts, targets)`.

    Args:
        number: of each context's true target `(contexts,)`, for which y is +1, -1 for all others;
        true, other: the weight of that pair, and of each of the others; share: of every pair.
    """
    same = number[:, None] == array_module(u).arange(u.shape[1])
    y = same.astype(u.dtype) * 2 - 1
    weight = array_module(u).where(same, true[:, None], other[:, None])
    return hinge(u, y, weight, share[:, None])


def infonce(
    u: Array, number: Array, weight: Array, share: Array, epsilon: float
) -> tuple[Array, Array, Array]:
    """What InfoNCE, Eq. (9), makes of the scores u `(contexts, targets)`.

    With `pi` the softmax of a context's scores its loss is `-log(pi_true + epsilon)`.

    Args:
        number: of each context's true target; weight: of the context in the average; share: of
            each of its pairs. All `(contexts,)`.

    Returns:
        `gamma = ([the target is the true one] - pi) weight pi_true / (pi_true + epsilon)`, minus
        the slope of the loss; the loss, the sum over contexts of `L weight`; and the sum of
        `share` over pairs whose gamma is not 0.
    """
    xp = array_module(u)
    u = u - u.max(axis=1, keepdims=True)  # large scores do not overflow
    total = xp.exp(u).sum(axis=1, keepdims=True)
    pi, same = xp.exp(u) / total, number[:, None] == xp.arange(u.shape[1])
    rows = xp.arange(len(u))
    true, log = pi[rows, number], (u - xp.log(total))[rows, number]
    gamma = (same - pi) * weight[:, None]
    if epsilon:
        gamma, log = gamma * true[:, None] / (true[:, None] + epsilon), xp.log(true + epsilon)
    return gamma, -(log * weight).sum(), ((gamma != 0) * share[:, None]).sum()


def adam(
    parameters: Sequence[Sequence[Array]],
    pace: tuple[float, float] | Array,
    beta1: float,
    beta2: float,
) -> None:
    """`m` and `v` move towards `dW` and `dW**2`; the parameter along `m / (sqrt(v) + epsilon)`.

    Args:
        parameters: of each `(parameter, dW, m, v)`; pace: rate and epsilon.
    """
    rate, epsilon = pace
    for parameter, dW, m, v in parameters:
        m += (1 - beta1) * (dW - m)
        v += (1 - beta2) * (dW * dW - v)
        parameter += rate * m / (array_module(v).sqrt(v) + epsilon)
