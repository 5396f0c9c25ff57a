"""Convolutions of 3x3 kernels on a GPU, computed as on the CPU (see `cpu.winograd`).

Matrix products are cuBLAS's, see `products`.
"""

from collections.abc import Sequence

import numpy as np

from plasticity.arrays import Array
from plasticity.kernels.cuda import launch, products
from plasticity.kernels.cuda.launch import CTYPES, FIRST
from plasticity.kernels.geometry import Geometry

PRODUCTS = {"Tile4": 36, "Tile2": 9}
ONES = {"Tile4": 7, "Tile2": 0}  # the product in which a transformed post factor sums its tile
THREADS = 256  # of a block of the first layer
BLOCKS = 1024  # of its dW, at least where there are as many patches; twice as many at most


def _tile(H: int, W: int, channels: int, dtype: np.dtype) -> tuple[str, int]:
    """The kind of tile for a map, and how many the map takes."""
    launch.check_map(H, W, channels, dtype)
    return ("Tile2", 1) if (H, W) == (2, 2) else ("Tile4", -(-H // 4) * -(-W // 4))


def _places(H: int, W: int, tile: str) -> tuple[np.int64, np.int64]:
    """What a kernel finds the place of a tile by: reciprocals of a map's tiles, and of a row's."""
    side = int(tile[-1])
    across = -(-W // side)
    return launch.reciprocal(-(-H // side) * across), launch.reciprocal(across)


def _run(
    name: str, tile: str, pool: int, rows: int, channels: int, arrays: Sequence[Array], *args: Array
) -> None:
    """Run a transform with a thread for so many neighbouring channels as all `arrays` allow.

    Args:
        pool: 0 for one that knows none; rows: tiles, or patches; args: all arguments.
    """
    ctype = CTYPES[arrays[-1].dtype]
    n = launch.at_once(launch.AT_ONCE[ctype, tile], channels, *arrays)
    kernel = f"{name}<{ctype}, {tile}, {n}{f', {pool}' if pool else ''}>"
    launch.run("convolution", kernel, channels // n, rows, *args)


def _first(name: str, C: int, O: int, *arrays: Array) -> str:  # noqa: E741
    """A first layer's kernel, of threads with as many neurons as `arrays` allow."""
    ctype = CTYPES[arrays[0].dtype]
    most, places = FIRST[ctype, C][name]
    return f"first_{name}<{ctype}, {C}, {launch.at_once(most, O, *arrays)}, {places}>"


def _transformed_weights(weight: Array, tile: str, way_back: bool = False) -> Array:
    """`U (products, O, C)` of weights `(O, C, 3, 3)`."""
    import cupy

    O, C = weight.shape[:2]  # noqa: E741
    U = cupy.empty((PRODUCTS[tile], O, C), weight.dtype)
    name = f"weights<{CTYPES[weight.dtype]}, {tile}>"
    launch.run("convolution", name, C, O, weight, np.int64(O), np.int64(C), np.bool_(way_back), U)
    return U


def _transformed_inputs(x: Array, tile: str, tiles: int) -> Array:
    """`V (products, tiles, C)` of maps `(N, H, W, C)`."""
    import cupy

    _, H, W, C = x.shape
    V = cupy.empty((PRODUCTS[tile], tiles, C), x.dtype)
    sizes = (*map(np.int32, (H, W, C, tiles)), *_places(H, W, tile))
    _run("inputs", tile, 0, tiles, C, (x, V), x, *sizes, V)
    return V


def _transformed_posts(
    name: str, winner: Array, drive: Array, space: Sequence[int], pool: int, tile: str, tiles: int
) -> Array:
    """`S (products, tiles, O)` of the post factor in maps of H x W, or R, of `post_inputs`."""
    import cupy

    O = winner.shape[-1]  # noqa: E741
    S = cupy.empty((PRODUCTS[tile], tiles, O), drive.dtype)
    sizes = (*map(np.int32, (*space, O, tiles)), *_places(*space, tile))
    how = winner, drive, np.bool_(drive.ndim == 2)
    _run(name, tile, pool, tiles, O, (winner, drive, S), *how, *sizes, S)
    return S


def forward(
    x: Array, weight: Array, bias: Array, geometry: Geometry, winners: bool = True
) -> tuple[Array, Array | None, Array]:
    """See `definition.convolution.forward`."""
    import cupy

    # CuPy hands addresses over as they are: a kernel must never meet another dtype than its own.
    x, weight, bias = (cupy.ascontiguousarray(a, x.dtype) for a in (x, weight, bias))
    N, H, W, C = x.shape
    O, pool, ctype = len(weight), geometry.pool[0], CTYPES[x.dtype]  # noqa: E741
    y, encoding = cupy.empty((N, H // pool, W // pool, O), x.dtype), cupy.empty((N, O), x.dtype)
    winner = cupy.empty(y.shape if winners else (0,), np.uint8)
    keep = np.bool_(winners)
    tile, per = _tile(H, W, max(C, O), x.dtype)
    if pool == 1 and (ctype, C) in FIRST:
        name, sizes = _first("forward", C, O, bias, winner, y), map(np.int32, (N, H, W, O))
        out = y, winner, encoding
        launch.run_blocks("first", name, N, THREADS, x, weight, bias, *sizes, keep, *out)
        return y, winner if winners else None, encoding
    U = _transformed_weights(weight, tile).transpose(0, 2, 1)
    for part, tiles in launch.chunks(N, per, PRODUCTS[tile] * (C + O) * x.itemsize):
        M = products.multiply(_transformed_inputs(x[part], tile, tiles), U)
        out = y[part], winner[part] if winners else winner, encoding[part]
        patches = tiles // per
        sizes = map(np.int32, (H, W, patches, O))
        lying = bias, out[1], out[2], M, out[0]
        _run("activities", tile, pool, patches, O, lying, M, bias, *sizes, keep, *out)
    return y, winner if winners else None, encoding


def correlate(x: Array, winner: Array, drive: Array, geometry: Geometry) -> tuple[Array, Array]:
    """See `definition.convolution.correlate`. Sums go over patches in a fixed order."""
    import cupy

    x, drive = (cupy.ascontiguousarray(a, x.dtype) for a in (x, drive))
    winner = cupy.ascontiguousarray(winner, np.uint8)
    N, H, W, C = x.shape
    O, pool = winner.shape[-1], geometry.pool[0]  # noqa: E741
    tile, per = _tile(H, W, max(C, O), x.dtype)
    if pool == 1 and (CTYPES[x.dtype], C) in FIRST:
        span = max(1, N // BLOCKS)
        spans = -(-N // span)
        shares, shared = cupy.empty((spans, 9 * C + 1, O), x.dtype), np.bool_(drive.ndim == 2)
        name = _first("correlate", C, O, drive, winner)
        sizes = *map(np.int32, (N, H, W, O, span, spans)), shares
        launch.run_blocks("first", name, spans, THREADS, x, winner, drive, shared, *sizes)
        total = shares.sum(axis=0)
        return cupy.ascontiguousarray(total[:-1].T).reshape(O, C, 3, 3), total[-1]
    Q, db = cupy.empty((PRODUCTS[tile], O, C), x.dtype), None
    for part, tiles in launch.chunks(N, per, PRODUCTS[tile] * (C + O) * x.itemsize):
        V = _transformed_inputs(x[part], tile, tiles)
        S = _transformed_posts("posts", winner[part], drive[part], (H, W), pool, tile, tiles)
        products.multiply(S.transpose(0, 2, 1), V, out=Q, add=db is not None)
        own = S[ONES[tile]].sum(axis=0)
        db = own if db is None else db + own
    if db is None:  # no patches
        return cupy.zeros((O, C, 3, 3), x.dtype), cupy.zeros(O, x.dtype)
    dW = cupy.empty((O, C, 3, 3), x.dtype)
    name = f"gradients<{CTYPES[x.dtype]}, {tile}>"
    launch.run("convolution", name, C, O, Q, *map(np.int64, (O, C)), dW)
    return dW, db


def back(
    winner: Array, drive: Array, weight: Array, space: tuple[int, int], geometry: Geometry
) -> Array:
    """See `definition.convolution.back`: the post factor with the weights turned round."""
    import cupy

    drive, weight = (cupy.ascontiguousarray(a, drive.dtype) for a in (drive, weight))
    winner = cupy.ascontiguousarray(winner, np.uint8)
    (H, W), (O, C), pool = space, weight.shape[:2], geometry.pool[0]  # noqa: E741
    tile, per = _tile(H, W, max(C, O), drive.dtype)
    U = _transformed_weights(weight, tile, way_back=True)
    error = cupy.empty((len(winner), H, W, C), drive.dtype)
    for part, tiles in launch.chunks(len(winner), per, PRODUCTS[tile] * (C + O) * drive.itemsize):
        posts = winner[part], drive[part], space, pool, tile, tiles
        M = products.multiply(_transformed_posts("post_inputs", *posts), U)
        sizes = (*map(np.int32, (H, W, C, tiles)), *_places(H, W, tile))
        _run("errors", tile, 0, tiles, C, (M, error[part]), M, *sizes, error[part])
    return error
