"""Patches of a batch of images on a GPU."""

import numpy as np

from plasticity.arrays import Array
from plasticity.kernels.cuda import launch
from plasticity.kernels.cuda.launch import CTYPES, integers


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
    """See `definition.patches.extract_patches`."""
    import cupy

    dtype, along = np.dtype(dtype), (crop - patch) // (patch // 2) + 1
    images, h, w = pixels.shape
    out = cupy.empty((along * images * along, patch, patch, 1), dtype)
    launch.run(
        "patches",
        f"extract_patches<{CTYPES[dtype]}>",
        patch * patch,
        len(out),
        cupy.ascontiguousarray(pixels),
        *integers(top, left),
        cupy.ascontiguousarray(flip, np.bool_),
        *map(np.int32, (images, h, w, crop, patch, along)),
        *map(launch.reciprocal, (images * along, along, patch)),
        *map(np.float64, (mean, std)),
        out,
    )
    return out
