"""The CUDA forms of the kernels, float32 and float64: the `.cu` files beside this one.

CuPy compiles them when they are first called, for the card that is there, and keeps the result
on disk. Matrix products are cuBLAS's, in full precision unless TF32 is asked of CuPy by name
(`CUPY_TF32=1`). The convolution is computed as on the CPU (see `winograd`), for 3x3 kernels with
stride 1, padding 1 and pool 1 or 2.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import chain, product
from pathlib import Path

import numpy as np

from plasticity.arrays import Array

CTYPES = {np.dtype(np.float32): "float", np.dtype(np.float64): "double"}
TRANSFORMS = ("inputs", "post_inputs", "weights", "activities", "errors", "posts", "gradients")
FIRST_CHANNELS = (1, 3)  # of images and films, grey or in colour

# File -> what stands in front of it, and its kernels for a type.
FILES = {
    "patches": (("common.cuh",), ("extract_patches<{}>",)),
    "rows": (("common.cuh",), ("scores<{}>", "add_rows<{}>", "adam<{}>")),
    "pairs": (("common.cuh",), ("coactivity<{}>",)),
    "convolution": (
        ("common.cuh", "tiles.cuh"),
        tuple(f"{k}<{{}}, {tile}>" for k, tile in product(TRANSFORMS, ("Tile4", "Tile2"))),
    ),
    "first": (
        ("common.cuh", "tiles.cuh", "convolution.cu"),
        tuple(
            f"first_{k}<{{}}, {C}>" for k, C in product(("forward", "correlate"), FIRST_CHANNELS)
        ),
    ),
}
OPTIONS = ("--std=c++17",)
PRODUCTS = {"Tile4": 36, "Tile2": 9}
ONES = {"Tile4": 7, "Tile2": 0}  # the product in which a transformed post factor sums its tile
BLOCK = 256  # threads, the most that the kernels are compiled for
ADAM_AT_ONCE = 4  # parameters: weight, bias, W_pred, W_retro
CHUNK_BYTES = 2**30  # of transformed tiles at a time


def source(file: str) -> str:
    """The whole CUDA C++ of a file, with what stands in front of it."""
    folder = Path(__file__).parent
    parts = (*FILES[file][0], f"{file}.cu")
    return "".join(f'#line 1 "{p}"\n{(folder / p).read_text("utf-8")}\n' for p in parts)


def names(file: str) -> list[str]:
    """The kernels of a file: every template instance that is used."""
    return [kernel.format(ctype) for kernel in FILES[file][1] for ctype in CTYPES.values()]


@cache
def _kernels(file: str) -> dict[str, Callable]:
    """A file's kernels; CuPy compiles them for a card when they first run on it."""
    import cupy

    module = cupy.RawModule(code=source(file), options=OPTIONS, name_expressions=names(file))
    return {name: module.get_function(name) for name in names(file)}


def _launch(file: str, name: str, columns: int, rows: int, *args: Array) -> None:
    """Run a kernel with a thread for each of `columns` x `rows`, as far as a grid goes."""
    if not columns or not rows:
        return
    grid, block = geometry(columns, rows)
    _kernels(file)[name](grid, block, args)


def geometry(columns: int, rows: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Grid and block: whole warps along the columns, up to `BLOCK` threads in all."""
    wide = min(BLOCK, max(32, 1 << (columns - 1).bit_length()))
    high = min(BLOCK // wide, rows)
    return (min(-(-columns // wide), 2**31 - 1), min(-(-rows // high), 65535)), (wide, high)


def _integers(*arrays: Array) -> list[Array]:
    import cupy

    return [cupy.ascontiguousarray(a, np.int64) for a in arrays]


def extract_patches(
    pixels: Array,
    top: Array,
    left: Array,
    flip: Array,
    *,
    crop: int,
    patch: int,
    mean: float,
    std: float,
    dtype: np.dtype,
) -> Array:
    """See `patches.extract`."""
    import cupy

    dtype, along = np.dtype(dtype), (crop - patch) // (patch // 2) + 1
    images, h, w = pixels.shape
    out = cupy.empty((along * images * along, patch, patch, 1), dtype)
    _launch(
        "patches",
        f"extract_patches<{CTYPES[dtype]}>",
        patch * patch,
        len(out),
        cupy.ascontiguousarray(pixels),
        *_integers(top, left),
        cupy.ascontiguousarray(flip, np.bool_),
        *map(np.int64, (images, h, w, crop, patch, along)),
        *map(np.float64, (mean, std)),
        out,
    )
    return out


def scores(a: Array, b: Array, in_a: Array, in_b: Array) -> Array:
    """See `rows.scores`."""
    import cupy

    events, D = len(in_a), a.shape[1]
    out = cupy.empty(events, a.dtype)
    a, b = map(cupy.ascontiguousarray, (a, b))
    shape = map(np.int64, (events, D))
    # A warp for each event, so threads along x alone.
    name = f"scores<{CTYPES[a.dtype]}>"
    _launch("rows", name, 32 * events, 1, a, b, *_integers(in_a, in_b), *shape, out)
    return out


def add_rows(out: Array, to: Array, factor: Array, values: Array, source: Array) -> None:
    """See `rows.add_rows`: the events of each row one after the other, in their order."""
    import cupy

    if not len(to):
        return
    rows, D = out.shape
    order = cupy.argsort(to, kind="stable")
    start = cupy.searchsorted(to[order], cupy.arange(rows + 1))
    _launch(
        "rows",
        f"add_rows<{CTYPES[out.dtype]}>",
        D,
        rows,
        *_integers(order, start),
        cupy.ascontiguousarray(factor, out.dtype),
        cupy.ascontiguousarray(values),
        *_integers(source),
        *map(np.int64, (rows, D)),
        out,
    )


def adam(
    parameters: Sequence[Sequence[Array]], rate: float, beta1: float, beta2: float, epsilon: float
) -> None:
    """See `rows.adam`: one launch for every four parameters."""
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
        _launch("rows", name, max(sizes), 1, *chain(*arrays), *map(np.int64, sizes), *scalars)


def coactivity(
    x: Array,
    winner: Array,
    synapses: np.ndarray,
    drive: Array | None,
    pool: int,
    stride: int,
    padding: int,
) -> Array:
    """See `pairs.coactivity`; the synapses come from the host."""
    import cupy

    x, winner = cupy.ascontiguousarray(x), cupy.ascontiguousarray(winner, np.uint8)
    driven = np.bool_(drive is not None)
    drive = x[:0] if drive is None else cupy.ascontiguousarray(drive, x.dtype)
    out = cupy.empty((len(x), len(synapses)), x.dtype)
    sizes = map(np.int64, (*x.shape, *winner.shape[1:], len(synapses), pool, stride, padding))
    name, chosen = f"coactivity<{CTYPES[x.dtype]}>", cupy.asarray(synapses, np.int64)
    factors = (x, winner, drive, driven, chosen)
    _launch("pairs", name, len(synapses), len(x), *factors, *sizes, out)
    return out


def _tile(H: int, W: int) -> tuple[str, int]:
    """The kind of tile for a map, and how many the map takes."""
    return ("Tile2", 1) if (H, W) == (2, 2) else ("Tile4", -(-H // 4) * -(-W // 4))


def _chunks(patches: int, per: int, bytes_per_tile: int) -> Iterator[tuple[slice, int]]:
    """Spans of patches whose transformed tiles fit `CHUNK_BYTES`, with their number of tiles."""
    size = max(1, CHUNK_BYTES // (bytes_per_tile * per))
    for start in range(0, patches, size):
        stop = min(start + size, patches)
        yield slice(start, stop), (stop - start) * per


def _transformed_weights(weight: Array, tile: str, way_back: bool = False) -> Array:
    """`U (products, C, O)` of weights `(O, C, 3, 3)`; `(products, O, C)` for the way back."""
    import cupy

    O, C = weight.shape[:2]  # noqa: E741
    (I, J), steps = ((O, C), (9 * C, 9)) if way_back else ((C, O), (9, 9 * C))  # noqa: E741
    U = cupy.empty((PRODUCTS[tile], I, J), weight.dtype)
    name = f"weights<{CTYPES[weight.dtype]}, {tile}>"
    sizes = map(np.int64, (I, J, *steps))
    _launch("convolution", name, J, I, weight, *sizes, np.bool_(way_back), U)
    return U


def _transform(
    name: str, source: Sequence[Array], sizes: Sequence[int], tile: str, dtype: np.dtype
) -> Array:
    """The tiles of `source`; `sizes` end with the channels and the number of tiles."""
    import cupy

    channels, tiles = sizes[-2:]
    found = cupy.empty((PRODUCTS[tile], tiles, channels), dtype)
    kernel = f"{name}<{CTYPES[dtype]}, {tile}>"
    _launch("convolution", kernel, channels, tiles, *source, *map(np.int64, sizes), found)
    return found


def forward(
    x: Array, weight: Array, bias: Array, pool: int, winners: bool = True
) -> tuple[Array, Array | None, Array]:
    """See `direct.forward`."""
    import cupy

    # CuPy hands addresses over as they are: a kernel must never meet another dtype than its own.
    x, weight, bias = (cupy.ascontiguousarray(a, x.dtype) for a in (x, weight, bias))
    N, H, W, C = x.shape
    O, ctype = len(weight), CTYPES[x.dtype]  # noqa: E741
    y, encoding = cupy.empty((N, H // pool, W // pool, O), x.dtype), cupy.empty((N, O), x.dtype)
    winner = cupy.empty(y.shape if winners else (0,), np.uint8)
    keep = np.bool_(winners)
    if C in FIRST_CHANNELS and pool == 1:
        sizes = map(np.int64, (N, H, W, O))
        name = f"first_forward<{ctype}, {C}>"
        _launch("first", name, O, N, x, weight, bias, *sizes, keep, y, winner, encoding)
        return y, winner if winners else None, encoding
    tile, per = _tile(H, W)
    U = _transformed_weights(weight, tile)
    for part, tiles in _chunks(N, per, PRODUCTS[tile] * (C + O) * x.itemsize):
        V = _transform("inputs", (x[part],), (H, W, C, tiles), tile, x.dtype)
        M = cupy.matmul(V, U)
        sizes = map(np.int64, (H, W, pool, tiles // per, O))
        kept = winner[part] if winners else winner
        name = f"activities<{ctype}, {tile}>"
        out = (y[part], kept, encoding[part])
        _launch("convolution", name, O, tiles // per, M, bias, *sizes, keep, *out)
    return y, winner if winners else None, encoding


def correlate(x: Array, winner: Array, drive: Array, pool: int) -> tuple[Array, Array]:
    """See `direct.correlate`. Sums go over patches in a fixed order."""
    import cupy

    x, drive = (cupy.ascontiguousarray(a, x.dtype) for a in (x, drive))
    winner = cupy.ascontiguousarray(winner, np.uint8)
    N, H, W, C = x.shape
    O, shared = winner.shape[-1], np.bool_(drive.ndim == 2)  # noqa: E741
    if C in FIRST_CHANNELS and pool == 1:
        shares = cupy.empty((N, 9 * C + 1, O), x.dtype)
        sizes = map(np.int64, (N, H, W, O))
        name = f"first_correlate<{CTYPES[x.dtype]}, {C}>"
        _launch("first", name, O, N, x, winner, drive, shared, *sizes, shares)
        total = shares.sum(axis=0)
        return cupy.ascontiguousarray(total[:-1].T).reshape(O, C, 3, 3), total[-1]
    tile, per = _tile(H, W)
    Q = cupy.zeros((PRODUCTS[tile], C, O), x.dtype)
    db = cupy.zeros(O, x.dtype)
    for part, tiles in _chunks(N, per, PRODUCTS[tile] * (C + O) * x.itemsize):
        V = _transform("inputs", (x[part],), (H, W, C, tiles), tile, x.dtype)
        posts = (winner[part], drive[part], shared)
        S = _transform("posts", posts, (H, W, pool, O, tiles), tile, x.dtype)
        db += S[ONES[tile]].sum(axis=0)
        for p in range(len(Q)):  # one by one: a batched product would copy V to turn it round
            Q[p] += cupy.matmul(V[p].T, S[p])
    dW = cupy.empty((O, C, 3, 3), x.dtype)
    name = f"gradients<{CTYPES[x.dtype]}, {tile}>"
    _launch("convolution", name, O, C, Q, *map(np.int64, (C, O)), dW)
    return dW, db


def back(winner: Array, drive: Array, weight: Array, space: tuple[int, int], pool: int) -> Array:
    """See `direct.back`: the post factor's convolution with the weights turned round."""
    import cupy

    drive, weight = (cupy.ascontiguousarray(a, drive.dtype) for a in (drive, weight))
    winner = cupy.ascontiguousarray(winner, np.uint8)
    (H, W), (O, C) = space, weight.shape[:2]  # noqa: E741
    shared = np.bool_(drive.ndim == 2)
    tile, per = _tile(H, W)
    U = _transformed_weights(weight, tile, way_back=True)
    error = cupy.empty((len(winner), H, W, C), drive.dtype)
    for part, tiles in _chunks(len(winner), per, PRODUCTS[tile] * (C + O) * drive.itemsize):
        posts = (winner[part], drive[part], shared)
        R = _transform("post_inputs", posts, (H, W, pool, O, tiles), tile, drive.dtype)
        M = cupy.matmul(R, U)
        name = f"errors<{CTYPES[drive.dtype]}, {tile}>"
        sizes = map(np.int64, (H, W, C, tiles))
        _launch("convolution", name, C, tiles, M, *sizes, error[part])
    return error
