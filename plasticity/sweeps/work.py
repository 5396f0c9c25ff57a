"""Runs carried out by joblib: one after the other, side by side on this machine, or by Dask.

Threads share the work of one step badly where a network is small: two runs on one core each end
sooner than two runs on two cores, one after the other.

Whoever carries out a run and whoever waits for it speak through a folder (`Bench`), which also
machines that share their files can do. The waiting process alone hears signals: it asks the others
to save and stop.
"""

import _thread
import json
import os
import shutil
import signal
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from plasticity import trust
from plasticity.arrays import resolve_device
from plasticity.errors import UserError, installs
from plasticity.files import lives, make_folder
from plasticity.kernels import threads
from plasticity.runs.training import polite
from plasticity.sweeps.experiments import TRAINING, Experiment, carry_out, stage

SMALL = 0.25  # of the width: below it a run keeps no more than one core busy
STOP = "stop"  # a file on the bench: runs are to be saved, and to stop
EVERY = 0.25  # seconds between two looks at the bench
PATIENCE = 10  # seconds for a scheduler to answer, and for lost workers to come back

DONE = "done"
Report = Callable[[str, str, int, int], None]
"""Told of a run by its name: what is going on, how far it is, of how much; `DONE` at its end."""


class Work:
    """How much there is to do and how much is done, in forward passes of one image.

    Attributes:
        todo: the runs that are not complete; total, done: of all runs.
    """

    def __init__(self, experiments: Sequence[Experiment], folder: Path) -> None:
        self.todo = [e for e in experiments if not e.complete(folder)]
        self._stages = {e.name: self._of(e) for e in experiments}
        self._done = {name: sum(stages.values()) for name, stages in self._stages.items()}
        self._done |= {e.name: 0.0 for e in self.todo}
        self.total = sum(sum(stages.values()) for stages in self._stages.values())
        self._before = self.done
        self._seen: set[str] = set()

    @staticmethod
    def _of(wanted: Experiment) -> dict[str, float]:
        found = {TRAINING: 3.0 * wanted.steps() * wanted.options.size}  # and back, and dW
        for protocol, asked in wanted.probes.items():
            train, test = (int(asked.get(f"{p}_images", 0)) or 5000 for p in ("train", "test"))
            found[stage(protocol)] = train * int(asked.get("views", 1)) + test
        return found

    @property
    def done(self) -> float:
        return sum(self._done.values())

    def report(self, name: str, what: str, done: int, total: int) -> None:
        """Take note of how far a run is."""
        stages, so_far = self._stages[name], 0.0
        for one, work in stages.items():
            if one == what:
                # A probe reports several parts: the whole counts when it is over.
                so_far += work * done / total if one == TRAINING else 0.0
                break
            so_far += work
        if name not in self._seen:  # what an earlier session did of it says nothing about speed
            self._seen.add(name)
            self._before += so_far
        self._done[name] = so_far

    def remaining(self, seconds: float) -> float | None:
        """How many seconds it still takes, if so many were needed so far; None at the start."""
        made = self.done - self._before
        return seconds * (self.total - self.done) / made if made > 0.002 * self.total else None


def usual_jobs(experiments: Sequence[Experiment]) -> int:
    """How many runs side by side: one for each core if they are small, one on a GPU."""
    small = all(e.options.width <= SMALL for e in experiments)
    gpu = any(resolve_device(e.options.device) != "cpu" for e in experiments)
    return max(1, min(threads.count(), len(experiments))) if small and not gpu else 1


def carry_out_all(
    experiments: Sequence[Experiment], folder: Path, jobs: int, report: Report, on: str = ""
) -> dict[str, str]:
    """Carry out all runs; a run that fails does not stop the others.

    Args:
        jobs: how many side by side on this machine, which share its cores.
        on: the address of a Dask scheduler whose workers carry them out instead; they see `folder`
            under the same path.

    Returns:
        What went wrong, a sentence for each run that failed.

    Raises:
        KeyboardInterrupt: Ctrl-C or a polite kill, after the runs under way were saved.
        UserError: a scheduler that does not answer, or has no workers (any more).
    """
    folder = Path(folder).absolute()
    make_folder(folder)
    failed: dict[str, str] = {}
    lost = threading.Event()
    report = _in_order(report)
    batches = [list(experiments)]
    with _backend(jobs, on, lost) as parallel, _bench(folder) as bench, bench.told(report):
        while batches and not bench.stopped():
            batch = batches.pop(0)
            left = {e.name: e for e in batch}
            try:
                with _hushed():  # processes that are started now inherit it
                    outcomes = parallel((_fresh(e), folder, bench) for e in batch)
                with _heard(bench):
                    for name, ended, sentence in outcomes:
                        del left[name]
                        bench.forget(name)
                        if ended:
                            report(name, DONE, 1, 1)
                        elif sentence:
                            failed[name] = sentence
            except KeyboardInterrupt:
                if not lost.is_set():
                    raise
            except BrokenProcessPool:  # a process was killed, and joblib has ended the others
                suspects = [left.pop(name) for name in (bench.begun() & left.keys() or set(left))]
                for one in suspects:
                    bench.forget(one.name)
                if len(batch) == 1:
                    failed[batch[0].name] = "its process was killed, for want of memory perhaps"
                else:  # which one's it was shows when each has a process to itself
                    batches += [list(left.values()), *([one] for one in suspects)]
        if lost.is_set():
            raise UserError(
                f"--on {on}: its last worker is gone, and none has come for {PATIENCE} seconds: "
                "start workers and call again, the runs go on from their checkpoints"
            )
        if bench.stopped():
            raise KeyboardInterrupt
    return failed


def _fresh(wanted: Experiment) -> Experiment:
    """The same without what it has computed: classes of a file cannot be sent."""
    return replace(wanted, options=replace(wanted.options))


def _in_order(report: Report) -> Report:
    """The same for several threads: nothing is told of a run after its end."""
    lock, over = threading.Lock(), set()

    def tell(name: str, what: str, done: int, total: int) -> None:
        with lock:
            if name not in over:
                if what == DONE:
                    over.add(name)
                report(name, what, done, total)

    return tell


def _carried_out(wanted: Experiment, folder: Path, bench: "Bench") -> tuple[str, bool, str]:
    """Wherever joblib has it done: a run's name, whether it came to its end, what went wrong."""
    if os.getpid() != bench.parent and threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):  # the parent hears them
            signal.signal(number, signal.SIG_IGN)
    if not bench.place.is_dir():
        where = f"{folder} is not there on {socket.gethostname()}, which was to carry it out"
        return wanted.name, False, f"{where}: all machines must see it under this path"
    link = _Link(bench, wanted.name)
    if link.stopped():
        return wanted.name, False, ""
    for digest in wanted.options.files.values():
        trust.agree(digest)  # as the parent has
    try:
        link.tell(TRAINING, 0, 1)
        ended = carry_out(wanted, folder, link.tell, link.stopped)
        if link.orphaned():  # joblib's processes would wait for minutes
            os._exit(0)
        if not ended:  # training itself has heard a signal, if nobody else has
            bench.stop()
        return wanted.name, ended, ""
    except UserError as error:
        return wanted.name, False, str(error)
    except Exception as error:
        place = folder / wanted.name / "error.txt"
        with suppress(OSError):
            place.write_text(traceback.format_exc(), encoding="utf-8")
        return wanted.name, False, f"{type(error).__name__}: {error} (in full: {place})"


@dataclass(frozen=True)
class Bench:
    """A folder that is there for as long as runs are carried out.

    Attributes:
        parent: the process that waits for them.
    """

    place: Path
    parent: int

    def stop(self) -> None:
        """Ask all that carry out a run to save it and stop."""
        (self.place / STOP).touch()

    def stopped(self) -> bool:
        """Whether they were asked to."""
        return (self.place / STOP).exists() or not self.place.is_dir()

    def forget(self, name: str) -> None:
        """A run is over."""
        self._of(name).unlink(missing_ok=True)

    def begun(self) -> set[str]:
        """The runs that are under way."""
        return {path.name.removesuffix(".json") for path in self.place.glob("*.json")}

    def tell(self, name: str, what: str, done: int, total: int) -> None:
        """How far a run is."""
        part = self.place / f"{name}.{os.getpid()}.part"
        with suppress(OSError):  # who waits for it may be gone
            part.write_text(json.dumps([what, done, total]))
            os.replace(part, self._of(name))

    def _of(self, name: str) -> Path:
        return self.place / f"{name}.json"

    @contextmanager
    def told(self, report: Report) -> Iterator[None]:
        """Pass on, every so often, what is told of the runs that are under way."""
        over, last = threading.Event(), {}

        def look() -> None:
            while not over.wait(EVERY):
                for name in self.begun():
                    with suppress(OSError, ValueError):
                        found = json.loads(self._of(name).read_text())
                        if last.get(name) != found:
                            last[name] = found
                            report(name, *found)

        looking = threading.Thread(target=look, daemon=True)
        looking.start()
        try:
            yield
        finally:
            over.set()
            looking.join()


class _Link:
    """How a run that is carried out speaks with its bench, a few times in a second at most."""

    def __init__(self, bench: Bench, name: str) -> None:
        self.bench, self.name = bench, name
        self.child = os.getppid() == bench.parent
        self.told: tuple[str, float] = "", 0.0
        self.asked, self.stop = 0.0, False

    def tell(self, what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if what != self.told[0] or done == total or now - self.told[1] >= EVERY:
            self.told = what, now
            self.bench.tell(self.name, what, done, total)

    def stopped(self) -> bool:
        """Whether to stop: it was asked for, or whoever could ask is gone."""
        if not self.stop and (now := time.monotonic()) - self.asked >= EVERY:
            self.asked = now
            self.stop = self.orphaned() or self.bench.stopped()
        return self.stop

    def orphaned(self) -> bool:
        """Whether the process that started this one is gone."""
        return self.child and os.getppid() != self.bench.parent


MARK = ".carrying-out-"


@contextmanager
def _bench(folder: Path) -> Iterator[Bench]:
    for left in folder.glob(f"{MARK}*"):  # by a process that was killed
        pid = left.name.removeprefix(MARK)
        if pid.isdigit() and not lives(int(pid)):
            shutil.rmtree(left, ignore_errors=True)
    bench = Bench(folder / f"{MARK}{os.getpid()}", os.getpid())
    make_folder(bench.place)
    try:
        yield bench
    finally:
        shutil.rmtree(bench.place, ignore_errors=True)


@contextmanager
def _backend(jobs: int, on: str, lost: threading.Event) -> Iterator[Callable[[Iterator], Iterator]]:
    """What carries out runs as they come, and gives what came of each as it ends."""
    from joblib import Parallel, delayed, parallel_config

    def parallel(sent: Iterator, **how: Any) -> Iterator[tuple[str, bool, str]]:
        made = Parallel(batch_size=1, return_as="generator_unordered", **how)
        return made(delayed(_carried_out)(*one) for one in sent)

    if on:
        with (
            _client(on) as client,
            _watched(client, lost),
            parallel_config("dask", client=client),
        ):
            yield parallel
        return
    share = max(1, threads.count() // jobs)
    with parallel_config("loky", n_jobs=jobs, inner_max_num_threads=share):
        try:
            yield parallel
        finally:
            if jobs > 1:  # its processes would wait for more, with all that they hold
                from joblib.externals.loky import get_reusable_executor

                get_reusable_executor().shutdown(wait=True)


@contextmanager
def _client(address: str) -> Iterator[Any]:
    """A Dask scheduler's client.

    Raises:
        UserError: distributed is missing, nobody answers there, or it has no workers.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise UserError(f"--on needs Dask: {installs('dask')}") from error
    try:
        client = Client(address, timeout=PATIENCE, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            f"--on {address}: no Dask scheduler answers there ({error}); 'dask scheduler' starts "
            "one and prints its address, such as tcp://127.0.0.1:8786"
        ) from error
    with client:
        if not client.ncores():
            raise UserError(
                f"--on {address}: the scheduler has no workers; start some where the folder can be "
                f"seen, by 'dask worker {address} --nthreads 1'"
            )
        yield client


@contextmanager
def _watched(client: Any, lost: threading.Event) -> Iterator[None]:
    """End the waiting where a scheduler has no workers any more: Dask itself would wait for ever.

    The main thread is interrupted as by Ctrl-C twice, and `lost` says that it was not the user.
    """
    over = threading.Event()

    def look() -> None:
        since = time.monotonic()
        while not over.wait(EVERY):
            with suppress(Exception):  # a scheduler that is gone has no workers either
                if client.ncores():
                    since = time.monotonic()
            if time.monotonic() - since > PATIENCE:
                lost.set()
                _thread.interrupt_main()
                while not over.wait(2):
                    _thread.interrupt_main()
                return

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    try:
        yield
    finally:
        over.set()
        looking.join()


@contextmanager
def _hushed() -> Iterator[None]:
    """Neither Ctrl-C nor a polite kill is heard, for a moment."""
    with _handling(lambda name: signal.SIG_IGN):
        yield


@contextmanager
def _heard(bench: Bench) -> Iterator[None]:
    """Ctrl-C, also where a shell has it ignored, and polite kills ask to stop; a second ends."""

    def ask(number: int, frame: object) -> None:
        bench.stop()
        for other in (signal.SIGINT, signal.SIGTERM):
            signal.signal(other, signal.default_int_handler)

    with _handling(lambda name: ask):
        yield


@contextmanager
def _handling(handler: Callable[[int], Any]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = {signal.SIGINT, signal.SIGTERM, *polite()}
    before = {number: signal.signal(number, handler(number)) for number in numbers}
    try:
        yield
    finally:
        for number, was in before.items():
            signal.signal(number, was)
