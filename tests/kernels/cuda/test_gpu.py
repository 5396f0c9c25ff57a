"""On a real card: every operation of the door against its definition, and the same bits again."""

import numpy as np
import pytest

from plasticity import kernels
from plasticity.kernels import Geometry
from plasticity.kernels.definition import convolution, pairs, patches, rows
from tests.convolutions import IN_TIME
from tests.rounding import at_winners, close_to_the_largest, gru_sizes, sizes_of


def _missing() -> str:
    try:
        import cupy
    except ImportError:
        return "needs a GPU, and CuPy is not installed"
    return "" if cupy.cuda.is_available() else "needs a GPU, and there is none here"


MISSING = _missing()
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(bool(MISSING), reason=MISSING)]
TYPES = [np.float32, np.float64]
CASES = [  # N, H, W, C, O, pool
    (0, 8, 8, 4, 8, 2),
    (3, 16, 16, 1, 130, 1),
    (5, 9, 7, 3, 17, 1),
    (70, 16, 16, 33, 65, 2),
    (9, 5, 7, 40, 24, 2),
    (300, 4, 4, 64, 96, 2),
    (300, 2, 2, 64, 96, 2),
]


def close(found, wanted, size):
    found = found.get()
    close_to_the_largest(found, wanted, size, 5e-5 if found.dtype == np.float32 else 1e-12)


def on_card(*arrays):
    import cupy

    return [cupy.asarray(a) for a in arrays]


def case(dtype, N, H, W, C, O, pool, shared):  # noqa: E741
    rng = np.random.default_rng(0)
    draw = lambda *s: rng.standard_normal(s).astype(dtype)  # noqa: E731
    weight = (draw(O, C, 3, 3) / np.sqrt(9 * C)).astype(dtype)
    drive = draw(N, O) if shared else draw(N, H // pool, W // pool, O)
    return draw(N, H, W, C), weight, draw(O), drive


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("shape", CASES)
@pytest.mark.parametrize("dtype", TYPES)
def test_a_convolution_on_the_card_agrees_and_repeats(dtype, shape, shared):
    import cupy

    space, geometry = shape[1:3], Geometry.of((3, 3), pool=shape[-1])
    x, weight, bias, drive = case(dtype, *shape, shared)
    exact = [a.astype(float) for a in (x, weight, bias, drive)]
    y, winner, z = convolution.forward(*exact[:3], geometry)
    cx, cw, cb, cd, cwin = on_card(x, weight, bias, drive, winner)

    def all_of_it():
        found = kernels.forward(cx, cw, cb, geometry)
        error = kernels.back(cwin, cd, cw, space, geometry)
        return (*found, *kernels.correlate(cx, cwin, cd, geometry), error)

    first, again = all_of_it(), all_of_it()
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a.get(), b.get())
    size, *sizes = sizes_of(*exact[:3], winner, exact[3], geometry)
    a = convolution.convolve(*exact[:3], geometry)
    won = cupy.asarray(at_winners(first[1].get(), a, geometry).astype(dtype))
    for found in (first[0], won):
        close(found, y, size)
    close(first[2], z, size)
    changes = convolution.correlate(exact[0], winner, exact[3], geometry)
    error = convolution.back(winner, exact[3], exact[1], space, geometry)
    for found, wanted, limit in zip(first[3:], (*changes, error), sizes, strict=True):
        close(found, wanted, limit)


@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])
@pytest.mark.parametrize("shape", [*CASES, (130, 8, 8, 96, 128, 1)])
def test_matrix_units_of_the_card_multiply_rounded_operands_and_repeat(precision, shape):
    """The definition of rounded operands; the units' own sums are in float32, some of them cut."""
    if int(_capability()) < 80:
        pytest.skip("this card has no matrix units for tf32 and bfloat16")
    space, geometry = shape[1:3], Geometry.of((3, 3), pool=shape[-1], precision=precision)
    x, weight, bias, drive = case(np.float32, *shape, False)
    met, w, driven = (kernels.rounded(a, precision).astype(float) for a in (x, weight, drive))
    y, winner, z = convolution.forward(met, w, bias.astype(float), geometry)
    cx, cw, cb, cd, cwin = on_card(x, weight, bias, drive, winner)

    def all_of_it():
        found = kernels.forward(cx, cw, cb, geometry)
        error = kernels.back(cwin, cd, cw, space, geometry)
        return (*found, *kernels.correlate(cx, cwin, cd, geometry), error)

    first, again = all_of_it(), all_of_it()
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a.get(), b.get())
    size, *sizes = sizes_of(met, w, bias, winner, driven, geometry)
    changes = convolution.correlate(met, winner, driven, geometry)
    error = convolution.back(winner, driven, w, space, geometry)
    found, wanted = (first[0], first[2], *first[3:]), (y, z, *changes, error)
    for a, b, limit in zip(found, wanted, (size, size, *sizes), strict=True):
        close(a, b, limit)


def _capability() -> str:
    import cupy

    return cupy.cuda.Device().compute_capability


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", IN_TIME)
def test_a_convolution_in_time_on_the_card_agrees_and_repeats(name, dtype, shared):
    kernel, stride, padding, samples, C, O = IN_TIME[name]  # noqa: E741
    geometry, rng = Geometry.of((kernel,), stride, padding), np.random.default_rng(6)
    draw = lambda *s: rng.standard_normal(s).astype(dtype)  # noqa: E731
    x, weight, bias = draw(3, samples, C), draw(O, C, kernel), draw(O)
    exact = [a.astype(float) for a in (x, weight, bias)]
    y, winner, z = convolution.forward(*exact, geometry)
    drive = draw(3, O) if shared else draw(*y.shape)
    cx, cw, cb, cd, cwin = on_card(x, weight, bias, drive, winner)

    def all_of_it():
        found = kernels.forward(cx, cw, cb, geometry)
        error = kernels.back(cwin, cd, cw, (samples,), geometry)
        return (*found, *kernels.correlate(cx, cwin, cd, geometry), error)

    first, again = all_of_it(), all_of_it()
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a.get(), b.get())
    size, *sizes = sizes_of(*exact, winner, drive, geometry)
    won = at_winners(first[1].get(), convolution.convolve(*exact, geometry), geometry)
    assert np.abs(won - y).max() <= 1e-5 * np.max(size)
    changes = convolution.correlate(exact[0], winner, drive.astype(float), geometry)
    error = convolution.back(winner, drive.astype(float), exact[1], (samples,), geometry)
    found, wanted = (first[0], first[2], *first[3:]), (y, z, *changes, error)
    for a, b, limit in zip(found, wanted, (size, size, *sizes), strict=True):
        close(a, b, limit)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("events", [0, 1, 5000])
def test_events_on_the_card_agree_and_repeat(dtype, events):
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((2, 300, 133)).astype(dtype)
    to, source = rng.integers(0, 300, (2, events))
    factor = rng.standard_normal(events).astype(dtype)
    ca, cb, cto, csource, cfactor = on_card(a, b, to, source, factor)
    size = np.abs(a[to] * b[source]).sum(axis=1, dtype=float)
    wanted = rows.scores(a.astype(float), b, to, source)
    close(kernels.scores(ca, cb, cto, csource), wanted, size)
    found = []
    for _ in range(2):
        found.append(ca.copy())
        kernels.add_rows(found[-1], cto, cfactor, cb, csource)
    np.testing.assert_array_equal(found[0].get(), found[1].get())
    wanted = a.astype(float)
    rows.add_rows(wanted, to, factor.astype(float), b.astype(float), source)
    size = np.abs(a).astype(float)
    rows.add_rows(size, to, np.abs(factor).astype(float), np.abs(b).astype(float), source)
    close(found[0], wanted, size)


@pytest.mark.parametrize("name, more", [("hinge_pairs", ()), ("infonce", (1e-11,))])
@pytest.mark.parametrize("dtype", TYPES)
def test_all_pairs_on_the_card_agree_and_repeat(dtype, name, more):
    rng, contexts, targets = np.random.default_rng(3), 300, 700
    u, number = 3 * rng.standard_normal((contexts, targets)), rng.integers(0, targets, contexts)
    u, *weights = (a.astype(dtype) for a in (u, *rng.random((2 if more else 3, contexts))))
    given = on_card(u, number, *weights)
    first, again = (getattr(kernels, name)(*given, *more) for _ in range(2))
    wanted = getattr(rows, name)(
        u.astype(float), number, *(w.astype(float) for w in weights), *more
    )
    for a, b, exact in zip(first, again, wanted, strict=True):
        np.testing.assert_array_equal(a.get(), b.get())
        close(a, exact, np.abs(exact).max())


@pytest.mark.parametrize("dtype", TYPES)
def test_a_stack_is_added_on_the_card(dtype):
    rng = np.random.default_rng(4)
    parts, out = rng.standard_normal((3, 300, 133)).astype(dtype), np.ones((300, 133), dtype)
    added, there = on_card(out, parts)
    kernels.add_stack(added, there)
    wanted = out + parts.sum(axis=0, dtype=float)
    close(added, wanted, 1 + np.abs(parts).sum(axis=0))


@pytest.mark.parametrize("dtype", TYPES)
def test_adam_on_the_card_agrees(dtype):
    rng = np.random.default_rng(2)
    state = [
        [np.abs(rng.standard_normal(size)).astype(dtype) for _ in range(4)]
        for size in (100_001, 17, 0, 3000, 1)
    ]
    wanted = [[a.astype(float) for a in own] for own in state]
    found = [on_card(*own) for own in state]
    for step in range(1, 4):
        kernels.adam(found, step, 1e-3)
        kernels.adam(wanted, step, 1e-3)
    for own, exact in zip(found, wanted, strict=True):
        for a, b in zip(own, exact, strict=True):
            close(a, b, np.abs(b).max(initial=0))


@pytest.mark.parametrize("dtype", TYPES)
def test_patches_on_the_card_are_those_of_the_definition(dtype):
    rng = np.random.default_rng(3)
    args = (
        rng.integers(0, 256, (5, 96, 96), np.uint8),
        rng.integers(0, 33, 5),
        rng.integers(0, 33, 5),
        rng.random(5) < 0.5,
    )
    how = {"crop": 64, "patch": 16, "mean": 0.4, "std": 0.25, "dtype": dtype}
    found = kernels.extract_patches(*on_card(*args), **how)
    np.testing.assert_array_equal(found.get(), patches.extract_patches(*args, **how))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("pool", "stride"), [(1, 1), (2, 1), (2, 2)])
def test_chosen_synapses_on_the_card_agree_and_repeat(dtype, pool, stride):
    rng = np.random.default_rng(4)
    x, weight, bias, _ = case(dtype, 40, 16, 15, 20, 33, 1, True)
    geometry = Geometry.of((3, 3), stride, 1, pool)
    winner = convolution.forward(x.astype(float), weight.astype(float), bias, geometry)[1]
    synapses = rng.integers(0, (33, 20, 3, 3), (1000, 4))
    drive = rng.standard_normal(winner.shape).astype(dtype)
    cx, cwinner, cdrive = on_card(x, winner, drive)
    for one, exact in ((None, None), (cdrive, drive.astype(float))):
        found, again = (kernels.coactivity(cx, cwinner, synapses, geometry, one) for _ in range(2))
        np.testing.assert_array_equal(found.get(), again.get())
        wanted = pairs.coactivity(x.astype(float), winner, synapses, geometry, exact)
        size = pairs.coactivity(
            np.abs(x).astype(float),
            winner,
            synapses,
            geometry,
            None if exact is None else abs(exact),
        )
        close(found, wanted, size)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(8, 20, 33, 70), (1, 1, 3, 5), (0, 4, 3, 5), (70, 5, 64, 300)])
def test_a_recurrent_unit_on_the_card_agrees_and_repeats(dtype, shape):
    (M, T, I, H), rng = shape, np.random.default_rng(5)  # noqa: E741
    shapes = {"weight_ih": (3 * H, I), "weight_hh": (3 * H, H)}
    shapes |= {"bias_ih": (3 * H,), "bias_hh": (3 * H,)}
    draw = lambda *s: rng.standard_normal(s).astype(dtype)  # noqa: E731
    weights = {n: draw(*s) / dtype(2 * np.sqrt(H)) for n, s in shapes.items()}
    x, error = draw(M, T, I), draw(M, T, H)

    def all_of_it(x, error, weights, credit):
        h, gates = kernels.gru_forward(x, **weights)
        both = weights["weight_ih"], weights["weight_hh"]
        changes, found, below = kernels.gru_learn(x, h, gates, error, *both, credit, True)
        return h, gates, found, below, *(changes[n] for n in shapes)

    there = *on_card(x, error), dict(zip(shapes, on_card(*weights.values()), strict=True))
    exact = *(a.astype(float) for a in (x, error)), {n: w.astype(float) for n, w in weights.items()}
    for credit in kernels.CREDITS:
        first, again = (all_of_it(*there, credit) for _ in range(2))
        for a, b in zip(first, again, strict=True):
            np.testing.assert_array_equal(a.get(), b.get())
        h, gates, *wanted = all_of_it(*exact, credit)
        by_input, by_state, lam, _ = gru_sizes(exact[1], h, gates, exact[2]["weight_hh"], credit)
        posts = [a.reshape(-1, 3 * H) for a in (by_input, by_state)]
        pres = np.abs(exact[0]).reshape(-1, I), np.abs(h).reshape(-1, H)
        sizes = [lam, by_input @ np.abs(exact[2]["weight_ih"])]
        sizes += [post.T @ pre for post, pre in zip(posts, pres, strict=True)]
        sizes += [post.sum(axis=0) for post in posts]
        sizes = [1, 1 + np.abs(gates), *sizes]
        for found, right, size in zip(first, (h, gates, *wanted), sizes, strict=True):
            close(found, right, size if M else 1)


def test_two_hundred_steps_take_no_more_memory_than_a_few():
    import cupy

    x, weight, bias, drive = on_card(*case(np.float32, 49, 16, 16, 32, 64, 2, True))
    pool, used, geometry = cupy.get_default_memory_pool(), [], Geometry.of((3, 3), pool=2)
    for _ in range(200):
        _, winner, _ = kernels.forward(x, weight, bias, geometry)
        kernels.correlate(x, winner, drive, geometry)
        used.append((pool.used_bytes(), pool.total_bytes()))
    assert used[-1] == used[5]
