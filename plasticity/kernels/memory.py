"""Memory that is used again: fresh pages cost more than much of the work done in them.

The system clears a page when it is first touched, and takes it back with the array. Here maps and
changes of weights lie where those of the layer or the step before have lain.
"""

import math
import threading

import numpy as np

LEAST = 2**20  # bytes; smaller arrays are malloc's business
ALIGNMENT = 64  # bytes of a cache line and of a vector

_free: list[np.ndarray] = []  # blocks that no array lies in
_lock = threading.Lock()
_kept = threading.local()


def _fresh(size: int) -> np.ndarray:
    """A block of so many bytes that starts with a cache line."""
    block = np.empty(size + ALIGNMENT, np.uint8)
    start = -block.ctypes.data % ALIGNMENT
    return block[start : start + size]


class _Lease:
    """Holds a block as long as there are arrays in it: they and all their views have it as base."""

    def __init__(self, block: np.ndarray) -> None:
        self.block = block
        self.__array_interface__ = block.__array_interface__

    def __del__(self, free: list[np.ndarray] = _free) -> None:
        free.append(self.block)


def empty(shape: tuple[int, ...], dtype: np.typing.DTypeLike = np.float32) -> np.ndarray:
    """As `np.empty`, in the smallest block that is free and large enough."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size < LEAST:
        return np.empty(shape, dtype)
    with _lock:  # others may append meanwhile, but not take
        sizes = [len(block) for block in _free]
        fits = [i for i, n in enumerate(sizes) if n >= size]
        if fits:
            block = _free.pop(min(fits, key=sizes.__getitem__))
        else:  # a larger block takes the place of the largest
            if sizes:
                del _free[sizes.index(max(sizes))]
            block = _fresh(size)
    return np.asarray(_Lease(block))[:size].view(dtype).reshape(shape)


def scratch(name: str, *shape: int) -> np.ndarray:
    """A float32 array to work in, not cleared, which this thread gets again at its next call."""
    size, buffers = 4 * math.prod(shape), _kept.__dict__
    if name not in buffers or len(buffers[name]) < size:
        buffers[name] = _fresh(size)
    return buffers[name][:size].view(np.float32).reshape(shape)
