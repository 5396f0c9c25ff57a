"""A run in memory: how it begins, is restored and saved, and the step that comes next."""

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import plasticity
from plasticity import learning, runs
from plasticity.arrays import Array, multiplies_rounded, resolve_device, to_device, to_host
from plasticity.device import prefetched, use_device
from plasticity.errors import UserError
from plasticity.events import Layout
from plasticity.files import make_folder
from plasticity.learning import Optimiser, Pace, shares
from plasticity.learning.ranks import Ranks
from plasticity.network import Layer, Network, Parameters
from plasticity.rule import Rule, learns, reads_labels
from plasticity.runs import sections, sets
from plasticity.runs.measures import Measures
from plasticity.runs.options import RunOptions
from plasticity.stimuli import Batch, Stimulus

if TYPE_CHECKING:
    from plasticity.runs.replay import Replay


@dataclass
class State:
    """A run in memory: what was asked for and how far it has come.

    Attributes:
        rule: the run's, which learns in all modules that have none of their own; assigned: the
            rules of all modules.
    """

    options: RunOptions
    network: Network
    rule: Rule
    assigned: sections.Assigned
    device: str
    weights: Parameters
    optimiser: Optimiser
    step: int = 0
    ranks: Ranks | None = None  # the processes that learn together, if there are several
    waited: float = 0.0  # seconds that learning has waited for batches since it was resumed
    damaged: dict[str, str] = field(default_factory=dict)  # images left out, and why
    metrics: dict[str, list] = field(
        default_factory=lambda: {"seconds": []}  # and what the rule reports, see `learn_batch`
    )
    measures: Measures = field(default_factory=Measures)
    replay: "Replay | None" = None  # of its steps, while it is trained on a card

    @property
    def modules(self) -> learning.Modules:
        """For each module the numbers of its layers."""
        return self.assigned.modules

    @property
    def rules(self) -> learning.Rules:
        """For each module its rule, None where it is frozen."""
        return self.assigned.rules

    @property
    def mixed(self) -> bool:
        """Whether some modules have another rule than the run's, or none."""
        return any(rule != self.rule for rule in self.rules)

    @property
    def learns(self) -> bool:
        """Whether any weight changes."""
        return any(map(learns, self.assigned.learn))

    def rule_of(self, layer: str) -> Rule | None:
        """The rule of a layer or convolution, by its name; None where it is frozen."""
        for module, rule in zip(self.modules, self.rules, strict=True):
            inside = [self.network.layers[i] for i in module]
            if layer in (name for la in inside for name in (la.name, *_names(la))):
                return rule
        raise KeyError(layer)

    @property
    def rule_name(self) -> str:
        """The rule for titles: its name, and those of layers that have another one, or none."""
        if not self.mixed:
            return self.rule.name
        others = {
            top: "frozen" if own is None else own.name
            for top, own in zip(self.tops, self.rules, strict=True)
            if own != self.rule
        }
        if not any(own == self.rule for own in self.rules):
            return ", ".join(f"{top} {what}" for top, what in others.items())
        return f"{self.rule.name} ({', '.join(f'{top} {what}' for top, what in others.items())})"

    @property
    def keys(self) -> list[str]:
        """Under what name the parameters of each loss are kept."""
        return learning.keys(self.network, self.modules, self.losses)

    @property
    def tops(self) -> list[str]:
        """The name of the layer at the top of each module."""
        return [self.network.layers[module[-1]].name for module in self.modules]

    def said(self, what: str) -> str:
        """The `equation` or `citation` of the rule, with those of layers that have another one."""
        if not self.mixed:
            return getattr(self.rule, what)
        told = {
            top: getattr(own, what)
            for top, own in zip(self.tops, self.rules, strict=True)
            if own is not None and getattr(own, what)
        }
        return "; ".join(f"{top}: {text}" for top, text in told.items())

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
        return learning.losses_of(self.rules, self.modules, self.network, self.options.below_gru)

    def read_by(self, rule: Rule, number: int) -> Layout:
        """The order of the encodings that a rule reads of a layer, by its number from 0."""
        space = self.stimulus.space
        for layer in self.network.layers[:number]:
            space = layer.space(space)
        read = learning.read_space(self.network.layers[number], rule.reads, space)
        return self.stimulus.reading.layout(self.layout, read)

    @cached_property
    def layouts(self) -> list[Layout]:
        """For each loss the order of its target's encodings.

        Raises:
            UserError: a context of another length.
        """
        self.network.shapes(self.stimulus.space)  # says if nothing reaches a layer
        found: list[Layout] = []
        for loss in self.losses:
            ends = loss.ends(self.modules)
            both = [self.read_by(self.rules[loss.kept], end) for end in ends]
            if both[0] != both[1]:
                names = (self.network.layers[i].name for i in ends)
                times = zip(names, (of.time for of in both), strict=True)
                said = " and ".join(f"{name} has {time}" for name, time in times)
                raise UserError(f"a context and its target need as many frames each, and {said}")
            found.append(both[0])
        return found

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
        labels = self.labels(batch, self.layouts) if self.taught else None
        layouts = self.layouts
        if self.ranks:  # each rank draws the events of its own contexts
            both = zip(layouts, self.losses, strict=True)
            layouts = [
                self.ranks.layout(layout) if shares.shared(self.rules[loss.kept]) else layout
                for layout, loss in both
            ]
        of = self.rules, layouts, self.modules, options.seed, batch.step
        drawn = learning.draws(*of, labels, self.losses, generators)
        draws = []
        for draw, layout in zip(drawn, layouts, strict=True):
            draw = draw.on("cpu", np.dtype(options.dtype))
            if layout.mine:
                draw = shares.numbered(draw, layout)
                layout = layout.own(sum(draw.foreign.named) if draw.foreign else 0)
            # What a card needs sorted is sorted here, in the loader's thread.
            draws.append(draw if self.device == "cpu" else draw.together(layout))
        batch = replace(batch, draws=tuple(draws))
        if self.device == "cpu":
            return batch
        return replace(batch, pace=self.optimiser.at(batch.step + 1).astype(options.dtype))

    @property
    def taught(self) -> bool:
        """Whether a rule learns from labels."""
        return any(map(reads_labels, self.assigned.learn))

    def updates(
        self,
        batch: Batch,
        watch: Callable[[learning.Watched], None] | None = None,
        look: Callable[[Layer, Array], None] | None = None,
    ) -> Iterator[learning.Update]:
        """The update of every module for a batch on the run's device; no weight moves yet."""
        return learning.updates(
            self.network,
            self.rules,
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
    def alone(self) -> "State":
        """The same run as one process would go on with it: with the whole of every batch."""
        return self.but(ranks=None)

    @property
    def small(self) -> "State":
        """The same run of one process, with two examples in a batch, to be looked at."""
        return self.alone.but(options=self.options.changed(batch=min(2, self.options.batch)))

    def but(self, **changes: object) -> "State":
        """The same run with other fields; a data set that is open stays open."""
        other = replace(self, **changes)
        if "stimulus" in vars(self):
            other.stimulus = self.stimulus
        return other

    @property
    def writes(self) -> bool:
        """Whether this process is the one that writes the run's folder."""
        return self.ranks is None or self.ranks.rank == 0

    @property
    def names(self) -> list[str]:
        """A name for each loss: that of the layer at the top of the module that keeps it."""
        return learning.named(self.losses, self.tops)


def _names(layer: Layer) -> list[str]:
    return [conv.name for conv in layer.convolutions]


def _map(tree: dict, change: Callable[[Array], Array]) -> dict:
    return {k: _map(v, change) if isinstance(v, dict) else change(v) for k, v in tree.items()}


def begin(options: RunOptions, ranks: Ranks | None = None) -> State:
    """A run at its first step, weights drawn from the seed."""
    network, rule = options.network(), options.rule_object()
    options = options.changed(batch=options.size)
    device = resolve_device(ranks.device(options.device) if ranks else options.device)
    use_device(device)
    if options.precision != "float32" and (found := multiplies_rounded(device)):
        raise UserError(
            f"--precision {options.precision} needs a GPU of compute capability 8.0 or later, and "
            f"{device} has {found}: take float32, or --device cpu"
        )
    dtype = np.dtype(options.dtype)
    if ranks:
        ranks.share(options.batch)  # says if the batch cannot be shared
        ranks.connect(device)
    assigned = sections.assigned(options, network, several=ranks is not None)
    modules, rules = assigned.modules, assigned.rules
    network = _held(network, modules, rules)
    check_room(network, rules, modules, dtype)
    losses = learning.losses_of(rules, modules, network, options.below_gru)
    weights = learning.prepare(network, rules, modules, options.seed, losses)
    weights = _map(weights, lambda w: to_device(w.astype(dtype), device))
    paces = _paces(network, assigned, losses)
    optimiser = Optimiser.start(paces, weights, options.schedule_object())
    own = options, network, rule, assigned, device, weights, optimiser
    return State(*own, ranks=ranks, measures=Measures.of(network, weights))


def _held(network: Network, modules: learning.Modules, rules: learning.Rules) -> Network:
    """The same network, where frozen layers normalise by their running statistics, constants."""
    still = (module for module, rule in zip(modules, rules, strict=True) if rule is None)
    frozen = {i for module in still for i in module}
    layers = (
        getattr(layer, "running", layer) if i in frozen else layer
        for i, layer in enumerate(network.layers)
    )
    return replace(network, layers=tuple(layers)) if frozen else network


def _paces(
    network: Network, assigned: sections.Assigned, losses: Sequence[learning.Loss]
) -> Mapping[str, Pace]:
    """The pace of whatever has weights, and of the parameters of each loss."""
    found = {
        conv.name: assigned.paces[layer.name]
        for layer in network.layers
        if layer.name in assigned.paces
        for conv in layer.convolutions
    }
    names = learning.keys(network, assigned.modules, losses)
    for loss, name in zip(losses, names, strict=True):
        found[name] = assigned.paces[network.layers[assigned.modules[loss.kept][-1]].name]
    return found


def restore(
    options: RunOptions,
    checkpoint: "runs.Checkpoint",
    ranks: Ranks | None = None,
    take: "Callable[[State, runs.Checkpoint], None] | None" = None,
) -> State:
    """A run as a checkpoint holds it.

    Args:
        take: how a run that was changed takes over weights and moments, see `changes.take`.
    """
    state = begin(options, ranks)
    if take is not None:
        take(state, checkpoint)
    else:
        _check_fit(state.weights, checkpoint.params, "weights")
        if checkpoint.moments:
            _check_fit(state.optimiser.moments, checkpoint.moments, "optimiser")
        dtype = np.dtype(options.dtype)
        move = lambda w: to_device(np.ascontiguousarray(w, dtype), state.device)  # noqa: E731
        state.weights = _map(_ordered(checkpoint.params, state.weights), move)
        moments = _ordered(checkpoint.moments, state.optimiser.moments)
        state.optimiser.moments = _map(moments, move)
    state.step = checkpoint.step
    state.metrics = {name: list(values) for name, values in checkpoint.metrics.items()}
    state.measures.restore(checkpoint, network=state.network, device=state.device)
    return state


def _ordered(stored: dict, as_in: dict) -> dict:
    """What was stored, in the order that it had in the run: files sort by name."""
    return {
        name: _ordered(stored[name], value) if isinstance(value, dict) else stored[name]
        for name, value in as_in.items()
        if name in stored
    }


def check_room(
    network: Network, rules: learning.Rules, modules: learning.Modules, dtype: np.dtype
) -> None:
    """Refuse a network whose weights alone would not fit the machine's memory.

    A system that promises more than it has ends the process later, without a word.

    Raises:
        UserError: what they would take, and what there is.
    """
    count, needed = 0, 0
    for module, rule in zip(modules, rules, strict=True):
        layers = [network.layers[i] for i in module]
        own = sum(conv.parameters for layer in layers for conv in layer.convolutions)
        own += sum(2 * getattr(rule, "steps", 0) * layer.outputs**2 for layer in layers)
        one, rng = np.ones((1, 1)), np.random.default_rng(0)
        kept = {} if rule is None else rule.prepare_synapses(one, rng)
        count += own
        needed += own * (8 + 4 * dtype.itemsize)  # drawn in float64; start, two moments
        needed += own * len(kept) * (8 + dtype.itemsize)
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


def saved_bytes(state: State) -> int:
    """What a checkpoint of the run takes on disk but for its metrics: weights and moments."""
    return sum(a.nbytes for a in moved(state))


def moved(state: State) -> Iterator[Array]:
    """What a step moves: all weights, and the moments of the optimiser."""
    yield from _leaves(state.weights)
    yield from _leaves(state.optimiser.moments)


def _leaves(tree: dict) -> Iterator[Array]:
    for value in tree.values():
        if isinstance(value, dict):
            yield from _leaves(value)
        else:
            yield value


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
    axes = {n: one.axes for rule in state.assigned.learn for n, one in rule.parameters.items()}
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
            rule={
                "name": state.rule_name,
                "equation": state.said("equation"),
                "citation": state.said("citation"),
            },
            versions=versions(state.device),
            axes=axes,
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
