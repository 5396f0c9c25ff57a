"""One step of learning: from patches to the dW of every module, and to the weights."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from plasticity import kernels, seeds
from plasticity.arrays import Array, array_module
from plasticity.errors import UserError
from plasticity.events import Layout
from plasticity.network import Layer, Network, Parameters, Seen
from plasticity.ranks import Ranks
from plasticity.rule import Draw, Learning, Role, Rule, looks_up

Modules = Sequence[Sequence[int]]
"""For each module the numbers of its layers, from 0; CLAPP's modules are single layers."""

NETWORKS_OWN = ("weight", "bias", "feedback")
"""What a layer keeps besides the rule's own parameters."""


@dataclass
class Update:
    """What one step changes in one module: dW by layer and parameter, and the rule's report.

    `state` are new values of parameters that no optimiser moves.
    """

    module: int
    changes: Parameters
    loss: Array
    open_gates: Array
    measures: dict[str, Array] = field(default_factory=dict)
    finish: Callable[[], None] = lambda: None  # before `changes` are those of all ranks
    state: Parameters = field(default_factory=dict)


@dataclass(frozen=True)
class Watched:
    """One module in one step of learning, for those who look on: its layers and its rule.

    Attributes:
        layers: its convolutions from below.
        z: what the rule read, the encodings or the maps; context: what its loss predicts from, z
            itself or the encodings of the module above.
        scored: the roles of its own loss, whose gates change the rule's own parameters; below:
            those of the module below in which this one, as its context, learns.
    """

    module: int
    layers: list[Seen]
    z: Array
    context: Array
    own: dict[str, Array]
    draw: Draw
    layout: Layout
    learning: Learning
    scored: tuple[Role, ...]
    below: tuple[Role, ...] = ()

    @property
    def upward(self) -> tuple[Role, ...]:
        """The roles of its own loss in which the module above learns, as its context."""
        return tuple(role for role in self.scored if self._leads_up(role))

    @property
    def roles(self) -> tuple[Role, ...]:
        """The roles in which the module's own top learns; `context below` are those of `below`."""
        own = (role for role in self.scored if not self._leads_up(role))
        return (*own, *(replace(role, name="context below") for role in self.below))

    def _leads_up(self, role: Role) -> bool:
        return self.context is not self.z and role.name == "context"


def layerwise(network: Network) -> Modules:
    """Every layer a module of its own: no error crosses from layer to layer."""
    return [[i] for i in range(len(network.layers))]


def prepare(network: Network, rule: Rule, modules: Modules, seed: int) -> Parameters:
    """All parameters at their start, float64: the network's, and the rule's for each module.

    Raises:
        UserError: a rule that takes its context from above, and a single module.
    """
    if looks_up(rule) and len(modules) < 2:
        raise UserError(
            f"--context above needs modules above others, and {rule.name} has all layers of "
            f"{network.name} in one here: take --modules layers, or another split"
        )
    weights = network.prepare(seed)
    tops = [network.layers[module[-1]].convolutions[-1] for module in modules]
    for number, top in enumerate(tops):
        rng = seeds.generator(seed, seeds.WEIGHTS, len(network.convolutions) + number)
        above = [layer.outputs for layer in tops[number + 1 : number + 2] if looks_up(rule)]
        weights[top.name] |= rule.prepare(top.outputs, rng, *above)
        if rule.feedback == "random":  # an error comes down by these, not by the weights
            inside = [conv for i in modules[number] for conv in network.layers[i].convolutions]
            for conv in inside[1:]:
                key = 2 * len(network.convolutions) + network.convolutions.index(conv)
                rng = seeds.generator(seed, seeds.WEIGHTS, key)
                weights[conv.name]["feedback"] = conv.prepare(rng)["weight"]
    return weights


def draws(
    rule: Rule,
    layout: Layout,
    modules: Modules,
    seed: int,
    step: int,
    labels: np.ndarray | None = None,
) -> list[Draw]:
    """The random choices of every module in one step, with the classes of its images `(B,)`."""
    return [
        replace(rule.draw(layout, seeds.generator(seed, seeds.DRAWS, step, number)), labels=labels)
        for number in range(len(modules))
    ]


def updates(
    network: Network,
    rule: Rule,
    modules: Modules,
    weights: Parameters,
    patches: Array,
    layout: Layout,
    choices: Iterable[Draw],
    watch: Callable[[Watched], None] | None = None,
    ranks: Ranks | None = None,
) -> Iterator[Update]:
    """Module by module, the update that the rule prescribes for these patches.

    A module's weights may be changed as soon as its update is out: the modules above have been
    fed before, and nothing comes back from them. Where a rule takes its context from the module
    above, that one is run ahead of its turn, and learns as a context with its own update.

    Args:
        patches: `(N, *space, C)` in the order of `layout`.
        choices: a `Draw` for each module.
        watch: called for every module, before its weights can change; it changes nothing.
        ranks: where several processes learn together, `patches` are this one's share of those of
            `layout`, and an update is whole after its `finish`.
    """
    below: tuple[Role, ...] = ()

    def look(watched: Watched) -> None:
        nonlocal below
        watch(replace(watched, below=below))
        below = watched.upward

    x, ahead, from_below = patches, None, None
    for number, (module, choice) in enumerate(zip(modules, choices, strict=True)):
        here = ahead or _forward(network, module, weights, x, layout, rule.reads, ranks)
        x, ahead = here.y, None
        if looks_up(rule) and number + 1 < len(modules):
            ahead = _forward(network, modules[number + 1], weights, x, layout, rule.reads, ranks)
        changes, learning, finish = _learn(
            number, here, ahead, rule, weights, layout, choice, from_below, watch and look, ranks
        )
        from_below = learning.context_drive
        state = {here.top: learning.state} if learning.state else {}
        told = learning.loss, learning.open_gates, learning.measures
        del here  # its maps are not needed while the next module is fed
        yield Update(number, changes, *told, finish, state)


@dataclass(frozen=True)
class _Passed:
    """A module after its forward pass: its layers from below with what they kept, and its output.

    `z` is what the rule reads of it, of all ranks: encodings `(N, D)`, or maps.
    """

    tape: list[tuple[Layer, tuple]]
    y: Array
    z: Array

    @property
    def top(self) -> str:
        """The convolution that ends the module, which keeps what the rule keeps."""
        return self.tape[-1][0].convolutions[-1].name


def _forward(
    network: Network,
    module: Sequence[int],
    weights: Parameters,
    x: Array,
    layout: Layout,
    reads: str,
    ranks: Ranks | None,
) -> _Passed:
    tape = []
    for layer in (network.layers[i] for i in module):
        x, kept, z = layer.forward(x, weights)
        tape.append((layer, kept))
    z = x if reads == "map" else z
    return _Passed(tape, x, ranks.gather(z, layout) if ranks else z)


def _learn(
    number: int,
    here: _Passed,
    ahead: _Passed | None,
    rule: Rule,
    weights: Parameters,
    layout: Layout,
    choice: Draw,
    from_below: Array | None,
    watch: Callable[[Watched], None] | None,
    ranks: Ranks | None,
) -> tuple[Parameters, Learning, Callable[[], None]]:
    """One module: the changes of its weights, what the rule says besides, and the wait for the
    changes to be those of all ranks.

    Args:
        ahead: the module above, where the rule takes its context from there; from_below: the drive
            that the rule has given this module as the context of the one below.
    """
    tape, z, top = here.tape, here.z, here.top
    own = {n: w for n, w in weights[top].items() if n not in NETWORKS_OWN}
    read = (z, own, choice, layout, *(() if ahead is None else (ahead.z,)))
    learning = rule.learn(*read)
    drive = learning.drive if from_below is None else learning.drive + from_below
    drive = ranks.own(drive, layout) if ranks else drive

    # The encoding is a mean over P positions: every position shares the drive, over P.
    positions = int(np.prod(here.y.shape[1:-1]))
    error, changes, seen, waits = drive / positions if drive.ndim == 2 else drive, {}, [], []
    for layer, kept in reversed(tape):
        parts, error = layer.learn(kept, error, weights, layer is not tape[0][0])
        if layer is tape[-1][0]:
            parts = [replace(part, read=part.layer in layer.read) for part in parts]
        changes |= {part.layer.name: part.changes for part in parts}
        first = ranks is None or ranks.rank == 0  # the others' sums are added to it
        if first and layer is tape[-1][0] and learning.decay is not None:
            _decay(changes[top], weights[top], learning.decay.sum(axis=0))
        if ranks:
            waits += [ranks.add(part.changes) for part in parts]
        if watch is not None:
            seen = parts + seen
    changes[top] |= learning.changes
    if watch is not None:
        context = z if ahead is None else ahead.z
        scored = learning.roles or tuple(rule.roles(*read))
        watch(Watched(number, seen, z, context, own, choice, layout, learning, scored))

    def finish() -> None:
        for wait in waits:
            wait()

    return changes, learning, finish


def _decay(changes: dict[str, Array], own: dict[str, Array], decay: Array) -> None:
    """Take from every neuron's weights the part `decay (O,)`: see `Learning.decay`."""
    for name in ("weight", "bias"):
        changes[name] -= decay.reshape(-1, *(1,) * (own[name].ndim - 1)) * own[name]


@dataclass
class Plain:
    """`W += rate dW`, as classical rules are written."""

    rate: float
    moments: dict[str, dict[str, dict[str, Array]]]

    @classmethod
    def start(cls, rate: float, weights: Parameters) -> "Plain":
        """It keeps nothing."""
        return cls(rate, {})

    def ascend(self, weights: Parameters, changes: Parameters, step: int) -> None:
        """Move the weights along their changes, in place."""
        for layer, own in changes.items():
            for name, dW in own.items():
                weights[layer][name] += dW.dtype.type(self.rate) * dW


@dataclass
class Adam:
    """Adam (Kingma & Ba 2015), with moments for every parameter; its step counts from 1."""

    rate: float
    moments: dict[str, dict[str, dict[str, Array]]]

    @classmethod
    def start(cls, rate: float, weights: Parameters) -> "Adam":
        """An optimiser that has seen nothing."""
        return cls(
            rate,
            {
                layer: {
                    name: {m: array_module(w).zeros_like(w) for m in ("m", "v")}
                    for name, w in own.items()
                }
                for layer, own in weights.items()
            },
        )

    def ascend(self, weights: Parameters, changes: Parameters, step: int) -> None:
        """Move the weights along their changes, in place."""
        for layer, own in changes.items():
            moments = self.moments[layer]
            parameters = [
                (weights[layer][name], dW, moments[name]["m"], moments[name]["v"])
                for name, dW in own.items()
            ]
            kernels.adam(parameters, step, self.rate)


OPTIMISERS = {"adam": Adam, "plain": Plain}
