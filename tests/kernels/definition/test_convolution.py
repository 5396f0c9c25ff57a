"""The definitions of the convolution kernels, against loops and hand-worked numbers."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import correlate2d

from plasticity.kernels.definition import convolution
from plasticity.kernels.geometry import SILENT, Geometry
from tests.rounding import close, close_slope

sizes = st.integers(1, 7)


def three_by_three(pool=1, **how):
    return Geometry.of((3, 3), pool=pool, **how)


def case(seed, n, h, w, c, o, whole=False):
    rng = np.random.default_rng(seed)
    draw = (lambda *s: rng.integers(-2, 3, s).astype(float)) if whole else rng.standard_normal
    shape = lambda *s: s if whole else (s,)  # noqa: E731
    return draw(*shape(n, h, w, c)), draw(*shape(o, c, 3, 3)), draw(*shape(o))


def plain_forward(x, weight, bias, pool):
    """Convolution by SciPy, then one pool window at a time."""
    n, h, w, _ = x.shape
    o = len(weight)
    a = np.zeros((n, h, w, o))
    for i, j in product(range(n), range(o)):
        planes = (correlate2d(x[i, :, :, c], weight[j, c], "same") for c in range(x.shape[-1]))
        a[i, :, :, j] = bias[j] + sum(planes)
    y = np.zeros((n, h // pool, w // pool, o))
    winner = np.full(y.shape, SILENT)
    for i, r, s, j in np.ndindex(y.shape):
        window = a[i, r * pool : (r + 1) * pool, s * pool : (s + 1) * pool, j].ravel()
        if window.max() > 0:
            y[i, r, s, j], winner[i, r, s, j] = window.max(), window.argmax()
    return y, winner


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 99), st.integers(1, 3), sizes, sizes, sizes, sizes, st.sampled_from([1, 2]))
def test_forward_is_convolution_relu_and_the_first_of_the_largest(seed, n, h, w, c, o, pool):
    if min(h, w) < pool:
        return
    x, weight, bias = case(seed, n, h, w, c, o, whole=True)  # whole numbers: many ties
    y, winner, encoding = convolution.forward(x, weight, bias, three_by_three(pool))
    wanted, places = plain_forward(x, weight, bias, pool)
    np.testing.assert_array_equal(y, wanted)
    np.testing.assert_array_equal(winner, places)
    np.testing.assert_allclose(encoding, wanted.mean(axis=(1, 2)), rtol=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 99), st.integers(1, 3), sizes, sizes, sizes, sizes, st.sampled_from([1, 2]))
def test_correlate_and_back_are_the_gradient_of_the_activity(seed, n, h, w, c, o, pool):
    """sum(drive * y) is linear in W and in x where winners stay: its slopes are dW, db, error."""
    if min(h, w) < pool:
        return
    x, weight, bias = case(seed, n, h, w, c, o)
    y, winner, _ = convolution.forward(x, weight, bias, three_by_three(pool))
    rng = np.random.default_rng(seed + 1)
    drive = rng.standard_normal(y.shape)
    dW, db = convolution.correlate(x, winner, drive, three_by_three(pool))
    error = convolution.back(winner, drive, weight, (h, w), three_by_three(pool))

    def slope(change, step=1e-7):
        def value(sign):
            args = [a + sign * step * d for a, d in zip((x, weight, bias), change, strict=True)]
            return (convolution.forward(*args, three_by_three(pool))[0] * drive).sum()

        return (value(1) - value(-1)) / (2 * step)

    sizes = convolution.forward(*map(np.abs, (x, weight, bias)), three_by_three(pool))[0]
    noise = (9 * c + 1 + y.size) * np.finfo(float).eps * (np.abs(drive) * sizes).sum() / 1e-7
    zeros = [np.zeros_like(a) for a in (x, weight, bias)]
    for place, found in enumerate((error, dW, db)):
        direction = rng.standard_normal(found.shape)
        change = [direction if i == place else zero for i, zero in enumerate(zeros)]
        close_slope(slope(change), found, direction, noise=noise)


def test_an_inhibited_neuron_has_no_post_factor():
    """Four neurons compete, the second wins: drive reaches it alone."""
    x = np.array([[1.0, 4.0], [3.0, 2.0]]).reshape(1, 2, 2, 1)
    weight = np.zeros((1, 1, 3, 3))
    weight[0, 0, 1, 1] = 1
    y, winner, encoding = convolution.forward(x, weight, np.zeros(1), three_by_three(2))
    assert (y.item(), winner.item(), encoding.item()) == (4, 1, 4)
    post = convolution.post_factor(winner, np.array([[5.0]]), three_by_three(2), (2, 2))
    assert post.ravel().tolist() == [0, 5, 0, 0]


def test_ties_go_to_the_first_neuron_in_row_major_order():
    x = np.array([[1.0, 7.0], [7.0, 7.0]]).reshape(1, 2, 2, 1)
    weight = np.zeros((1, 1, 3, 3))
    weight[0, 0, 1, 1] = 1
    assert convolution.forward(x, weight, np.zeros(1), three_by_three(2))[1].item() == 1


def test_a_silent_pool_has_no_winner_and_learns_nothing():
    x, weight, bias = case(0, 2, 4, 4, 3, 5)
    _, winner, _ = convolution.forward(x, weight, bias - 1e3, three_by_three(2))
    assert (winner == SILENT).all()
    dW, db = convolution.correlate(x, winner, np.ones((2, 5)), three_by_three(2))
    assert not dW.any() and not db.any()


@pytest.mark.parametrize(
    ("space", "kernel", "stride", "padding", "pool"),
    [((20,), (5,), 2, 2, 1), ((5, 9, 8), (3, 3, 3), (3, 1, 1), (0, 1, 1), (1, 2, 2))],
)
def test_one_and_three_dimensions_agree_with_a_plain_sum(space, kernel, stride, padding, pool):
    rng = np.random.default_rng(3)
    x, weight = rng.standard_normal((2, *space, 3)), rng.standard_normal((4, 3, *kernel))
    bias = rng.standard_normal(4)
    geometry, dims = Geometry.of(kernel, stride, padding, pool), len(space)
    a = convolution.convolve(x, weight, bias, geometry)
    padded = np.pad(x, [(0, 0), *((p, p) for p in geometry.padding), (0, 0)])
    for place in np.ndindex(a.shape[1:-1]):
        spans = zip(place, geometry.stride, kernel, strict=True)
        window = padded[:, *(slice(i * s, i * s + k) for i, s, k in spans)]
        wanted = np.tensordot(np.moveaxis(window, -1, 1), weight, (range(1, dims + 2),) * 2) + bias
        size = np.tensordot(
            np.abs(np.moveaxis(window, -1, 1)), np.abs(weight), (range(1, dims + 2),) * 2
        )
        close(a[:, *place], wanted, size + np.abs(bias), 3 * np.prod(kernel) + 2)
    y, winner, _ = convolution.forward(x, weight, bias, geometry)
    direction = rng.standard_normal(weight.shape)
    drive = rng.standard_normal(y.shape)
    dW, _ = convolution.correlate(x, winner, drive, geometry)
    values = [
        convolution.forward(x, weight + e * direction, bias, geometry)[0] for e in (1e-7, -1e-7)
    ]
    slope = ((values[0] - values[1]) * drive).sum() / 2e-7
    close_slope(slope, dW, direction)


@pytest.mark.parametrize("drive_of", ["patches", "positions"])
def test_a_linear_layer_inhibits_nobody(drive_of):
    """Against a sum of windows: 3x3, stride 2, no padding; every neuron learns."""
    x, weight, bias = case(0, 2, 7, 5, 3, 4)
    geometry = Geometry.of((3, 3), stride=2, padding=0, linear=True)
    y, winner, encoding = convolution.forward(x, weight, bias, geometry)
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(1, 2))[:, ::2, ::2]
    size = np.einsum("nrscij,ocij->nrso", *map(np.abs, (windows, weight))) + np.abs(bias)
    close(y, np.einsum("nrscij,ocij->nrso", windows, weight) + bias, size, 9 * 3 + 2)
    assert winner is None and (y < 0).any()
    positions = y[0, ..., 0].size
    close(encoding, y.mean(axis=(1, 2)), np.abs(y).mean(axis=(1, 2)), positions + 2)
    drive = np.random.default_rng(1).standard_normal((2, 4) if drive_of == "patches" else y.shape)
    post = np.broadcast_to(
        drive.reshape(2, *(y.shape[1:3] if drive.ndim == 4 else (1, 1)), 4), y.shape
    )
    dW, db = convolution.correlate(x, None, drive, geometry)
    size = np.einsum("nrscij,nrso->ocij", *map(np.abs, (windows, post)))
    close(dW, np.einsum("nrscij,nrso->ocij", windows, post), size, 2 * positions + 2)
    close(db, post.sum(axis=(0, 1, 2)), np.abs(post).sum(axis=(0, 1, 2)), 2 * positions + 2)
    error = convolution.back(None, drive, weight, (7, 5), geometry)
    made = np.einsum("nrscij,ocij->nrso", *map(np.abs, (windows, weight))) + 2 * np.abs(bias)
    size, terms = np.vdot(np.abs(post), made), 9 * 3 + 2 + y.size
    close(np.vdot(error, x), np.vdot(post, y - bias), size, terms)  # the transposed map
