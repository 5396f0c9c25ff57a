"""What a residual block does besides its convolutions."""

import numpy as np
import pytest

from plasticity import kernels
from plasticity.kernels.cpu import residual
from tests.rounding import close


@pytest.fixture(params=[2**18, 64], ids=["whole", "in blocks"], autouse=True)
def blocks(request, monkeypatch):
    monkeypatch.setattr(residual, "BLOCK_BYTES", request.param)


def maps(seed, *shape, dtype=np.float64):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("shape", [(5, 3, 2, 4), (7, 6, 3), (3, 2, 2, 2, 2), (0, 2, 2, 3)])
def test_the_ReLU_before_a_block_keeps_what_is_positive(shape):
    x = maps(0, *shape)
    np.testing.assert_array_equal(kernels.rectify(x), np.where(x > 0, x, 0))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_encoding_is_the_mean_of_path_and_skip(dtype):
    y, skip = maps(0, 5, 3, 2, 4, dtype=dtype), maps(1, 5, 3, 2, 4, dtype=dtype)
    wanted = y + skip
    z = kernels.add_skip(y, skip)
    assert z.dtype == dtype
    np.testing.assert_array_equal(y, wanted)
    close(z, wanted.mean(axis=(1, 2)), np.abs(wanted).mean(axis=(1, 2)), 8)  # 6 positions


def test_the_error_passes_where_the_ReLU_did_and_beside_it():
    r = np.maximum(maps(0, 5, 3, 2, 4), 0)
    error, inside, beside = (maps(i, 5, 3, 2, 4) for i in (1, 2, 3))
    found = kernels.rectified(r, error.copy(), inside=inside)
    np.testing.assert_array_equal(found, (error + inside) * (r > 0))
    found = kernels.rectified(r, error.copy(), beside=beside)
    np.testing.assert_array_equal(found, error * (r > 0) + beside)
    shared = maps(4, 5, 4)
    found = kernels.rectified(r, error.copy(), beside=shared)
    np.testing.assert_array_equal(found, error * (r > 0) + shared[:, None, None])
