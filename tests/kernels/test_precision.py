"""Operands in fewer bits: how they are rounded, and that every product meets them so."""

import numpy as np
import pytest

from plasticity import kernels
from plasticity.kernels import Geometry, Pool, definition
from plasticity.kernels.definition import convolution
from plasticity.kernels.forms import call_with
from tests.rounding import close, sizes_of

LOW = ("tf32", "bfloat16")
MANTISSA = {"tf32": 11, "bfloat16": 8}  # bits, with the first
GEOMETRIES = {
    "3x3": (Geometry.of((3, 3)), (6, 5), 8),
    "3x3 with pool": (Geometry.of((3, 3), pool=2), (6, 5), 8),
    "a first layer": (Geometry.of((3, 3)), (6, 5), 1),
    "pools that overlap": (Geometry.of((3, 3), pool=Pool(3, 2)), (7, 7), 3),
    "linear film": (Geometry.of((2, 3, 3), (1, 2, 1), (0, 1, 1), linear=True), (3, 6, 5), 3),
    "in time": (Geometry.of((8,), 4, 2), (41,), 6),
}


def nearest(a, precision):
    """The nearest number of so many bits, in float64 arithmetic."""
    mantissa, exponent = np.frexp(a.astype(float))
    bits = MANTISSA[precision]
    return np.ldexp(np.rint(np.ldexp(mantissa, bits)), exponent - bits).astype(np.float32)


def numbers():
    """Of many sizes, and halfway between two numbers of fewer bits."""
    rng = np.random.default_rng(0)
    some = rng.standard_normal(5000) * 10.0 ** rng.integers(-30, 30, 5000)
    whole = rng.integers(-(2**13), 2**13, 5000)  # halves and quarters of the last bit among them
    return np.concatenate([some, whole, whole * 2.0**-20, [0.0, 1.0, -1.0]]).astype(np.float32)


@pytest.mark.parametrize("precision", LOW)
def test_a_number_goes_to_the_nearest_and_of_two_to_the_even_one(precision):
    a = numbers()
    found = kernels.rounded(a, precision)
    np.testing.assert_array_equal(found, nearest(a, precision))
    np.testing.assert_array_equal(definition.precision.rounded(a, precision), found)
    np.testing.assert_array_equal(kernels.rounded(found, precision), found)
    with np.errstate(invalid="ignore"):
        error = np.abs(found - a) / np.abs(a)
    assert np.nanmax(error) <= kernels.roundoff(precision)


def test_bfloat16_is_torchs():
    torch = pytest.importorskip("torch")
    a = np.append(numbers(), np.float32([1e-40, -3e-39, 3.4e38, np.inf, -np.inf]))
    wanted = torch.from_numpy(a).bfloat16().float().numpy()
    for form in (kernels.rounded, definition.precision.rounded):
        np.testing.assert_array_equal(form(a, "bfloat16"), wanted)


@pytest.mark.parametrize("precision", LOW)
def test_what_is_no_number_stays_so_whatever_its_bits(precision):
    a = np.array([0x7FFFFFFF, 0xFFFFFFFF, 0x7F800001, 0x7F800000], np.uint32).view(np.float32)
    for form in (kernels.rounded, definition.precision.rounded):
        np.testing.assert_array_equal(form(a, precision), [np.nan, np.nan, np.nan, np.inf])


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 700, 501)])
def test_rounding_keeps_the_shape_and_what_it_is_given(shape):
    a = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    before = a.copy()
    for given in (a, np.stack([a, a], axis=-1)[..., 0]):
        np.testing.assert_array_equal(kernels.rounded(given, "tf32"), nearest(a, "tf32"))
    np.testing.assert_array_equal(a, before)


def test_rounding_is_of_float32():
    with pytest.raises(TypeError, match="tf32 is made of float32, not of float64"):
        kernels.rounded(np.ones(3), "tf32")


def test_float32_is_what_it_was():
    a = np.ones(3, np.float32)
    assert kernels.operands(call_with(a, geometry=Geometry.of((3, 3))), a)[0] is a
    assert kernels.roundoff("float32") == 0


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("precision", LOW)
@pytest.mark.parametrize("name", GEOMETRIES)
def test_a_convolution_meets_rounded_operands_and_sums_in_float32(name, precision, shared):
    geometry, space, C = GEOMETRIES[name]
    rng = np.random.default_rng(1)
    draw = lambda *s: rng.standard_normal(s).astype(np.float32)  # noqa: E731
    x, weight, bias = draw(3, *space, C), draw(7, C, *geometry.kernel), draw(7)
    met = [nearest(a, precision).astype(float) for a in (x, weight)]
    low = Geometry.of(
        geometry.kernel, geometry.stride, geometry.padding,
        Pool(geometry.pool, geometry.pool_stride), not geometry.rectified, precision,
    )  # fmt: skip
    wanted, winner, mean = convolution.forward(*met, bias.astype(float), geometry)
    drive = draw(3, 7) if shared else draw(*wanted.shape)
    post = convolution.post_factor(winner, drive, geometry, geometry.output(space))
    post = nearest(post, precision).astype(float)
    size, *sizes = sizes_of(x, weight, bias, winner, drive, geometry)
    y, _, z = kernels.forward(x, weight, bias, low)
    terms = 60 * weight[0].size  # and Winograd's transforms
    close(y, wanted, size.max(), terms)
    close(z, mean, size.max(), terms)
    error = kernels.back(winner, drive, weight, space, low)
    found = *kernels.correlate(x, winner, drive, low), error
    linear = geometry.linear
    wanted = (
        *convolution.correlate(met[0], None, post, linear),
        convolution.back(None, post, met[1], space, linear),
    )
    for one, right, own in zip(found, wanted, sizes, strict=True):
        close(one, right, own.max(), 60 * post[..., 0].size)
    # Not so of the operands as they are: rounding is a thousand times that of the sums.
    exact = convolution.convolve(x.astype(float), weight.astype(float), 0 * bias, geometry)
    rounded = convolution.convolve(*met, 0 * bias, geometry)
    assert np.abs(exact - rounded).max() > 1e-4
