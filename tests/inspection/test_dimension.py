"""How many dimensions encodings fill."""

import numpy as np
import pytest

from plasticity.inspection import dimension


def test_the_spectrum_is_that_of_the_covariance():
    z = np.random.default_rng(0).standard_normal((40, 6)) @ np.diag([3, 2, 1, 1, 0.5, 0]) + 7
    wanted = np.linalg.eigvalsh(np.cov(z.T))[::-1]
    np.testing.assert_allclose(dimension.spectrum(z), wanted, atol=1e-12)


def test_equal_directions_count_each_and_one_alone_is_one():
    assert dimension.participation(np.array([2.0, 2, 2, 0])) == pytest.approx(3)
    assert dimension.participation(np.array([5.0, 0, 0])) == 1
    assert dimension.participation(np.array([3.0, 1])) == pytest.approx(16 / 10)
    assert dimension.participation(np.zeros(3)) == 0


def test_of_fewer_examples_than_neurons_all_eigenvalues_that_can_be_are_found():
    z = np.random.default_rng(1).standard_normal((5, 30)).astype(np.float32)
    found = dimension.spectrum(z)
    assert found.shape == (5,) and found.dtype == np.float64
    assert found[-1] == pytest.approx(0, abs=1e-9)
    assert dimension.participation(found) <= 4 + 1e-9


def test_a_silent_layer_fills_none():
    assert dimension.participation(dimension.spectrum(np.zeros((4, 3)))) == 0
