"""One Python thread for each core: compiled loops release the GIL, BLAS keeps to its thread."""

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache

import numpy as np
from threadpoolctl import ThreadpoolController

# How many processes a launcher has started on this machine: MPICH and Intel MPI, Open MPI.
LOCAL_SIZES = ("MPI_LOCALNRANKS", "OMPI_COMM_WORLD_LOCAL_SIZE")


def count() -> int:
    """The cores this process may use, or fewer if `OMP_NUM_THREADS` says so.

    Processes that `mpiexec` has started share the cores, unless it has bound each to its own.
    """
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        cores = os.cpu_count() or 1
    local = next((os.environ[n] for n in LOCAL_SIZES if os.environ.get(n, "").isdigit()), "1")
    if cores == os.cpu_count():
        cores = max(1, cores // max(1, int(local)))
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return min(cores, int(wanted)) if wanted.isdigit() and int(wanted) else cores


@cache
def _pool(process: int) -> ThreadPoolExecutor:
    # What overflows here shows in the losses, which are checked.
    quiet = {"initializer": np.seterr, "initargs": (None, None, "ignore", None, "ignore")}
    return ThreadPoolExecutor(max(1, count() - 1), thread_name_prefix="kernels", **quiet)


@cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()


def spans(length: int, size: int) -> list[tuple[int, int]]:
    """`range(length)` cut into spans of `size`, the last one shorter."""
    return [(start, min(start + size, length)) for start in range(0, length, size)]


def even(length: int, size: int) -> list[tuple[int, int]]:
    """`range(length)` cut into spans of about `size`, as many for each thread as for the others."""
    team = _team()
    rounds = max(1, round(length / (size * team)))
    return spans(length, max(1, -(-length // (rounds * team))))


def shares(length: int) -> list[tuple[int, int]]:
    """`range(length)` cut into one span for each thread."""
    return spans(length, max(1, -(-length // _team())))


class _Own:
    """How many are at work with threads of their own, and how BLAS finds its way back."""

    lock = threading.Lock()
    users = 0
    limit = None
    team = 0  # how many threads they share, counted once


def _team() -> int:
    return _Own.team or count()


@contextmanager
def own() -> Iterator[None]:
    """BLAS keeps to one thread meanwhile, so that its threads and these never fight.

    Entered once around a step it spares every product the switch there and back, and the count.
    """
    with _Own.lock:
        if not _Own.users:
            _Own.limit = _blas().limit(limits=1, user_api="blas")
            _Own.team = count()
        _Own.users += 1
    try:
        yield
    finally:
        with _Own.lock:
            _Own.users -= 1
            if not _Own.users:
                _Own.team = 0
                _Own.limit.restore_original_limits()


def each(work: Callable, parts: Iterable) -> list:
    """`work` of every part, in parallel; results in the order of the parts.

    The caller works too: handing everything to others costs more than many a small part.
    """
    parts = list(parts)
    found: list = [None] * len(parts)
    todo, lock = iter(range(len(parts))), threading.Lock()

    def take() -> int | None:
        with lock:
            return next(todo, None)

    def share() -> None:
        while (i := take()) is not None:
            found[i] = work(parts[i])

    with own():
        others = [_pool(os.getpid()).submit(share) for _ in range(min(_team(), len(parts)) - 1)]
        try:
            share()
        finally:
            for other in others:
                other.cancel() or other.result()
    return found
