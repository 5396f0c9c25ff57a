"""A run in memory: how it begins, is restored and saved, and the step that comes next."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

import plasticity
from plasticity import learning, runs
from plasticity.arrays import Array, resolve_device, to_device, to_host
from plasticity.device import prefetched, use_device
from plasticity.errors import UserError
from plasticity.events import Layout
from plasticity.files import make_folder
from plasticity.learning import Adam, Plain
from plasticity.learning.ranks import Ranks
from plasticity.learning.rule_check import check_fits
from plasticity.network import Layer, Network, Parameters
from plasticity.rule import Rule, reads_labels
from plasticity.runs import sets
from plasticity.runs.measures import Measures
from plasticity.runs.options import RunOptions
from plasticity.stimuli import Batch, Stimulus


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
    measures: Measures = field(default_factory=Measures)

    @cached_property
    def stimulus(self) -> Stimulus:
        """The stimulus that the run learns from; its data set is opened once.

        Raises:
            UserError: fewer examples than a batch.
        """
        return sets.stimulus(self.options)

    @cached_property
    def layout(self) -> Layout:
        """The order of the encodings of a whole batch."""
        return self.stimulus.layout(self.options.batch)

    @cached_property
    def losses(self) -> list[learning.Loss]:
        """What is predicted from what."""
        return learning.losses_of(self.rule, self.modules, self.network, self.options.below_gru)

    @cached_property
    def layouts(self) -> list[Layout]:
        """For each loss the order of its target's encodings.

        Raises:
            UserError: a context of another length.
        """
        space, of = self.stimulus.space, []
        self.network.shapes(space)  # says if nothing reaches a layer
        for layer in self.network.layers:
            read = learning.read_space(layer, self.rule.reads, space)
            of.append(self.stimulus.reading.layout(self.layout, read))
            space = layer.space(space)
        for loss in self.losses:
            target, context = loss.ends(self.modules)
            if of[target] != of[context]:
                names = (self.network.layers[i].name for i in (target, context))
                both = zip(names, (of[target].time, of[context].time), strict=True)
                said = " and ".join(f"{name} has {time}" for name, time in both)
                raise UserError(f"a context and its target need as many frames each, and {said}")
        return [of[loss.ends(self.modules)[0]] for loss in self.losses]

    def labels(self, batch: Batch, layouts: Sequence[Layout]) -> list[np.ndarray]:
        """For each loss the classes of a batch, as its target's encodings are ordered."""
        found = []
        for loss, layout in zip(self.losses, layouts, strict=True):
            layer = loss.ends(self.modules)[0]
            found.append(self.stimulus.labels(batch, self.network, layer, layout))
        return found

    def batch(
        self,
        step: int,
        share: slice = slice(None),
        generators: Sequence[np.random.Generator] | None = None,
    ) -> Batch:
        """The batch of a step with its draws, on the host: a function of the seed and the step.

        Args:
            share: of this rank; generators: of draws other than training's, for each loss.
        """
        options = self.options
        batch = self.stimulus.batch(step, options.seed, options.batch, share)
        labels = self.labels(batch, self.layouts) if reads_labels(self.rule) else None
        of = self.rule, self.layouts, self.modules, options.seed, batch.step
        drawn = learning.draws(*of, labels, self.losses, generators)
        on_host = (draw.on("cpu", np.dtype(options.dtype)) for draw in drawn)
        return replace(batch, draws=tuple(on_host))

    def updates(
        self,
        batch: Batch,
        watch: Callable[[learning.Watched], None] | None = None,
        look: Callable[[Layer, Array], None] | None = None,
    ) -> Iterator[learning.Update]:
        """The update of every module for a batch on the run's device; no weight moves yet."""
        return learning.updates(
            self.network,
            self.rule,
            self.modules,
            self.weights,
            self.stimulus.inputs(batch, np.dtype(self.options.dtype)),
            self.layout,
            batch.draws,
            watch,
            self.ranks,
            losses=self.losses,
            reading=self.stimulus.reading,
            look=look,
        )

    def next(
        self, watch: Callable[[learning.Watched], None] | None = None, further: int = 0
    ) -> tuple[Batch, Iterator[learning.Update]]:
        """The coming step, as training would take it: its batch, and every module's update.

        No weight moves.

        Args:
            watch: called for every module, see `learning.updates`.
            further: so many steps after the coming one, with the weights of now.
        """
        batch = self.batch(self.step + further)
        (there,) = prefetched([batch], self.device)
        return batch, self.updates(there, watch)

    @property
    def writes(self) -> bool:
        """Whether this process is the one that writes the run's folder."""
        return self.ranks is None or self.ranks.rank == 0

    @property
    def names(self) -> list[str]:
        """A name for each loss: that of the layer at the top of the module that keeps it."""
        tops = [self.network.layers[module[-1]].name for module in self.modules]
        return learning.named(self.losses, tops)


def _map(tree: dict, change: Callable[[Array], Array]) -> dict:
    return {k: _map(v, change) if isinstance(v, dict) else change(v) for k, v in tree.items()}


def begin(options: RunOptions, ranks: Ranks | None = None) -> State:
    """A run at its first step, weights drawn from the seed."""
    network, rule = options.network(), options.rule_object()
    options = options.changed(batch=options.size)
    device = resolve_device(ranks.device(options.device) if ranks else options.device)
    use_device(device)
    dtype = np.dtype(options.dtype)
    if ranks:
        ranks.share(options.batch)  # says if the batch cannot be shared
        ranks.connect(device)
    check_fits(rule, network, several=ranks is not None)
    modules = network.modules(options.split_of(rule, network))
    check_room(network, rule, dtype)
    losses = learning.losses_of(rule, modules, network, options.below_gru)
    weights = learning.prepare(network, rule, modules, options.seed, losses)
    weights = _map(weights, lambda w: to_device(w.astype(dtype), device))
    optimiser = learning.OPTIMISERS[options.optimiser or rule.optimiser]
    optimiser = optimiser.start(options.lr or rule.rate, weights)
    begun = Measures.of(network, weights)
    return State(
        options, network, rule, modules, device, weights, optimiser, ranks=ranks, measures=begun
    )


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
    state.measures.restore(checkpoint, network=state.network, device=state.device)
    return state


def check_room(network: Network, rule: Rule, dtype: np.dtype) -> None:
    """Refuse a network whose weights alone would not fit the machine's memory.

    A system that promises more than it has ends the process later, without a word.

    Raises:
        UserError: what they would take, and what there is.
    """
    count = sum(conv.parameters for conv in network.convolutions)
    count += sum(2 * getattr(rule, "steps", 0) * layer.outputs**2 for layer in network.layers)
    needed = count * (8 + 4 * dtype.itemsize)  # drawn in float64; the start and two moments each
    each = rule.prepare_synapses(np.ones((1, 1)), np.random.default_rng(0))
    needed += count * len(each) * (8 + dtype.itemsize)
    try:
        there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # not POSIX
        return
    if needed > there:
        raise UserError(
            f"{network.name} would have {count:,} weights, with start and moments "
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


def keep(state: State, folder: Path) -> None:
    """Write a checkpoint that later ones do not replace, if this step is one of those kept."""
    every = state.options.keep_every
    if every and state.step % every == 0:
        path = runs.kept_path(folder, state.step)
        if state.writes:
            make_folder(path.parent)
        save(state, folder, path)


def save(state: State, folder: Path, path: Path | None = None) -> None:
    """Write the run's checkpoint, whole or not at all.

    Args:
        path: by default `checkpoint.h5` of the folder.

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
        path or runs.checkpoint_path(folder),
        runs.Checkpoint(
            step=state.step,
            params=params,
            moments=_map(state.optimiser.moments, to_host),
            metrics={name: np.array(values) for name, values in state.metrics.items()},
            measures=state.measures.as_arrays(),
            answered={name: to_host(last) for name, last in state.measures.answered.items()},
            options=state.options.as_dict(),
            rule={"name": rule.name, "equation": rule.equation, "citation": rule.citation},
            versions=versions(state.device),
            axes={name: own.axes for name, own in getattr(rule, "parameters", {}).items()},
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
