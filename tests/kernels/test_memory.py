"""Memory that is used again."""

import numpy as np
import pytest

from plasticity.kernels import memory

LARGE = (memory.LEAST // 4, 2)


@pytest.fixture(autouse=True)
def own_blocks(monkeypatch):
    """Blocks of this test alone."""
    blocks = []
    monkeypatch.setattr(memory, "_free", blocks)
    monkeypatch.setattr(memory._Lease.__del__, "__defaults__", (blocks,))
    return blocks


def place(array):
    return array.ctypes.data


def test_an_array_lies_where_one_lay_that_is_gone():
    first = memory.empty(LARGE)
    where = place(first)
    del first
    again = memory.empty((LARGE[0] // 2, 3))
    assert place(again) == where
    assert again.flags.c_contiguous and again.flags.writeable and again.dtype == np.float32


def test_memory_is_never_given_to_two_at_once(own_blocks):
    first = memory.empty(LARGE)
    view = first[5:, 1:].T
    first[...] = 1
    del first
    second = memory.empty(LARGE)
    second[...] = 2
    assert (view == 1).all() and not own_blocks
    del view, second
    assert len(own_blocks) == 2


def test_the_smallest_block_that_fits_is_taken():
    three = [memory.empty((n, *LARGE)) for n in (3, 1, 2)]
    where = [place(a) for a in three]
    del three
    assert place(memory.empty((2, *LARGE))) == where[2]


def test_growing_arrays_do_not_pile_up(own_blocks):
    for n in range(1, 9):
        memory.empty((n, *LARGE))
    assert [len(block) for block in own_blocks] == [8 * 4 * np.prod(LARGE)]


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
