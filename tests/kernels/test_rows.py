"""Operations on rows of encodings: every form against a plain loop."""

import numpy as np
import pytest

from plasticity import kernels


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("events", [0, 1, 50])
def test_scores_are_scalar_products_of_the_named_rows(dtype, events):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((7, 13)).astype(dtype), rng.standard_normal((9, 13)).astype(dtype)
    i, j = rng.integers(0, 7, events), rng.integers(0, 9, events)
    u = kernels.scores(a, b, i, j)
    assert u.shape == (events,) and u.dtype == dtype
    wanted = [
        float(np.dot(a[p].astype(float), b[q].astype(float))) for p, q in zip(i, j, strict=True)
    ]
    np.testing.assert_allclose(u, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_rows_that_are_named_twice_get_both_contributions(dtype):
    rng = np.random.default_rng(1)
    values = rng.standard_normal((6, 11)).astype(dtype)
    to, source = rng.integers(0, 4, 40), rng.integers(0, 6, 40)
    factor = rng.standard_normal(40).astype(dtype)
    out = np.zeros((4, 11), dtype)
    kernels.add_rows(out, to, factor, values, source)
    wanted = np.zeros((4, 11))
    for t, f, s in zip(to, factor, source, strict=True):
        wanted[t] += float(f) * values[s].astype(float)
    np.testing.assert_allclose(out, wanted, rtol=1e-4, atol=1e-5)
