"""Batch normalisation between convolution and pool: its fast form against the definition."""

from itertools import product

import numpy as np
import pytest

from plasticity import kernels
from plasticity.kernels import Geometry, Pool
from plasticity.kernels.definition import norm

ROUNDING = 4 * 2.0**-24
CASES = {
    "image": ((3, 3), 2, (5, 9, 8, 7)),
    "image, no pool": ((3, 3), 1, (4, 6, 5, 3)),
    "film, pools that overlap": ((1, 3, 3), Pool((1, 3, 3), (1, 2, 2)), (3, 4, 9, 8, 6)),
    "film, pools in time": ((1, 3, 3), Pool((2, 2, 2), (1, 2, 1)), (2, 5, 4, 5, 3)),
    "sound": ((4,), 3, (4, 14, 5)),
    "one input": ((1, 1, 1), 1, (1, 2, 3, 2, 4)),
}


@pytest.fixture(params=product(CASES, (True, False), (True, False)), ids=str)
def case(request):
    name, relu_first, batch = request.param
    kernel, pool, shape = CASES[name]
    rng, O = np.random.default_rng(0), shape[-1]  # noqa: E741
    a = rng.normal(0.3, 1.5, shape).astype(np.float32)
    gain, shift = rng.normal(0, 1, (2, O)).astype(np.float32)
    geometry = Geometry.of(kernel, pool=pool)
    return a, gain, shift, geometry, relu_first, batch


def wide(*arrays):
    return [a.astype(float) for a in arrays]


def test_statistics_are_those_of_the_definition(case):
    a, _, _, _, relu_first, _ = case
    found = kernels.norm_statistics(a, relu_first)
    wanted = norm.norm_statistics(a.astype(float), relu_first)
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == np.float32
        np.testing.assert_allclose(one, other, rtol=ROUNDING, atol=1e-7)


def test_statistics_of_large_numbers_lose_nothing():
    a = np.random.default_rng(0).normal(1000, 0.1, (4, 5, 6, 3)).astype(np.float32)
    for one, other in zip(
        kernels.norm_statistics(a, True), norm.norm_statistics(a.astype(float), True), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_activity_and_winners_are_those_of_the_definition(case):
    a, gain, shift, geometry, relu_first, _ = case
    mean, var = kernels.norm_statistics(a, relu_first)
    how = 1e-5, geometry, relu_first
    y, winner = kernels.norm_forward(a, gain, shift, mean, var, *how)
    wanted, _ = norm.norm_forward(*wide(a, gain, shift, mean, var), *how)
    np.testing.assert_allclose(y, wanted, atol=40 * ROUNDING * np.abs(wanted).max())
    o = norm.norm_forward(  # of every place, to look at those who have won
        *wide(a, gain, shift, mean, var), 1e-5, Geometry.of(geometry.kernel), relu_first
    )[0]
    there = kernels.at_winners(o, winner, geometry)
    np.testing.assert_allclose(there, wanted, atol=40 * ROUNDING * np.abs(wanted).max())


def test_drive_dgain_and_dshift_are_those_of_the_definition(case):
    a, gain, shift, geometry, relu_first, batch = case
    mean, var = kernels.norm_statistics(a, relu_first)
    _, winner = kernels.norm_forward(a, gain, shift, mean, var, 1e-5, geometry, relu_first)
    how = 1e-5, geometry, relu_first, batch
    rng = np.random.default_rng(1)
    for shape in (winner.shape, (len(a), a.shape[-1])):
        drive = rng.standard_normal(shape).astype(np.float32)
        found = kernels.norm_back(a, winner, drive, gain, mean, var, *how)
        exact = wide(a, drive, gain, mean, var)
        wanted = norm.norm_back(exact[0], winner, *exact[1:], *how)
        positions = 1 if drive.ndim > 2 else winner[0, ..., 0].size
        size = np.abs(drive).max() * winner[0, ..., 0].size  # of what meets in one place at most
        yh = np.abs((exact[0] - exact[3]) / np.sqrt(exact[4] + 1e-5)).max()
        slope = np.abs(gain / np.sqrt(var + 1e-5)).max()
        sums = np.abs(drive).sum() * positions * max(yh, 1)
        sizes = (slope * size * (2 + yh**2), sums, sums)  # before anything cancels
        for one, other, scale in zip(found, wanted, sizes, strict=True):
            assert one.dtype == np.float32 and one.shape == other.shape
            np.testing.assert_allclose(one, other, rtol=0, atol=4 * ROUNDING * scale)


def test_it_repeats_bit_for_bit(case):
    a, gain, shift, geometry, relu_first, batch = case
    mean, var = kernels.norm_statistics(a, relu_first)
    how = geometry, relu_first
    runs = []
    for _ in range(2):
        y, winner = kernels.norm_forward(a, gain, shift, mean, var, 1e-5, *how)
        runs.append((*kernels.norm_back(a, winner, y, gain, mean, var, 1e-5, *how, batch), y))
    for one, other in zip(*runs, strict=True):
        np.testing.assert_array_equal(one, other)
