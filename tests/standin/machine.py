"""The GPU of the stand-in: its memory, its streams, and a log of what crossed and what ran.

The current stream computes at once. Copies on a stream of their own run as late as CUDA allows:
when somebody waits for them. Until then their target holds rubbish, so that whoever reads too
early, or writes into pinned memory too early, computes something else. And a copy into memory
that work may still read or write, as far as its stream has waited, is an error.
"""

import ctypes
import weakref
from collections import Counter
from collections.abc import Callable

import numpy as np

from tests.kernels import emulation
from tests.standin.capture import RUBBISH, Allocation, Capture, Graph, MemoryPool


class Machine:
    """Devices, and everything that happened on them.

    Attributes:
        sent: bytes of every copy to a device, and whether it came from pinned memory.
        fetched: bytes of every copy to the host, those that CuPy makes unasked included.
        launches: of kernels by name; operations: of CuPy's own, by name: what it computes, copies
            or fills on the device, views not among them.
        waits: how often the host has waited for a stream or an event; a fetch waits besides.
        capability: of its devices.
        idle: launches and products are counted and compute nothing, so that what takes time is the
            host's work.
        held, peak: bytes of arrays that live, and the most there were.
        pools: from the last of which arrays are taken, if there is one; else from the default one.
        cublas_stream, workspace: of cuBLAS's handle, the stream's `ptr` and bytes.
    """

    now: "Machine"  # the one that the stand-in runs on

    def __init__(self, devices: int = 1) -> None:
        self.devices, self.current, self.tick = devices, 0, 0
        self.stream = Stream(_machine=self, _computes=True)
        self.idle, self.capability = False, "90"
        self.forget()
        self.held = self.peak = 0
        self._used: dict[int, int] = {}  # allocation -> when it was taken or last used
        self.pooled: dict[int, Allocation] = {}  # allocations of other pools than the default one
        self.pools: list[MemoryPool] = []
        self.cublas_stream = self.workspace = 0
        self.ran: set[str] = set()  # kernels that were launched

    def forget(self) -> None:
        """Begin the log anew."""
        self.sent: list[tuple[int, bool]] = []
        self.fetched: list[int] = []
        self.launches: Counter[str] = Counter()
        self.operations: Counter[str] = Counter()
        self.waits = 0

    def hold(self, array: np.ndarray) -> None:
        """Memory is taken for this, unless it is a view; the current stream begins to use it."""
        root = _root(array)
        if id(root) in self._used:
            return
        size = -(-root.nbytes // 512) * 512  # as CuPy's pool rounds
        self.held += size
        self.peak = max(self.peak, self.held)
        weakref.finalize(root, self._free, id(root), size)
        self._used[id(root)] = 0
        if self.pools:
            self.pooled[id(root)] = Allocation(self.pools[-1], size)
        if self.capture:
            if not self.pools:
                raise RuntimeError("memory of the default pool in a graph: others may take it")
            self.capture.new[id(root)] = root
            self.capture.pools.add(self.pools[-1])
        self.use(root)

    def taken(self, array: np.ndarray) -> "Allocation | None":
        """Another array has this memory; what of it is a pool's of its own."""
        found = self.pooled.get(id(_root(array))) if self.pooled else None
        if found:
            found.arrays += 1
        return found

    @property
    def capture(self) -> "Capture | None":
        """What records the work of the current stream."""
        return self.stream.capture

    def uncaptured(self, why: str) -> None:
        """CuPy refuses this while the current stream is captured."""
        if self.capture:
            raise RuntimeError(f"the current stream is capturing, so {why}")

    def no_cublas(self) -> None:
        """CuPy's own calls of cuBLAS, which are refused while the current stream is captured."""
        if self.capture:
            raise NotImplementedError(
                "calling cuBLAS API during stream capture is currently unsupported"
            )
        self.cublas_stream, self.workspace = self.stream.ptr, 0

    def use(self, array: np.ndarray) -> None:
        """The current stream reads or writes this."""
        self.tick += 1
        root = _root(array)
        self._used[id(root)] = self.tick
        if self.capture:
            self.capture.met(root)

    def left_alone(self, array: np.ndarray, stream: "Stream") -> None:
        """See that the current stream has nothing to do with this any more, as far as `stream`
        has waited."""
        if self._used[id(_root(array))] > stream.seen:
            raise RuntimeError("the current stream may still read or write what another one takes")

    def _free(self, key: int, size: int) -> None:
        self.held -= size
        del self._used[key]
        self.pooled.pop(key, None)

    def copy(self, target: np.ndarray, source: np.ndarray, stream: "Stream | None") -> None:
        """Host memory to the device, at once or on a stream."""
        self.uncaptured("H2D transfers are disallowed")
        pinned = isinstance(_root(source), PinnedMemoryPointer)
        self.sent.append((source.nbytes, pinned))
        if stream is None or stream is self.stream:
            target[...] = source
            self.use(target)
            return
        if not pinned:
            raise RuntimeError("a copy from memory that is not pinned waits for its stream")
        self.left_alone(target, stream)
        stream._check()
        target.reshape(-1).view(np.uint8)[...] = RUBBISH
        stream.queue.append((target, source))


def counted(operation: str) -> None:
    """CuPy does this on the device."""
    Machine.now.operations[operation] += 1


def done(work: Callable[[], None]) -> None:
    """Work of the current stream."""
    work()
    if Machine.now.capture:
        Machine.now.capture.work.append(work)


def _root(array: object) -> object:
    """What owns an array's memory."""
    while getattr(array, "base", None) is not None:
        array = array.base
    return array.obj if isinstance(array, memoryview) else array


class Stream:
    def __init__(
        self, null=False, non_blocking=False, ptds=False, priority=None, *,
        _machine=None, _computes=False,
    ) -> None:  # fmt: skip
        self._machine, self._computes = _machine or Machine.now, _computes
        self.queue: list = []  # copies, as target and source, and sums over ranks, to be called
        self.done = 0  # of them, that have run
        # Copies that the host has not waited for may still read: number, source, its content.
        self.reading: list[tuple[int, np.ndarray, np.ndarray]] = []
        self.seen = 0  # the tick of the current stream up to which this one has waited
        self.capture: Capture | None = None
        self.ptr = 0 if _computes else id(self)
        self._blocking = not non_blocking

    def __enter__(self) -> "Stream":
        self._outside, self._computes = (self._machine.stream, self._computes), True
        self._machine.stream = self
        return self

    def __exit__(self, *error: object) -> None:
        self._machine.stream, self._computes = self._outside

    def begin_capture(self, mode=None) -> None:
        if not self.ptr:
            raise RuntimeError("cannot capture on the default (legacy) stream")
        if self._blocking:
            raise CUDARuntimeError("cudaErrorStreamCaptureImplicit: the legacy stream would wait")
        self.capture = Capture(self._machine)

    def end_capture(self) -> Graph:
        if self.capture is None:
            raise CUDARuntimeError("cudaErrorIllegalState: the operation cannot be performed")
        capture, self.capture = self.capture, None
        return capture.ended()

    def is_capturing(self) -> bool:
        return self.capture is not None

    def _run(self, until: int) -> None:
        while self.done < until:
            work = self.queue.pop(0)
            self.done += 1
            if callable(work):
                work()
                continue
            target, source = work
            np.copyto(target, source)
            self.reading.append((self.done, source, source.copy()))

    def _check(self) -> None:
        """See that the host has left alone what copies may still read."""
        if any((source != content).any() for _, source, content in self.reading):
            raise RuntimeError("pinned memory was changed while a copy may still read it")

    def _waited(self, until: int) -> None:
        """The host waits for so many copies."""
        self._run(until)
        self._check()
        self.reading = [one for one in self.reading if one[0] > until]

    @property
    def _reached(self) -> int:
        return self._machine.tick if self._computes else self.done + len(self.queue)

    def wait_event(self, event: "Event") -> None:
        if self.capture:
            raise CUDARuntimeError("cudaErrorStreamCaptureIsolation: uncaptured work")
        if self._computes:
            if event.stream is not None and not event.stream._computes:
                event.stream._run(event.at)
        elif event.stream is not None and event.stream._computes:
            self.seen = max(self.seen, event.at)

    def synchronize(self) -> None:
        self._machine.uncaptured("synchronous API calls are disallowed")
        self._machine.waits += 1
        self._waited(self._reached if not self._computes else 0)

    def record(self, event=None) -> "Event":
        event = event or Event()
        event.record(self)
        return event


class Event:
    def __init__(self, block=False, disable_timing=False, interprocess=False) -> None:
        self.stream, self.at = None, 0

    def record(self, stream=None) -> None:
        self.stream = stream or Machine.now.stream
        self.at = self.stream._reached

    def synchronize(self) -> None:
        Machine.now.uncaptured("synchronous API calls are disallowed")
        Machine.now.waits += 1
        if self.stream is not None and not self.stream._computes:
            self.stream._waited(self.at)


def get_elapsed_time(start_event, end_event) -> float:
    """Of the stand-in's clock, which counts uses of arrays."""
    if start_event.stream is None or end_event.stream is None:
        raise CUDARuntimeError("cudaErrorInvalidResourceHandle: invalid resource handle")
    return 1e-3 * (end_event.at - start_event.at)


def get_current_stream(device_id=-1) -> Stream:
    return Machine.now.stream


class Device:
    def __init__(self, device=None) -> None:
        self.id = Machine.now.current if device is None else int(device)
        if not 0 <= self.id < Machine.now.devices:
            raise CUDARuntimeError("cudaErrorInvalidDevice: invalid device ordinal")

    def __enter__(self) -> "Device":
        self._before = Machine.now.current
        return self.use() or self

    def __exit__(self, *error: object) -> None:
        Machine.now.current = self._before

    def use(self) -> None:
        Machine.now.current = self.id

    @property
    def compute_capability(self) -> str:
        return Machine.now.capability

    @property
    def pci_bus_id(self) -> str:
        return f"0000:{self.id:02X}:00.0"

    def synchronize(self) -> None:
        Machine.now.uncaptured("synchronous API calls are disallowed")
        Machine.now.waits += 1


class PinnedMemoryPointer(bytearray):
    """Memory of the host that the device can read by itself."""


def alloc_pinned_memory(size) -> PinnedMemoryPointer:
    return PinnedMemoryPointer(bytes([RUBBISH]) * size)


class DefaultPool(MemoryPool):
    def used_bytes(self) -> int:
        return Machine.now.held

    def total_bytes(self) -> int:
        return Machine.now.peak


def get_default_memory_pool() -> MemoryPool:
    return DefaultPool()


class using_allocator:  # noqa: N801
    """Arrays of this thread are taken from the pool whose `malloc` this is."""

    def __init__(self, allocator=None) -> None:
        self._pool = allocator.__self__

    def __enter__(self) -> None:
        Machine.now.pools.append(self._pool)

    def __exit__(self, *error: object) -> None:
        Machine.now.pools.pop()


class CUDARuntimeError(RuntimeError):
    pass


class OutOfMemoryError(MemoryError):
    pass


def getDeviceCount() -> int:
    if not Machine.now.devices:
        raise CUDARuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected")
    return Machine.now.devices


def getDeviceProperties(device) -> dict[str, object]:
    return {"name": b"the stand-in"}


def is_available() -> bool:
    return Machine.now.devices > 0


def getVersion() -> tuple[int, int]:
    """Of NVRTC, which compiles kernels."""
    return 12, 9


CUDA_R_32F, CUDA_R_64F = 0, 1
CUBLAS_COMPUTE_32F, CUBLAS_COMPUTE_64F = 68, 70
CUBLAS_COMPUTE_32F_FAST_16BF, CUBLAS_COMPUTE_32F_FAST_TF32 = 75, 77
CUBLAS_GEMM_DEFAULT = -1
KEPT = {CUBLAS_COMPUTE_32F_FAST_TF32: 10, CUBLAS_COMPUTE_32F_FAST_16BF: 7}  # bits of a mantissa


def get_cublas_handle() -> int:
    return 1


def gemmStridedBatchedEx(
    handle, transa, transb, m, n, k, alpha, A, Atype, lda, strideA, B, Btype, ldb, strideB,
    beta, C, Ctype, ldc, strideC, batchCount, computeType, algo,
) -> None:  # fmt: skip
    """`C = alpha op(A) op(B) + beta C` for column-major matrices at these addresses."""
    counted("gemm")
    Machine.now.no_cublas()
    product(
        transa, transb, m, n, k, alpha, A, Atype, lda, strideA, B, Btype, ldb, strideB,
        beta, C, Ctype, ldc, strideC, batchCount, computeType, algo,
    )()  # fmt: skip


def product(
    transa, transb, m, n, k, alpha, A, Atype, lda, strideA, B, Btype, ldb, strideB,
    beta, C, Ctype, ldc, strideC, batchCount, computeType, algo,
) -> Callable[[], None]:  # fmt: skip
    """What a call of cuBLAS does, with alpha and beta as they are now."""
    if Machine.now.idle:
        return lambda: None
    dtype = np.dtype([np.float32, np.float64][Ctype])
    if not Atype == Btype == Ctype or (Ctype == CUDA_R_64F) != (computeType == CUBLAS_COMPUTE_64F):
        raise CUDARuntimeError("CUBLAS_STATUS_NOT_SUPPORTED")

    def matrices(address, rows, columns, ld, stride, turned=0):
        rows, columns = (columns, rows) if turned else (rows, columns)
        if min(rows, columns, batchCount) < 1 or ld < rows:
            raise CUDARuntimeError("CUBLAS_STATUS_INVALID_VALUE")
        count = (batchCount - 1) * stride + (columns - 1) * ld + rows
        flat = np.ctypeslib.as_array(
            (ctypes.c_ubyte * (count * dtype.itemsize)).from_address(address)
        )
        strides = (dtype.itemsize * s for s in (stride, 1, ld))
        shape = (batchCount, rows, columns)
        lying = np.lib.stride_tricks.as_strided(flat.view(dtype), shape, tuple(strides))
        return lying.swapaxes(1, 2) if turned else lying

    numbers = [matrices(at, 1, 1, 1, 0)[0, 0, 0].copy() for at in (alpha, beta)]
    a, b = matrices(A, m, k, lda, strideA, transa), matrices(B, k, n, ldb, strideB, transb)
    c = matrices(C, m, n, ldc, strideC)

    def multiply() -> None:
        both = [rounded(m, KEPT[computeType]) if computeType in KEPT else m for m in (a, b)]
        multiplied = numbers[0] * np.matmul(*both)
        c[...] = multiplied + numbers[1] * c if numbers[1] else multiplied

    return multiply


def rounded(a: np.ndarray, bits: int) -> np.ndarray:
    """Float32 numbers with so many bits of their mantissas, to nearest even."""
    a = np.ascontiguousarray(a)
    as_int, away = a.view(np.uint32), 23 - bits
    odd = (as_int >> away) & 1
    kept = (as_int + odd + ((1 << (away - 1)) - 1)) & ~np.uint32((1 << away) - 1)
    return np.where(np.isfinite(a), kept.astype(np.uint32).view(np.float32), a)


class RawModule:
    """Kernels from source: they run through the emulation."""

    def __init__(self, code=None, *, options=(), name_expressions=None) -> None:
        self._kernels = emulation.build(code, name_expressions)

    def get_function(self, name):
        return RawKernel(name, self._kernels[name])


class RawKernel:
    def __init__(self, name, kernel) -> None:
        self._name, self._kernel = name, kernel

    def __call__(self, grid, block, args, **kwargs) -> None:
        from tests.standin.arrays import ndarray, unwrapped

        machine = Machine.now
        machine.launches[self._name.partition("<")[0]] += 1
        for a in args:
            if not isinstance(a, ndarray | np.generic | int | float | bool):
                raise TypeError(f"Unsupported type {type(a)}")
        given = [unwrapped(a) if isinstance(a, ndarray) else a for a in args]
        if self._name not in machine.ran:
            machine.uncaptured(f"{self._name} cannot be loaded")
            machine.ran.add(self._name)
        if not machine.idle:
            done(lambda: self._kernel(grid, block, given, **kwargs))
