"""Convolutions of stride 1 on a GPU by matrix units, of operands rounded to tf32 or bfloat16.

Products are those of `mma.sync`, summed in float32; see `matrix_units.cu`.
"""

import numpy as np

from plasticity.arrays import Array
from plasticity.kernels.cuda import launch
from plasticity.kernels.geometry import Geometry

UNITS = {"tf32": ("Tf32", 1), "bfloat16": ("Bfloat16", 2)}  # numbers in a word
INPUTS, NEURONS, CHANNELS = 32, 128, 64  # what a block has of each; of channels, for dW
THREADS = 256  # of a block
AT_ONCE = 4  # words that a thread writes
BLOCKS = 1024  # that are to be there, so that a card has something for all its multiprocessors


def _spans(places: int, tiles: int) -> tuple[int, int]:
    """How many places, or fours of them, a block has, and how many spans of them there are."""
    span = -(-places // min(places, -(-BLOCKS // max(tiles, 1))))
    return span, -(-places // span)


def rounded(a: Array, precision: str) -> Array:
    """See `definition.precision.rounded`; one that is no number may have another's bits."""
    import cupy

    out = cupy.empty(a.shape, np.float32)
    given = cupy.ascontiguousarray(a), np.int64(a.size), out
    launch.run("matrix_units", f"rounded<{UNITS[precision][0]}>", a.size, 1, *given)
    return out


def _wide(count: int, geometry: Geometry) -> int:
    """Words of so many numbers."""
    return -(-count // UNITS[geometry.precision][1])


def _at_once(*rows: int) -> int:
    """Words that a thread copies at a time, of rows of so many."""
    return 4 if all(words % 4 == 0 for words in rows) else 1


def _instance(name: str, geometry: Geometry, by_input: bool, *arrays: Array) -> tuple[str, int]:
    """A kernel that writes words, and how many of them its threads have at once: as many as the
    channels of the arrays, and their addresses, allow."""
    unit, pack = UNITS[geometry.precision]
    numbers, channels = 1 if by_input else pack, arrays[0].shape[-1]
    whole = channels % numbers == 0
    n = launch.at_once(AT_ONCE, channels // numbers, *arrays) if whole else 1
    return f"{name}<{unit}, {n}, {str(by_input).lower()}>", n


def _inputs(x: Array, geometry: Geometry, by_input: bool = False) -> Array:
    """Words of maps `(N, *space, C)`: of channels that follow each other, or of inputs."""
    import cupy

    x = cupy.ascontiguousarray(x, np.float32)
    N, *space, C = x.shape
    shape = (_wide(N, geometry), C) if by_input else (N, _wide(C, geometry))
    words = cupy.empty((shape[0], *space, shape[1]), np.uint32)
    groups = shape[0] if by_input else N * int(np.prod(space))
    wide = words.size // max(groups, 1)
    name, n = _instance("inputs", geometry, by_input, x, words)
    sizes = map(np.int64, (groups, wide, N if by_input else C))
    launch.run("matrix_units", name, wide // n, groups, x, *sizes, words)
    return words


def _posts(
    winner: Array | None, drive: Array, output: tuple[int, ...], geometry: Geometry, by_input: bool
) -> tuple[Array, Array]:
    """Words of the post factor, see `_inputs`, and `by_input` its sums over all places."""
    import cupy

    N, O = len(drive), drive.shape[-1]  # noqa: E741
    drive = cupy.ascontiguousarray(drive, np.float32)
    won = cupy.empty(0, np.uint8) if winner is None else cupy.ascontiguousarray(winner, np.uint8)
    groups, wide = (_wide(N, geometry), O) if by_input else (N, _wide(O, geometry))
    launch.check_map(*output, wide, np.dtype(np.uint32))
    words = cupy.empty((groups, *output, wide), np.uint32)
    lines = -(-output[0] // geometry.pool[0])
    sums = cupy.empty((groups * lines, O) if by_input else (0, O), np.float32)
    name, n = _instance("posts", geometry, by_input, drive, won, words, sums)
    how = np.bool_(drive.ndim == 2), np.bool_(winner is not None), np.int64(N)
    sizes = (*map(np.int32, (*output, *geometry.pool)), np.int64(O), np.int32(lines))
    sizes += launch.reciprocal(lines), np.int64(groups), np.int64(wide)
    given = won, drive, *how, *sizes, words, sums
    launch.run("matrix_units", name, wide // n, groups * lines, *given)
    return words, sums


def _product(
    x: Array,
    weight: Array,
    bias: Array,
    geometry: Geometry,
    padding: tuple[int, int],
    pooled: bool,
    rectified: bool,
    out: tuple[Array, Array],
) -> Array:
    """Activity and winners into `out`, of words x and w; the sums over positions `(N, O)`.

    Args:
        x: `(N, H, W, words)`; weight: `(taps, O, words)`.
    """
    import cupy

    (y, winner), (N, H, W, C), (_, O, _) = out, x.shape, weight.shape  # noqa: E741
    tiles = -(-N // INPUTS) * -(-O // NEURONS)
    fours = y.shape[1:3] if pooled else (-(-side // 2) for side in y.shape[1:3])
    span, spans = _spans(int(np.prod(tuple(fours))), tiles)
    means = cupy.empty((N, spans, O), np.float32)
    map_of = (np.int64(N), *map(np.int32, (H, W, C)), np.int64(O))
    sizes = (*map(np.int32, (*geometry.kernel, *padding)), np.bool_(pooled))
    sizes += tuple(map(np.int32, (span, spans)))
    how = np.bool_(rectified), np.bool_(winner.size > 0)
    name = f"forward<{UNITS[geometry.precision][0]}, {_at_once(C)}>"
    given = x, weight, bias, *map_of, *sizes, *how, y, winner, means
    launch.run_blocks("matrix_units", name, tiles * spans, THREADS, *given)
    return means.sum(axis=1)


def forward(
    x: Array, weight: Array, bias: Array, geometry: Geometry, winners: bool = True
) -> tuple[Array, Array | None, Array]:
    """See `definition.convolution.forward`, and `kernels.forward` for what is rounded."""
    import cupy

    (N, H, W, C), O = x.shape, len(weight)  # noqa: E741
    space, keep = geometry.space((H, W)), winners and geometry.rectified
    y, z = cupy.empty((N, *space, O), np.float32), cupy.empty((N, O), np.float32)
    winner = cupy.empty(y.shape if keep else (N, 0), np.uint8)
    bias = cupy.ascontiguousarray(bias, np.float32)
    taps = _inputs(weight.transpose(2, 3, 0, 1).reshape(-1, O, C), geometry)
    for part, _ in launch.chunks(N, H * W, 4 * C):
        how = geometry, geometry.padding, geometry.pools, geometry.rectified
        out = y[part], winner[part]
        z[part] = _product(_inputs(x[part], geometry), taps, bias, *how, out)
    return y, winner if keep else None, z / np.float32(max(1, space[0] * space[1]))


def correlate(
    x: Array, winner: Array | None, drive: Array, geometry: Geometry
) -> tuple[Array, Array]:
    """See `definition.convolution.correlate`, and `kernels.correlate` for what is rounded.

    Sums go over places and inputs in a fixed order.
    """
    import cupy

    (N, H, W, C), O = x.shape, drive.shape[-1]  # noqa: E741
    output, taps = geometry.output((H, W)), int(np.prod(geometry.kernel))
    places = output[0] * output[1]
    tiles = -(-O // NEURONS) * -(-C // CHANNELS) * taps
    span, spans = _spans(places, tiles)
    dW, db = cupy.zeros((taps, O, C), np.float32), cupy.zeros(O, np.float32)
    for part, _ in launch.chunks(N, max(H * W, places), 4 * (C + O)):
        won = None if winner is None else winner[part]
        post, sums = _posts(won, drive[part], output, geometry, by_input=True)
        words = _inputs(x[part], geometry, by_input=True)
        shares = cupy.empty((spans, taps, O, C), np.float32)
        sizes = (*map(np.int32, (len(post), H, W)), np.int64(C), np.int64(O))
        sizes += tuple(map(np.int32, (*geometry.kernel, *geometry.padding, span, spans)))
        name = f"correlate<{UNITS[geometry.precision][0]}, {_at_once(O, C)}>"
        given = post, words, *sizes, shares
        launch.run_blocks("matrix_units", name, tiles * spans, THREADS, *given)
        dW += shares.sum(axis=0)
        db += sums.sum(axis=0)
    return cupy.ascontiguousarray(dW.transpose(1, 2, 0)).reshape(O, C, *geometry.kernel), db


def back(
    winner: Array | None,
    drive: Array,
    weight: Array,
    space: tuple[int, int],
    geometry: Geometry,
) -> Array:
    """See `definition.convolution.back`, and `kernels.back` for what is rounded: the forward map
    of the post factor, with the weights turned round."""
    import cupy

    N, (O, C) = len(drive), weight.shape[:2]  # noqa: E741
    output = geometry.output(space)
    error, none = cupy.empty((N, *space, C), np.float32), cupy.empty((N, 0), np.uint8)
    turned = weight[:, :, ::-1, ::-1].transpose(2, 3, 1, 0).reshape(-1, C, O)
    taps, bias = _inputs(turned, geometry), cupy.zeros(C, np.float32)
    padding = tuple(k - 1 - p for k, p in zip(geometry.kernel, geometry.padding, strict=True))
    for part, _ in launch.chunks(N, output[0] * output[1], 4 * O):
        won = None if winner is None else winner[part]
        post, _ = _posts(won, drive[part], output, geometry, by_input=False)
        out = error[part], none[part]
        _product(post, taps, bias, geometry, padding, False, False, out)
    return error
