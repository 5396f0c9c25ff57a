"""The CUDA kernels, their source run on the CPU, against their NumPy definitions.

`cupy` is here no more than NumPy's functions and a `RawModule` that the emulation runs: what is
tested is the kernels and how they are launched. With PLASTICITY_SANITIZE=1 the address and
undefined-behaviour sanitizers watch every access; the last test runs this file so.
"""

import os
import subprocess
import sys
from functools import partial
from itertools import chain
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from plasticity.errors import UserError
from plasticity.kernels import definition
from plasticity.kernels.by_row import ByRow
from plasticity.kernels.cuda import (
    convolution,
    gru,
    launch,
    pairs,
    patches,
    products,
    rows,
    volumes,
)
from plasticity.kernels.geometry import SILENT, Geometry
from tests.convolutions import IN_TIME
from tests.kernels import emulation
from tests.rounding import at_winners, close_to_the_largest, gru_limits, gru_sizes, sizes_of
from tests.rounding import close as close_sums

SANITIZED = os.environ.get("PLASTICITY_SANITIZE") == "1"
TYPES = [np.float32, np.float64]
SPANS = [slice(0, 100), slice(100, 101), slice(101, 630)]  # of 630 elements, three parameters
GEOMETRIES = [((1, 1), (32, 1)), ((3, 2), (64, 4)), ((2, 5), (96, 1))]  # grid, block

pytestmark = pytest.mark.skipif(bool(emulation.MISSING), reason=emulation.MISSING)
many = settings(
    max_examples=6 if SANITIZED else 25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


class RawModule:
    def __init__(self, code, options, name_expressions):
        self.kernels = emulation.build(code, name_expressions, sanitize=SANITIZED)

    def get_function(self, name):
        return self.kernels[name]


@pytest.fixture(autouse=True)
def cupy(monkeypatch):
    names = "empty empty_like zeros matmul argsort searchsorted arange asarray ascontiguousarray"
    functions = {n: getattr(np, n) for n in names.split()}
    nothing = type("ndarray", (), {})  # the definitions take these arrays for the CPU's
    module = SimpleNamespace(RawModule=RawModule, ndarray=nothing, **functions)
    monkeypatch.setitem(sys.modules, "cupy", module)
    monkeypatch.setattr(products, "multiply", definition.products.multiply)
    monkeypatch.setattr(launch, "address", lambda a: a.ctypes.data)
    launch._kernels.cache_clear()
    yield
    launch._kernels.cache_clear()


def three_by_three(pool=1, **how):
    return Geometry.of((3, 3), pool=pool, **how)


def launched_as(monkeypatch, grid, block):
    """Every launch in this shape, but in one row where the kernel has one."""
    shape = lambda columns, rows: (grid, block) if rows > 1 else (grid[:1], block[:1])  # noqa: E731
    monkeypatch.setattr(launch, "grid_of", shape)


def case(seed, dtype, N, H, W, C, O, pool, shared):  # noqa: E741
    """Input, weight, bias and drive: whole numbers, so that some neurons are equal."""
    rng = np.random.default_rng(seed)
    draw = lambda *s: rng.integers(-4, 5, s).astype(dtype)  # noqa: E731
    drive = draw(N, O) if shared else draw(N, H // pool, W // pool, O)
    return draw(N, H, W, C), draw(O, C, 3, 3), draw(O), drive


def close(found, wanted, size):
    assert found.dtype == wanted.dtype
    close_to_the_largest(found, wanted, size, 1e-5 if found.dtype == np.float32 else 1e-12)


CASES = {  # N, H, W, C, O, pool
    "empty": (0, 5, 6, 5, 7, 1),
    "grey first layer": (3, 9, 7, 1, 40, 1),
    "colour first layer": (3, 9, 7, 3, 40, 1),
    "grey first layer of odd numbers": (3, 9, 10, 1, 7, 1),
    "colour first layer of odd numbers": (3, 3, 8, 3, 7, 1),
    "first layer of more neurons than lanes": (2, 9, 3, 1, 300, 1),
    "colour, pooled": (2, 6, 5, 3, 7, 2),
    "without pool": (2, 5, 7, 33, 40, 1),
    "whole tiles, pooled": (2, 8, 8, 5, 40, 2),
    "a row and a column that no pool holds": (3, 5, 7, 5, 7, 2),
    "2x2 map without pool": (4, 2, 2, 33, 40, 1),
    "2x2 map, pooled": (4, 2, 2, 33, 40, 2),
    "2x2 map without pool, of channels in fours": (4, 2, 2, 8, 40, 1),
    "2x2 map, pooled, of odd numbers": (3, 2, 2, 3, 7, 2),
    "2x2 map without pool, of odd numbers": (3, 2, 2, 5, 7, 1),
    "one pixel": (2, 1, 1, 5, 7, 1),
    "one row": (2, 1, 10, 2, 7, 1),
}


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", CASES)
def test_a_convolution_agrees_with_its_definition(name, dtype, shared):
    N, H, W, C, O, pool = CASES[name]  # noqa: E741
    x, weight, bias, drive = case(5, dtype, N, H, W, C, O, pool, shared)
    y, winner, z = definition.convolution.forward(x, weight, bias, three_by_three(pool))
    found, places, encoding = convolution.forward(x, weight, bias, three_by_three(pool))
    size, *sizes = sizes_of(x, weight, bias, winner, drive, three_by_three(pool))
    close(found, y, size)
    close(encoding, z, size)
    assert places.dtype == np.uint8 and places.shape == winner.shape
    a = definition.convolution.convolve(x, weight, bias, three_by_three(pool))
    close(at_winners(places, a, three_by_three(pool)), y, size)
    plain, none, _ = convolution.forward(x, weight, bias, three_by_three(pool), winners=False)
    assert none is None
    np.testing.assert_array_equal(plain, found)
    changes, wanted = (
        (
            *form.correlate(x, winner, drive, three_by_three(pool)),
            form.back(winner, drive, weight, (H, W), three_by_three(pool)),
        )
        for form in (convolution, definition.convolution)
    )
    for a, b, size in zip(changes, wanted, sizes, strict=True):
        close(a, b, size)


def test_the_table_of_cases_meets_every_kernel_and_every_kind_of_map(monkeypatch):
    """Both tiles and both first layers, with and without pool; and a batch without a patch."""
    met = set()
    for of in ("run", "run_blocks"):
        run = getattr(launch, of)
        watched = lambda file, name, *rest, run=run: (met.add(name), run(file, name, *rest))  # noqa: E731
        monkeypatch.setattr(launch, of, watched)
    for N, H, W, C, O, pool in CASES.values():  # noqa: E741
        x, weight, bias, drive = case(5, np.float32, N, H, W, C, O, pool, True)
        all_forms(x, weight, bias, drive, three_by_three(pool))
    for file in ("convolution", "first"):
        assert {name for name in launch.names(file) if "<float" in name} <= met
    pools = {(N > 0, min(H, W) > 2, pool) for N, H, W, *_, pool in CASES.values()}
    assert pools >= {(True, small, pool) for small in (False, True) for pool in (1, 2)}
    assert any(not full for full, *_ in pools)


@pytest.mark.parametrize("shape", [(3, 9, 7, 3, 7, 1), (2, 6, 5, 4, 7, 2), (4, 2, 2, 5, 7, 2)])
def test_arrays_that_are_not_contiguous_give_the_same_bits(shape):
    x, weight, bias, drive = case(6, np.float64, *shape, False)
    geometry = three_by_three(shape[-1])
    wanted = all_forms(x, weight, bias, drive, geometry)
    apart = [np.stack([a, a], axis=-1)[..., 0] for a in (x, weight, bias, drive)]
    assert not any(a.flags.c_contiguous for a in apart)
    for a, b in zip(all_forms(*apart, geometry), wanted, strict=True):
        np.testing.assert_array_equal(a, b)


def all_forms(x, weight, bias, drive, geometry):
    """What forward, correlate and back find, with the winners of the definition, apart in memory
    wherever `x` is."""
    winner = definition.convolution.forward(x, weight, bias, geometry)[1]
    if not x.flags.c_contiguous:
        winner = np.stack([winner, winner], axis=-1)[..., 0]
    return (
        *convolution.forward(x, weight, bias, geometry),
        *convolution.correlate(x, winner, drive, geometry),
        convolution.back(winner, drive, weight, x.shape[1:3], geometry),
    )


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(3, 2, 2, 8, 12, 2), (2, 5, 7, 4, 6, 1)])
def test_arrays_at_addresses_of_single_numbers_give_the_same_bits(dtype, shape):
    """Threads take one channel where they cannot have several at once."""
    given, geometry = case(6, dtype, *shape, False), three_by_three(shape[-1])
    wanted = all_forms(*given, geometry)
    moved = [np.concatenate([a.reshape(-1)[:1], a.reshape(-1)])[1:].reshape(a.shape) for a in given]
    assert all(a.ctypes.data % 16 == dtype().itemsize for a in moved)
    for a, b in zip(all_forms(*moved, geometry), wanted, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_map_of_four_gibibytes_is_refused():
    with pytest.raises(UserError, match=r"a map of 32768x1024x33 takes 4429185024 bytes"):
        convolution._tile(2**15, 2**10, 33, np.dtype(np.float32))
    assert convolution._tile(2**15, 2**10, 31, np.dtype(np.float32)) == ("Tile4", 2**21)


@given(st.integers(1, 2**31 - 1), st.integers(0, 2**31 - 1))
@example(2**31 - 1, 2**31 - 1)
@example(1, 2**31 - 1)
@example(2**30 + 1, 2**31 - 1)
@many
def test_divisions_by_reciprocals_are_those_of_whole_numbers(divisor, number):
    code = (
        launch.source("pairs")
        + """
    __global__ void divide(i64 by, int n, int* found) { *found = Reciprocal(by).of(n); }"""
    )
    near = number // divisor * divisor
    found = np.empty(1, np.int32)
    for n in {number, near, max(0, near - 1)}:
        args = launch.reciprocal(divisor), np.int32(n), found
        emulation.build(code, ["divide"])["divide"]((1,), (1,), args)
        assert found[0] == n // divisor


@pytest.mark.parametrize("space", [(2, 2), (4, 4), (5, 7)])
@pytest.mark.parametrize(("C", "pool"), [(3, 1), (4, 2)])
@pytest.mark.parametrize("dtype", TYPES)
def test_a_launch_of_any_shape_gives_the_same_bits(monkeypatch, dtype, C, pool, space):
    x, weight, bias, drive = case(1, dtype, 5, *space, C, 37, pool, True)

    def all_of_it():
        y, winner, z = convolution.forward(x, weight, bias, three_by_three(pool))
        error = convolution.back(winner, drive, weight, space, three_by_three(pool))
        return y, winner, z, *convolution.correlate(x, winner, drive, three_by_three(pool)), error

    wanted = all_of_it()
    for grid, block in GEOMETRIES:
        launched_as(monkeypatch, grid, block)
        for a, b in zip(all_of_it(), wanted, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("shared", [True, False])
def test_blocks_of_a_first_layer_may_have_several_patches(monkeypatch, shared):
    x, weight, bias, drive = case(1, np.float64, 5, 4, 5, 1, 6, 1, shared)
    forward = convolution.forward(x, weight, bias, three_by_three())
    wanted = convolution.correlate(x, forward[1], drive, three_by_three())
    monkeypatch.setattr(launch, "MOST_BLOCKS", 2)  # of a grid, which has more to do
    for a, b in zip(convolution.forward(x, weight, bias, three_by_three()), forward, strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(
        convolution.correlate(x, forward[1], drive, three_by_three()), wanted, strict=True
    ):
        np.testing.assert_array_equal(a, b)
    monkeypatch.setattr(convolution, "BLOCKS", 2)  # spans of two patches, and one of one
    _, *limits = sizes_of(x, weight, bias, forward[1], drive, three_by_three())
    changes = convolution.correlate(x, forward[1], drive, three_by_three())
    for a, b, limit in zip(changes, wanted, limits, strict=False):
        close(a, b, limit)


def test_patches_may_go_through_in_chunks(monkeypatch):
    x, weight, bias, drive = case(2, np.float64, 7, 6, 5, 4, 9, 2, False)
    y, winner, z = convolution.forward(x, weight, bias, three_by_three(2))
    wanted = [y, winner, z, *convolution.correlate(x, winner, drive, three_by_three(2))]
    wanted.append(convolution.back(winner, drive, weight, (6, 5), three_by_three(2)))
    monkeypatch.setattr(launch, "CHUNK_BYTES", 36 * 13 * 8 * 4 * 3)  # three patches
    assert [tiles for _, tiles in launch.chunks(7, 4, 36 * 13 * 8)] == [12, 12, 4]
    found = [
        *convolution.forward(x, weight, bias, three_by_three(2)),
        *convolution.correlate(x, winner, drive, three_by_three(2)),
    ]
    found.append(convolution.back(winner, drive, weight, (6, 5), three_by_three(2)))
    size, *sizes = sizes_of(x, weight, bias, winner, drive, three_by_three(2))
    np.testing.assert_array_equal(found.pop(1), wanted.pop(1))  # the winners
    for a, b, limit in zip(found, wanted, [size, size, *sizes], strict=True):
        close(a, b, limit)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("space", [(2, 2), (4, 4), (6, 8)])
def test_of_equal_neurons_of_a_pool_the_first_wins(space, dtype):
    """Without weights every neuron is its bias, in transformed tiles too."""
    x, weight, _, _ = case(7, dtype, 3, *space, 5, 33, 2, True)
    bias = np.arange(1, 34).astype(dtype)
    y, places, _ = convolution.forward(x, 0 * weight, bias, three_by_three(2))
    assert not places.any()
    np.testing.assert_array_equal(y, np.broadcast_to(bias, y.shape))


def test_of_two_equal_largest_neurons_of_a_pool_the_first_wins():
    """The weights pass on the input alone, and a 2x2 map is transformed exactly."""
    pools = np.array([[1, 2, 2, 1], [3, 1, 1, 3], [1, 1, 2, 2]], np.float32)
    weight = np.zeros((1, 1, 3, 3), np.float32)
    weight[0, 0, 1, 1] = 1
    x = pools.reshape(3, 2, 2, 1)
    x, weight = np.repeat(x, 2, axis=3), np.repeat(weight, 2, axis=1)  # no first layer
    _, places, _ = convolution.forward(x, weight, np.zeros(1, np.float32), three_by_three(2))
    assert places.ravel().tolist() == [1, 0, 2]


def test_ties_go_to_the_first_neuron_and_silence_has_its_code():
    """Whole numbers that the transforms of 2x2 maps keep exact: equal neurons stay equal."""
    rng = np.random.default_rng(3)
    x, weight = (rng.integers(-1, 2, s).astype(np.float32) for s in ((20, 2, 2, 5), (33, 5, 3, 3)))
    bias = np.full(33, -2, np.float32)
    a = definition.convolution.convolve(x, weight, bias, three_by_three(2)).reshape(20, 4, 33)
    a = np.sort(a, axis=1)
    ties, at_zero = (a[:, 3] == a[:, 2]) & (a[:, 3] > 0), a[:, 3] == 0
    assert ties.sum() > 10 and at_zero.sum() > 10  # or the test would show nothing
    y, winner, _ = definition.convolution.forward(x, weight, bias, three_by_three(2))
    found, places, _ = convolution.forward(x, weight, bias, three_by_three(2))
    np.testing.assert_array_equal(places, winner)
    np.testing.assert_array_equal(found, y)
    assert set(winner.ravel().tolist()) == {0, 1, 2, 3, SILENT}


IN_TIME = {**IN_TIME, "many frames": (2, 1, 0, 185, 3, 4)}


def in_time(name, dtype, shared, linear=False, N=3):
    """Input, weight, bias, drive and winners of a convolution in time, and its geometry."""
    kernel, stride, padding, samples, C, O = IN_TIME[name]  # noqa: E741
    geometry, rng = Geometry.of((kernel,), stride, padding, 1, linear), np.random.default_rng(8)
    draw = lambda *s: rng.standard_normal(s).astype(dtype)  # noqa: E731
    x, weight, bias = draw(N, samples, C), draw(O, C, kernel), draw(O)
    y, winner, _ = definition.convolution.forward(x, weight, bias, geometry)
    return x, weight, bias, draw(N, O) if shared else draw(*y.shape), winner, geometry


def forms_in_time(form, x, weight, bias, drive, winner, geometry):
    """Activity, winners, mean, dW, db and the error below."""
    return (
        *form.forward(x, weight, bias, geometry),
        *form.correlate(x, winner, drive, geometry),
        form.back(winner, drive, weight, x.shape[1:-1], geometry),
    )


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", IN_TIME)
def test_a_convolution_in_time_agrees_with_its_definition(name, dtype, shared, linear):
    *arrays, winner, geometry = in_time(name, dtype, shared, linear)
    exact = [a.astype(float) for a in arrays]
    y, places, z, *changes = forms_in_time(volumes, *arrays, winner, geometry)
    wanted = forms_in_time(definition.convolution, *exact, winner, geometry)
    size, *sizes = sizes_of(*arrays[:3], winner, arrays[3], geometry)
    products, positions = arrays[1][0].size + 2, y[..., 0].size + 2
    assert {a.dtype for a in (y, z, *changes)} == {np.dtype(dtype)}
    close_sums(y, wanted[0], size, products)
    close_sums(z, wanted[2], size.mean(axis=1), products + positions)
    if linear:
        assert places is None
    else:
        assert places.dtype == np.uint8
        a = definition.convolution.convolve(*exact[:3], geometry)
        close_sums(at_winners(places, a, geometry), wanted[0], size, products)
        plain, none, _ = volumes.forward(*arrays[:3], geometry, winners=False)
        assert none is None
        np.testing.assert_array_equal(plain, y)
    terms = positions, positions, arrays[1][:, 0].size + 2
    for found, right, own, count in zip(changes, wanted[3:], sizes, terms, strict=True):
        close_sums(found, right, own, count)


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("dtype", TYPES)
def test_an_empty_batch_in_time_gives_nothing_and_no_change(dtype, linear):
    case = in_time("conv2", dtype, False, linear, N=0)
    wanted = forms_in_time(definition.convolution, *case)
    for found, right in zip(forms_in_time(volumes, *case), wanted, strict=True):
        if right is not None and right.size:
            np.testing.assert_array_equal(found, right)
        elif right is not None:
            assert (found.shape, found.dtype) == (right.shape, right.dtype)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", IN_TIME)
def test_a_launch_of_any_shape_gives_the_same_bits_in_time(monkeypatch, name, dtype):
    case = in_time(name, dtype, False)
    wanted = forms_in_time(volumes, *case)
    for grid, block in GEOMETRIES:
        launched_as(monkeypatch, grid, block)
        for a, b in zip(forms_in_time(volumes, *case), wanted, strict=True):
            np.testing.assert_array_equal(a, b)


def test_utterances_may_go_through_in_chunks(monkeypatch):
    case = in_time("conv2", np.float64, True, N=5)
    x, weight, bias, drive, winner, geometry = case
    wanted = forms_in_time(volumes, *case)
    frames, width = winner.shape[1], weight[0].size + len(weight)
    monkeypatch.setattr(launch, "CHUNK_BYTES", 8 * frames * width * 2)
    assert [n for _, n in launch.chunks(5, frames, 8 * width)] == [2 * frames, 2 * frames, frames]
    size, *sizes = sizes_of(x, weight, bias, winner, drive, geometry)
    y, places, *found = forms_in_time(volumes, *case)
    np.testing.assert_array_equal(places, wanted[1])
    for a, b, limit in zip(
        (y, *found), (wanted[0], *wanted[2:]), [size, size, *sizes], strict=True
    ):
        close(a, b, limit)


@pytest.mark.parametrize("linear", [False, True])
def test_arrays_in_time_that_are_not_contiguous_give_the_same_bits(linear):
    *arrays, geometry = in_time("conv2", np.float64, False, linear)
    wanted = forms_in_time(volumes, *arrays, geometry)
    apart = [None if a is None else np.stack([a, a], axis=-1)[..., 0] for a in arrays]
    for a, b in zip(forms_in_time(volumes, *apart, geometry), wanted, strict=True):
        np.testing.assert_array_equal(a, b)


def test_in_time_what_is_not_a_number_stays_so_and_wins_nothing():
    geometry, x = Geometry.of((2,), 2, 0), np.full((1, 8, 1), np.nan)
    y, winner, _ = volumes.forward(x, np.ones((1, 1, 2)), np.zeros(1), geometry)
    assert np.isnan(y).all() and (winner == SILENT).all()


def test_in_time_a_neuron_at_zero_is_silent():
    geometry, x = Geometry.of((2,), 2, 0), np.ones((1, 8, 1))
    y, winner, _ = volumes.forward(x, np.array([[[1.0, -1]], [[1, 1]]]), np.zeros(2), geometry)
    np.testing.assert_array_equal(y, np.broadcast_to([0.0, 2], y.shape))
    np.testing.assert_array_equal(winner, np.broadcast_to([SILENT, 0], y.shape))


def test_no_winner_is_written_where_none_are_kept(monkeypatch):
    """Where there would be room for them."""
    rooms = []

    def roomy(launched, file, name, columns, rows, *args):
        kept = [a for a in args if isinstance(a, np.ndarray) and a.dtype == np.uint8]
        assert all(a.size == 0 for a in kept)
        rooms.extend(np.full(5000, 7, np.uint8) for _ in kept)
        args = [rooms[-1] if any(a is one for one in kept) else a for a in args]
        launched(file, name, columns, rows, *args)

    for run in ("run", "run_blocks"):
        monkeypatch.setattr(launch, run, partial(roomy, getattr(launch, run)))
    for name in ("grey first layer", "without pool", "2x2 map, pooled"):
        *sizes, pool = CASES[name]
        x, weight, bias, _ = case(5, np.float32, *sizes, pool, True)
        convolution.forward(x, weight, bias, three_by_three(pool), winners=False)
    x, weight, bias, _, _, geometry = in_time("conv2", np.float32, True)
    volumes.forward(x, weight, bias, geometry, winners=False)
    assert len(rooms) == 4 and all((room == 7).all() for room in rooms)


def test_closed_gates_pass_on_nothing_not_even_what_is_no_number():
    values, out = np.array([[np.nan], [2.0]]), np.ones((1, 1))
    rows.add_rows(out, np.zeros(2, int), np.array([0.0, 3]), values, np.array([0, 1]))
    assert out.item() == 7


@many
@given(
    seed=st.integers(0, 999),
    dtype=st.sampled_from(TYPES),
    images=st.integers(0, 3),
    patch=st.sampled_from([2, 4, 6, 16]),
    more=st.integers(0, 9),
)
def test_patches_are_cut_bit_for_bit_as_defined(seed, dtype, images, patch, more):
    rng = np.random.default_rng(seed)
    crop = patch + more
    pixels = rng.integers(0, 256, (images, crop + 3, crop + 5), np.uint8)
    args = (
        pixels,
        rng.integers(0, 4, images),
        rng.integers(0, 6, images),
        rng.random(images) < 0.5,
    )
    how = {"crop": crop, "patch": patch, "mean": 0.4, "std": 0.25, "dtype": dtype}
    found = patches.extract_patches(*args, **how)
    wanted = definition.patches.extract_patches(*args, **how)
    assert found.dtype == wanted.dtype
    np.testing.assert_array_equal(found, wanted)


@many
@given(
    seed=st.integers(0, 999),
    dtype=st.sampled_from(TYPES),
    events=st.integers(0, 70),
    count=st.integers(1, 9),
    D=st.sampled_from([1, 31, 32, 33, 100]),
)
def test_events_agree_with_their_definitions(seed, dtype, events, count, D):
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((2, count, D)).astype(dtype)
    to, source = rng.integers(0, count, (2, events))
    parts = a[to] * b[source]
    close_sums(rows.scores(a, b, to, source), parts.sum(axis=1), np.abs(parts).sum(axis=1), D + 1)
    factor = (rng.standard_normal(events) * (rng.random(events) < 0.7)).astype(dtype)
    found, wanted = a.copy(), a.copy()
    rows.add_rows(found, to, factor, b, source)
    np.add.at(wanted, to, factor[:, None] * b[source])
    np.testing.assert_array_equal(found, wanted)  # the same sums in the same order
    for index in (np.int32, np.int64):
        some = [i.astype(index) for i in (to, source)]
        np.testing.assert_array_equal(rows.scores(a, b, *some), rows.scores(a, b, to, source))
        found = a.copy()
        rows.add_rows(found, some[0], factor, b, some[1], ByRow.of(some[0], count))
        np.testing.assert_array_equal(found, wanted)
    # In segments, a row takes those of the first one first; one of them alone counts from its own.
    half = events // 2
    segment = (np.arange(events) >= half).astype(int)
    by_row, found = ByRow.of(to, count, segment, 2), a.copy()
    rows.add_rows(found, to, factor, b, source, by_row)
    np.testing.assert_array_equal(found, wanted)
    found = a.copy()
    for s, part in enumerate((slice(0, half), slice(half, None))):
        own = to[part], factor[part], b, source[part], by_row.one(s, count, s * half)
        rows.add_rows(found, *own)
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("events", [0, 1, 32, 256, 257, 700])
def test_the_hinge_agrees_with_its_definition(events, dtype, monkeypatch):
    rng = np.random.default_rng(events)
    u, y = 2 * rng.standard_normal(events), rng.choice([-1.0, 1.0], events)
    weight, share = rng.random((2, events))
    weight[:2] = 0  # takes no part, and its gate counts as closed
    given = [a.astype(dtype) for a in (u, y, weight, share)]
    gamma, loss, opened = rows.hinge(*given)
    exact = definition.rows.hinge(*(a.astype(float) for a in given))
    limit = 1e-6 if dtype == np.float32 else 1e-14
    np.testing.assert_allclose(gamma, exact[0], rtol=limit)
    np.testing.assert_allclose((loss, opened), exact[1:], rtol=10 * limit)
    launched_as(monkeypatch, (2, 1), (64, 1))
    for a, b in zip(rows.hinge(*given), (gamma, loss, opened), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(3, 0), (1, 1), (5, 33), (3, 7, 90)])
def test_a_stack_is_added_as_defined(shape, dtype, monkeypatch):
    parts = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    wanted, found, again = (np.ones(shape[1:], dtype) for _ in range(3))
    definition.rows.add_stack(wanted, parts)
    rows.add_stack(found, parts)
    np.testing.assert_array_equal(found, wanted)  # the same sums in the same order
    launched_as(monkeypatch, (2, 1), (64, 1))
    rows.add_stack(again, parts)
    np.testing.assert_array_equal(again, wanted)


PAIRS = [(0, 5), (1, 1), (3, 33), (2, 256), (5, 257), (7, 600)]  # contexts, targets


def scored(contexts, targets, dtype):
    """Scores of contexts and targets, and for each context its true target and three weights."""
    rng = np.random.default_rng(contexts)
    true, other, share = rng.random((3, contexts)).astype(dtype)
    true[:1] = 0  # takes no part, and its gate counts as closed
    u = 3 * rng.standard_normal((contexts, targets))
    return u.astype(dtype), rng.integers(0, targets, contexts), true, other, share


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("form", ["hinge_pairs", "infonce", "infonce, exact logarithm"])
@pytest.mark.parametrize("shape", PAIRS)
def test_all_pairs_agree_with_their_definitions(shape, form, dtype, wide, monkeypatch):
    if wide:
        monkeypatch.setattr(launch, "NARROW", 0)
    given = scored(*shape, dtype)
    name, _, exactly = form.partition(", ")
    if name == "infonce":
        given = *given[:3], given[4], 0.0 if exactly else 0.1
    gamma, *sums = getattr(rows, name)(*given)
    exact = [a.astype(float) if getattr(a, "dtype", None) == dtype else a for a in given]
    wanted, *wanted_sums = getattr(definition.rows, name)(*exact)
    limit = 1e-5 if dtype == np.float32 else 1e-13
    assert gamma.dtype == sums[0].dtype == dtype
    np.testing.assert_allclose(gamma, wanted, rtol=limit, atol=limit / 100)
    np.testing.assert_allclose(sums, wanted_sums, rtol=limit)
    launched_as(monkeypatch, (2, 1), (64, 1))
    for a, b in zip(getattr(rows, name)(*given), (gamma, *sums), strict=True):
        np.testing.assert_array_equal(a, b)


def test_large_scores_do_not_overflow_infonce():
    u, one = np.array([[1e4, 0.0, 1e4], [-1e4, -1e4, 0.0]]), np.ones(2)
    gamma, loss, opened = rows.infonce(u, np.array([0, 1]), one, one, 0.0)
    np.testing.assert_array_equal(gamma, [[0.5, 0, -0.5], [0, 1, -1]])
    assert loss == pytest.approx(np.log(2) + 1e4) and opened == 4


def test_a_score_that_is_no_number_shows_in_the_loss():
    u = np.array([0.0, np.nan])
    assert np.isnan(rows.hinge(u, np.ones(2), np.ones(2), np.ones(2))[1])
    first, one = np.zeros(1, int), np.ones(1)
    assert np.isnan(rows.hinge_pairs(u[None], first, one, one, one)[1])
    assert np.isnan(rows.infonce(u[None], first, one, one, 0.0)[1])


@many
@given(
    seed=st.integers(0, 999),
    dtype=st.sampled_from(TYPES),
    N=st.integers(0, 5),
    H=st.integers(3, 9),
    W=st.integers(3, 9),
    count=st.integers(0, 40),
    pool=st.integers(1, 3),
    stride=st.integers(1, 2),
    padding=st.integers(0, 2),
    driven=st.booleans(),
)
def test_chosen_synapses_agree_with_their_definition(
    seed, dtype, N, H, W, count, pool, stride, padding, driven
):
    geometry = Geometry.of((3, 3), stride, padding, pool)
    if min(geometry.space((H, W))) < 1:
        return
    x, weight, bias, _ = case(seed, dtype, N, H, W, 3, 7, 1, True)
    winner = definition.convolution.forward(x, weight, bias, geometry)[1]
    rng = np.random.default_rng(seed)
    synapses = rng.integers(0, (7, 3, 3, 3), (count, 4))
    drive = rng.integers(-4, 5, winner.shape).astype(dtype) if driven else None
    found = pairs.coactivity(x, winner, synapses, geometry, drive)
    assert found.dtype == dtype
    # Sums of whole numbers are exact.
    exact = drive.astype(float) if driven else None
    wanted = definition.pairs.coactivity(x.astype(float), winner, synapses, geometry, exact)
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("sizes", [(0,), (1,), (1000, 0, 40), (7, 300, 1, 70, 12)])
def test_adam_moves_as_defined(dtype, sizes):
    rng = np.random.default_rng(0)
    state = [[np.abs(rng.standard_normal(size)) for _ in range(4)] for size in sizes]
    found, wanted = ([[a.astype(t) for a in own] for own in state] for t in (dtype, np.float64))
    for _ in range(3):
        rows.adam(found, (1e-3, 1e-8), 0.9, 0.999)
        definition.rows.adam(wanted, (1e-3, 1e-8), 0.9, 0.999)
    for a, b in zip(chain(*found), chain(*wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5 if dtype == np.float32 else 1e-13)


@pytest.mark.parametrize("dtype", TYPES)
def test_adam_moves_parameters_at_addresses_of_single_numbers_by_the_same_bits(dtype):
    state = [np.abs(np.random.default_rng(n).standard_normal(n)).astype(dtype) for n in (70, 5)]
    both = [[[np.concatenate([a[:1], a])[start:].copy() for _ in range(4)] for a in state]
            for start in (1, 0)]  # fmt: skip
    both[1] = [[a[1:] for a in own] for own in both[1]]
    assert not any(a.ctypes.data % 16 == 0 for own in both[1] for a in own)
    for one in both:
        rows.adam(one, (1e-3, 1e-8), 0.9, 0.999)
    for a, b in zip(chain(*both[0]), chain(*both[1]), strict=True):
        np.testing.assert_array_equal(a, b)


def unit(M, T, H, dtype):
    """drive, weight_hh, bias_ih, bias_hh of a gated recurrent unit, and the error at its states."""
    rng = np.random.default_rng(M + T)
    shapes = (M, T, 3 * H), (3 * H, H), (3 * H,), (3 * H,), (M, T, H)
    return [rng.standard_normal(s).astype(dtype) / dtype(np.sqrt(H)) for s in shapes]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(3, 7, 11), (2, 3, 40), (2, 1, 1), (0, 5, 4), (1, 2, 300)])
def test_a_recurrent_unit_agrees_with_its_definition(shape, dtype):
    *given, error = unit(*shape, dtype)
    states, exact = gru.gru_states(*given), [a.astype(float) for a in given]
    wanted = definition.gru.gru_states(*exact)
    limits = gru_limits(*exact, *wanted, float(np.finfo(dtype).eps))
    for found, right, limit in zip(states, wanted, limits, strict=True):
        assert found.dtype == dtype and found.shape == right.shape
        assert (np.abs(found - right) <= limit).all()
    arrays = error, *states, given[1]
    exact = [a.astype(float) for a in arrays]
    for credit in ("eprop", "bptt", "none"):
        *sizes, terms = gru_sizes(*exact, credit)
        wanted = definition.gru.gru_posts(*exact, credit)
        for found, right, size in zip(gru.gru_posts(*arrays, credit), wanted, sizes, strict=True):
            assert found.dtype == dtype
            close_sums(found, right, size, terms)


@pytest.mark.parametrize("dtype", TYPES)
def test_a_recurrent_unit_does_not_depend_on_the_launch(monkeypatch, dtype):
    *given, error = unit(4, 5, 37, dtype)

    def all_of_it():
        states = gru.gru_states(*given)
        return *states, *(
            a for c in ("eprop", "bptt") for a in gru.gru_posts(error, *states, given[1], c)
        )

    wanted = all_of_it()
    for grid, block in GEOMETRIES:
        launched_as(monkeypatch, grid, block)
        for found, first in zip(all_of_it(), wanted, strict=True):
            np.testing.assert_array_equal(found, first)


@pytest.mark.parametrize("dtype", TYPES)
def test_rows_patches_and_synapses_do_not_depend_on_the_launch(monkeypatch, dtype):
    rng = np.random.default_rng(4)
    a, b = rng.standard_normal((2, 9, 70)).astype(dtype)
    to, source = rng.integers(0, 9, (2, 50))
    pixels = rng.integers(0, 256, (2, 20, 20), np.uint8)
    at, flip = np.array([1, 2]), np.array([True, False])
    how = {"crop": 16, "patch": 8, "mean": 0.4, "std": 0.25, "dtype": dtype}
    x, winner = rng.standard_normal((5, 6, 7, 4)).astype(dtype), rng.integers(0, 5, (5, 3, 3, 6))
    winner, synapses = np.where(winner < 4, winner, SILENT), rng.integers(0, (6, 4, 3, 3), (70, 4))

    def all_of_it():
        out, moments = a.copy(), [b.copy(), abs(b), abs(a)]
        rows.add_rows(out, to, b[0, :50].copy(), b, source)
        parts = [[m.reshape(-1)[s] for m in (moments[0], a, *moments[1:])] for s in SPANS]
        rows.adam(parts, (1e-3, 1e-8), 0.9, 0.999)
        patched = patches.extract_patches(pixels, at, at, flip, **how)
        chosen = pairs.coactivity(
            x, winner, synapses, three_by_three(2), a[:5, :54].reshape(5, 3, 3, 6)
        )
        return out, *moments, rows.scores(a, b, to, source), patched, chosen

    wanted = all_of_it()
    for grid, block in GEOMETRIES:
        launched_as(monkeypatch, grid, block)
        for found, first in zip(all_of_it(), wanted, strict=True):
            np.testing.assert_array_equal(found, first)


@pytest.mark.parametrize("columns", [1, 33, 5000, 2**40])
@pytest.mark.parametrize("count", [1, 7, 2**40])
def test_launches_keep_within_the_limits_of_cuda(columns, count):
    (gx, gy), (bx, by) = launch.grid_of(columns, count)
    assert 1 <= gx < 2**31 and 1 <= gy <= 65535
    assert bx * by <= launch.BLOCK and bx % 32 == 0


@pytest.mark.skipif(SANITIZED, reason="this is the run under the sanitizers")
def test_no_kernel_reads_or_writes_outside_its_arrays():
    """This file once more, with sanitizers; a kernel that reads one element too far is caught."""
    code = "template <typename T> __global__ void far(T* a) { a[threadIdx.x] += a[32]; }"
    probe = (
        "import numpy as np; from tests.kernels import emulation;"
        f"emulation.build({code!r}, ['far<float>'], sanitize=True)"
        "['far<float>']((1,), (32,), (np.zeros(32, np.float32),))"
    )
    try:
        environment = emulation.sanitized_environment() | {"PLASTICITY_SANITIZE": "1"}
    except RuntimeError as missing:
        pytest.skip(str(missing))

    def run(*command):
        return subprocess.run(
            [sys.executable, *command], env=environment, capture_output=True, text=True
        )

    caught = run("-c", probe)
    assert caught.returncode and "heap-buffer-overflow" in caught.stderr
    found = run("-m", "pytest", "--noconftest", "-p", "no:cacheprovider", __file__)
    assert found.returncode == 0, found.stdout + found.stderr
