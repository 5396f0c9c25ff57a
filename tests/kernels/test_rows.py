"""Operations on rows of encodings: every form against a plain loop."""

import numpy as np
import pytest

from plasticity import kernels
from plasticity.kernels.cpu import rows
from tests.rounding import close


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
    size = (np.abs(a[i]) * np.abs(b[j])).sum(axis=1)
    close(u, np.array(wanted), size, 13 + 1)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_rows_that_are_named_twice_get_both_contributions(dtype):
    rng = np.random.default_rng(1)
    values = rng.standard_normal((6, 11)).astype(dtype)
    to, source = rng.integers(0, 4, 40), rng.integers(0, 6, 40)
    factor = rng.standard_normal(40).astype(dtype)
    out = np.zeros((4, 11), dtype)
    kernels.add_rows(out, to, factor, values, source)
    wanted, size = np.zeros((2, 4, 11))
    for t, f, s in zip(to, factor, source, strict=True):
        part = float(f) * values[s].astype(float)
        wanted[t] += part
        size[t] += np.abs(part)
    close(out, wanted, size, 40 + 1)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_closed_gates_pass_on_nothing_not_even_what_is_no_number(dtype):
    values, out = np.array([[np.nan], [2]], dtype), np.ones((1, 1), dtype)
    kernels.add_rows(out, np.zeros(2, int), np.array([0, 3], dtype), values, np.array([0, 1]))
    assert out.item() == 7


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("size", [6, 200])
def test_many_products_at_once_are_the_products_one_by_one(dtype, size):
    """Large ones are shared out among threads by rows or by columns; transposed ones too."""
    rng = np.random.default_rng(2)
    shapes = [(size, size + 1, size), (1, size, size), (3 * size, 2, size), (2, 0, 3), (size, 5, 1)]
    draw = lambda *s: rng.standard_normal(s).astype(dtype)  # noqa: E731
    pairs = [(draw(m, k), draw(n, k).T) for m, k, n in shapes]
    wanted = [a.astype(float) @ b.astype(float) for a, b in pairs]
    out = [np.full((m, n), np.nan, dtype) for m, _, n in shapes]
    assert kernels.products(pairs, out=out) is out
    for found in (out, kernels.products(pairs), [kernels.product(*pair) for pair in pairs]):
        for c, right, (a, b) in zip(found, wanted, pairs, strict=True):
            assert c.dtype == dtype
            close(c, right, np.abs(a) @ np.abs(b), len(b) + 1)


def test_adam_moves_large_parameters_in_parts_and_small_ones_beside_them(monkeypatch):
    """The definition in float64, for parameters of several parts and of less than one."""
    monkeypatch.setattr(rows, "ADAM_PARTS", 1000)
    rng = np.random.default_rng(3)
    shapes = [(150, 141), (7,), (1000,), (0, 3)]
    start = [[rng.standard_normal(s) for _ in range(2)] + [np.zeros(s)] * 2 for s in shapes]
    exact = [[a.copy() for a in four] for four in start]
    single = [[a.astype(np.float32) for a in four] for four in start]
    for step in (1, 2):
        kernels.adam(exact, step, 1e-2)
        kernels.adam(single, step, 1e-2)
    for found, wanted in zip(single, exact, strict=True):
        for a, b in zip(found, wanted, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
