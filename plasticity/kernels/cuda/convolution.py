"""Convolutions of 3x3 kernels on a GPU, computed as on the CPU (see `cpu.winograd`).

Matrix products are cuBLAS's, see `products`.
"""

from collections.abc import Sequence

import numpy as np

from plasticity.arrays import Array
from plasticity.kernels.cuda import launch, products
from plasticity.kernels.cuda.launch import CTYPES, FIRST_CHANNELS
from plasticity.kernels.geometry import Geometry

PRODUCTS = {"Tile4": 36, "Tile2": 9}
ONES = {"Tile4": 7, "Tile2": 0}  # the product in which a transformed post factor sums its tile


def _tile(H: int, W: int) -> tuple[str, int]:
    """The kind of tile for a map, and how many the map takes."""
    return ("Tile2", 1) if (H, W) == (2, 2) else ("Tile4", -(-H // 4) * -(-W // 4))


def _transformed_weights(weight: Array, tile: str, way_back: bool = False) -> Array:
    """`U (products, C, O)` of weights `(O, C, 3, 3)`; `(products, O, C)` for the way back."""
    import cupy

    O, C = weight.shape[:2]  # noqa: E741
    (I, J), steps = ((O, C), (9 * C, 9)) if way_back else ((C, O), (9, 9 * C))  # noqa: E741
    U = cupy.empty((PRODUCTS[tile], I, J), weight.dtype)
    name = f"weights<{CTYPES[weight.dtype]}, {tile}>"
    sizes = map(np.int64, (I, J, *steps))
    launch.run("convolution", name, J, I, weight, *sizes, np.bool_(way_back), U)
    return U


def _transform(
    name: str, source: Sequence[Array], sizes: Sequence[int], tile: str, dtype: np.dtype
) -> Array:
    """The tiles of `source`; `sizes` end with the channels and the number of tiles."""
    import cupy

    channels, tiles = sizes[-2:]
    found = cupy.empty((PRODUCTS[tile], tiles, channels), dtype)
    kernel = f"{name}<{CTYPES[dtype]}, {tile}>"
    launch.run("convolution", kernel, channels, tiles, *source, *map(np.int64, sizes), found)
    return found


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
    if C in FIRST_CHANNELS and pool == 1:
        sizes = map(np.int64, (N, H, W, O))
        name = f"first_forward<{ctype}, {C}>"
        launch.run("first", name, O, N, x, weight, bias, *sizes, keep, y, winner, encoding)
        return y, winner if winners else None, encoding
    tile, per = _tile(H, W)
    U = _transformed_weights(weight, tile)
    for part, tiles in launch.chunks(N, per, PRODUCTS[tile] * (C + O) * x.itemsize):
        V = _transform("inputs", (x[part],), (H, W, C, tiles), tile, x.dtype)
        M = products.multiply(V, U)
        sizes = map(np.int64, (H, W, pool, tiles // per, O))
        kept = winner[part] if winners else winner
        name = f"activities<{ctype}, {tile}>"
        out = (y[part], kept, encoding[part])
        launch.run("convolution", name, O, tiles // per, M, bias, *sizes, keep, *out)
    return y, winner if winners else None, encoding


def correlate(x: Array, winner: Array, drive: Array, geometry: Geometry) -> tuple[Array, Array]:
    """See `definition.convolution.correlate`. Sums go over patches in a fixed order."""
    import cupy

    x, drive = (cupy.ascontiguousarray(a, x.dtype) for a in (x, drive))
    winner = cupy.ascontiguousarray(winner, np.uint8)
    N, H, W, C = x.shape
    O, shared = winner.shape[-1], np.bool_(drive.ndim == 2)  # noqa: E741
    pool = geometry.pool[0]
    if C in FIRST_CHANNELS and pool == 1:
        shares = cupy.empty((N, 9 * C + 1, O), x.dtype)
        sizes = map(np.int64, (N, H, W, O))
        name = f"first_correlate<{CTYPES[x.dtype]}, {C}>"
        launch.run("first", name, O, N, x, winner, drive, shared, *sizes, shares)
        total = shares.sum(axis=0)
        return cupy.ascontiguousarray(total[:-1].T).reshape(O, C, 3, 3), total[-1]
    tile, per = _tile(H, W)
    Q, db = cupy.empty((PRODUCTS[tile], C, O), x.dtype), None
    for part, tiles in launch.chunks(N, per, PRODUCTS[tile] * (C + O) * x.itemsize):
        V = _transform("inputs", (x[part],), (H, W, C, tiles), tile, x.dtype)
        posts = (winner[part], drive[part], shared)
        S = _transform("posts", posts, (H, W, pool, O, tiles), tile, x.dtype)
        products.multiply(V.transpose(0, 2, 1), S, out=Q, add=db is not None)
        own = S[ONES[tile]].sum(axis=0)
        db = own if db is None else db + own
    if db is None:  # no patches
        return cupy.zeros((O, C, 3, 3), x.dtype), cupy.zeros(O, x.dtype)
    dW = cupy.empty((O, C, 3, 3), x.dtype)
    name = f"gradients<{CTYPES[x.dtype]}, {tile}>"
    launch.run("convolution", name, O, C, Q, *map(np.int64, (C, O)), dW)
    return dW, db


def back(
    winner: Array, drive: Array, weight: Array, space: tuple[int, int], geometry: Geometry
) -> Array:
    """See `definition.convolution.back`: the post factor with the weights turned round."""
    import cupy

    drive, weight = (cupy.ascontiguousarray(a, drive.dtype) for a in (drive, weight))
    winner = cupy.ascontiguousarray(winner, np.uint8)
    (H, W), (O, C) = space, weight.shape[:2]  # noqa: E741
    shared, pool = np.bool_(drive.ndim == 2), geometry.pool[0]
    tile, per = _tile(H, W)
    U = _transformed_weights(weight, tile, way_back=True)
    error = cupy.empty((len(winner), H, W, C), drive.dtype)
    for part, tiles in launch.chunks(len(winner), per, PRODUCTS[tile] * (C + O) * drive.itemsize):
        posts = (winner[part], drive[part], shared)
        R = _transform("post_inputs", posts, (H, W, pool, O, tiles), tile, drive.dtype)
        M = products.multiply(R, U)
        name = f"errors<{CTYPES[drive.dtype]}, {tile}>"
        sizes = map(np.int64, (H, W, C, tiles))
        launch.run("convolution", name, C, tiles, M, *sizes, error[part])
    return error
