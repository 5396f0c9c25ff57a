"""Float32 by blocks of patches, against the definition in float64."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plasticity import kernels
from plasticity.kernels import Geometry
from plasticity.kernels.cpu import blocked
from tests.convolutions import agrees

GEOMETRIES = {
    "1x1": ((1, 1), 1, 0),
    "1x1, stride 2": ((1, 1), 2, 0),
    "3x3, stride 2": ((3, 3), 2, 1),
    "5x5": ((5, 5), 1, 2),
    "2x3, strides 1 and 2": ((2, 3), (1, 2), (0, 1)),
    "sound": ((5,), 3, 2),
    "film": ((2, 3, 3), (1, 2, 1), (1, 0, 1)),
}


def check(geometry, patches, channels, neurons, pool, linear, shared, seed=0):
    kernel, stride, padding = GEOMETRIES[geometry]
    its = Geometry.of(kernel, stride, padding, 1 if linear else pool, linear)
    rng = np.random.default_rng(seed)
    space = (6, 7, 5)[: len(kernel)]
    x = rng.standard_normal((patches, *space, channels), np.float32)
    weight = rng.standard_normal((neurons, channels, *kernel), np.float32)
    bias = rng.standard_normal(neurons, np.float32)
    agrees(x, weight, bias, its, shared)


@settings(max_examples=60, deadline=None)
@given(
    geometry=st.sampled_from(list(GEOMETRIES)),
    patches=st.integers(0, 9),
    channels=st.integers(1, 7),
    neurons=st.integers(1, 9),
    pool=st.sampled_from([1, 1, 2]),
    linear=st.booleans(),
    shared=st.booleans(),
)
def test_any_geometry(geometry, patches, channels, neurons, pool, linear, shared):
    if geometry == "film" and pool == 2:
        return
    check(geometry, patches, channels, neurons, pool, linear, shared)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_many_blocks_are_no_different_from_one(geometry, monkeypatch):
    monkeypatch.setattr(blocked, "BLOCK_BYTES", 700)
    for channels in (2, 6):
        check(geometry, 23, channels, 5, 1, False, True)
        check(geometry, 23, channels, 5, 1, True, False)


def test_a_step_repeats_bit_for_bit():
    rng = np.random.default_rng(0)
    x, error = rng.standard_normal((2, 50, 8, 8, 16), np.float32)
    one = Geometry.of((1, 1), padding=0, linear=True)
    found = [kernels.correlate(x, None, error, one) for _ in range(2)]
    np.testing.assert_array_equal(found[0][0], found[1][0])
    np.testing.assert_array_equal(found[0][1], found[1][1])
