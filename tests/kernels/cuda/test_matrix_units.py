"""Convolutions by matrix units, their source run on the CPU, against the definition.

Operands are rounded here in float64 arithmetic, and the definition sums in float64: what is left is
the rounding of sums in float32. With PLASTICITY_SANITIZE=1 the address and undefined-behaviour
sanitizers watch every access; the last test runs this file so.
"""

import os
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from plasticity.kernels import forms
from plasticity.kernels.cuda import launch, matrix_units
from plasticity.kernels.definition import convolution, precision
from plasticity.kernels.geometry import SILENT, Geometry
from tests.kernels import emulation
from tests.kernels.test_precision import nearest, numbers
from tests.rounding import at_winners, close, sizes_of

SANITIZED = os.environ.get("PLASTICITY_SANITIZE") == "1"
LOW = ("tf32", "bfloat16")

pytestmark = pytest.mark.skipif(bool(emulation.MISSING), reason=emulation.MISSING)


class RawModule:
    def __init__(self, code, options, name_expressions):
        self.kernels = emulation.build(code, name_expressions, sanitize=SANITIZED)

    def get_function(self, name):
        return self.kernels[name]


@pytest.fixture(autouse=True)
def cupy(monkeypatch):
    functions = {n: getattr(np, n) for n in ("empty", "zeros", "ascontiguousarray")}
    nothing = type("ndarray", (), {})  # the definitions take these arrays for the CPU's
    module = SimpleNamespace(RawModule=RawModule, ndarray=nothing, **functions)
    monkeypatch.setitem(sys.modules, "cupy", module)
    monkeypatch.setattr(launch, "address", lambda a: a.ctypes.data)
    launch._kernels.cache_clear()
    yield
    launch._kernels.cache_clear()


def three_by_three(pool=1, **how):
    return Geometry.of((3, 3), pool=pool, **how)


CASES = {  # geometry but for its precision, N, H, W, C, O
    "empty": (three_by_three(), 0, 5, 6, 5, 7),
    "more inputs than a tile": (three_by_three(2), 67, 2, 2, 8, 5),
    "more neurons than a tile": (three_by_three(2), 3, 2, 2, 5, 133),
    "whole tiles": (three_by_three(), 32, 2, 2, 16, 128),
    "more channels than a stage": (three_by_three(2), 2, 2, 2, 70, 6),
    "several at a time": (three_by_three(2), 5, 2, 4, 16, 24),
    "a row and a column that no pool holds": (three_by_three(2), 3, 3, 5, 5, 7),
    "without pool": (three_by_three(), 2, 2, 3, 9, 40),
    "one pixel": (three_by_three(), 2, 1, 1, 5, 7),
    "one row": (three_by_three(), 2, 1, 7, 2, 7),
    "one channel, one neuron": (three_by_three(2), 3, 2, 2, 1, 1),
    "1x1, linear": (Geometry.of((1, 1), 1, 0, linear=True), 3, 4, 3, 6, 7),
    "3x3, linear": (three_by_three(linear=True), 3, 4, 3, 6, 7),
    "5x2, without padding": (Geometry.of((5, 2), 1, 0), 3, 6, 3, 3, 5),
    "2x3, padding of one side": (Geometry.of((2, 3), 1, (0, 2)), 3, 4, 3, 3, 5),
}


def case(name, bits, shared=True):
    """Geometry, input, weight, bias and drive, with the definition's winners."""
    geometry, N, H, W, C, O = CASES[name]  # noqa: E741
    pools = geometry.kernel, geometry.stride, geometry.padding, geometry.pool
    geometry = Geometry.of(*pools, linear=not geometry.rectified, precision=bits)
    rng = np.random.default_rng(5)
    draw = lambda *s: rng.standard_normal(s).astype(np.float32)  # noqa: E731
    x, weight, bias = draw(N, H, W, C), draw(O, C, *geometry.kernel), draw(O)
    met = (nearest(a, bits).astype(float) for a in (x, weight))
    y, winner, _ = convolution.forward(*met, bias.astype(float), geometry)
    return geometry, x, weight, bias, draw(N, O) if shared else draw(*y.shape), winner


def all_forms(geometry, x, weight, bias, drive, winner):
    """Activity, winners, mean, dW, db and the error below."""
    return (
        *matrix_units.forward(x, weight, bias, geometry),
        *matrix_units.correlate(x, winner, drive, geometry),
        matrix_units.back(winner, drive, weight, x.shape[1:3], geometry),
    )


def same(found, wanted):
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("bits", LOW)
@pytest.mark.parametrize(
    "name, shared",
    [*((name, True) for name in CASES), ("several at a time", False), ("3x3, linear", False)],
)
def test_a_convolution_is_the_definition_of_rounded_operands(name, bits, shared):
    geometry, x, weight, bias, drive, winner = case(name, bits, shared)
    met, w, driven = (nearest(a, bits).astype(float) for a in (x, weight, drive))
    wanted, _, mean = convolution.forward(met, w, bias.astype(float), geometry)
    y, places, z, *changes = all_forms(geometry, x, weight, bias, drive, winner)
    size, *sizes = sizes_of(met, w, bias, winner, driven, geometry)
    products, positions = weight[0].size + 2, wanted[..., 0].size + 2
    close(y, wanted, size if not geometry.pools else size.max(initial=0), products)
    close(z, mean, size.max(initial=0), products + positions)
    if geometry.rectified:
        a = convolution.convolve(met, w, bias.astype(float), geometry)
        close(at_winners(places, a, geometry), wanted, size.max(initial=0), products)
        plain, none, _ = matrix_units.forward(x, weight, bias, geometry, winners=False)
        np.testing.assert_array_equal(plain, y)
        assert none is None and places.dtype == np.uint8
    else:
        assert places is None
    right = (
        *convolution.correlate(met, winner, driven, geometry),
        convolution.back(winner, driven, w, x.shape[1:3], geometry),
    )
    summed = x[..., 0].size + 2
    terms = summed, summed, weight[:, 0].size + 2
    for one, exact, own, count in zip(changes, right, sizes, terms, strict=True):
        assert one.dtype == np.float32
        close(one, exact, own, count)


@pytest.mark.parametrize(
    "how, taken",
    [
        ({}, True),
        ({"pool": 2}, True),
        ({"linear": True}, True),
        ({"pool": 3}, False),
        ({"pool": (2, 1)}, False),
        ({"stride": 2}, False),
        ({"padding": 3}, False),
        ({"precision": "float32"}, False),
    ],
)
def test_matrix_units_take_what_they_can(how, taken):
    geometry = Geometry.of((3, 3), **({"precision": "tf32"} | how))
    device = forms.Call(False, frozenset("f"), True, geometry, 8)
    assert forms.MATRIX_UNITS(device) == taken
    assert not forms.MATRIX_UNITS(replace(device, host=True))
    assert not forms.MATRIX_UNITS(replace(device, channels=3))  # the image itself
    assert device.rounds == (geometry.rounds and not taken)


def test_the_table_of_cases_meets_every_kernel(monkeypatch):
    met = set()
    for runner in ("run", "run_blocks"):
        launched = getattr(launch, runner)
        monkeypatch.setattr(
            launch, runner, lambda f, n, *rest, run=launched: (met.add(n), run(f, n, *rest))
        )
    for bits in LOW:
        for name in ("several at a time", "one channel, one neuron"):
            all_forms(*case(name, bits))
        matrix_units.rounded(numbers(), bits)
    assert met == set(launch.names("matrix_units"))


@pytest.mark.parametrize("bits", LOW)
@pytest.mark.parametrize("name", ["more inputs than a tile", "more neurons than a tile"])
def test_a_launch_of_any_shape_gives_the_same_bits(monkeypatch, name, bits):
    given = case(name, bits)
    wanted = all_forms(*given)
    for most, grid, block in ((1, (1, 1), (32, 1)), (3, (3, 2), (64, 4))):
        monkeypatch.setattr(launch, "MOST_BLOCKS", most)
        shape = lambda columns, rows, grid=grid, block=block: (grid, block)  # noqa: E731
        monkeypatch.setattr(launch, "grid_of", shape)
        same(all_forms(*given), wanted)


def test_places_are_shared_out_by_the_shapes_alone(monkeypatch):
    """One span, or one for each place: the sums over places are added in another order."""
    geometry, *given = case("a row and a column that no pool holds", "bfloat16")
    y, places, z, dW, db, error = all_forms(geometry, *given)
    monkeypatch.setattr(matrix_units, "BLOCKS", 1)
    found = all_forms(geometry, *given)
    same((*found[:2], *found[4:]), (y, places, db, error))
    np.testing.assert_allclose(found[2], z, rtol=1e-5)
    np.testing.assert_allclose(found[3], dW, rtol=1e-5, atol=1e-5)
    assert matrix_units._spans(6, 1) == (6, 1)
    monkeypatch.setattr(matrix_units, "BLOCKS", 1024)
    assert matrix_units._spans(256, 100) == (24, 11) and matrix_units._spans(1, 9) == (1, 1)


@pytest.mark.parametrize("bits", LOW)
def test_inputs_may_go_through_in_chunks(monkeypatch, bits):
    geometry, *given = case("more inputs than a tile", bits)
    y, places, z, dW, db, error = all_forms(geometry, *given)
    monkeypatch.setattr(launch, "CHUNK_BYTES", 4 * 4 * 13 * 21)  # forwards more, since 8 < 13
    assert len(list(launch.chunks(67, 4, 4 * 13))) == 4
    found = all_forms(geometry, *given)
    same((*found[:3], found[5]), (y, places, z, error))
    for one, right in zip(found[3:5], (dW, db), strict=True):
        np.testing.assert_allclose(one, right, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("bits", LOW)
@pytest.mark.parametrize("name", ["several at a time", "3x3, linear"])
def test_arrays_that_are_not_contiguous_give_the_same_bits(name, bits):
    geometry, *given = case(name, bits, shared=False)
    wanted = all_forms(geometry, *given)
    apart = [None if a is None else np.stack([a, a], axis=-1)[..., 0] for a in given]
    for a, b in zip(all_forms(geometry, *apart), wanted, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("bits", LOW)
def test_of_equal_neurons_of_a_pool_the_first_wins_and_silence_has_its_code(bits):
    rng = np.random.default_rng(3)
    x, weight = (rng.integers(-1, 2, s).astype(np.float32) for s in ((20, 2, 2, 5), (33, 5, 3, 3)))
    bias, geometry = np.full(33, -2, np.float32), three_by_three(2, precision=bits)
    y, winner, _ = convolution.forward(x, weight, bias, geometry)  # whole numbers: exact
    found, places, _ = matrix_units.forward(x, weight, bias, geometry)
    a = np.sort(convolution.convolve(x, weight, bias, geometry).reshape(20, 4, 33), axis=1)
    assert ((a[:, 3] == a[:, 2]) & (a[:, 3] > 0)).sum() > 10 < (a[:, 3] == 0).sum()
    np.testing.assert_array_equal(places, winner)
    np.testing.assert_array_equal(found, y)
    assert set(winner.ravel().tolist()) == {0, 1, 2, 3, SILENT}


@pytest.mark.parametrize("bits", LOW)
def test_what_is_not_a_number_stays_so_and_wins_nothing(bits):
    x = np.zeros((1, 2, 2, 1), np.float32)
    x[0, 1, 1] = np.array(0x7F800001, np.uint32).view(np.float32)  # lost if its bits were cut
    y, winner, _ = matrix_units.forward(
        x, np.ones((1, 1, 3, 3), "f"), np.zeros(1, "f"), three_by_three(2, precision=bits)
    )
    assert np.isnan(y).all() and (winner == SILENT).all()


@pytest.mark.parametrize("bits", LOW)
def test_numbers_are_rounded_as_defined(monkeypatch, bits):
    few = np.array([0x7FFFFFFF, 0x7F800001, 0x7F800000, 0x7F7FFFFF], np.uint32).view(np.float32)
    for a in (np.append(numbers(), few), np.zeros((0, 3), np.float32), numbers()[::2]):
        found = matrix_units.rounded(a, bits)
        assert found.dtype == np.float32 and found.shape == a.shape
        np.testing.assert_array_equal(found, precision.rounded(a, bits))
    monkeypatch.setattr(launch, "grid_of", lambda columns, rows: ((3,), (64,)))
    np.testing.assert_array_equal(matrix_units.rounded(numbers(), bits), nearest(numbers(), bits))


@pytest.mark.parametrize("by_input", [True, False])
@pytest.mark.parametrize("bits", LOW)
def test_words_hold_the_rounded_numbers_in_their_order(bits, by_input):
    x = np.random.default_rng(0).standard_normal((5, 2, 3, 7)).astype(np.float32)
    words = matrix_units._inputs(x, Geometry.of((1, 1), precision=bits), by_input)
    halves = [words.view(np.float32)]
    if bits == "bfloat16":
        halves = [(words << 16).view(np.float32), (words & 0xFFFF0000).view(np.float32)]
    axis = 0 if by_input else 3
    held = np.stack(halves, axis=axis + 1)
    shape = [*words.shape]
    shape[axis] *= len(halves)
    held = held.reshape(shape)
    whole = np.take(held, range(x.shape[axis]), axis=axis)
    np.testing.assert_array_equal(whole, precision.rounded(x, bits))
    assert not np.take(held, range(x.shape[axis], shape[axis]), axis=axis).any()


@pytest.mark.skipif(SANITIZED, reason="this is the run under the sanitizers")
def test_no_kernel_reads_or_writes_outside_its_arrays():
    """The table once more, with sanitizers, as far as it meets all kernels and all edges."""
    try:
        environment = emulation.sanitized_environment() | {"PLASTICITY_SANITIZE": "1"}
    except RuntimeError as missing:
        pytest.skip(str(missing))
    some = "several or hold or pixel or (empty and tf32) or neurons-True-tf32 or not_a_number"
    command = [sys.executable, "-m", "pytest", "-n0", "--noconftest", "-p", "no:cacheprovider"]
    command += ["-k", f"(rounded_operands or not_a_number) and ({some})"]
    found = subprocess.run(
        [*command, __file__], env=environment, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stdout + found.stderr
