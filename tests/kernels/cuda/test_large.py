"""Arrays of more than 2**31 elements: the block that a launch ends with finds its place in them.

Nothing as large is ever filled: the arrays lie in memory that is only promised, and of each launch
the one block runs that ends it. What it writes is compared with a launch on the few elements that
the large arrays end with.
"""

import mmap
import sys

import numpy as np
import pytest

from plasticity.kernels.cuda import launch
from plasticity.kernels.cuda.matrix_units import CHANNELS, INPUTS, NEURONS, THREADS
from plasticity.kernels.geometry import SILENT
from tests.kernels import emulation

LARGE = 2**31
NORESERVE = 0x4000  # of Linux: pages exist when they are written
T = np.float32
C = O = 32  # noqa: E741
SPACE = 16  # a map's side
PER = 16  # tiles of a map

pytestmark = [
    pytest.mark.skipif(bool(emulation.MISSING), reason=emulation.MISSING),
    pytest.mark.skipif(sys.platform != "linux", reason="memory that is only promised is Linux's"),
]


def sparse(shape, dtype):
    """Zeros that take no memory."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | NORESERVE
    try:
        return np.frombuffer(mmap.mmap(-1, size, flags), dtype).reshape(shape)
    except OSError as error:
        pytest.skip(f"this machine promises no memory that it has not: {error}")


def grown(small, count, axis=0):
    """A large array that ends with `small`, and has `count` elements along one axis."""
    shape = list(small.shape)
    shape[axis] = count
    large = sparse(shape, small.dtype)
    ends = [slice(None)] * small.ndim
    ends[axis] = slice(count - small.shape[axis], None)
    large[tuple(ends)] = small
    return large


def numbers(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(T)


def winners(*shape):
    """Winners of pools of four neurons, and silence."""
    found = np.random.default_rng(1).integers(0, 5, shape)
    return np.where(found < 4, found, SILENT).astype(np.uint8)


def sizes(*numbers):
    return map(np.int32, numbers)


def places(*divisors):
    return map(launch.reciprocal, divisors)


def run(file, name, columns, rows, args, ending=False):
    """Launch a kernel as it would be; with `ending` the block that has the last row and column.

    Without rows, `columns` are blocks whose threads work together.
    """
    grid, block = launch.grid_of(columns, rows) if rows else ((columns, 1), (THREADS, 1))
    columns, rows = (columns, rows) if rows else (columns * THREADS, 1)
    at = [(n - 1) // b % g for n, b, g in zip((columns, rows), block, grid, strict=True)]
    scalars = {bool: np.bool_, int: np.int64, float: np.float64}
    args = [scalars.get(type(a), lambda a: a)(a) for a in args]
    alike = launch.names(file, "float" if "float" in name else "")
    kernels = emulation.build(launch.source(file), alike)
    kernels[name](grid, block, args, only=tuple(at) if ending else None)


def check(file, name, few, many, place):
    """The large launch and the small one write the same at `place`, counted from the end.

    `few` and `many` are columns, rows, arguments and results, which are among the arguments.
    """
    largest = max(a.size for a in many[2] if isinstance(a, np.ndarray))
    assert largest > LARGE
    for ending, (columns, rows, args, _) in ((False, few), (True, many)):
        run(file, name, columns, rows, args, ending)
    for small, large in zip(few[3], many[3], strict=True):
        assert np.count_nonzero(small[place(small)])
        np.testing.assert_array_equal(large[place(large)], small[place(small)])


def last(array):
    """The last row, and a map's last tile."""
    return (-1, slice(-4, None), slice(-4, None)) if array.ndim == 4 else (-1,)


def last_tile(array):
    return (slice(None), -1)


MAPS = LARGE // (PER * C) + 3  # patches: a plane of their tiles has more than 2**31 elements


def test_patches():
    image, along, count = numbers(1, 72, 72), 7, LARGE // 72**2 + 3
    pixels = (image * 40 + 128).astype(np.uint8)
    place, flip = np.array([1, 2, 1]), np.array([True])

    def launch(images):
        at = [grown(place[i : i + 1], images) for i in range(2)]
        out = sparse((along * images * along, 16, 16), T)
        how = *sizes(images, 72, 72, 64, 16, along), *places(images * along, along, 16)
        args = (grown(pixels, images), *at, grown(flip, images), *how, 0.4, 0.25, out)
        return 256, len(out), args, [out]

    check("patches", "extract_patches<float>", launch(1), launch(count), lambda a: (-1,))


def test_scores_and_contributions_of_events():
    D, few, count = 1024, 3, LARGE // 1024 + 3
    a, b = numbers(2, few, D)
    large = [grown(m, count) for m in (a, b)]
    at, shift = np.array([0, 2, 1, 2]), count - few
    found, wanted = np.empty(4, T), np.empty(4, T)
    run("rows", "scores<float>", 32 * 4, 1, (a, b, at, at[::-1].copy(), 4, D, wanted))
    moved = (at + shift, at[::-1] + shift)
    run("rows", "scores<float>", 32 * 4, 1, (*large, *moved, 4, D, found))
    assert wanted.all()
    np.testing.assert_array_equal(found, wanted)

    factor, order = numbers(4), np.argsort(at, kind="stable")
    start = np.searchsorted(at[order], np.arange(few + 1))
    starts = np.concatenate([np.zeros(shift, np.int64), start])
    small = (order, start, 1, 0, factor, b, at, few, D, a)
    many = (order, starts, 1, 0, factor, large[1], at + shift, count, D, large[0])
    check(
        "rows",
        "add_rows<float>",
        (D, few, small, [a]),
        (D, count, many, [large[0]]),
        lambda _: (-1, -1),
    )


@pytest.mark.parametrize(
    ("name", "large"),
    [("hinge_pairs", "contexts"), ("hinge_pairs", "targets"), ("infonce", "contexts")],
)
def test_all_pairs(name, large):
    u, ones = numbers(1, 9), np.ones(1, T)

    def launch(contexts, targets):
        scores = grown(u, contexts) if contexts > 1 else grown(u, targets, 1)
        number = grown(np.array([targets - 2]), contexts)
        weights = [grown(ones, contexts) for _ in range(3 if name == "hinge_pairs" else 2)]
        warps = contexts * (-(-targets // 256) if name == "hinge_pairs" else 1)
        out = sparse((contexts, targets), T), sparse((warps, 2), T)
        epsilon = () if name == "hinge_pairs" else (T(0),)
        args = (scores, number, *weights, contexts, targets, *epsilon, *out)
        return 32 * warps, 1, args, out

    shape = (LARGE // 9 + 3, 9) if large == "contexts" else (1, LARGE + 9)
    place = lambda a: (-1, slice(-9, None)) if a.shape[1] > 2 else (-1,)  # noqa: E731
    check("rows", f"{name}<float, i64>", launch(1, 9), launch(*shape), place)


def test_a_stack():
    def launch(size):
        parts, out = grown(numbers(2, 5), size, 1), grown(numbers(5), size)
        return size, 1, (parts, 2, size, out), [out]

    many = launch(LARGE + 5)
    check("rows", "add_stack<float>", launch(5), many, lambda _: (slice(-5, None),))


@pytest.mark.parametrize("at_once", [1, 4])
def test_adam(at_once):
    def launch(size):
        arrays = [[grown(abs(numbers(5)), n) for _ in range(4)] for n in (size, 5, 5, size)]
        arrays[3] = [a[:0] for a in arrays[0]]
        sizes = (size, 5, 5, 0)
        pace = np.array([1e-3, 1e-8], T)
        args = [a for own in arrays for a in own] + [*sizes, pace, T(0.1), T(0.001)]
        return -(-size // at_once), 1, args, [arrays[0][0], arrays[0][2], arrays[0][3]]

    few, many = launch(5), launch(LARGE + 5)
    check("rows", f"adam<float, {at_once}>", few, many, lambda _: (slice(-5, None),))


def test_chosen_synapses():
    x, winner = numbers(1, SPACE, SPACE, C), winners(1, SPACE // 2, SPACE // 2, O)
    drive = numbers(1, SPACE // 2, SPACE // 2, O)
    synapses = np.random.default_rng(2).integers(0, (O, C, 3, 3), (30, 4))

    def launch(patches):
        out = sparse((patches, 30), T)
        sizes = (patches, SPACE, SPACE, C, SPACE // 2, SPACE // 2, O, 30, 2, 1, 1)
        arrays = [grown(a, patches) for a in (x, winner, drive)]
        args = (*arrays, True, synapses, *sizes, out)
        return 30, patches, args, [out]

    check("pairs", "coactivity<float>", launch(1), launch(LARGE // 30 + 3), lambda _: (-1,))


def test_states_and_posts_of_a_recurrent_unit():
    times, H = 3, 5
    drive, weight, bias = numbers(1, times, 3 * H), numbers(3 * H, H), numbers(3 * H)
    error, count = numbers(1, times, H), LARGE // (3 * H * times) + 3

    def states(M):
        out = sparse((M, times, H), T), sparse((M, times, 4, H), T)
        turned = np.ascontiguousarray(weight.T)
        args = (grown(drive, M), turned, bias, bias, M, times, H, *out)
        return launch.BLOCK * M, 1, args, out

    few = states(1)
    check("gru", "gru_states<float>", few, states(count), lambda _: (-1,))

    def posts(M):
        out = [sparse((M, times, n * H), T) for n in (3, 3, 1)]
        arrays = [grown(a, M) for a in (error, *few[3])]
        args = (*arrays, weight, M, times, H, True, True, *out)
        return launch.BLOCK * M, 1, args, out

    check("gru", "gru_posts<float>", posts(1), posts(count), lambda _: (-1,))


@pytest.mark.parametrize("at_once", [1, 2])
@pytest.mark.parametrize("name", ["inputs", "post_inputs", "posts"])
def test_transforms_to_tiles(name, at_once):
    if name == "inputs":
        sources, how, pools = [numbers(1, SPACE, SPACE, C)], (), ""
    else:
        sources = [winners(1, SPACE // 2, SPACE // 2, C), numbers(1, SPACE // 2, SPACE // 2, C)]
        how, pools = (False,), ", 2"

    def launch(patches):
        out, tiles = sparse((36, PER * patches, C), T), PER * patches
        maps = *sizes(SPACE, SPACE, C, tiles), *places(PER, 4)
        args = (*(grown(s, patches) for s in sources), *how, *maps, out)
        return C // at_once, tiles, args, [out]

    instance = f"{name}<float, Tile4, {at_once}{pools}>"
    check("convolution", instance, launch(1), launch(MAPS), last_tile)


@pytest.mark.parametrize("at_once", [1, 2])
def test_errors_from_tiles(at_once):
    M = numbers(36, PER, C)

    def launch(patches):
        out, tiles = sparse((patches, SPACE, SPACE, C), T), PER * patches
        maps = *sizes(SPACE, SPACE, C, tiles), *places(PER, 4)
        return C // at_once, tiles, (grown(M, tiles, 1), *maps, out), [out]

    check("convolution", f"errors<float, Tile4, {at_once}>", launch(1), launch(MAPS), last)


@pytest.mark.parametrize("at_once", [1, 2])
def test_activities_from_tiles(at_once):
    M, bias, half = numbers(36, PER, O), numbers(O), SPACE // 2

    def launch(patches):
        shape = (patches, half, half, O)
        out = sparse(shape, T), sparse(shape, np.uint8), sparse((patches, O), T)
        args = (grown(M, PER * patches, 1), bias, *sizes(SPACE, SPACE, patches, O), True, *out)
        return O // at_once, patches, args, out

    check("convolution", f"activities<float, Tile4, {at_once}, 2>", launch(1), launch(MAPS), last)


def test_encodings_are_found_where_they_alone_are_many():
    """Maps of 2x2 pixels and of one: an encoding has as many numbers as a pooled map."""
    M, bias = numbers(9, 1, O), numbers(O)
    count = LARGE // O + 3

    def activities(patches):
        out = sparse((patches, 1, 1, O), T), sparse((patches, 1, 1, O), np.uint8)
        out = *out, sparse((patches, O), T)
        args = (grown(M, patches, 1), bias, *sizes(2, 2, patches, O), True, *out)
        return O // 4, patches, args, (out[0], out[2])

    few, many = activities(1), activities(count)
    check("convolution", "activities<float, Tile2, 4, 2>", few, many, lambda _: -1)
    x, w = numbers(1, 1, 1, 1), numbers(O, 1, 3, 3)

    def forward(patches):
        shape = (patches, 1, 1, O)
        out = sparse(shape, T), sparse(shape, np.uint8), sparse((patches, O), T)
        args = (grown(x, patches), w, bias, *sizes(patches, 1, 1, O), True, *out)
        return patches, 0, args, (out[0], out[2])

    check("first", "first_forward<float, 1, 4, 4>", forward(1), forward(count), lambda _: -1)


def test_drives_that_positions_share_are_found_where_they_alone_are_many():
    """Maps of 2x2 pixels in one pool, and utterances of one frame."""
    winner, drive, count = winners(1, 1, 1, O), numbers(1, O), LARGE // O + 3

    def posts(patches):
        out = sparse((9, patches, O), T)
        arrays = (grown(winner, patches), grown(drive, patches))
        maps = *sizes(2, 2, O, patches), *places(1, 1)
        return O // 4, patches, (*arrays, True, *maps, out), [out]

    check("convolution", "posts<float, Tile2, 4, 2>", posts(1), posts(count), last_tile)
    winner = np.zeros((1, 1, O), np.uint8)

    def posts_in_time(N):
        out = sparse((N, O), T)
        arrays = (grown(winner, N), grown(drive, N))
        return O, N, (*arrays, True, N, 1, 1, 1, O, 1, 1, 1, *ONES, *ONES, out), [out]

    few, many = posts_in_time(1), posts_in_time(count)
    check("volumes", "posts<float, i64>", few, many, lambda _: -1)


def test_weights_and_gradients():
    w, side = numbers(O, C, 3, 3), int(LARGE**0.5) + 100

    def transform(n):
        out = sparse((36, n, n), T)
        weight = sparse((n, n, 3, 3), T)
        weight[-O:, -C:] = w
        return n, n, (weight, n, n, False, out), [out]

    few = transform(O)
    check("convolution", "weights<float, Tile4>", few, transform(side), lambda _: (..., -1, -1))

    def gradient(n):
        Q, out = sparse((36, n, n), T), sparse((n, n, 3, 3), T)
        Q[:, -O:, -C:] = few[3][0]
        return n, n, (Q, n, n, out), [out]

    place = lambda _: (-1, -1)  # noqa: E731
    check("convolution", "gradients<float, Tile4>", gradient(O), gradient(side), place)


def test_the_first_layer():
    x, w, bias = numbers(1, SPACE, SPACE, 1), numbers(O, 1, 3, 3), numbers(O)
    drive, winner = numbers(1, O), winners(1, SPACE, SPACE, O)
    winner[winner != SILENT], count = 0, LARGE // SPACE**2 + 3

    def forward(patches):
        shape = (patches, SPACE, SPACE, O)
        out = sparse(shape, T), sparse(shape, np.uint8), sparse((patches, O), T)
        args = (grown(x, patches), w, bias, *sizes(patches, SPACE, SPACE, O), True, *out)
        return patches, 0, args, out

    check("first", "first_forward<float, 1, 4, 4>", forward(1), forward(count), last)

    def correlate(patches):
        out = sparse((patches, 10, O), T)
        arrays = [grown(a, patches) for a in (x, winner, drive)]
        how = True, *sizes(patches, SPACE, SPACE, O, 1, patches)
        return patches, 0, (*arrays, *how, out), [out]

    few, many = correlate(1), correlate(count)
    check("first", "first_correlate<float, 1, 4, 4>", few, many, lambda _: (-1,))


ONES = (1, 1, 1)
SAMPLES, FRAMES = 16, 8
IN_TIME = (1, 1, 4, 1, 1, 2, 0, 0, 1)  # kernel, stride and padding of three dimensions
SPACES = (1, 1, SAMPLES), (1, 1, FRAMES)


def test_windows_in_time():
    x, width = numbers(1, SAMPLES, C), 4 * C

    def launch(N):
        out = sparse((N * FRAMES, width), T)
        args = (grown(x, N), N, *SPACES[0], C, *SPACES[1], *IN_TIME, out)
        return width, N * FRAMES, args, [out]

    many = launch(LARGE // (FRAMES * width) + 3)
    check("volumes", "windows<float, i64>", launch(1), many, lambda _: (-1,))


def test_errors_from_windows_in_time():
    width = 4 * C
    parts = numbers(FRAMES, width)

    def launch(N):
        out = sparse((N, SAMPLES, C), T)
        args = (grown(parts, N * FRAMES), N, *SPACES[0], C, *SPACES[1], *IN_TIME, out)
        return C, N * SAMPLES, args, [out]

    many = launch(LARGE // (FRAMES * width) + 3)
    check("volumes", "errors<float, i64>", launch(1), many, lambda _: (-1, -1))


def test_activities_and_posts_in_time():
    y, bias = numbers(1, FRAMES, O), numbers(O)
    winner, drive = winners(1, FRAMES, O), numbers(1, FRAMES, O)
    winner[winner != SILENT], count = 0, LARGE // (FRAMES * O) + 3
    pool = (*ONES, *ONES)

    def activities(N):
        out = grown(y, N), sparse((N, FRAMES, O), np.uint8)
        sizes = N, *SPACES[1], O, *SPACES[1], *pool, True, True
        return O, N * FRAMES, (out[0], bias, *sizes, *out), out

    few, many = activities(1), activities(count)
    check("volumes", "compete<float, i64>", few, many, lambda _: (-1, -1))

    def posts(N):
        out = sparse((N * FRAMES, O), T)
        arrays = grown(winner, N), grown(drive, N)
        return O, N * FRAMES, (*arrays, False, N, *SPACES[1], O, *SPACES[1], *pool, out), [out]

    check("volumes", "posts<float, i64>", posts(1), posts(count), lambda _: (-1,))


def words(*shape):
    """Numbers of tf32, and pairs of bfloat16, as matrix units take them."""
    return numbers(*shape).view(np.uint32) & np.uint32(0xFFFFE000)


def test_numbers_that_are_rounded():
    def rounded(size):
        out = sparse((size,), T)
        return size, 1, (grown(numbers(5), size), size, out), [out]

    few, many = rounded(5), rounded(LARGE + 5)
    check("matrix_units", "rounded<Tf32>", few, many, lambda _: (slice(-5, None),))


@pytest.mark.parametrize("at_once", [1, 4])
def test_words_of_maps_and_of_post_factors(at_once):
    x, winner, drive = numbers(2, 4, 4, C), winners(2, 2, 2, O), numbers(2, O)

    def maps(N):
        out, rows, wide = sparse((N, 16, C // 2), np.uint32), N * 16, C // 2
        return wide // at_once, rows, (grown(x, N), rows, wide, C, out), [out]

    few, many = maps(2), maps(LARGE // (8 * C) + 3)
    check("matrix_units", f"inputs<Bfloat16, {at_once}, false>", few, many, lambda _: (-1, -1))

    def by_input(N):
        out, wide = sparse((N // 2, 16, C), np.uint32), 16 * C
        return wide // at_once, N // 2, (grown(x, N), N // 2, wide, N, out), [out]

    few, many = by_input(2), by_input(LARGE // (8 * C) + 4)
    check("matrix_units", f"inputs<Bfloat16, {at_once}, true>", few, many, lambda _: (-1, -1))

    def posts(N):
        out = sparse((N, 4, 4, O), np.uint32), sparse((N * 2, O), T)
        map_of = *sizes(4, 4, 2, 2), O, *sizes(2), *places(2)
        args = (grown(winner, N), grown(drive, N), True, True, N, *map_of, N, O, *out)
        return O // at_once, N * 2, args, out

    few, many = posts(2), posts(LARGE // (16 * O) + 3)
    check("matrix_units", f"posts<Tf32, {at_once}, true>", few, many, lambda _: (-1,))


@pytest.mark.parametrize("what", ["inputs", "neurons"])
def test_forwards_by_matrix_units(what):
    x, w, bias = words(3, 4, 4, C), words(9, 3, C), numbers(3)

    def launched(N, O):  # noqa: E741
        out = sparse((N, 2, 2, O), T), sparse((N, 2, 2, O), np.uint8), sparse((N, 1, O), T)
        made = grown(x, N), grown(w, O, 1), grown(bias, O)
        how = *sizes(4, 4, C), O, *sizes(3, 3, 1, 1), True, *sizes(4, 1), True, True
        blocks = -(-N // INPUTS) * -(-O // NEURONS)
        return blocks, 0, (*made, N, *how, *out), out

    whole = NEURONS * (LARGE // (NEURONS * 9 * C) + 1)  # tiles before those that are looked at
    many = launched(2 * whole + 3, 3) if what == "inputs" else launched(3, whole + 3)
    place = lambda a: (slice(-3, None), ..., slice(-3, None))  # noqa: E731
    check("matrix_units", "forward<Tf32, 1>", launched(3, 3), many, place)


@pytest.mark.parametrize("what", ["neurons", "channels"])
def test_dW_by_matrix_units(what):
    post, x = words(5, 4, 4, 3), words(5, 4, 4, 3)

    def launched(O, C):  # noqa: E741
        out = sparse((1, 9, O, C), T)
        made = grown(post, O, 3), grown(x, C, 3)
        how = *sizes(5, 4, 4), C, O, *sizes(3, 3, 1, 1, 16, 1)
        blocks = 9 * -(-O // NEURONS) * -(-C // CHANNELS)
        return blocks, 0, (*made, *how, out), [out]

    large = NEURONS * (LARGE // (NEURONS * 80) + 1) + 3
    many = launched(large, 3) if what == "neurons" else launched(3, large)
    place = lambda a: (0, -1, slice(-3, None), slice(-3, None))  # noqa: E731
    check("matrix_units", "correlate<Bfloat16, 1>", launched(3, 3), many, place)
