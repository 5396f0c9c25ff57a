"""The fast float32 convolutions: any shape, against the definition in float64."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from plasticity import kernels
from plasticity.kernels.cpu import few_channels, winograd, winograd_2x2, winograd_4x4
from plasticity.kernels.definition import convolution
from plasticity.kernels.geometry import SILENT, Geometry
from tests.rounding import at_winners, close_to_the_largest, sizes_of

F = np.float32


def three_by_three(pool=1, **how):
    return Geometry.of((3, 3), pool=pool, **how)


def case(seed, N, H, W, C, O):  # noqa: E741
    rng = np.random.default_rng(seed)
    # Rounded to float32 first: both forms see the same numbers.
    draw = lambda *s: rng.standard_normal(s).astype(F).astype(float)  # noqa: E731
    return draw(N, H, W, C), draw(O, C, 3, 3) / np.sqrt(9 * C), draw(O)


def single(*arrays):
    return [a.astype(F) if a.dtype == float else a for a in arrays]


def close(found, wanted, size, limit=1e-5):
    assert found.dtype == F
    close_to_the_largest(found, wanted, size, limit)


NAMED = {  # N, H, W, C, O, pool: cases that must occur, whatever is drawn
    "empty": (0, 5, 6, 5, 7, 1),
    "grey first layer": (3, 9, 7, 1, 40, 1),
    "colour first layer": (3, 9, 7, 3, 40, 1),
    "without pool": (2, 5, 7, 33, 40, 1),
    "a row and a column that no pool holds": (3, 5, 7, 5, 7, 2),
    "2x2 map without pool": (4, 2, 2, 33, 40, 1),
    "2x2 map, pooled": (4, 2, 2, 33, 40, 2),
    "one pixel": (2, 1, 1, 5, 7, 1),
}


def named(test):
    """The test, with every named case, once with a drive for each patch and once for each place."""
    for N, H, W, C, O, pool in NAMED.values():  # noqa: E741
        for shared in (True, False):
            test = example(seed=0, N=N, H=H, W=W, C=C, O=O, pool=pool, shared=shared)(test)
    return test


@settings(max_examples=60, deadline=None)
@named
@given(
    seed=st.integers(0, 999),
    N=st.integers(0, 5),
    H=st.integers(1, 17),
    W=st.integers(1, 9),
    C=st.sampled_from([1, 3, 4, 5, 16, 33]),
    O=st.sampled_from([1, 7, 16, 40]),
    pool=st.sampled_from([1, 2]),
    shared=st.booleans(),
)
def test_any_shape_agrees_with_the_definition(seed, N, H, W, C, O, pool, shared):  # noqa: E741
    if min(H, W) < pool:
        return
    x, weight, bias = case(seed, N, H, W, C, O)
    y, winner, z = convolution.forward(x, weight, bias, three_by_three(pool))
    found, places, encoding = winograd.forward(*single(x, weight, bias), three_by_three(pool))
    rng = np.random.default_rng(seed + 1)
    drive = rng.standard_normal((N, O) if shared else y.shape)
    size, *sizes = sizes_of(x, weight, bias, winner, drive, three_by_three(pool))
    close(found, y, size)
    close(encoding, z, size)
    a = convolution.convolve(x, weight, bias, three_by_three(pool))
    close(at_winners(places, a, three_by_three(pool)).astype(F), y, size)
    plain, none, _ = winograd.forward(*single(x, weight, bias), three_by_three(pool), winners=False)
    assert none is None
    np.testing.assert_array_equal(plain, found)
    dW, db = convolution.correlate(x, winner, drive, three_by_three(pool))
    error = convolution.back(winner, drive, weight, (H, W), three_by_three(pool))
    found_error = winograd.back(*single(winner, drive, weight), (H, W), three_by_three(pool))
    found_changes = winograd.correlate(*single(x, winner, drive), three_by_three(pool))
    exact = (dW, db, error)
    for found, wanted, size in zip((*found_changes, found_error), exact, sizes, strict=True):
        close(found, wanted, size)


@pytest.mark.parametrize("space", [(2, 2), (8, 8), (5, 7)])
def test_two_by_two_tiles_and_the_first_layer_are_reached(space):
    assert winograd._algorithm(*space) is (winograd_2x2 if space == (2, 2) else winograd_4x4)


def test_ties_in_the_pool_go_to_the_first_neuron():
    """Whole numbers that the transforms keep exact: equal neurons stay equal."""
    rng = np.random.default_rng(0)
    x = rng.integers(-1, 2, (24, 2, 2, 5)).astype(F)
    weight = rng.integers(-1, 2, (9, 5, 3, 3)).astype(F)
    bias = np.zeros(9, F)
    _, winner, _ = convolution.forward(x, weight, bias, three_by_three(2))
    np.testing.assert_array_equal(winograd.forward(x, weight, bias, three_by_three(2))[1], winner)
    a = np.sort(convolution.convolve(x, weight, bias, three_by_three(2)).reshape(24, 4, 9), axis=1)
    assert ((a[:, 3] == a[:, 2]) & (a[:, 3] > 0)).sum() > 10  # or the test would show nothing
    assert len(set(winner.ravel().tolist())) == 5


def test_all_silent_and_nothing_driven_change_nothing():
    x, weight, bias = single(*case(1, 4, 8, 8, 6, 10))
    y, winner, z = winograd.forward(x, weight, bias - 1e3, three_by_three(2))
    assert not y.any() and not z.any() and (winner == SILENT).all()
    for drive in (np.ones((4, 10), F), np.zeros((4, 10), F)):
        dW, db = winograd.correlate(x, winner, drive, three_by_three(2))
        assert not dW.any() and not db.any()


def test_patches_that_nothing_drives_are_left_out_and_change_nothing():
    x, weight, bias = single(*case(2, 9, 8, 8, 6, 10))
    _, winner, _ = winograd.forward(x, weight, bias, three_by_three(1))
    drive = np.random.default_rng(0).standard_normal((9, 10)).astype(F)
    drive[[0, 3, 4, 8]] = 0
    kept = [1, 2, 5, 6, 7]
    driven = drive.any(axis=1)
    x[~driven] = np.nan  # would be in every sum that it has a part in
    dW, _ = winograd.correlate(x, winner, drive, three_by_three(1))
    alone, _ = winograd.correlate(x[kept], winner[kept], drive[kept], three_by_three(1))
    seen = (x[kept], weight, bias, winner[kept], drive[kept])
    _, size, _, _ = sizes_of(*seen, three_by_three(1))
    close(dW, alone.astype(float), size)


def test_many_blocks_add_up(monkeypatch):
    monkeypatch.setattr(winograd, "CORRELATE_BYTES", 4 * 36 * 20 * 8)
    monkeypatch.setattr(winograd, "FORWARD_TILES", 3)
    x, weight, bias = case(3, 23, 7, 7, 8, 12)
    y, winner, _ = convolution.forward(x, weight, bias, three_by_three(2))
    drive = np.random.default_rng(0).standard_normal((23, 12))
    size, size_dW, _, _ = sizes_of(x, weight, bias, winner, drive, three_by_three(2))
    close(winograd.forward(*single(x, weight, bias), three_by_three(2))[0], y, size)
    dW, _ = convolution.correlate(x, winner, drive, three_by_three(2))
    close(winograd.correlate(*single(x, winner, drive), three_by_three(2))[0], dW, size_dW)


def test_the_same_input_gives_the_same_bits_from_two_threads_at_once():
    x, weight, bias = single(*case(4, 40, 8, 8, 16, 24))

    def step(_):
        y, winner, z = winograd.forward(x, weight, bias, three_by_three(2))
        return y, *winograd.correlate(x, winner, z, three_by_three(2))

    alone = step(0)
    with ThreadPoolExecutor(2) as pool:
        for found in pool.map(step, range(6)):
            for a, b in zip(found, alone, strict=True):
                np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("algorithm", [winograd_4x4, winograd_2x2])
def test_the_matrices_are_a_convolution(algorithm):
    """y = A^T [(G g) * (B^T d)] for one tile, in one dimension and in float64."""
    rng = np.random.default_rng(0)
    g, inside = rng.standard_normal(3), algorithm.B_T.shape[1]
    d = rng.standard_normal(inside)
    padded = d if algorithm is winograd_4x4 else np.pad(d, 1)
    wanted = np.correlate(padded, g, "valid")
    np.testing.assert_allclose(
        algorithm.A_T @ ((algorithm.G @ g) * (algorithm.B_T @ d)), wanted, rtol=1e-12, atol=1e-12
    )
    assert len(algorithm.G) ** 2 == algorithm.PRODUCTS and len(wanted) == algorithm.SIDE


@pytest.mark.parametrize("algorithm", [winograd_4x4, winograd_2x2])
def test_the_unrolled_transforms_are_the_matrices(algorithm):
    rng = np.random.default_rng(1)
    B, G, A = algorithm.B_T, algorithm.G, algorithm.A_T.T
    n, P, side = len(G), algorithm.PRODUCTS, algorithm.SIDE
    x = rng.standard_normal((3, side, side, 5)).astype(F)
    V = np.empty((P, 4, 5), F)
    algorithm.inputs(x, np.array([2, 0, 1]), V, 1)
    d = x if algorithm is winograd_2x2 else np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
    wanted = np.einsum("ar,nrsc,bs->abnc", B, d.astype(float), B).reshape(P, 3, 5)
    np.testing.assert_allclose(V[:, 1:], wanted[:, [2, 0, 1]], rtol=1e-5, atol=1e-5)

    w = rng.standard_normal((20, 5, 9)).astype(F)
    U = np.empty((P, 5, 20), F)
    algorithm.weights(w, 0, 5, U)
    kernel = w.reshape(20, 5, 3, 3).astype(float)
    wanted = np.einsum("ar,ocrs,bs->abco", G, kernel, G).reshape(P, 5, 20)
    np.testing.assert_allclose(U, wanted, rtol=1e-5, atol=1e-5)

    winner = rng.choice([0, SILENT], (3, side, side, 4)).astype(np.uint8)
    drive = rng.standard_normal((3, side, side, 4)).astype(F)
    S, db = np.empty((P, 4, 4), F), np.zeros(4, F)
    algorithm.posts(winner, drive, np.arange(3), side, side, 1, S, 1, db)
    post = np.where(winner == 0, drive, 0).astype(float)
    wanted = np.einsum("ar,nrso,bs->abno", A, post, A).reshape(P, 3, 4)
    np.testing.assert_allclose(S[:, 1:], wanted, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(db, post.sum(axis=(0, 1, 2)), rtol=1e-5, atol=1e-5)

    Q = rng.standard_normal((P, 5, 20)).astype(F)
    dW = np.empty((20, 5, 9), F)
    algorithm.gradients(Q, 0, 5, dW)
    products = Q.reshape(n, n, 5, 20).astype(float)
    wanted = np.einsum("ar,abco,bs->ocrs", G, products, G).reshape(20, 5, 9)
    np.testing.assert_allclose(dW, wanted, rtol=1e-5, atol=1e-4)


def test_the_first_layer_takes_its_own_form():
    x, weight, bias = single(*case(5, 4, 6, 6, 1, 8))
    y, winner, _ = few_channels.forward(x, weight, bias, three_by_three())
    np.testing.assert_array_equal(kernels.forward(x, weight, bias, three_by_three())[0], y)
    assert winner.dtype == np.uint8
