"""From a batch of grey images to patches that follow each other in time."""

import numpy as np

from plasticity.arrays import Array, array_module


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
    """Crop, flip, normalise and cut into patches that overlap by half.

    Args:
        pixels: uint8 `(B, h, w)`; top, left: int `(B,)`; flip: bool `(B,)`.
        crop: side of the crop; patch: side of a patch, an even number.
        mean, std: of grey values between 0 and 1.

    Returns:
        `(T*B*S, patch, patch, 1)` of `dtype`: time (row of patches) first, then image, then column.
    """
    xp = array_module(pixels, top, left, flip)
    place = xp.arange(crop)
    rows = top[:, None] + place
    columns = left[:, None] + xp.where(flip[:, None], crop - 1 - place, place)
    images = pixels[xp.arange(len(pixels))[:, None, None], rows[:, :, None], columns[:, None, :]]
    images = ((images / 255 - mean) / std).astype(dtype)
    windows = xp.lib.stride_tricks.sliding_window_view(images, (patch, patch), axis=(1, 2))
    windows = windows[:, :: patch // 2, :: patch // 2]
    return windows.transpose(1, 0, 2, 3, 4).reshape(-1, patch, patch, 1)
