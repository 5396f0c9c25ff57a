"""Graphs of the stand-in: work that is recorded while a stream is captured, and done later.

As strict as CUDA and CuPy are. While a stream is captured the host may not wait, nor copy to or
from the device, nor call cuBLAS through CuPy, nor run a kernel for the first time; memory comes
from a pool that nobody else uses and that outlives the graph. A graph does its work on the memory
that was recorded: with numbers that were passed by value, and in arrays that have moved since, it
does something else than was meant.
"""

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

RUBBISH = 0xA5  # what memory holds before anything is written


class Capture:
    """Work in the order in which it is asked for, and what memory holds meanwhile.

    Shapes and indices may hang on results, so the stand-in does the work all the same, and takes it
    back in the end: what was there is as it was, and what is new holds rubbish.
    """

    def __init__(self, machine: Any) -> None:
        self.machine = machine
        self.work: list[Callable[[], None]] = []
        self.before: dict[int, tuple[np.ndarray, np.ndarray]] = {}  # memory, and its content
        self.new: dict[int, np.ndarray] = {}
        self.pools: set[MemoryPool] = set()

    def met(self, root: object) -> None:
        """The work has to do with this memory."""
        known = id(root) in self.new or id(root) in self.before
        if isinstance(root, np.ndarray) and not known:
            self.before[id(root)] = root, root.copy()

    def ended(self) -> "Graph":
        for root, content in self.before.values():
            root[...] = content
        for root in self.new.values():
            if root.flags.writeable and root.flags.forc:
                root.ravel("K").view(np.uint8)[...] = RUBBISH
        return Graph(self)


class Graph:
    """Work that was recorded, to be done any number of times."""

    def __init__(self, _capture: Capture) -> None:
        self._machine, self._work = _capture.machine, _capture.work
        self._memory = [root for root, _ in _capture.before.values()] + [*_capture.new.values()]
        self._pools = [weakref.ref(pool) for pool in _capture.pools]

    def launch(self, stream=None) -> None:
        self._machine.operations["graph"] += 1
        if any(pool() is None for pool in self._pools):
            raise RuntimeError("the graph's memory has gone with its pool")
        for root in self._memory:
            self._machine.use(root)
        if not self._machine.idle:
            for work in self._work:
                work()


class Allocation:
    """Memory of a pool of one's own, which is free again when no array has it."""

    def __init__(self, pool: "MemoryPool", size: int) -> None:
        self._pool, self.size, self.arrays = weakref.ref(pool), size, 0
        pool.used += size
        pool.total = max(pool.total, pool.used)

    def drop(self) -> None:
        self.arrays -= 1
        if not self.arrays and (pool := self._pool()):
            pool.used -= self.size


class MemoryPool:
    """The default one, by which everything is taken unless another one is named."""

    def __init__(self, allocator=None) -> None:
        self.used = self.total = 0

    def malloc(self, size) -> None:
        raise NotImplementedError("the stand-in takes memory for arrays alone")

    def used_bytes(self) -> int:
        return self.used

    def total_bytes(self) -> int:
        return self.total
