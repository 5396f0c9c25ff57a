"""The definition of every convolution kernel, in plain array operations.

Any dtype, NumPy or CuPy, one to three spatial dimensions, any geometry. Maps are channel-last,
`(N, *space, C)`; weights are in torch's order, `(O, C, *kernel)`. The fast forms are tested
against these functions, and float64 runs use them.
"""

from collections.abc import Iterator
from itertools import product

from plasticity.arrays import Array, array_module
from plasticity.kernels.geometry import SILENT, Geometry


def _pad(x: Array, padding: tuple[int, ...]) -> Array:
    if not any(padding):
        return x
    return array_module(x).pad(x, [(0, 0), *((p, p) for p in padding), (0, 0)])


def _rows(maps: Array) -> Array:
    """Positions as rows, `(N * positions, C)`: one matrix product instead of many small ones."""
    return maps.reshape(-1, maps.shape[-1])


def _taps(
    padded: Array, geometry: Geometry, space: tuple[int, ...]
) -> Iterator[tuple[tuple[int, ...], Array]]:
    """For each kernel offset, the view of the padded input that it meets, `(N, *space, C)`."""
    for offset in product(*map(range, geometry.kernel)):
        spans = zip(offset, geometry.stride, space, strict=True)
        yield offset, padded[:, *(slice(o, o + s * n, s) for o, s, n in spans)]


def _windows(geometry: Geometry, pooled: tuple[int, ...]) -> Iterator[tuple[int, tuple]]:
    """For each neuron of a pool window its code and the slice that takes it from every window.

    Codes count in row-major order; rows and columns that fill no whole window are left out.
    """
    for code, offset in enumerate(product(*map(range, geometry.pool))):
        spans = zip(offset, geometry.pool_stride, pooled, strict=True)
        yield code, (slice(None), *(slice(o, o + s * n, s) for o, s, n in spans))


def convolve(x: Array, weight: Array, bias: Array, geometry: Geometry) -> Array:
    """`a = W x + b`, `(N, *space, O)`, for input `x (N, *space, C)`."""
    space = geometry.output(x.shape[1:-1])
    xp = array_module(x, weight, bias)
    a = xp.empty((len(x), *space, len(weight)), x.dtype)
    a[...] = bias
    for offset, view in _taps(_pad(x, geometry.padding), geometry, space):
        a += (_rows(view) @ weight[:, :, *offset].T).reshape(a.shape)
    return a


def forward(
    x: Array, weight: Array, bias: Array, geometry: Geometry, winners: bool = True
) -> tuple[Array, Array | None, Array]:
    """Convolution, ReLU, MaxPool as lateral inhibition, and the mean over positions.

    Args:
        x: `(N, *space, C)`; weight: `(O, C, *kernel)`; bias: `(O,)`.
        winners: whether the winners are wanted. A linear layer has none: nobody is inhibited.

    Returns:
        `y (N, *pooled, O)`, the activity after pooling; `winner`, uint8 of the same shape, the
        row-major place in its window of the neuron that is active (the first of ties), `SILENT`
        where none is, or None; `mean (N, O)` of `y` over its positions.
    """
    a = convolve(x, weight, bias, geometry)
    spatial = tuple(range(1, a.ndim - 1))
    if not geometry.rectified:
        return a, None, a.mean(axis=spatial)
    y, winner = compete(a, geometry)
    return y, winner if winners else None, y.mean(axis=spatial)


def compete(a: Array, geometry: Geometry, rectified: bool = True) -> tuple[Array, Array]:
    """MaxPool as lateral inhibition, of maps `a (N, *space, O)`: the activity and the winners.

    Args:
        rectified: whether ReLU comes with it. Without it somebody wins in every window.
    """
    xp, pooled = array_module(a), geometry.pooled(a.shape[1:-1])
    largest = winner = None
    for code, window in _windows(geometry, pooled):
        candidate = a[window]
        if largest is None:
            largest, winner = candidate, xp.zeros(candidate.shape, xp.uint8)
        else:
            winner[candidate > largest] = code
            largest = xp.maximum(largest, candidate)
    if not rectified:
        return largest, winner
    winner = xp.where(largest > 0, winner, xp.uint8(SILENT))
    return xp.maximum(largest, 0), winner


def post_factor(
    winner: Array | None, drive: Array, geometry: Geometry, space: tuple[int, ...]
) -> Array:
    """The dendritic drive through inhibition and rho': `(N, *space, O)`, zero but at winners.

    A neuron that has won several windows, where they overlap, gets the drives of all of them.

    Args:
        drive: `(N, O)`, shared by all positions of an input, or of the shape of `winner`, which is
            None in a linear layer: all neurons pass the drive on.
        space: of the map before pooling.
    """
    xp = array_module(winner, drive)
    if drive.ndim == 2:
        drive = drive.reshape(len(drive), *(1 for _ in space), drive.shape[1])
    if winner is None:
        return xp.broadcast_to(drive, (len(drive), *space, drive.shape[-1]))
    post = xp.zeros((len(winner), *space, winner.shape[-1]), drive.dtype)
    for code, window in _windows(geometry, winner.shape[1:-1]):
        passed = xp.where(winner == code, drive, 0)
        if geometry.overlaps:
            post[window] += passed
        else:
            post[window] = passed
    return post


def at_winners(values: Array, winner: Array, geometry: Geometry) -> Array:
    """What a map `(N, *space, O)` has at the winners, `(N, *pooled, O)`; 0 where none is."""
    xp = array_module(values, winner)
    found = xp.zeros(winner.shape, values.dtype)
    for code, window in _windows(geometry, winner.shape[1:-1]):
        found = xp.where(winner == code, values[window], found)
    return found


def pre_factor(x: Array, offset: tuple[int, ...], geometry: Geometry) -> Array:
    """The input that every position meets at one kernel offset, `(N, *space, C)`."""
    space = geometry.output(x.shape[1:-1])
    return dict(_taps(_pad(x, geometry.padding), geometry, space))[tuple(offset)]


def correlate(
    x: Array, winner: Array | None, drive: Array, geometry: Geometry
) -> tuple[Array, Array]:
    """`dW = post x pre` summed over inputs and positions: `dW (O, C, *kernel)`, `db (O,)`."""
    xp, space = array_module(x, winner, drive), geometry.output(x.shape[1:-1])
    post = _rows(post_factor(winner, drive, geometry, space))
    dW = xp.empty((post.shape[1], x.shape[-1], *geometry.kernel), x.dtype)
    for offset, view in _taps(_pad(x, geometry.padding), geometry, space):
        dW[:, :, *offset] = post.T @ _rows(view)
    return dW, post.sum(axis=0)


def back(
    winner: Array | None,
    drive: Array,
    weight: Array,
    space: tuple[int, ...],
    geometry: Geometry,
) -> Array:
    """The error at a layer's input, `(N, *space, C)`: the post factor times W transposed."""
    out = geometry.output(space)
    post = post_factor(winner, drive, geometry, out)
    xp, padding = array_module(post, weight), geometry.padding
    padded = xp.zeros(
        (len(post), *(n + 2 * p for n, p in zip(space, padding, strict=True)), weight.shape[1]),
        post.dtype,
    )
    for offset, view in _taps(padded, geometry, out):
        view += (_rows(post) @ weight[:, :, *offset]).reshape(view.shape)
    inner = (slice(p, p + n) for n, p in zip(space, padding, strict=True))
    return padded[:, *inner].copy()
