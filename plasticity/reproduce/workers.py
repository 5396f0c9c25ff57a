"""Runs carried out one after the other, or side by side in processes of few threads each.

Threads share the work of one step badly where a network is small: two runs on one core each end
sooner than two runs on two cores, one after the other.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from pathlib import Path

from plasticity.arrays import resolve_device
from plasticity.errors import UserError
from plasticity.kernels import threads
from plasticity.reproduce.experiments import STAGES, Budget, Experiment, carry_out, complete

SMALL = 0.25  # of the width: below it a run keeps no more than one core busy

DONE = "done"
Report = Callable[[str, str, int, int], None]
"""Told of a run by its name: what is going on, how far it is, of how much; `DONE` at its end."""


class Work:
    """How much there is to do and how much is done, in forward passes of one image.

    Attributes:
        todo: the runs that are not complete; total, done: of all runs.
    """

    def __init__(self, experiments: Sequence[Experiment], folder: Path, budget: Budget) -> None:
        self.todo = [e for e in experiments if not complete(e, folder, budget)]
        self._stages = {e.name: self._of(e, budget) for e in experiments}
        self._done = {name: sum(stages.values()) for name, stages in self._stages.items()}
        self._done |= {e.name: 0.0 for e in self.todo}
        self.total = sum(sum(stages.values()) for stages in self._stages.values())
        self._before = self.done
        self._seen: set[str] = set()

    @staticmethod
    def _of(wanted: Experiment, budget: Budget) -> dict[str, float]:
        train, test = (n or 5000 for n in (budget.probe_train, budget.probe_test))
        return {
            STAGES["training"]: 3.0 * wanted.steps() * wanted.options.batch,  # and back, and dW
            STAGES["published"]: train * budget.probe_views + test,
            STAGES["regularised"]: train + test,
        }

    @property
    def done(self) -> float:
        return sum(self._done.values())

    def report(self, name: str, what: str, done: int, total: int) -> None:
        """Take note of how far a run is."""
        stages, so_far = self._stages[name], 0.0
        for stage, work in stages.items():
            if stage == what:
                # A probe reports several parts: the whole counts when it is over.
                so_far += work * done / total if stage == STAGES["training"] else 0.0
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
    experiments: Sequence[Experiment], folder: Path, budget: Budget, jobs: int, report: Report
) -> dict[str, str]:
    """Carry out all runs; a run that fails does not stop the others.

    Returns:
        What went wrong, a sentence for each run that failed.

    Raises:
        KeyboardInterrupt: Ctrl-C or a polite kill, after the runs under way were saved.
    """
    if jobs > 1:
        return _side_by_side(experiments, folder, budget, jobs, report)
    failed = {}
    for wanted in experiments:
        try:
            if not carry_out(wanted, folder, budget, _named(wanted, report)):
                raise KeyboardInterrupt
            report(wanted.name, DONE, 1, 1)
        except UserError as error:
            failed[wanted.name] = str(error)
    return failed


def _named(wanted: Experiment, report: Report) -> Callable[[str, int, int], None]:
    return lambda what, done, total: report(wanted.name, what, done, total)


def _side_by_side(
    experiments: Sequence[Experiment], folder: Path, budget: Budget, jobs: int, report: Report
) -> dict[str, str]:
    context = multiprocessing.get_context("spawn")
    todo, failed = list(experiments), {}
    workers, busy = {}, {}  # by the parent's end of a worker's pipe: its process, its run

    def hand_out(pipe: Connection) -> None:
        if todo:
            busy[pipe] = todo.pop(0)
            pipe.send(busy[pipe])
        else:
            busy.pop(pipe, None)
            pipe.close()

    with _stoppable(), _threads_of(jobs):
        try:
            for _ in range(min(jobs, len(experiments))):
                pipe, theirs = context.Pipe()
                process = context.Process(target=_work, args=(theirs, folder, budget), daemon=True)
                process.start()
                theirs.close()
                workers[pipe] = process
                hand_out(pipe)
            while busy:
                for pipe in wait(list(busy)):
                    try:
                        told, failure = pipe.recv()
                    except EOFError:  # killed, for want of memory perhaps
                        workers[pipe].join()
                        failed[busy.pop(pipe).name] = (
                            f"its process ended with status {workers[pipe].exitcode}"
                        )
                        continue
                    name = busy[pipe].name
                    if failure:
                        failed[name] = failure
                    else:
                        report(name, *told)
                    if failure or told[0] == DONE:
                        hand_out(pipe)
        finally:
            for process in workers.values():
                process.terminate()  # politely: a training is saved first
            for process in workers.values():
                while process.is_alive():  # it may have left training just before
                    process.terminate()
                    process.join(1)
    if todo:
        failed |= dict.fromkeys((e.name for e in todo), "not begun: no process was left to do it")
    return failed


def _work(pipe: Connection, folder: Path, budget: Budget) -> None:
    """In a process of its own: carry out what comes through the pipe, until it is closed."""
    if hasattr(os, "setpgrp"):
        os.setpgrp()  # Ctrl-C of the terminal reaches the parent alone, which asks to stop

    def tell(what: str, done: int, total: int) -> None:
        try:
            pipe.send(((what, done, total), ""))
        except OSError:  # the parent is gone: a training saves and stops
            os.kill(os.getpid(), signal.SIGTERM)

    while True:
        try:
            wanted = pipe.recv()
        except EOFError:
            return
        try:
            if not carry_out(wanted, folder, budget, tell):
                return
            tell(DONE, 1, 1)
        except UserError as error:
            pipe.send((None, str(error)))


@contextmanager
def _stoppable() -> Iterator[None]:
    """A polite kill is an interruption too, and so is Ctrl-C where a shell has it ignored."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    stop = signal.default_int_handler
    before = {s: signal.signal(s, stop) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _threads_of(jobs: int) -> Iterator[None]:
    """Processes that start meanwhile share the cores."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = str(max(1, threads.count() // jobs))
    try:
        yield
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before
