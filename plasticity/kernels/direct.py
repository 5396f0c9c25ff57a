"""The definition of every convolution kernel, in plain array operations.

Any dtype, NumPy or CuPy, one to three spatial dimensions, any stride, padding and pool. Maps are
channel-last, `(N, *space, C)`; weights are in torch's order, `(O, C, *kernel)`. The fast forms are
tested against these functions, and float64 runs use them.
"""

from collections.abc import Iterator
from itertools import product

from plasticity.arrays import Array, array_module

SILENT = 255
"""The winner's code where no neuron of a pool is active (rho'(a) = 0 for all of them)."""


def each(value: int | tuple[int, ...], dims: int) -> tuple[int, ...]:
    """A value for each dimension, of one or of a tuple."""
    return (value,) * dims if isinstance(value, int) else tuple(value)


def _pad(x: Array, padding: tuple[int, ...]) -> Array:
    if not any(padding):
        return x
    return array_module(x).pad(x, [(0, 0), *((p, p) for p in padding), (0, 0)])


def _rows(maps: Array) -> Array:
    """Positions as rows, `(N * positions, C)`: one matrix product instead of many small ones."""
    return maps.reshape(-1, maps.shape[-1])


def _taps(
    padded: Array, kernel: tuple[int, ...], stride: tuple[int, ...], space: tuple[int, ...]
) -> Iterator[tuple[tuple[int, ...], Array]]:
    """For each kernel offset, the view of the padded input that it meets, `(N, *space, C)`."""
    for offset in product(*map(range, kernel)):
        spans = zip(offset, stride, space, strict=True)
        yield offset, padded[:, *(slice(o, o + s * n, s) for o, s, n in spans)]


def _windows(pool: tuple[int, ...], pooled: tuple[int, ...]) -> Iterator[tuple[int, tuple]]:
    """For each neuron of a pool window its code and the slice that takes it from every window.

    Codes count in row-major order; rows and columns that fill no whole window are left out.
    """
    for code, offset in enumerate(product(*map(range, pool))):
        spans = zip(offset, pool, pooled, strict=True)
        yield code, (slice(None), *(slice(o, p * n, p) for o, p, n in spans))


def output_space(
    space: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: int | tuple[int, ...] = 1,
    padding: int | tuple[int, ...] = 1,
) -> tuple[int, ...]:
    """The spatial shape of a convolution's output, before pooling."""
    stride, padding = each(stride, len(space)), each(padding, len(space))
    return tuple(
        (n + 2 * p - k) // s + 1 for n, k, s, p in zip(space, kernel, stride, padding, strict=True)
    )


def pooled_space(space: tuple[int, ...], pool: int | tuple[int, ...]) -> tuple[int, ...]:
    """The spatial shape after pooling."""
    return tuple(n // p for n, p in zip(space, each(pool, len(space)), strict=True))


def convolve(
    x: Array,
    weight: Array,
    bias: Array,
    stride: int | tuple[int, ...] = 1,
    padding: int | tuple[int, ...] = 1,
) -> Array:
    """`a = W x + b`, `(N, *space, O)`, for input `x (N, *space, C)`."""
    kernel = weight.shape[2:]
    space = output_space(x.shape[1:-1], kernel, stride, padding)
    stride, padding = each(stride, len(space)), each(padding, len(space))
    xp = array_module(x, weight, bias)
    a = xp.empty((len(x), *space, len(weight)), x.dtype)
    a[...] = bias
    for offset, view in _taps(_pad(x, padding), kernel, stride, space):
        a += (_rows(view) @ weight[:, :, *offset].T).reshape(a.shape)
    return a


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
    """Convolution, ReLU, MaxPool as lateral inhibition, and the encoding.

    Args:
        x: `(N, *space, C)`; weight: `(O, C, *kernel)`; bias: `(O,)`.
        pool: side of the pool window, 1 for none; what fills no whole window is dropped.
        winners: whether the winners are wanted.
        linear: without ReLU and MaxPool, and without winners: nobody is inhibited.

    Returns:
        `y (N, *pooled, O)`, the activity after pooling; `winner`, uint8 of the same shape, the
        row-major place in its window of the neuron that is active (the first of ties), `SILENT`
        where none is, or None; `encoding (N, O)`, the mean of `y` over its positions.
    """
    a = convolve(x, weight, bias, stride, padding)
    spatial = tuple(range(1, a.ndim - 1))
    if linear:
        return a, None, a.mean(axis=spatial)
    xp, pool = array_module(x), each(pool, a.ndim - 2)
    pooled = pooled_space(a.shape[1:-1], pool)
    largest = winner = None
    for code, window in _windows(pool, pooled):
        candidate = a[window]
        if largest is None:
            largest, winner = candidate, xp.zeros(candidate.shape, xp.uint8)
        else:
            winner[candidate > largest] = code
            largest = xp.maximum(largest, candidate)
    winner = xp.where(largest > 0, winner, xp.uint8(SILENT))
    y = xp.maximum(largest, 0)
    return y, winner if winners else None, y.mean(axis=spatial)


def post_factor(
    winner: Array | None, drive: Array, pool: int | tuple[int, ...], space: tuple[int, ...]
) -> Array:
    """The dendritic drive through inhibition and rho': `(N, *space, O)`, zero but at winners.

    `drive` is `(N, O)`, shared by all positions of a patch, or has the shape of `winner`, which is
    None in a linear layer: all neurons pass the drive on.
    """
    xp, pool = array_module(winner, drive), each(pool, len(space))
    if drive.ndim == 2:
        drive = drive.reshape(len(drive), *(1 for _ in space), drive.shape[1])
    if winner is None:
        return xp.broadcast_to(drive, (len(drive), *space, drive.shape[-1]))
    post = xp.zeros((len(winner), *space, winner.shape[-1]), drive.dtype)
    for code, window in _windows(pool, winner.shape[1:-1]):
        post[window] = xp.where(winner == code, drive, 0)
    return post


def pre_factor(
    x: Array,
    offset: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: int | tuple[int, ...] = 1,
    padding: int | tuple[int, ...] = 1,
) -> Array:
    """The input that every position meets at one kernel offset, `(N, *space, C)`."""
    space = output_space(x.shape[1:-1], kernel, stride, padding)
    stride, padding = each(stride, len(space)), each(padding, len(space))
    return dict(_taps(_pad(x, padding), kernel, stride, space))[tuple(offset)]


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
    """`dW = post x pre` summed over patches and positions: `dW (O, C, *kernel)`, `db (O,)`."""
    xp = array_module(x, winner, drive)
    space = output_space(x.shape[1:-1], kernel, stride, padding)
    stride, padding = each(stride, len(space)), each(padding, len(space))
    post = _rows(post_factor(winner, drive, pool, space))
    dW = xp.empty((post.shape[1], x.shape[-1], *kernel), x.dtype)
    for offset, view in _taps(_pad(x, padding), kernel, stride, space):
        dW[:, :, *offset] = post.T @ _rows(view)
    return dW, post.sum(axis=0)


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
    """The error at a layer's input, `(N, *space, C)`: the post factor times W transposed."""
    kernel, dims = weight.shape[2:], len(space)
    out = output_space(space, kernel, stride, padding)
    stride, padding = each(stride, dims), each(padding, dims)
    post = post_factor(winner, drive, pool, out)
    xp = array_module(post, weight)
    padded = xp.zeros(
        (len(post), *(n + 2 * p for n, p in zip(space, padding, strict=True)), weight.shape[1]),
        post.dtype,
    )
    for offset, view in _taps(padded, kernel, stride, out):
        view += (_rows(post) @ weight[:, :, *offset]).reshape(view.shape)
    inner = (slice(p, p + n) for n, p in zip(space, padding, strict=True))
    return padded[:, *inner].copy()
