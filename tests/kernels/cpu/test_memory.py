"""Memory that is used again."""

import numpy as np
import pytest

from plasticity.kernels.cpu import memory

LARGE = (memory.LEAST // 4, 2)


@pytest.fixture(autouse=True)
def blocks(monkeypatch):
    """Blocks of this test alone."""
    mine, returned = [], []
    monkeypatch.setattr(memory, "_blocks", mine)
    monkeypatch.setattr(memory, "_returned", returned)
    monkeypatch.setattr(memory._Lease.__del__, "__defaults__", (returned,))
    return mine


def place(array):
    return array.ctypes.data


def test_an_array_lies_where_one_lay_that_is_gone():
    first = memory.empty(LARGE)
    where = place(first)
    del first
    again = memory.empty((LARGE[0] // 2, 3))
    assert place(again) == where
    assert again.flags.c_contiguous and again.flags.writeable and again.dtype == np.float32


def test_memory_is_never_given_to_two_at_once():
    first = memory.empty(LARGE)
    view, where = first[5:, 1:].T, place(first)
    first[...] = 1
    del first
    second = memory.empty(LARGE)
    second[...] = 2
    assert (view == 1).all()
    del view
    assert place(memory.empty(LARGE)) == where


def test_several_small_arrays_lie_where_a_large_one_lay(blocks):
    large = memory.empty((3, *LARGE))
    where, step = place(large), 4 * LARGE[0] * LARGE[1]
    del large
    three = [memory.empty(LARGE) for _ in range(3)]
    assert sorted(map(place, three)) == [where, where + step, where + 2 * step]
    del three
    assert place(memory.empty((3, *LARGE))) == where and len(blocks) == 1


def test_the_smallest_free_part_that_fits_is_taken():
    three = [memory.empty((n, *LARGE)) for n in (3, 1, 2)]
    where = [place(a) for a in three]
    del three
    assert place(memory.empty((2, *LARGE))) == where[2]


def test_growing_arrays_do_not_pile_up(blocks):
    for n in range(1, 9):
        memory.empty((n, *LARGE))
    assert [len(block.bytes) for block in blocks] == [8 * 4 * np.prod(LARGE)]


def test_no_two_arrays_of_a_random_life_overlap(blocks):
    """Arrays come and go; each keeps the number written all over it until it goes."""
    rng, alive = np.random.default_rng(0), {}
    for number in range(300):
        if len(alive) > 6 or rng.random() < 0.3:
            for gone in list(alive)[: rng.integers(0, 4)]:
                assert (alive.pop(gone) == gone).all()
        size = int(memory.LEAST * rng.uniform(1, 4))
        alive[number] = memory.empty((size // 4,))
        alive[number][...] = number
    assert all((array == number).all() for number, array in alive.items())
    assert sum(len(block.bytes) for block in blocks) < 2 * 8 * 4 * memory.LEAST


@pytest.mark.parametrize("shape", [(), (0, 3), (5,), LARGE])
def test_any_shape_comes_as_numpy_makes_it(shape):
    for dtype in (np.uint8, np.float32, np.float64):
        found, plain = memory.empty(shape, dtype), np.empty(shape, dtype)
        assert (found.shape, found.dtype) == (plain.shape, plain.dtype)
        assert found.strides == plain.strides


def test_scratch_and_blocks_begin_with_a_cache_line():
    assert place(memory.empty(LARGE)) % memory.ALIGNMENT == 0
    assert place(memory.scratch("test", 3, 7)) % memory.ALIGNMENT == 0
    assert memory.scratch("test", 2, 2).shape == (2, 2)
