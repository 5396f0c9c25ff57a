"""The definition of batch normalisation between a convolution and its pool (Ioffe & Szegedy 2015).

Of the drives `a (N, *space, O)` of a convolution, for each neuron over the M = N * positions of all
inputs, with `y = rho(a)` where ReLU comes first, else `y = a`:

    mu = mean(y)    s^2 = mean((y - mu)^2)    yh = (y - mu) / sqrt(s^2 + eps)    o = gain yh + shift

MaxPool, and ReLU where it did not come first, act on o: winners are those of o, so that with a
negative gain the least active neuron wins. For a drive D at o, sums and means over all M,

    dgain = sum(D yh)    dshift = sum(D)
    drive at y = gain / sqrt(s^2 + eps) (D - mean(D) - yh mean(D yh))

and at a that times rho'(a). Where the statistics are constants the two means are left out: what
is left is local to the synapse.
"""

from collections.abc import Callable

from plasticity.arrays import Array, array_module
from plasticity.kernels.definition.convolution import compete, post_factor
from plasticity.kernels.geometry import Geometry


def _met(a: Array, relu_first: bool) -> Array:
    """y: what is normalised."""
    return array_module(a).maximum(a, 0) if relu_first else a


def _normal(a: Array, mean: Array, var: Array, eps: float, relu_first: bool) -> Array:
    """yh."""
    xp = array_module(a)
    return (_met(a, relu_first) - mean) / xp.sqrt(var + eps)


def norm_statistics(a: Array, relu_first: bool) -> tuple[Array, Array]:
    """mu and s^2 `(O,)`, of all inputs and positions."""
    axes, y = tuple(range(a.ndim - 1)), _met(a, relu_first)
    mean = y.mean(axis=axes, dtype=float)
    var = ((y - mean) ** 2).mean(axis=axes, dtype=float)
    return mean.astype(a.dtype), var.astype(a.dtype)


def norm_forward(
    a: Array,
    gain: Array,
    shift: Array,
    mean: Array,
    var: Array,
    eps: float,
    geometry: Geometry,
    relu_first: bool,
) -> tuple[Array, Array]:
    """Activity and winners `(N, *pooled, O)` of normalised drives: see `convolution.compete`."""
    o = gain * _normal(a, mean, var, eps, relu_first) + shift
    return compete(o, geometry, rectified=not relu_first)


def norm_back(
    a: Array,
    winner: Array,
    drive: Array,
    gain: Array,
    mean: Array,
    var: Array,
    eps: float,
    geometry: Geometry,
    relu_first: bool,
    batch: bool,
    over: Callable[[Array], Array] | None = None,
) -> tuple[Array, Array, Array]:
    """From the drive on the pooled activity to that at a, `(N, *space, O)`, and dgain and dshift.

    Args:
        winner, drive: as of `convolution.post_factor`; batch: whether mu and s^2 are those of a,
            so that the drive goes through them too, or constants; over: makes means over these
            inputs those over all, where others have as many more.
    """
    xp, axes, M = array_module(a), tuple(range(a.ndim - 1)), a.size // max(1, a.shape[-1])
    D = post_factor(winner, drive, geometry, a.shape[1:-1])
    yh = _normal(a, mean, var, eps, relu_first)
    dgain, dshift = (D * yh).sum(axis=axes), D.sum(axis=axes)
    if batch:
        means = xp.stack([dshift, dgain]) / M
        of_one, of_yh = means if over is None else over(means)
        D = D - of_one - yh * of_yh
    D = gain / xp.sqrt(var + eps) * D
    return D * (a > 0) if relu_first else D, dgain, dshift
