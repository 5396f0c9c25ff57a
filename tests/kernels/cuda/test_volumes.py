"""Convolutions and norms of films on a card, their source run on the CPU, against the definitions.

With PLASTICITY_SANITIZE=1 the address and undefined-behaviour sanitizers watch every access; the
last test runs this file so.
"""

import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from plasticity.kernels import Pool, definition
from plasticity.kernels.cuda import launch, norm, products, volumes
from plasticity.kernels.geometry import Geometry
from tests.kernels import emulation
from tests.kernels.cpu.test_volumes import FILMS
from tests.kernels.test_norm import CASES as NORMS
from tests.rounding import at_winners, close, sizes_of

SANITIZED = os.environ.get("PLASTICITY_SANITIZE") == "1"
TYPES = [np.float32, np.float64]
GEOMETRIES = [((1, 1), (32, 1)), ((3, 2), (64, 4)), ((2, 5), (96, 1))]  # grid, block

pytestmark = pytest.mark.skipif(bool(emulation.MISSING), reason=emulation.MISSING)


class RawModule:
    def __init__(self, code, options, name_expressions):
        self.kernels = emulation.build(code, name_expressions, sanitize=SANITIZED)

    def get_function(self, name):
        return self.kernels[name]


@pytest.fixture(autouse=True)
def cupy(monkeypatch):
    functions = {n: getattr(np, n) for n in ("empty", "zeros", "zeros_like", "ascontiguousarray")}
    nothing = type("ndarray", (), {})  # the definitions take these arrays for the CPU's
    module = SimpleNamespace(RawModule=RawModule, ndarray=nothing, **functions)
    monkeypatch.setitem(sys.modules, "cupy", module)
    monkeypatch.setattr(products, "multiply", definition.products.multiply)
    launch._kernels.cache_clear()
    yield
    launch._kernels.cache_clear()


OVERLAP = Pool((1, 3, 3), (1, 2, 2))

# Kernel, stride, padding, space, channels, neurons, pool
POOLED = {
    "film, a pool of two frames": ((3, 3, 3), 1, 1, (5, 6, 5), 3, 4, 2),
    "film, pools that overlap": ((1, 3, 3), 1, (0, 1, 1), (3, 7, 9), 3, 5, OVERLAP),
    "film, pools with gaps": ((2, 2, 2), 1, 0, (6, 7, 5), 2, 3, Pool((1, 2, 1), (2, 3, 2))),
    "image, 5x5 with stride 2": ((5, 5), 2, 2, (11, 9), 3, 5, 1),
    "image, pool of 3": ((3, 3), 1, 1, (7, 8), 2, 4, 3),
    "sound, a pool over time": ((4,), 2, 1, (21,), 3, 5, 2),
}
CASES = {n: (*of, None) for n, of in FILMS.items()} | POOLED


def geometry_of(name):
    kernel, stride, padding, *_, pool = CASES[name]
    if pool is None:
        return Geometry.of(kernel, stride, padding, linear=True)
    return Geometry.of(kernel, stride, padding, pool)


def case(name, dtype, shared=False, N=3):
    """Input, weight, bias, drive and the definition's winners: whole numbers, so that some neurons
    are equal."""
    kernel, _, _, space, C, O, _ = CASES[name]  # noqa: E741
    rng, geometry = np.random.default_rng(0), geometry_of(name)
    shapes = (N, *space, C), (O, C, *kernel), (O,)
    x, weight, bias = (rng.integers(-4, 5, shape).astype(dtype) for shape in shapes)
    y, winner, _ = definition.convolution.forward(x, weight, bias, geometry)
    drive = rng.integers(-4, 5, (N, O) if shared else y.shape).astype(dtype)
    return x, weight, bias, drive, winner, geometry


def forms(form, x, weight, bias, drive, winner, geometry):
    """Activity, winners, mean, dW, db and the error below."""
    y, places, z = form.forward(x, weight, bias, geometry)
    dW, db = form.correlate(x, winner, drive, geometry)
    return y, places, z, dW, db, form.back(winner, drive, weight, x.shape[1:-1], geometry)


def same(found, wanted):
    for a, b in zip(found, wanted, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            np.testing.assert_array_equal(a, b)
            assert a.dtype == b.dtype and a.shape == b.shape


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", CASES)
def test_a_convolution_of_any_geometry_agrees_with_its_definition(name, dtype, shared):
    """Whole numbers are summed without rounding; means of them are rounded."""
    given = case(name, dtype, shared)
    y, places, z, *changes = forms(volumes, *given)
    wanted_y, wanted_places, wanted_z, *wanted = forms(definition.convolution, *given)
    same((y, places, *changes), (wanted_y, wanted_places, *wanted))
    close(z, wanted_z, np.abs(wanted_y).max(initial=0), 3)


@pytest.mark.parametrize("name", CASES)
def test_sums_are_rounded_as_any_sum_is(name):
    rng, (x, weight, bias, drive, winner, geometry) = (
        np.random.default_rng(1),
        case(name, np.float32),
    )
    x, weight, bias, drive = (
        rng.standard_normal(a.shape, np.float32) for a in (x, weight, bias, drive)
    )
    exact = [a.astype(float) for a in (x, weight, bias, drive)]
    y, places, _, dW, db, error = forms(volumes, x, weight, bias, drive, winner, geometry)
    wanted = forms(definition.convolution, *exact, winner, geometry)
    sizes = sizes_of(x, weight, bias, winner, drive, geometry)
    a = definition.convolution.convolve(*exact[:3], geometry)
    places = wanted[1] if places is None else places
    at = (lambda m: m) if places is None else lambda m: at_winners(places, m, geometry)
    close(y, at(a), sizes[0].max(), weight[0].size + 2)
    close(dW, wanted[3], sizes[1], y[..., 0].size * geometry.competitors + 2)
    close(db, wanted[4], sizes[2], y[..., 0].size * geometry.competitors + 2)
    close(error, wanted[5], sizes[3], weight[:, 0].size * geometry.competitors + 2)


@pytest.mark.parametrize("grid, block", GEOMETRIES)
@pytest.mark.parametrize("name", ["blocks 4 and 5", "film, pools that overlap"])
def test_a_launch_of_any_shape_gives_the_same_bits(monkeypatch, name, grid, block):
    given = case(name, np.float32)
    wanted = forms(volumes, *given)
    monkeypatch.setattr(launch, "grid_of", lambda columns, rows: (grid, block))
    same(forms(volumes, *given), wanted)


@pytest.mark.parametrize("name", CASES)
def test_indices_of_64_bits_give_the_same_bits(monkeypatch, name):
    given = case(name, np.float32)
    wanted = forms(volumes, *given)
    monkeypatch.setattr(launch, "NARROW", 0)
    same(forms(volumes, *given), wanted)


@pytest.mark.parametrize("name", ["block 3", "film, a pool of two frames"])
def test_inputs_may_go_through_in_chunks(monkeypatch, name):
    given = case(name, np.float64, N=5)
    wanted = forms(volumes, *given)
    monkeypatch.setattr(launch, "CHUNK_BYTES", 1)
    same(forms(volumes, *given), wanted)


@pytest.mark.parametrize("name", ["block 3", "film, a pool of two frames"])
def test_no_input_gives_nothing_and_no_change(name):
    given = case(name, np.float32, N=0)
    same(forms(volumes, *given), forms(definition.convolution, *given))


def test_a_neuron_that_is_no_number_stays_so_and_wins_nothing():
    x, weight, bias, _, _, geometry = case("film, a pool of two frames", np.float32)
    x[0, 0, 0, 0, 0] = np.nan
    y, winner, _ = volumes.forward(x, weight, bias, geometry)
    wanted_y, wanted_winner, _ = definition.convolution.forward(x, weight, bias, geometry)
    assert np.isnan(y).any()
    same((y, winner), (wanted_y, wanted_winner))


def normed(name, dtype, relu_first):
    kernel, pool, shape = NORMS[name]
    rng, geometry = np.random.default_rng(0), Geometry.of(kernel, pool=pool)
    a = rng.normal(0.3, 1.5, shape).astype(dtype)
    gain, shift = rng.normal(0, 1, (2, shape[-1])).astype(dtype)
    return a, gain, shift, geometry, relu_first


def norms(of, a, gain, shift, geometry, relu_first, batch, winner=None, statistics=None):
    """Statistics, activity, winners, and the drives at a with dgain and dshift, in one list."""
    mean, var = statistics or of.norm_statistics(a, relu_first)
    y, places = of.norm_forward(a, gain, shift, mean, var, 1e-5, geometry, relu_first)
    winner = places if winner is None else winner
    rng, found = np.random.default_rng(1), [mean, var, y, places]
    for shape in (winner.shape, (len(a), a.shape[-1])):
        drive = rng.standard_normal(shape).astype(a.dtype)
        how = gain, mean, var, 1e-5, geometry, relu_first, batch
        found += of.norm_back(a, winner, drive, *how)
    return found


@pytest.mark.parametrize("batch", [True, False])
@pytest.mark.parametrize("relu_first", [True, False])
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", NORMS)
def test_a_norm_agrees_with_its_definition(name, dtype, relu_first, batch):
    given = normed(name, dtype, relu_first)
    found = norms(norm, *given, batch)
    exact = [a.astype(float) for a in given[:3]]
    at = [a.astype(float) for a in found[:2]]
    wanted = norms(definition.norm, *exact, *given[3:], batch, found[3], at)
    wanted[:2] = definition.norm.norm_statistics(exact[0], relu_first)
    limit = 2e-5 if dtype == np.float32 else 1e-12
    for i, (one, other) in enumerate(zip(found, wanted, strict=True)):
        if i == 3:
            continue  # of equal neurons another may win; y says that those who won are the largest
        assert one.dtype == dtype and one.shape == other.shape
        np.testing.assert_allclose(one, other, rtol=0, atol=limit * max(1, np.abs(other).max()))
    o = definition.norm.norm_forward(*exact, *at, 1e-5, Geometry.of(given[3].kernel), relu_first)[0]
    there = definition.convolution.at_winners(o, found[3], given[3])
    np.testing.assert_allclose(there, wanted[2], rtol=0, atol=limit * np.abs(wanted[2]).max())


@pytest.mark.parametrize("relu_first", [True, False])
def test_a_norm_gives_the_same_bits_by_any_launch_and_any_index(monkeypatch, relu_first):
    given = (*normed("film, pools that overlap", np.float32, relu_first), True)
    monkeypatch.setattr(norm, "SPAN", 50)
    wanted = norms(norm, *given)
    for grid, block in GEOMETRIES:
        monkeypatch.setattr(launch, "grid_of", lambda *_, shape=(grid, block): shape)
        same(norms(norm, *given), wanted)
    monkeypatch.setattr(launch, "NARROW", 0)
    same(norms(norm, *given), wanted)


def test_the_statistics_of_large_numbers_lose_nothing():
    a = np.random.default_rng(0).normal(1000, 0.1, (4, 5, 6, 3)).astype(np.float32)
    wanted = definition.norm.norm_statistics(a.astype(float), True)
    for one, other in zip(norm.norm_statistics(a, True), wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_means_over_others_are_taken_into_the_drive():
    a, gain, shift, geometry, relu_first = normed("one input", np.float64, True)
    mean, var = norm.norm_statistics(a, relu_first)
    _, winner = norm.norm_forward(a, gain, shift, mean, var, 1e-5, geometry, relu_first)
    how = winner, np.ones_like(a), gain, mean, var, 1e-5, geometry, relu_first, True
    halved = lambda means: means / 2  # noqa: E731
    found, wanted = (of.norm_back(a, *how, halved) for of in (norm, definition.norm))
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12)


@pytest.mark.skipif(SANITIZED, reason="this is the run under the sanitizers")
def test_no_kernel_reads_or_writes_outside_its_arrays():
    """The tables once more, with sanitizers."""
    try:
        environment = emulation.sanitized_environment() | {"PLASTICITY_SANITIZE": "1"}
    except RuntimeError as missing:
        pytest.skip(str(missing))
    command = [sys.executable, "-m", "pytest", "-n0", "--noconftest", "-p", "no:cacheprovider"]
    command += ["-k", "agrees or nothing or 64_bits"]
    found = subprocess.run(
        [*command, __file__], env=environment, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stdout + found.stderr
