"""Training by several processes, each with its share of every batch: `mpiexec -n N plasticity run`.

A layer's dW is a sum over patches, so each rank correlates its own and the ranks' sums are added.
What couples images is the rule: its negatives come from the whole batch. A rule that looks at each
context by itself runs on those of a rank's own images, with the encodings of others that they name
(`shares`). For any other rule all encodings are gathered, and every rank lets it see all, by
the same draws: it gives what one process would give, to rounding, and what it keeps changes alike
on all ranks. Where a layer normalises by the batch, two numbers for each neuron travel on the way
up, and two on the way down.

A local rule has the dW of a layer before the next layer computes, and nothing waits for it: the
sum over ranks travels while the layers above are computed. Between hosts and between arrays of the
CPU it is MPI's (mpi4py), between GPUs NCCL's (`cupyx.distributed`).
"""

import os
import sys
import time
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from plasticity.arrays import Array, array_module, gpus, resolve_device, to_host
from plasticity.errors import UserError, installs
from plasticity.events import Foreign, Layout

# How many processes a launcher has started: Open MPI, MPICH and Intel MPI, MVAPICH, srun.
SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS")
POLITE = 3.0  # seconds that other ranks leave rank 0 to say what all of them would
LINGER = 1.0  # seconds for the launcher to pass the sentence on: Abort ends it with all it holds


@dataclass
class Ranks:
    """One of several processes that learn together.

    Attributes:
        comm: `mpi4py.MPI.COMM_WORLD`.
        peers: NCCL's communicator between GPUs, after `connect`; stream: where its sums run.
    """

    comm: Any
    peers: Any = field(default=None, repr=False)
    stream: Any = field(default=None, repr=False)

    @property
    def rank(self) -> int:
        """Which one this is, from 0."""
        return self.comm.rank

    @property
    def size(self) -> int:
        """How many there are."""
        return self.comm.size

    def device(self, name: str) -> str:
        """A GPU of this machine for each of its ranks, where `name` leaves the choice open."""
        wide = resolve_device(name) if name == "auto" else name
        if wide != "cuda" and (name, wide) != ("auto", "cuda:0"):
            return name
        here = self.comm.Split_type(_mpi().COMM_TYPE_SHARED).rank
        return f"cuda:{here % max(gpus()[0], 1)}"  # a launcher may show each rank its own alone

    def connect(self, device: str) -> None:
        """Let the ranks' GPUs speak to each other by NCCL; those of the CPU do already.

        Raises:
            UserError: NCCL is missing, two ranks have the same GPU, or only some have one.
        """
        card = None
        if device != "cpu":
            import cupy

            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # CuPy's many lines about NCCL
                from cupy.cuda import nccl

                if not nccl.available:
                    raise UserError(
                        "several GPUs need NCCL, and CuPy does not find it: pip install "
                        "nvidia-nccl-cu12 (or -cu13, as your CuPy), or take --device cpu"
                    )
                from cupyx.distributed import NCCLBackend
            card = _mpi().Get_processor_name(), cupy.cuda.Device().pci_bus_id
        cards = self.comm.allgather(card)
        for rank, other in enumerate(cards):
            if (other is None) != (card is None):
                raise UserError(
                    f"rank {self.rank} computes on {device} and rank {rank} does not: take "
                    "--device cpu, or machines with a GPU for each process"
                )
            if other is not None and (first := cards.index(other)) != rank:
                raise UserError(
                    f"ranks {first} and {rank} share a GPU, {other[1]} of {other[0]}, and NCCL "
                    "wants one for each: start fewer processes"
                )
        if card is not None:
            self.peers = NCCLBackend(self.size, self.rank, use_mpi=True)
            self.stream = cupy.cuda.Stream(non_blocking=True)

    def share(self, batch: int) -> slice:
        """The images of a batch that are this rank's.

        Raises:
            UserError: a batch that cannot be cut into equal shares.
        """
        if batch % self.size:
            raise UserError(
                f"--batch {batch} cannot be shared by {self.size} processes: take a multiple of "
                f"{self.size}"
            )
        each = batch // self.size
        return slice(self.rank * each, (self.rank + 1) * each)

    def layout(self, whole: Layout) -> Layout:
        """The layout of a batch, with the samples that are this rank's."""
        mine = self.share(whole.samples)
        return replace(whole, mine=(mine.start, mine.stop))

    def gather(self, z: Array, layout: Layout) -> Array:
        """Encodings or maps `(N, ...)` of the whole batch, from this rank's, as `layout` orders."""
        z = array_module(z).ascontiguousarray(z)
        parts = array_module(z).empty((self.size, *z.shape), z.dtype)
        if isinstance(z, np.ndarray):
            self.comm.Allgather(z, parts)
        else:
            self.peers.all_gather(z, parts, z.size)
        # (rank, time, image, column) to (time, rank, image, column)
        parts = parts.reshape(self.size, layout.time, -1, *z.shape[1:])
        return parts.swapaxes(0, 1).reshape(layout.rows, *z.shape[1:])

    def own(self, rows: Array, layout: Layout) -> Array:
        """This rank's patches of rows `(N, ...)` in the order of `layout`."""
        rows = rows.reshape(layout.time, self.size, -1, *rows.shape[1:])[:, self.rank]
        return rows.reshape(-1, *rows.shape[2:])

    def scatter(self, rows: Array, layout: Layout) -> Array:
        """The sum over ranks of rows `(N, ...)` of the whole batch, of which each has its own."""
        xp, rest = array_module(rows), rows.shape[1:]
        parts = rows.reshape(layout.time, self.size, -1, *rest).swapaxes(0, 1)
        parts = xp.ascontiguousarray(parts.reshape(self.size, -1, *rest))
        own = xp.empty(parts.shape[1:], rows.dtype)
        if isinstance(rows, np.ndarray):
            self.comm.Reduce_scatter_block(parts, own)
        else:
            self.peers.reduce_scatter(parts, own, own.size)
        return own

    def ask(self, foreign: Sequence[Foreign]) -> list[Foreign]:
        """Of several losses the rows of one's own that others name, for those of theirs."""
        named = np.array([f.named for f in foreign]).T.copy()  # (rank, loss)
        asked = np.empty_like(named)
        self.comm.Alltoall(named, asked)
        parts = [np.split(f.rows, np.cumsum(f.named)[:-1]) for f in foreign]
        sent = np.concatenate([part[rank] for rank in range(self.size) for part in parts])
        got = np.empty(asked.sum(), sent.dtype)
        self.comm.Alltoallv([sent, named.sum(axis=1)], [got, asked.sum(axis=1)])
        pieces = np.split(got, np.cumsum(asked)[:-1])
        return [
            replace(
                f,
                rows=np.concatenate(pieces[loss :: len(foreign)]),
                asked=tuple(asked[:, loss].tolist()),
            )
            for loss, f in enumerate(foreign)
        ]

    def fetch(self, z: Array, foreign: Foreign) -> Array:
        """Own encodings `(n, ...)`, and behind them those of others that the events name."""
        got = array_module(z).empty((sum(foreign.named), *z.shape[1:]), z.dtype)
        self._exchange(z[foreign.rows], foreign.asked, got, foreign.named)
        return array_module(z).concatenate([z, got])

    def bring(self, drive: Array, foreign: Foreign) -> Array:
        """The drive on own encodings, with what falls on them at others, from one as of `fetch`."""
        away = len(drive) - sum(foreign.named)
        back = array_module(drive).empty((sum(foreign.asked), *drive.shape[1:]), drive.dtype)
        self._exchange(drive[away:], foreign.named, back, foreign.asked)
        own = drive[:away]
        for begin, end in pairwise(accumulate(foreign.asked, initial=0)):
            own[foreign.rows[begin:end]] += back[begin:end]  # none twice
        return own

    def _exchange(self, sent: Array, to: Sequence[int], got: Array, of: Sequence[int]) -> None:
        """Send rows to each rank, as many as `to` says, and take as many of each as `of` says."""
        sent = array_module(sent).ascontiguousarray(sent)
        if isinstance(sent, np.ndarray):
            each = int(np.prod(sent.shape[1:]))
            self.comm.Alltoallv([sent, [n * each for n in to]], [got, [n * each for n in of]])
            return
        from cupy.cuda import nccl

        ends = zip(*(pairwise(accumulate(counts, initial=0)) for counts in (to, of)), strict=True)
        nccl.groupStart()
        for peer, ((a, b), (c, d)) in enumerate(ends):
            if b > a:
                self.peers.send(sent[a:b], peer)
            if d > c:
                self.peers.recv(got[c:d], peer)
        nccl.groupEnd()

    def add(self, changes: dict[str, Array]) -> Callable[[], None]:
        """Begin to sum dW over the ranks, in place; what comes back waits until it is done."""
        if all(isinstance(dW, np.ndarray) for dW in changes.values()):
            sums = [(dW, np.ascontiguousarray(dW)) for dW in changes.values()]
            totals = [np.empty_like(part) for _, part in sums]
            requests = [
                self.comm.Iallreduce(part, total)
                for (_, part), total in zip(sums, totals, strict=True)
            ]

            def wait() -> None:
                for request, (dW, _), total in zip(requests, sums, totals, strict=True):
                    request.Wait()
                    dW[...] = total

            return wait
        return self._add_by_nccl(changes)

    def _add_by_nccl(self, changes: dict[str, Array]) -> Callable[[], None]:
        """`add` on a stream of its own, which waits for dW and is waited for."""
        import cupy

        sums = [(dW, cupy.ascontiguousarray(dW)) for dW in changes.values()]
        self.stream.wait_event(cupy.cuda.get_current_stream().record())
        for _, part in sums:
            self.peers.all_reduce(part, part, stream=self.stream)
        done = self.stream.record()

        def wait() -> None:
            cupy.cuda.get_current_stream().wait_event(done)
            for dW, part in sums:
                if part is not dW:
                    dW[...] = part

        return wait

    def mean(self, a: Array) -> Array:
        """The mean over ranks of what each has, at once."""
        a = array_module(a).ascontiguousarray(a)
        total = array_module(a).empty_like(a)
        if isinstance(a, np.ndarray):
            self.comm.Allreduce(a, total)
        else:
            self.peers.all_reduce(a, total)
        return total / a.dtype.type(self.size)

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """For each flag whether it is set on any rank, so that all do the same."""
        told, found = np.array(flags, np.uint8), np.empty(len(flags), np.uint8)
        self.comm.Allreduce(told, found, op=_mpi().MAX)
        return tuple(bool(flag) for flag in found)

    def tell(self, value: object) -> Any:
        """Rank 0's value, on every rank."""
        return self.comm.bcast(value)

    def rest(self) -> None:
        """Wait for all, without keeping a core busy as MPI's own waiting does."""
        request = self.comm.Ibarrier()
        while not request.Test():
            time.sleep(0.05)

    def check_alike(self, weights: dict[str, dict[str, Array]]) -> None:
        """See that all ranks hold the same weights, bit for bit.

        Raises:
            UserError: they have drifted apart.
        """
        sums = {
            f"{layer}.{name}": zlib.crc32(np.ascontiguousarray(to_host(w)).data)
            for layer, own in weights.items()
            for name, w in own.items()
        }
        for rank, theirs in enumerate(self.comm.allgather(sums)):
            for name, value in sums.items():
                if theirs[name] != value:
                    raise UserError(
                        f"{name} of rank {rank} is not that of rank {self.rank}: take machines of "
                        "one kind; the last checkpoint stands"
                    )


def _mpi() -> Any:
    from mpi4py import MPI

    return MPI


def launched() -> int:
    """How many processes `mpiexec` has started; 1 without it."""
    found = [os.environ[name] for name in SIZES if os.environ.get(name, "").isdigit()]
    return int(found[0]) if found else 1


def _check_size(size: int) -> None:
    """Compare MPI's count of processes with the launcher's: else each would train by itself.

    Raises:
        UserError: they differ.
    """
    if size != launched():
        raise UserError(
            f"{launched()} processes were started, but mpi4py's MPI counts {size}: the launcher is "
            "of another MPI, or gives its processes no PMI; take the mpiexec that belongs to "
            f"mpi4py's {_mpi().Get_library_version().splitlines()[0].strip()}, or srun --mpi=pmi2 "
            "or --mpi=pmix"
        )


@cache
def world() -> Ranks | None:
    """The ranks that `mpiexec` has started, or None for a process of its own.

    Raises:
        UserError: mpiexec has started several, and mpi4py is not installed.
    """
    if launched() == 1:
        return None
    try:
        ranks = Ranks(_mpi().COMM_WORLD)
        _check_size(ranks.size)
        return ranks
    except (ImportError, RuntimeError) as error:
        raise UserError(
            "mpiexec has started several processes, and they cannot speak to each other without "
            f"mpi4py and an MPI library of the same kind: {installs('mpi')} "
            f"({str(error).splitlines()[0]})"
        ) from error


@contextmanager
def together() -> Iterator[Ranks | None]:
    """What goes wrong on one rank ends all of them, after a sentence that says where and what."""
    ranks = world()
    try:
        yield ranks
        if ranks is not None:
            ranks.rest()
    except (Exception, KeyboardInterrupt) as error:
        if ranks is None:
            raise
        if ranks.rank:  # mostly all meet the same error, and rank 0 tells it
            time.sleep(POLITE)
        known = isinstance(error, UserError)
        if not known:
            import traceback

            traceback.print_exc()
        where = f"rank {ranks.rank} of {ranks.size}"
        print(f"Error: {error or type(error).__name__} ({where}; all end)", file=sys.stderr)
        sys.stderr.flush()
        time.sleep(LINGER)
        code = 2 if known else 1
        ranks.comm.Abort(code)
        sys.exit(code)  # where Abort comes back
