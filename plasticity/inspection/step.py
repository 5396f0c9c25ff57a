"""One layer in one step of learning, recomputed from what a run has saved."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from plasticity import learning
from plasticity.arrays import Array, to_host
from plasticity.errors import UserError
from plasticity.events import Layout
from plasticity.learning import NETWORKS_OWN, Scored
from plasticity.network import Conv, Seen
from plasticity.rule import Change, Role, Rule, learns
from plasticity.runs import lifecycle, run
from plasticity.runs.options import RunOptions
from plasticity.runs.run import State
from plasticity.stimuli import Batch


@dataclass(frozen=True)
class Step:
    """A layer in one step, with everything that its update is made of, on the host.

    Attributes:
        number: of the step, from 1; seen: input, winners, drive and dW of the layer.
        losses: those of which the module is the target: what the rule read and made of it, see
            `learning.Scored`; own: their parameters, at the module's top.
        roles: the factors of every event in which the module's top learns, in these losses and in
            those of which the module is the context.
        decay: what every patch takes from the weights of this layer, or None.
        settled: what the rule has made of its sums over events, by parameter.
    """

    state: State
    number: int
    batch: Batch
    layout: Layout
    seen: Seen
    losses: tuple[Scored, ...]
    own: dict[str, np.ndarray]
    roles: tuple[Role, ...]
    decay: np.ndarray | None
    settled: dict[str, Change] = field(default_factory=dict)

    @property
    def rule(self) -> Rule:
        """The rule of the layer's module."""
        return self.state.rule_of(self.layer.name)

    @property
    def layer(self) -> Conv:
        return self.seen.layer

    @property
    def top(self) -> bool:
        """Whether the rule reads this layer; below the top of a module it sees an error alone."""
        return self.seen.read

    @property
    def shared(self) -> bool:
        """Whether all positions of a patch share the rule's drive, over their number."""
        return self.top and self.seen.error.ndim == 2

    @property
    def timed(self) -> bool:
        """Whether an encoding is one frame of a map, and not a mean over it."""
        return self.state.stimulus.reading.time == "map"

    @property
    def factor(self) -> str:
        """The post factor: the rule's where the rule reads the layer, see `Rule.post`."""
        return self.rule.post if self.top else "winner"

    @property
    def matrices(self) -> list[str]:
        """The layer's own weights and biases that change, not the rule's parameters."""
        return [name for name in self.seen.changes if name in NETWORKS_OWN]

    @property
    def weights(self) -> dict[str, np.ndarray]:
        """The layer's parameters before the step."""
        return {n: to_host(w) for n, w in self.state.weights[self.layer.name].items()}

    @property
    def positions(self) -> int:
        """P, over which the encoding is a mean: the positions of the map after pooling."""
        return self.seen.positions

    @property
    def in_frame(self) -> int:
        """The positions of one frame, where encodings are frames: their mean is over so many."""
        return self.positions // self.layout.time

    def places(self, patches: np.ndarray) -> dict[str, np.ndarray]:
        """Where encodings are: see `Stimulus.where`."""
        return self.state.stimulus.where(self.batch, self.layout, patches)


def open_run(folder: Path, checkpoint: Path | None = None, **how: object) -> State:
    """A run as it was saved, its optimiser included: see `lifecycle.reopen`.

    Raises:
        UserError: no run there, or a damaged checkpoint.
    """
    return lifecycle.reopen(folder, checkpoint, moments=True, **how)


def fresh(options: RunOptions, gain: float = 1.0) -> State:
    """A network at its random start; `gain` multiplies all weights, so that some gates close."""
    state = run.begin(options)
    for own in state.weights.values():
        for w in own.values():
            w *= w.dtype.type(gain)
    return state


def index_of(state: State, layer: int | str, blocks: bool = False) -> int:
    """The index of a layer given by its number, from 1, or by its name.

    Args:
        blocks: whether it is one of `Network.layers`, or of `Network.convolutions`, which a block
            has several of.

    Raises:
        UserError: no such layer.
    """
    network = state.network
    names = [one.name for one in (network.layers if blocks else network.convolutions)]
    if isinstance(layer, str) and layer in names:
        return names.index(layer)
    if str(layer).isdigit() and 1 <= int(layer) <= len(names):
        return int(layer) - 1
    block = next((one for one in network.layers if one.name == layer and not blocks), None)
    if block is not None:
        inside = ", ".join(conv.name for conv in block.convolutions)
        raise UserError(f"--layer {layer} is a block: name one of its convolutions, {inside}")
    raise UserError(
        f"--layer {layer}: {network.name} has here the layers 1 to {len(names)} "
        f"({names[0]} to {names[-1]})"
    )


def look(state: State, layer: int | str, step: int | None = None) -> Step:
    """The next step of a run, as one of its layers meets it: same batch, crops, draws, weights.

    All of them are functions of the seed and the step, so this is the very step that training
    would take next. No weight changes.

    Args:
        layer: its number, from 1, or its name.
        step: the step's number, from 1; only the one after the state's own can be had.

    Raises:
        UserError: an unknown layer, or a step whose weights are not there.
    """
    number = state.step + 1
    if step is not None and step != number:
        raise UserError(
            f"--step {step} cannot be recomputed: the weights here are those before step {number}, "
            "take a checkpoint of the step before it by --checkpoint"
        )
    index = index_of(state, layer)
    wanted = state.network.convolutions[index]
    if state.rule_of(wanted.name) is None:
        raise UserError(f"{wanted.name} is frozen in this run: it has no update to take apart")
    found: list[learning.Watched] = []
    batch, updates = state.next(found.append)
    with np.errstate(over="ignore", invalid="ignore"):
        for update in updates:
            if wanted.name in update.changes:
                break
            found.clear()
    watched = found[0]
    seen = next(seen for seen in watched.layers if seen.layer is wanted)
    top = seen is watched.layers[-1]
    takes = watched.decay if seen.read else None
    space = learning.read_space(wanted, watched.rule.reads, seen.x.shape[1:-1])
    layout = state.stimulus.reading.layout(state.layout, space)
    losses = tuple(map(_scored_on_host, watched.predicted))
    return Step(
        state,
        number,
        batch,
        layout,
        seen.on_host(),
        losses,
        {name: w for scored in losses for name, w in scored.own.items()} if top else {},
        tuple(map(role_on_host, watched.roles)) if seen.read else (),
        None if takes is None else to_host(takes),
        {n: change.on_host() for n, change in watched.settled.get(wanted.name, {}).items()},
    )


def moved(step: Step, parameter: str) -> tuple[np.ndarray, np.ndarray]:
    """A parameter after the optimiser has moved it, and then bounded by the rule: copies.

    The two are the same where the rule has no constraint on it.
    """
    state, name = step.state, step.layer.name
    dW, after = step.seen.changes[parameter], step.weights[parameter].copy()
    stored = state.optimiser.moments.get(name, {}).get(parameter, {})
    moments = {moment: to_host(values).copy() for moment, values in stored.items()}
    optimiser = state.optimiser.of(name, {parameter: moments})
    if learns(step.rule):
        change = {name: {parameter: np.ascontiguousarray(dW)}}
        optimiser.ascend({name: {parameter: after}}, change, step.number)
    if not (step.top and parameter == step.layer.main and learning.constrains(step.rule)):
        return after, after
    kept = learning.state_of(step.weights, parameter)
    if parameter in step.settled:
        kept |= step.settled[parameter].state
    return after, step.rule.constrain(after, kept)


def _scored_on_host(scored: Scored) -> Scored:
    arrays = {name: to_host(getattr(scored, name)) for name in ("z", "context")}
    own = {name: to_host(w) for name, w in scored.own.items()}
    return replace(scored, **arrays, own=own, roles=tuple(map(role_on_host, scored.roles)))


def role_on_host(role: Role) -> Role:
    """The same role with NumPy arrays."""
    event: dict[str, Array] = {
        name: to_host(getattr(role.events, name)) for name in ("context", "target", "label")
    }
    event["weight"] = to_host(role.events.weight)
    arrays = {name: to_host(getattr(role, name)) for name in ("score", "gamma", "source")}
    return replace(
        role,
        events=replace(role.events, **event),
        dendrite=to_host(role.signals),
        through=None,
        **arrays,
    )
