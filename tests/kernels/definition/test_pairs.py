"""Chosen synapses: definition and compiled form, against the correlation of a whole layer."""

import numpy as np
import pytest

from plasticity import kernels
from plasticity.kernels import Geometry
from tests.rounding import close


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("pool", "stride", "padding"), [(1, 1, 1), (2, 1, 1), (2, 2, 0)])
def test_coactivity_with_the_drive_is_the_correlation(dtype, pool, stride, padding):
    rng = np.random.default_rng(pool)
    x = rng.standard_normal((6, 8, 9, 3)).astype(dtype)
    weight, bias = rng.standard_normal((4, 3, 3, 3)).astype(dtype), np.zeros(4, dtype)
    geometry = Geometry.of((3, 3), stride, padding, pool)
    _, winner, _ = kernels.forward(x, weight, bias, geometry)
    drive = rng.standard_normal((6, 4)).astype(dtype)
    dW, _ = kernels.correlate(x, winner, drive, geometry)
    synapses = np.array([(3, 1, 0, 2), (0, 2, 1, 1), (3, 0, 2, 0), (1, 1, 0, 2)])
    found = kernels.coactivity(x, winner, synapses, geometry)
    assert found.dtype == dtype and found.shape == (6, 4)
    parts = (found * drive[:, synapses[:, 0]]).sum(axis=0)
    sizes = kernels.coactivity(np.abs(x), winner, synapses, geometry)
    size = (sizes * np.abs(drive[:, synapses[:, 0]])).sum(axis=0)
    # One synapse meets 6 patches at up to 8 x 9 positions.
    close(parts, dW[tuple(synapses.T)], size, 6 * 8 * 9)
