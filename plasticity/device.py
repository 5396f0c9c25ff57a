"""Between the host and a GPU: what a step needs crosses while the step before it computes."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, fields, is_dataclass, replace
from math import prod
from typing import Any, Generic, TypeVar

import numpy as np

from plasticity.arrays import Array

T = TypeVar("T")
ALIGN = 256  # bytes: where an array may begin, so that warps read whole lines of memory


def use_device(device: str) -> None:
    """Let this thread compute on `device` (`cpu`, `cuda:N`)."""
    if device != "cpu":
        import cupy

        cupy.cuda.Device(int(device.partition(":")[2])).use()


def peak_bytes(device: str) -> int:
    """The most memory of the device that arrays have taken, 0 for the CPU.

    CuPy has one pool for all arrays but a graph's (`runs.replay`), which gives nothing back.
    """
    if device == "cpu":
        return 0
    import cupy

    return cupy.get_default_memory_pool().total_bytes()


def prefetched(items: Iterable[T], device: str) -> Iterator[T]:
    """The items with every array in them on the device; it looks into tuples and dataclasses.

    On a GPU an item crosses in one copy, from pinned memory on a stream of its own, while the
    item before it is worked on. Its arrays hold until the next item but one is asked for.
    """
    with closing(sent(items, device)) as arriving:
        for one in arriving:
            yield one.item


def sent(items: Iterable[T], device: str) -> Iterator["Sent[T]"]:
    """The items on their way to the device, see `prefetched`."""
    if device == "cpu":
        yield from map(Sent, items)
        return
    import cupy

    stream, parcels = cupy.cuda.Stream(non_blocking=True), [_Parcel(), _Parcel()]
    before: Sent[T] | None = None
    try:
        for number, item in enumerate(items):
            coming = parcels[number % 2].send(item, stream)
            if before is not None:
                yield before
            before = coming
        if before is not None:
            yield before
    finally:  # an item that nobody takes has arrived before others get its memory
        stream.synchronize()


@dataclass
class Sent(Generic[T]):
    """An item that is on its way to the device.

    Attributes:
        host: the item as it lies on the host.
        arrays, starts: of its arrays, where each begins in `memory` and the last one ends.
        memory: bytes of the device, which hold them once `copied` has happened; None on the CPU.
    """

    host: T
    arrays: Sequence[np.ndarray] = ()
    starts: Sequence[int] = ()
    memory: Array | None = None
    copied: Any = None

    @property
    def item(self) -> T:
        """The item on the device."""
        return self.host if self.memory is None else self.lying(self.arrived())

    def arrived(self) -> Array:
        """The memory that its arrays take; what the current stream does from now on waits."""
        import cupy

        cupy.cuda.get_current_stream().wait_event(self.copied)
        return self.memory[: self.starts[-1]]

    def lying(self, memory: Array) -> T:
        """The item with its arrays in this memory, laid out as in its own."""
        places = iter(zip(self.arrays, self.starts, strict=False))

        def view(_: np.ndarray) -> Array:
            array, start = next(places)
            part = memory[start : start + prod(array.shape) * array.itemsize]
            return part.view(array.dtype).reshape(array.shape)

        return _mapped(self.host, view)


def arrays_of(value: Any) -> list[np.ndarray]:
    """The host arrays in a value, in a fixed order."""
    found: list[np.ndarray] = []
    _mapped(value, lambda array: found.append(array) or array)
    return found


def _mapped(
    value: Any, change: Callable[[np.ndarray], Array], made: dict[int, Any] | None = None
) -> Any:
    """The value with every host array in it changed, once, even if it is there twice."""
    made = {} if made is None else made
    if isinstance(value, tuple | list):
        return type(value)(_mapped(part, change, made) for part in value)
    if isinstance(value, np.ndarray):
        if id(value) not in made:
            made[id(value)] = change(value)
    elif is_dataclass(value) and not isinstance(value, type):
        if id(value) not in made:
            parts = {f.name: _mapped(getattr(value, f.name), change, made) for f in fields(value)}
            made[id(value)] = replace(value, **parts)
    else:
        return value
    return made[id(value)]


class _Parcel:
    """Pinned memory and its twin on the device, for one item after the other."""

    def __init__(self) -> None:
        import cupy

        self.copied = cupy.cuda.Event(disable_timing=True)
        self.free = cupy.cuda.Event(disable_timing=True)
        self.size = -1

    def send(self, item: T, stream: Any) -> Sent[T]:
        """Begin the copy.

        All work on the item before in this parcel must have been launched.
        """
        import cupy

        arrays = [np.ascontiguousarray(a).reshape(a.shape) for a in arrays_of(item)]
        starts = np.cumsum([0, *(-(-a.nbytes // ALIGN) * ALIGN for a in arrays)]).tolist()
        self.copied.synchronize()  # the pinned memory has been read
        if starts[-1] > self.size:
            # The number of events changes from draw to draw.
            self.size = max(starts[-1] * 5 // 4, ALIGN)
            memory = cupy.cuda.alloc_pinned_memory(self.size)
            self.pinned = np.frombuffer(memory, np.uint8, self.size)
            self.device = cupy.empty(self.size, np.uint8)
        for array, start in zip(arrays, starts, strict=False):
            self.pinned[start : start + array.nbytes] = array.reshape(-1).view(np.uint8)
        self.free.record()  # after the work on what the memory held
        stream.wait_event(self.free)
        self.device[: starts[-1]].set(self.pinned[: starts[-1]], stream=stream)
        self.copied.record(stream)
        # The next item may want larger memory.
        return Sent(item, arrays, starts, self.device, self.copied)
