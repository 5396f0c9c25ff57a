"""A training run: batches through the rule to the weights, saved as it goes, resumed at will."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np

import plasticity
from plasticity import data, kernels, learning, runs
from plasticity.arrays import Array, resolve_device, to_device, to_host
from plasticity.data.loader import learning_batch
from plasticity.device import ahead, use_device
from plasticity.errors import UserError
from plasticity.events import Layout
from plasticity.learning import Adam, Plain
from plasticity.network import Network, Parameters
from plasticity.options import RunOptions
from plasticity.ranks import Ranks
from plasticity.rule import Draw, Rule, learns, reads_labels

POLITE = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")
"""Signals at which a run saves before it ends, by name, as far as the system has them."""

FLUSH = 20
"""Losses stay on the device for so many steps at most, then they are read and checked."""


@dataclass
class State:
    """A run in memory: what was asked for and how far it has come."""

    options: RunOptions
    network: Network
    rule: Rule
    modules: learning.Modules
    device: str
    weights: Parameters
    optimiser: Adam | Plain
    step: int = 0
    ranks: Ranks | None = None  # the processes that learn together, if there are several
    waited: float = 0.0  # seconds that learning has waited for batches since it was resumed
    damaged: dict[str, str] = field(default_factory=dict)  # images left out, and why
    metrics: dict[str, list] = field(
        default_factory=lambda: {"seconds": []}  # and what the rule reports, see `learn_batch`
    )

    @cached_property
    def images(self) -> "data.ImageSet":
        """The images that the run learns from, opened once.

        Raises:
            UserError: fewer than a batch.
        """
        images, batch = self.options.learning_set(), self.options.batch
        if len(images) < batch:
            raise UserError(
                f"--batch {batch} is more than the {len(images)} images of {self.options.data}"
            )
        return images

    def next(
        self, watch: Callable[[learning.Watched], None] | None = None, further: int = 0
    ) -> tuple["data.Batch", Iterator[learning.Update]]:
        """The coming step, as training would take it: its batch, and every module's update.

        Batch, crops and draws are functions of the seed and the step. No weight moves.

        Args:
            watch: called for every module, see `learning.updates`.
            further: so many steps after the coming one, with the weights of now.
        """
        options, step = self.options, self.step + further
        batch = learning_batch(self.images, options.batch, options.crop, options.seed, step)
        return batch, watched_updates(self, batch, self.images, watch)

    @property
    def writes(self) -> bool:
        """Whether this process is the one that writes the run's folder."""
        return self.ranks is None or self.ranks.rank == 0

    @property
    def names(self) -> list[str]:
        """A name for each module: that of its top layer."""
        return [self.network.layers[m[-1]].name for m in self.modules]


@dataclass
class Progress:
    """What a run tells while it goes on: after `step` of `steps`, means over the last 20.

    `means` has a value for each module of `open_gates`, of `loss`, if the rule descends one, and
    of what else it measures.
    """

    step: int
    steps: int
    means: dict[str, np.ndarray]
    images_per_second: float


def _map(tree: dict, change: Callable[[Array], Array]) -> dict:
    return {k: _map(v, change) if isinstance(v, dict) else change(v) for k, v in tree.items()}


def begin(options: RunOptions, ranks: Ranks | None = None) -> State:
    """A run at its first step, weights drawn from the seed."""
    network, rule = options.network(), options.rule_object()
    device = resolve_device(ranks.device(options.device) if ranks else options.device)
    use_device(device)
    dtype = np.dtype(options.dtype)
    if ranks:
        ranks.share(options.batch)  # says if the batch cannot be shared
        ranks.connect(device)
    modules = network.modules(options.modules or rule.modules)
    check_room(network, rule, dtype)
    weights = learning.prepare(network, rule, modules, options.seed)
    weights = _map(weights, lambda w: to_device(w.astype(dtype), device))
    optimiser = learning.OPTIMISERS[options.optimiser or rule.optimiser]
    optimiser = optimiser.start(options.lr or rule.rate, weights)
    return State(options, network, rule, modules, device, weights, optimiser, ranks=ranks)


def restore(
    options: RunOptions, checkpoint: "runs.Checkpoint", ranks: Ranks | None = None
) -> State:
    """A run as a checkpoint holds it."""
    state = begin(options, ranks)
    _check_fit(state.weights, checkpoint.params, "weights")
    if checkpoint.moments:
        _check_fit(state.optimiser.moments, checkpoint.moments, "optimiser")
    dtype = np.dtype(options.dtype)
    move = lambda w: to_device(np.ascontiguousarray(w, dtype), state.device)  # noqa: E731
    state.weights = _map(checkpoint.params, move)
    state.optimiser.moments = _map(checkpoint.moments, move)
    state.step = checkpoint.step
    state.metrics = {name: list(values) for name, values in checkpoint.metrics.items()}
    return state


def check_room(network: Network, rule: Rule, dtype: np.dtype) -> None:
    """Refuse a network whose weights alone would not fit the machine's memory.

    A system that promises more than it has ends the process later, without a word.

    Raises:
        UserError: what they would take, and what there is.
    """
    count = sum(conv.parameters for conv in network.convolutions)
    count += sum(2 * getattr(rule, "steps", 0) * layer.outputs**2 for layer in network.layers)
    needed = count * (8 + 3 * dtype.itemsize)  # drawn in float64; with two moments each
    try:
        there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # not POSIX
        return
    if needed > there:
        raise UserError(
            f"{network.name} would have {count:,} weights, with the optimiser's moments "
            f"{needed / 2**30:,.0f} GiB, and this machine has {there / 2**30:,.0f}: take a smaller "
            "--width, or fewer --layers or --prediction-steps"
        )


def _check_fit(expected: dict, stored: dict, where: str) -> None:
    """See that what was stored has the names and shapes that the run's options ask for.

    Raises:
        UserError: something is missing, is too much, or has another shape.
    """
    for name in sorted(expected.keys() | stored.keys()):
        at, here, there = f"{where}/{name}", expected.get(name), stored.get(name)
        if isinstance(here, dict) and isinstance(there, dict):
            _check_fit(here, there, at)
        elif not hasattr(here, "shape") or getattr(there, "shape", None) != here.shape:
            wanted, came = (
                "nothing" if w is None else "a group" if isinstance(w, dict) else f"shape {w.shape}"
                for w in (here, there)
            )
            raise UserError(
                f"the checkpoint does not fit its options: {at} holds {came}, expected {wanted}"
            )


def save(state: State, folder: Path) -> None:
    """Write the run's checkpoint, whole or not at all.

    Raises:
        UserError: weights that are not finite or not the same on all ranks, or a full disk; the
            last checkpoint stands.
    """
    if state.ranks:
        state.ranks.check_alike(state.weights)
    if not state.writes:
        return
    params = _map(state.weights, to_host)
    runs.check_finite(params)
    rule = state.rule
    runs.save(
        runs.checkpoint_path(folder),
        runs.Checkpoint(
            step=state.step,
            params=params,
            moments=_map(state.optimiser.moments, to_host),
            metrics={name: np.array(values) for name, values in state.metrics.items()},
            options=state.options.as_dict(),
            rule={"name": rule.name, "equation": rule.equation, "citation": rule.citation},
            versions=versions(state.device),
        ),
    )


def versions(device: str) -> dict[str, str]:
    """What ran: versions of Python, of this package and of what computes, and the device."""
    import numba
    import scipy

    found = {
        "plasticity": plasticity.__version__,
        "python": sys.version.split()[0],
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "numba": numba.__version__,
        "device": device,
    }
    if device != "cpu":
        import cupy

        found["cupy"] = cupy.__version__
    return found


def cut(batch: "data.Batch", images: "data.ImageSet", options: RunOptions, device: str) -> Array:
    """The patches of a batch, `(N, patch, patch, 1)`, on the device."""
    return kernels.extract_patches(
        *(to_device(a, device) for a in (batch.pixels, batch.top, batch.left, batch.flip)),
        crop=options.crop,
        patch=options.patch,
        mean=images.mean,
        std=images.std,
        dtype=np.dtype(options.dtype),
    )


def with_draws(state: State, batch: "data.Batch") -> tuple["data.Batch", Sequence[Draw]]:
    """A batch on the host, with the draws of its step for every module."""
    options, rule = state.options, state.rule
    layout = Layout(options.rows, len(batch.index), options.rows)
    labels = batch.labels if reads_labels(rule) else None
    drawn = learning.draws(rule, layout, state.modules, options.seed, batch.step, labels)
    return batch, [draw.on("cpu", np.dtype(options.dtype)) for draw in drawn]


def watched_updates(
    state: State,
    batch: "data.Batch",
    images: "data.ImageSet",
    watch: Callable[[learning.Watched], None] | None = None,
    choices: Sequence[Draw] | None = None,
) -> Iterator[learning.Update]:
    """The update of every module for the batch, by the draws of its step; no weight moves yet.

    Args:
        choices: the draws, where they and the batch are on the run's device already.
    """
    if choices is None:
        ((batch, choices),) = ahead([with_draws(state, batch)], state.device)
    options, network, rule = state.options, state.network, state.rule
    layout = Layout(options.rows, len(batch.index), options.rows)
    patches = cut(batch, images, options, state.device)
    yield from learning.updates(
        network, rule, state.modules, state.weights, patches, layout, choices, watch, state.ranks
    )


def learn_batch(
    state: State,
    batch: "data.Batch",
    images: "data.ImageSet",
    watch: Callable[[learning.Watched], None] | None = None,
    choices: Sequence[Draw] | None = None,
) -> dict[str, list[Array]]:
    """One step: every module learns from the batch; `choices` as for `watched_updates`.

    Returns:
        `loss`, `open_gates` and the rule's own measures of every module, scalar arrays that are
        still on the device.
    """
    found: dict[str, list[Array]] = {}
    travelling = []
    for update in watched_updates(state, batch, images, watch, choices):
        for report in update.reports.values():
            values = {"loss": report.loss, "open_gates": report.open_gates, **report.measures}
            for name, value in values.items():
                if value is not None:
                    found.setdefault(name, []).append(value)
        if not learns(state.rule):
            continue
        if state.ranks:  # the sum over ranks travels while the modules above are computed
            travelling.append(update)
        else:
            apply(state, update, batch.step + 1)
    for update in travelling:
        update.finish()
        apply(state, update, batch.step + 1)
    state.step = batch.step + 1
    return found


def apply(state: State, update: learning.Update, step: int) -> None:
    """Change the weights of a module, and what else its rule keeps; steps count from 1."""
    state.optimiser.ascend(state.weights, update.changes, step)
    for layer, own in update.state.items():
        for name, value in own.items():
            state.weights[layer][name][...] = value


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
) -> bool:
    """Train to the end of the run and save it.

    The run is saved every `checkpoint_minutes`, at the end, and when it is interrupted: Ctrl-C
    lets the step finish first.

    Returns:
        Whether the run came to its end.

    Raises:
        UserError: losses or weights that are not finite; the last checkpoint stands.
    """
    options = state.options
    images = state.images
    steps = options.total_steps(len(images))
    if state.step >= steps:
        return True
    saved, start = time.monotonic(), time.perf_counter()
    pending: list[dict[str, list[Array]]] = []
    with (
        np.errstate(over="ignore", invalid="ignore"),  # losses are checked instead
        kernels.own_threads(),
        _interruptible() as interrupted,
        data.batches(
            images,
            batch=options.batch,
            crop=options.crop,
            seed=options.seed,
            start=state.step,
            stop=steps,
            share=state.ranks.share(options.batch) if state.ranks else slice(None),
        ) as batches,
    ):
        fed = (with_draws(state, batch) for batch in batches)
        failed: list[UserError] = []
        for batch, choices in _while_loading(ahead(fed, state.device), failed):
            watch = onlooker.watching(batch.step + 1) if onlooker else None
            pending.append(learn_batch(state, batch, images, watch, choices))
            if onlooker:
                onlooker.stepped(state.step)
            done, stop = state.step == steps, interrupted.is_set()
            due = time.monotonic() - saved >= 60 * options.checkpoint_minutes
            if state.ranks:
                stop, due = state.ranks.any(stop, due)
            if done or stop or due or state.device == "cpu" or len(pending) >= FLUSH:
                taken = len(pending)
                _flush(state, pending)
                state.waited, now = batches.waited, time.perf_counter()
                # A GPU runs behind: only here it is known how long its steps took.
                state.metrics["seconds"] += [(now - start) / taken] * taken
                start = now
            if done or stop or due:
                if onlooker:  # before the checkpoint, so that no step between them is lost
                    onlooker.flush()
                save(state, folder)
                saved, start = time.monotonic(), time.perf_counter()
            if state.metrics["seconds"] and not pending:
                report(_progress(state, steps))
            if stop and not done:
                break
        state.damaged |= images.left_out
        if failed:
            _stop(state, folder, pending, onlooker, failed[0])
    return state.step == steps


def _while_loading(batches: Iterator, failed: list[UserError]) -> Iterator:
    """The batches, up to one that cannot be loaded, whose error is put into `failed`."""
    try:
        yield from batches
    except UserError as error:
        failed.append(error)


def _stop(
    state: State, folder: Path, pending: list, onlooker: Onlooker | None, error: UserError
) -> None:
    """Save what was learned before a batch that cannot be loaded, and raise its error."""
    if state.ranks:  # the others learn on: the last checkpoint stands
        raise error
    _flush(state, pending)
    if onlooker:
        onlooker.flush()
    save(state, folder)
    hint = "--changed-data if you mend or remove the image, or by --skip-damaged"
    raise UserError(
        f"{error}; the run is saved at step {state.step}: go on with it by --resume, and "
        + (hint if isinstance(error, data.DamagedError) else "mend the data")
    ) from error


def _progress(state: State, steps: int) -> Progress:
    recent = state.metrics["seconds"][-20:]
    return Progress(
        state.step,
        steps,
        {n: np.mean(v[-20:], axis=0) for n, v in state.metrics.items() if n != "seconds"},
        state.options.batch * len(recent) / max(sum(recent), 1e-9),
    )


def _flush(state: State, pending: list[dict[str, list[Array]]]) -> None:
    """Read losses from the device, and stop where one is not finite."""
    for step in pending:
        found = {name: np.array([float(v) for v in values]) for name, values in step.items()}
        loss = found.get("loss", np.zeros(1))
        if not np.isfinite(loss).all():
            name = state.names[int(np.argmin(np.isfinite(loss)))]
            raise UserError(
                f"the loss of {name} is not finite at step {len(state.metrics['loss']) + 1}: "
                f"take a smaller --lr than {state.optimiser.rate:g}; the last checkpoint stands"
            )
        for name in state.metrics.keys() - found.keys() - {"seconds"}:
            del state.metrics[name]  # an earlier version wrote a loss of 0 where there is none
        for name, values in found.items():
            state.metrics.setdefault(name, []).append(values)
    pending.clear()


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

    polite = [getattr(signal, name) for name in POLITE if hasattr(signal, name)]
    heard = [s for s in polite if signal.getsignal(s) is not signal.SIG_IGN]
    before = {s: signal.signal(s, interrupt) for s in heard}
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def patch_encodings(
    network: Network,
    weights: Parameters,
    images: "data.ImageSet",
    indices: np.ndarray,
    options: RunOptions,
    device: str,
    rng: np.random.Generator | None = None,
) -> Iterator[list[Array]]:
    """Batch by batch, for each layer the encoding of every patch `(images, rows, columns, D)`.

    Centre crops without flip, or random ones drawn from `rng`.
    """
    side = options.rows
    batches = data.in_order(images, indices, batch=options.batch, crop=options.crop, rng=rng)
    for batch in ahead(batches, device):
        patches = cut(batch, images, options, device)
        shape = (side, len(batch.pixels), side, -1)
        yield [z.reshape(shape).transpose(1, 0, 2, 3) for z in network.encodings(patches, weights)]


def encode(
    network: Network,
    weights: Parameters,
    images: "data.ImageSet",
    indices: np.ndarray,
    options: RunOptions,
    device: str,
    rng: np.random.Generator | None = None,
    report: Callable[[int], None] = lambda done: None,
) -> list[np.ndarray]:
    """The encoding of whole images, layer by layer: the mean over their patches.

    Centre crops without flip, or random ones drawn from `rng`.

    Args:
        indices: which images of the set.
        report: called with the number of images encoded.

    Returns:
        For each layer `(len(indices), D)`, float32 or float64 as the run computes.
    """
    found, done = [], 0
    for layers in patch_encodings(network, weights, images, indices, options, device, rng):
        found.append([to_host(z.mean(axis=(1, 2))) for z in layers])
        done += len(layers[0])
        report(done)
    return [np.concatenate(layer) for layer in zip(*found, strict=True)]
