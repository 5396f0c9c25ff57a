"""`cupyx.distributed` of the stand-in: NCCL's part is mpi4py's, between processes of the CPU.

What runs on a stream of its own runs as late as CUDA allows, as copies do (`machine.py`).
"""

import numpy as np

from tests.standin.arrays import ndarray, unwrapped
from tests.standin.machine import RUBBISH, Machine

DTYPES = "bBiIlLqQefd"

_group: list | None = None  # what the current group of calls is made of


def groupStart() -> None:
    global _group
    if _group is not None:
        raise RuntimeError("a group of NCCL's calls within another one")
    _group = []


def groupEnd() -> None:
    """All calls of a group are under way together; outside of one each would wait for its peer."""
    global _group
    begun, _group = [begin() for begin in _group], None
    for request in begun:
        request.Wait()


class NCCLBackend:
    def __init__(self, n_devices, rank, host="127.0.0.1", port=13333, use_mpi=False) -> None:
        if not use_mpi:
            raise NotImplementedError("the stand-in's ranks meet by MPI")
        from mpi4py import MPI

        self._comm = MPI.COMM_WORLD
        if (self._comm.size, self._comm.rank) != (n_devices, rank):
            raise RuntimeError("NCCL waits for ranks that never come")
        if len({*self._comm.allgather(Machine.now.current)}) < n_devices:
            raise RuntimeError("NCCL_ERROR_INVALID_USAGE: Duplicate GPU detected")

    def all_reduce(self, in_array, out_array, op="sum", stream=None) -> None:
        if op != "sum" or in_array.size != out_array.size:
            raise RuntimeError("not of the stand-in")
        self._run(self._comm.Allreduce, in_array, out_array, stream)

    def all_gather(self, in_array, out_array, count, stream=None) -> None:
        if count != in_array.size or out_array.size != count * self._comm.size:
            raise RuntimeError("NCCL would read or write outside the arrays")
        self._run(self._comm.Allgather, in_array, out_array, stream)

    def reduce_scatter(self, in_array, out_array, count, op="sum", stream=None) -> None:
        if op != "sum" or count != out_array.size or in_array.size != count * self._comm.size:
            raise RuntimeError("NCCL would read or write outside the arrays")
        self._run(self._comm.Reduce_scatter_block, in_array, out_array, stream)

    def send(self, array, peer, stream=None) -> None:
        self._with_peer(self._comm.Isend, array, peer, stream)

    def recv(self, out_array, peer, stream=None) -> None:
        self._with_peer(self._comm.Irecv, out_array, peer, stream)

    def _with_peer(self, begin, array, peer, stream) -> None:
        if _group is None or stream is not None or peer == self._comm.rank or not array.size:
            raise RuntimeError("not of the stand-in: arrays for other ranks, in a group of calls")
        self._check(array, array)
        _group.append(lambda: begin(unwrapped(array), peer))

    def _check(self, in_array, out_array) -> None:
        for a in (in_array, out_array):
            if not isinstance(a, ndarray):
                raise TypeError(f"NCCL takes arrays of the device, got {type(a)}")
            if not (a.flags.c_contiguous or a.flags.f_contiguous):
                raise RuntimeError("NCCL requires arrays to be either c- or f-contiguous")
            if a.dtype.char not in DTYPES or a.dtype != in_array.dtype:
                raise TypeError(f"Unknown dtype {a.dtype} for NCCL")

    def _run(self, call, in_array, out_array, stream) -> None:
        self._check(in_array, out_array)
        machine = Machine.now
        if stream is None or stream is machine.stream:
            call(unwrapped(in_array), unwrapped(out_array))
            return
        for a in (in_array, out_array):
            machine.left_alone(a._a, stream)
        source, target = in_array._a.copy(), out_array._a
        target.reshape(-1).view(np.uint8)[...] = RUBBISH
        stream.queue.append(lambda: call(source, target))
