"""What a residual block does besides its convolutions: ReLU, skip, mean."""

from plasticity.arrays import Array, array_module


def rectify(x: Array, out: Array | None = None) -> Array:
    """rho(x) of maps `(N, *space, C)`."""
    return array_module(x).maximum(x, 0, out=out)


def add_skip(y: Array, skip: Array) -> Array:
    """`y += skip` in place, maps `(N, *space, C)`; returns the mean over positions `(N, C)`."""
    y += skip
    return y.mean(axis=tuple(range(1, y.ndim - 1)))


def rectified(
    r: Array, error: Array, *, inside: Array | None = None, beside: Array | None = None
) -> Array:
    """The error before the ReLU `r = rho(x)`: `rho'(x) (error + inside) + beside`.

    `error` and `inside` have the shape of r and come from what reads r, `beside` from what reads x
    itself; it may also be `(N, C)`, shared by all positions. The array `error` is overwritten.
    """
    if inside is not None:
        error += inside
    error *= r > 0
    if beside is not None:
        shared = (len(r), *(1 for _ in r.shape[1:-1]), r.shape[-1])
        error += beside.reshape(shared) if beside.ndim == 2 else beside
    return error
