"""Cutting images into patches that follow each other in time."""

import numpy as np

from plasticity import kernels
from plasticity.events import Layout


def cut(pixels, top, left, flip, dtype=np.float64, crop=8, patch=4):
    B = len(pixels)
    return kernels.extract_patches(
        pixels,
        np.full(B, top),
        np.full(B, left),
        np.full(B, flip),
        crop=crop,
        patch=patch,
        mean=0.4,
        std=0.25,
        dtype=dtype,
    )


def test_a_patch_is_the_normalised_crop_at_its_place():
    pixels = np.random.default_rng(0).integers(0, 256, (3, 11, 12), np.uint8)
    found = cut(pixels, 2, 1, False)
    layout = Layout(3, 3, 3)
    assert found.shape == (layout.rows, 4, 4, 1)
    for t, b, s in np.ndindex(3, 3, 3):
        wanted = pixels[b, 2 + 2 * t : 6 + 2 * t, 1 + 2 * s : 5 + 2 * s]
        n = (t * layout.samples + b) * layout.lanes + s
        np.testing.assert_allclose(found[n, ..., 0], (wanted / 255 - 0.4) / 0.25, rtol=1e-12)


def test_a_flip_mirrors_the_crop_not_the_image():
    pixels = np.random.default_rng(1).integers(0, 256, (1, 8, 12), np.uint8)
    mirrored = np.ascontiguousarray(pixels[:, :, 3:11][:, :, ::-1])
    np.testing.assert_array_equal(cut(pixels, 0, 3, True), cut(mirrored, 0, 0, False))


def test_float32_patches_are_the_rounded_float64_ones():
    pixels = np.random.default_rng(2).integers(0, 256, (2, 8, 8), np.uint8)
    exact, single = cut(pixels, 0, 0, False), cut(pixels, 0, 0, False, np.float32)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, exact, rtol=1e-6, atol=1e-6)
