"""Convolutions in time over windows, float32 on the CPU, against the definition in float64."""

import numpy as np
import pytest

from plasticity import kernels
from plasticity.kernels import Geometry, forms
from plasticity.kernels.cpu import windows
from tests.convolutions import IN_TIME, agrees

IN_TIME = {**IN_TIME, "several blocks": (8, 4, 2, 900, 512, 2)}


@pytest.fixture(params=IN_TIME)
def case(request):
    kernel, stride, padding, frames, channels, neurons = IN_TIME[request.param]
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, frames, channels), np.float32)
    weight = rng.standard_normal((neurons, channels, kernel), np.float32)
    bias = rng.standard_normal(neurons, np.float32)
    return x, weight, bias, ((kernel,), (stride,), (padding,))


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("shared", [False, True])
def test_every_geometry_agrees_with_the_definition(case, linear, shared):
    x, weight, bias, sizes = case
    its = Geometry.of(*sizes, 1, linear)
    call = forms.call_with(x, weight, bias, geometry=its, channels=x.shape[-1])
    assert forms.form("forward", call) is windows.forward
    agrees(x, weight, bias, its, shared)


def test_without_winners_it_gives_the_same(case):
    x, weight, bias, sizes = case
    its = Geometry.of(*sizes)
    y, winner, z = kernels.forward(x, weight, bias, its, winners=False)
    assert winner is None
    np.testing.assert_array_equal(y, kernels.forward(x, weight, bias, its)[0])
    np.testing.assert_array_equal(z, kernels.forward(x, weight, bias, its)[2])


def test_an_empty_batch_gives_nothing_and_no_change():
    its, x = Geometry.of((4,), 2, 1), np.zeros((0, 9, 3), np.float32)
    weight, bias = np.ones((5, 3, 4), np.float32), np.ones(5, np.float32)
    y, winner, z = kernels.forward(x, weight, bias, its)
    assert (y.shape, winner.shape, z.shape) == ((0, 4, 5), (0, 4, 5), (0, 5))
    dW, db = kernels.correlate(x, winner, y, its)
    assert not dW.any() and not db.any() and dW.shape == weight.shape
    assert kernels.back(winner, y, weight, (9,), its).shape == x.shape


def test_what_is_not_a_number_wins_nothing():
    x = np.full((1, 8, 1), np.nan, np.float32)
    its = Geometry.of((2,), 2, 0)
    weight, bias = np.ones((1, 1, 2), np.float32), np.zeros(1, np.float32)
    assert (kernels.forward(x, weight, bias, its)[1] == kernels.geometry.SILENT).all()


def test_a_result_repeats_bit_for_bit(case):
    x, weight, bias, sizes = case
    its = Geometry.of(*sizes)
    first, again = (kernels.forward(x, weight, bias, its) for _ in range(2))
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    drive = np.ones_like(first[0])
    for a, b in zip(*(kernels.correlate(x, first[1], drive, its) for _ in range(2)), strict=True):
        np.testing.assert_array_equal(a, b)
