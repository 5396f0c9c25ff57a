"""Memory that is used again: fresh pages cost more than much of the work done in them.

The system clears a page when it is first touched, and takes it back with the array. Here maps and
changes of weights lie where those of the layer or the step before have lain.
"""

import math
import threading

import numpy as np

LEAST = 2**20  # bytes; smaller arrays are malloc's business
ALIGNMENT = 64  # bytes of a cache line and of a vector

_lock = threading.Lock()
_kept = threading.local()


def _fresh(size: int) -> np.ndarray:
    """So many bytes, the first at the start of a cache line."""
    room = np.empty(size + ALIGNMENT, np.uint8)
    start = -room.ctypes.data % ALIGNMENT
    return room[start : start + size]


class _Block:
    """Memory for several arrays, and the parts of it, from and to, that none lies in."""

    def __init__(self, size: int) -> None:
        self.bytes, self.free = _fresh(size), [(0, size)]

    def take(self, start: int, size: int) -> None:
        """The first bytes of a free part are no longer free."""
        i = next(i for i, part in enumerate(self.free) if part[0] == start)
        stop = self.free[i][1]
        self.free[i : i + 1] = [(start + size, stop)] if start + size < stop else []

    def give(self, start: int, stop: int) -> None:
        """A part is free again, and one with the free parts beside it."""
        merged: list[tuple[int, int]] = []
        for first, last in sorted([*self.free, (start, stop)]):
            if merged and merged[-1][1] == first:
                first = merged.pop()[0]
            merged.append((first, last))
        self.free = merged


_blocks: list[_Block] = []
_returned: list[tuple[_Block, int, int]] = []  # parts whose arrays are gone


class _Lease:
    """Holds a part as long as there are arrays in it: they and all their views have it as base."""

    def __init__(self, block: _Block, start: int, stop: int) -> None:
        self.part = block, start, stop
        self.__array_interface__ = block.bytes[start:stop].__array_interface__

    def __del__(self, returned: list[tuple[_Block, int, int]] = _returned) -> None:
        returned.append(self.part)  # takes no lock: it may happen anywhere


def empty(shape: tuple[int, ...], dtype: np.typing.DTypeLike = np.float32) -> np.ndarray:
    """As `np.empty`, in the smallest part that is free and large enough."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size < LEAST:
        return np.empty(shape, dtype)
    room = -(-size // ALIGNMENT) * ALIGNMENT
    with _lock:
        while _returned:
            block, *part = _returned.pop()
            block.give(*part)
        fits = [
            (stop - start, i, start)
            for i, block in enumerate(_blocks)
            for start, stop in block.free
            if stop - start >= room
        ]
        if fits:
            _, i, start = min(fits)
        else:  # blocks that nothing lies in have been too small
            _blocks[:] = [b for b in _blocks if b.free != [(0, len(b.bytes))]] + [_Block(room)]
            i, start = len(_blocks) - 1, 0
        _blocks[i].take(start, room)
        lease = _Lease(_blocks[i], start, start + room)
    return np.asarray(lease)[:size].view(dtype).reshape(shape)


def scratch(name: str, *shape: int) -> np.ndarray:
    """A float32 array to work in, not cleared, which this thread gets again at its next call."""
    size, buffers = 4 * math.prod(shape), _kept.__dict__
    if name not in buffers or len(buffers[name]) < size:
        buffers[name] = _fresh(size)
    return buffers[name][:size].view(np.float32).reshape(shape)
