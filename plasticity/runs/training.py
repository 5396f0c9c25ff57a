"""A training run: batches through the rule to the weights, saved as it goes, resumed at will."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Protocol

import numpy as np

from plasticity import data, kernels, learning, runs
from plasticity.arrays import Array, numbers
from plasticity.device import sent
from plasticity.errors import UserError
from plasticity.learning import shares
from plasticity.network import Layer
from plasticity.rule import learns
from plasticity.runs.changes import told
from plasticity.runs.course import course_of
from plasticity.runs.journal import Journal
from plasticity.runs.replay import Replay, foreign, refused
from plasticity.runs.run import State, keep, save
from plasticity.stimuli import Batch, Batches

POLITE = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")
"""Signals at which a run saves before it ends, by name, as far as the system has them."""

FLUSH = 20
"""Losses stay on the device for so many steps at most, then they are read and checked."""


@dataclass
class Progress:
    """What a run tells while it goes on: after `step` of `steps`, means over the last 20.

    `means` has a value for each module of `open_gates`, of `loss`, if the rule descends one, and
    of what else it measures, NaN where the module's rule has no such measure; `measures` have one
    for each layer, by its name, of the last step that was measured.
    """

    step: int
    steps: int
    means: dict[str, np.ndarray]
    measures: dict[str, dict[str, float]]
    images_per_second: float


def learn_batch(
    state: State,
    batch: Batch,
    watch: Callable[[learning.Watched], None] | None = None,
    look: Callable[[Layer, Array], None] | None = None,
) -> dict[str, list[Array | None]]:
    """One step: every module learns from the batch, which lies on the run's device.

    Args:
        watch, look: see `learning.updates`.

    Returns:
        `loss`, `open_gates` and the rules' own measures, each with a value for every loss: scalar
        arrays that are still on the device, or None where its rule has no such measure.
    """
    told: list[dict[str, Array]] = []

    def take(update: learning.Update) -> None:
        update.finish()
        for report in update.reports.values():
            values = {"loss": report.loss, "open_gates": report.open_gates, **report.measures}
            told.append({name: value for name, value in values.items() if value is not None})
        if learns(update.rule):
            apply(state, update, batch.step + 1, batch.pace)

    travelling = []
    for update in state.updates(batch, watch, look):
        if state.ranks:  # the sum over ranks travels while the modules above are computed
            travelling.append(update)
        else:
            take(update)
    for update in travelling:
        take(update)
    state.step = batch.step + 1
    return {name: [one.get(name) for one in told] for name in dict.fromkeys(chain(*told))}


def apply(state: State, update: learning.Update, step: int, pace: Array | None = None) -> None:
    """Change the weights of a module, and what else its rule keeps; steps count from 1.

    Args:
        pace: see `Batch`.
    """
    state.optimiser.ascend(state.weights, update.changes, step, pace)
    for layer, own in update.state.items():
        for name, value in own.items():
            state.weights[layer][name][...] = value
    if update.constrained is not None:
        learning.constrain(update.rule, update.constrained, state.weights)


def replaying(state: State) -> Replay | None:
    """The steps of a run by CUDA graphs, where its `graph` says so; None for steps as ever.

    Raises:
        UserError: graphs that were asked for, where something stands against them.
    """
    why = refused(state)
    if state.options.graph == "on" and why:
        raise UserError(f"--graph on: {why}; leave it away")
    if state.options.graph == "off" or why or (state.options.graph == "auto" and foreign(state)):
        return None
    return Replay(state, learn_batch)


class Onlooker(Protocol):
    """Who watches training without changing it, such as `inspection.Recorder`."""

    def watching(self, step: int) -> Callable[[learning.Watched], None] | None:
        """The watch on a step, counted from 1, or None."""

    def stepped(self, step: int) -> None:
        """The step is over."""

    def flush(self) -> None:
        """The run is about to be saved."""


def train(
    state: State,
    folder: Path,
    report: Callable[[Progress], None] = lambda progress: None,
    onlooker: Onlooker | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> bool:
    """Train to the end of the run and save it.

    The run is saved every `checkpoint_minutes`, at the end, and when it is interrupted: Ctrl-C
    lets the step finish first, and so does whoever answers true when `stopped` is asked.

    Returns:
        Whether the run came to its end.

    Raises:
        UserError: losses or weights that are not finite; the last checkpoint stands.
    """
    options = state.options
    state.replay = replaying(state)
    source = state.stimulus.source
    steps = options.total_steps(len(source))
    every = options.stop_early
    if state.step >= steps or plateau(state.metrics, every):
        return True
    if not runs.kept_path(folder, state.step).is_file():  # a run may end between save and keep
        keep(state, folder)
    course = course_of(state, folder)
    saved, start = time.monotonic(), time.perf_counter()
    pending: list[dict[str, list[Array | None]]] = []
    share = state.ranks.share(options.batch) if state.ranks else slice(None)
    with (
        np.errstate(over="ignore", invalid="ignore"),  # losses are checked instead
        kernels.own_threads(),
        _interruptible() as interrupted,
        Journal.of(state, folder) as journal,
        Batches(lambda step: state.batch(step, share), state.step, steps) as batches,
        course,
        closing(state.replay) if state.replay else nullcontext(),
    ):
        course.stepped()
        failed: list[UserError] = []
        ended = False

        def read() -> None:
            """Losses and measures of the pending steps come from the device, and are told."""
            nonlocal start
            taken = len(pending)
            _flush(state, pending)
            state.waited, now = batches.waited, time.perf_counter()
            # A GPU runs behind: only here it is known how long its steps took.
            state.metrics["seconds"] += [(now - start) / max(1, taken)] * taken
            start = now
            journal.tell(state)

        def store() -> None:
            if onlooker:  # before the checkpoint, so that no step between them is lost
                onlooker.flush()
            journal.flush()
            save(state, folder)

        fed = sent(shares.asked(batches, state.ranks), state.device)
        for batch in _while_loading(fed, failed):
            number = batch.host.step + 1
            watch = onlooker.watching(number) if onlooker else None
            if watch and state.ranks:  # one rank meets a part of every sum: it looks at the whole
                for _ in state.alone.next(watch)[1]:
                    pass
                watch = None
            look = state.measures.watching(number, state.ranks)
            if state.replay is None or watch or look:
                pending.append(learn_batch(state, batch.item, watch, look))
            else:
                pending.append(state.replay.step(batch))
            state.measures.stepped(state.step, state.network, state.weights)
            if onlooker:
                onlooker.stepped(state.step)
            done, stop = state.step == steps, interrupted.is_set() or stopped()
            due = time.monotonic() - saved >= 60 * options.checkpoint_minutes
            if state.ranks:
                stop, due = state.ranks.any(stop, due)
            kept = options.keep_every and state.step % options.keep_every == 0
            ask = every and state.step % every == 0
            if done or stop or due or kept or ask or state.device == "cpu" or len(pending) >= FLUSH:
                read()
            if ask and plateau(state.metrics, every):
                done = ended = True
            if done or stop or due:
                store()
                saved, start = time.monotonic(), time.perf_counter()
            course.stepped()
            if kept:
                keep(state, folder)
                start = time.perf_counter()
            if state.metrics["seconds"] and not pending:
                report(_progress(state, steps))
            if ended or (stop and not done):
                break
        state.damaged |= source.left_out
        if failed:
            if not state.ranks:  # else the others learn on: the last checkpoint stands
                read()
                store()
            raise _stopped(state, failed[0]) from failed[0]
    return ended or state.step == steps


def check_plateau(state: State) -> None:
    """See that a run which asks whether its loss still falls has one, before it begins.

    A step of two examples is looked at; no weight moves.

    Raises:
        UserError: no rule of the run descends a loss.
    """
    if not state.options.stop_early:
        return
    _, updates = state.small.next()
    found = [report.loss for update in updates for report in update.reports.values()]
    if all(loss is None for loss in found):
        raise UserError(LOSSLESS)


LOSSLESS = (
    "--stop-early asks whether the loss still falls, and no rule of this run descends one: leave "
    "it away"
)


def plateau(metrics: dict[str, list], every: int) -> bool:
    """Whether the loss falls no more: the last mean over `every` steps is not the lowest.

    The mean is over all losses, in blocks of steps counted from the first; 0 never asks. It is a
    function of what was measured, so that a run that was interrupted ends at the same step.

    Raises:
        UserError: a rule that descends no loss.
    """
    blocks = len(metrics["seconds"]) // every if every else 0
    if not blocks:
        return False
    if "loss" not in metrics:
        raise UserError(LOSSLESS)
    loss = np.array(metrics["loss"][: blocks * every]).reshape(blocks, -1)
    told = np.isfinite(loss).any(axis=1)
    means = [float(np.nanmean(block)) for block in loss[told]]
    return bool(told[-1]) and len(means) > 1 and means[-1] >= min(means[:-1])


def _while_loading(batches: Iterator, failed: list[UserError]) -> Iterator:
    """The batches, up to one that cannot be loaded, whose error is put into `failed`."""
    try:
        yield from batches
    except UserError as error:
        failed.append(error)


def _stopped(state: State, error: UserError) -> UserError:
    """The error of a batch that cannot be loaded, and how to go on with what was learned before."""
    if state.ranks:
        return error
    hint = "--changed-data if you mend or remove the image, or by --skip-damaged"
    return UserError(
        f"{error}; the run is saved at step {state.step}: go on with it by --resume, and "
        + (hint if isinstance(error, data.DamagedError) else "mend the data")
    )


def _rate(state: State, number: int) -> float:
    """The learning rate of a loss's parameters, by its number from 0."""
    return state.optimiser.paces[state.keys[number]].rate


def _progress(state: State, steps: int) -> Progress:
    recent = state.metrics["seconds"][-20:]
    return Progress(
        state.step,
        steps,
        {n: np.mean(v[-20:], axis=0) for n, v in state.metrics.items() if n != "seconds"},
        state.measures.last,
        state.options.batch * len(recent) / max(sum(recent), 1e-9),
    )


def _flush(state: State, pending: list[dict[str, list[Array | None]]]) -> None:
    """Read losses from the device, and stop where one is not finite.

    A measure that a loss does not have is NaN.
    """
    every = [v for step in pending for values in step.values() for v in values if v is not None]
    read = iter(numbers(every))
    for step in pending:
        found = {
            name: np.array([np.nan if v is None else next(read) for v in values])
            for name, values in step.items()
        }
        has = np.array([value is not None for value in step.get("loss", ())], bool)
        lost = has & ~np.isfinite(found.get("loss", has))
        if lost.any():
            number = int(np.argmax(lost))
            name, rate = state.names[number], _rate(state, number)
            raise UserError(
                f"the loss of {name} is not finite at step {len(state.metrics['loss']) + 1}: "
                f"take a smaller --lr than {rate:g}; the last checkpoint stands"
            )
        if not state.options.changes:
            for name in state.metrics.keys() - found.keys() - {"seconds"}:
                del state.metrics[name]  # an earlier version wrote a loss of 0 where there is none
        told(state.metrics, found, len(state.metrics.get("open_gates", ())))
    state.measures.flush()
    pending.clear()


def polite() -> list[signal.Signals]:
    """The signals at which a run saves, without those that the process was started to ignore."""
    there = [getattr(signal, name) for name in POLITE if hasattr(signal, name)]
    return [s for s in there if signal.getsignal(s) is not signal.SIG_IGN]


@contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """Ctrl-C and the signals that end a process politely set an event.

    Schedulers send such a signal before the time of a job is over, a terminal that is closed sends
    SIGHUP, unless the process was started to ignore it. A second Ctrl-C stops at once.
    """
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def interrupt(number: int, frame: object) -> None:
        event.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {s: signal.signal(s, interrupt) for s in polite()}
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
