"""Products of matrices by cuBLAS, as its calls are written: against NumPy's."""

import numpy as np
import pytest

from plasticity import kernels
from plasticity.kernels.cuda import products
from tests import standin


@pytest.fixture(autouse=True)
def machine():
    with standin.installed() as made:
        yield made


def numbers(*shape, dtype=np.float64):
    return np.random.default_rng(sum(shape)).integers(-4, 5, shape).astype(dtype)


def product(a, b, **how):
    import cupy

    return products.multiply(*(m if how else cupy.asarray(m) for m in (a, b)), **how)


SHAPES = [(2, 3, 4), (1, 3, 4), (2, 1, 4), (2, 3, 1), (1, 1, 1), (5, 1, 1)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("turned", [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize("stacks", [(0, 0), (3, 3), (0, 3), (3, 0), (1, 1)])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_product_is_numpys_however_the_matrices_lie(shape, stacks, turned, dtype, machine):
    import cupy

    (n, k, m), given = shape, []
    for (rows, columns), stack, turn in zip([(n, k), (k, m)], stacks, turned, strict=True):
        lying = (columns, rows) if turn else (rows, columns)
        a = cupy.asarray(numbers(*([stack] if stack else []), *lying, dtype=dtype))
        given.append(a.swapaxes(-1, -2) if turn else a)
    machine.forget()
    found = products.multiply(*given)
    assert machine.operations == {"gemm": 1}  # nothing is copied
    wanted = given[0].get() @ given[1].get()
    assert found.dtype == wanted.dtype
    np.testing.assert_array_equal(found.get(), wanted)


def test_rows_and_columns_of_a_larger_array_are_taken_as_they_lie(machine):
    import cupy

    a, b = cupy.asarray(numbers(4, 6, 8)), cupy.asarray(numbers(4, 8, 5))
    for x, y in (
        (a[:, 1:4, 2:6], b[:, 2:6, :3]),
        (a[1:, :1, 2:6], b[1:, 2:6, 1:2]),
        (a[:, :, :3].swapaxes(1, 2), a[:, :, 4:]),
        (a[0, 1:3], b[2]),
    ):
        machine.forget()
        found = products.multiply(x, y)
        assert machine.operations == {"gemm": 1}
        np.testing.assert_array_equal(found.get(), x.get() @ y.get())
    np.testing.assert_array_equal(
        products.multiply(a[0, ::2, ::2], b[0, ::2]).get(), a.get()[0, ::2, ::2] @ b.get()[0, ::2]
    )


def test_a_product_is_added_to_what_is_there_where_that_is_asked_for():
    import cupy

    a, b, c = (cupy.asarray(numbers(*s)) for s in ((2, 3, 4), (2, 4, 5), (2, 3, 5)))
    before = c.get()
    assert products.multiply(a, b, out=c, add=True) is c
    np.testing.assert_array_equal(c.get(), before + a.get() @ b.get())
    products.multiply(a, b, out=c)
    np.testing.assert_array_equal(c.get(), a.get() @ b.get())


def test_rounded_operands_are_multiplied_by_matrix_units_and_others_never(machine):
    """The stand-in rounds there, so that operands as they are would show."""
    import cupy

    a, b = (np.random.default_rng(i).standard_normal((5, 5)).astype(np.float32) for i in (0, 1))
    for precision in ("tf32", "bfloat16"):
        met = [kernels.rounded(m, precision) for m in (a, b)]
        found = products.multiply(*map(cupy.asarray, met), rounded=True).get()
        np.testing.assert_array_equal(found, met[0] @ met[1])
    whole = [cupy.asarray(m) for m in (a, b)]
    np.testing.assert_array_equal(products.multiply(*whole).get(), a @ b)
    assert (products.multiply(*whole, rounded=True).get() != a @ b).any()
    exact = [cupy.asarray(m.astype(float)) for m in (a, b)]
    np.testing.assert_array_equal(
        products.multiply(*exact, rounded=True).get(), exact[0].get() @ exact[1].get()
    )


@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
def test_a_convolution_in_time_is_multiplied_as_its_precision_says(precision, machine, monkeypatch):
    import cupy

    computed, gemm = set(), cupy.cuda.cublas.gemmStridedBatchedEx
    watched = lambda *args: (computed.add(args[-2]), gemm(*args))  # noqa: E731
    monkeypatch.setattr(cupy.cuda.cublas, "gemmStridedBatchedEx", watched)
    geometry, rng = kernels.Geometry.of((4,), 2, 1, precision=precision), np.random.default_rng(2)
    draw = lambda *s: rng.standard_normal(s).astype(np.float32)  # noqa: E731
    given = x, weight, _, drive = draw(3, 20, 5), draw(6, 5, 4), draw(6), draw(3, 6)
    wanted = kernels.forward(*given[:3], geometry)
    cx, cw, cb, cd = map(cupy.asarray, given)
    found = kernels.forward(cx, cw, cb, geometry)
    changes = kernels.correlate(cx, found[1], cd, geometry)
    error = kernels.back(found[1], cd, cw, (20,), geometry)
    pairs = [*zip(found, wanted, strict=True)]
    pairs += zip(changes, kernels.correlate(x, wanted[1], drive, geometry), strict=True)
    pairs.append((error, kernels.back(wanted[1], drive, weight, (20,), geometry)))
    for one, right in pairs:
        np.testing.assert_allclose(one.get(), right, rtol=1e-5, atol=1e-5)
    cublas = cupy.cuda.cublas
    full, tf32 = cublas.CUBLAS_COMPUTE_32F, cublas.CUBLAS_COMPUTE_32F_FAST_TF32
    assert computed == {full if precision == "float32" else tf32}


@pytest.mark.parametrize("shape", [(0, 3, 4), (2, 0, 4), (2, 3, 0)])
def test_where_there_is_nothing_to_sum_the_product_is_zero(shape):
    import cupy

    n, k, m = shape
    found = product(numbers(n, k), numbers(k, m))
    assert found.shape == (n, m) and not found.get().any()
    kept = cupy.ones((n, m))
    product(cupy.zeros((n, k)), cupy.zeros((k, m)), out=kept, add=True)
    assert (kept.get() == 1).all()


def test_shapes_that_do_not_fit_are_told():
    import cupy

    for a, b in (((2, 3), (4, 5)), ((2, 2, 3), (3, 3, 4))):
        with pytest.raises(ValueError, match="do not go into a product"):
            product(numbers(*a), numbers(*b))
    with pytest.raises(ValueError, match=r"shape \(2, 4\) needs"):
        product(cupy.ones((2, 3)), cupy.ones((3, 4)), out=cupy.ones((4, 2)).T)


def test_the_door_takes_cublas_on_a_card_and_the_definition_elsewhere(machine):
    import cupy

    a, b = numbers(3, 2, 4), numbers(4, 5)
    np.testing.assert_array_equal(kernels.multiply(a, b), a @ b)
    np.testing.assert_array_equal(kernels.multiply(cupy.asarray(a), cupy.asarray(b)).get(), a @ b)
    assert machine.operations["gemm"] == 1
