"""One step of learning: from inputs to the dW of every module."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from plasticity import seeds
from plasticity.arrays import Array, array_module
from plasticity.errors import UserError
from plasticity.events import Layout
from plasticity.layers import gru, norm
from plasticity.learning import shares
from plasticity.learning.losses import Loss, Modules, Rules, each, keys, losses_of
from plasticity.learning.ranks import Ranks
from plasticity.learning.reading import Reading, post_factor, read_map, read_space
from plasticity.learning.synapses import constrains, settle, settles
from plasticity.learning.watched import Scored, Watched
from plasticity.network import Layer, Network, Parameters, Seen
from plasticity.rule import Draw, Rule, looks_up

NETWORKS_OWN = ("weight", "bias", "feedback", *gru.PARAMETERS, *norm.PARAMETERS)
"""What a layer keeps besides the rule's own parameters."""


def rules_own(kept: dict[str, Array]) -> dict[str, Array]:
    """Of what is kept for a layer the rule's own parameters, without those of each synapse."""
    return {n: w for n, w in kept.items() if n not in NETWORKS_OWN and "." not in n}


def needed(needs: Collection[str], kept: dict[str, Array], x: Array) -> dict[str, Array]:
    """What a rule reads of a layer besides its output: see `Rule.needs`.

    Args:
        kept: for the layer; x: its input.
    """
    found = {n: kept[n] for n in ("weight", "bias") if "weight" in needs}
    return found | ({"input": x} if "input" in needs else {})


@dataclass
class Report:
    """What a loss says of a step: its value, the fraction of open gates, the rule's measures.

    `loss` is None for a rule that descends none.
    """

    loss: Array | None
    open_gates: Array
    measures: dict[str, Array] = field(default_factory=dict)

    def add(self, ranks: Ranks) -> Callable[[], None]:
        """Begin to sum loss and open gates over ranks that share contexts."""
        xp = array_module(self.loss, self.open_gates)
        told = xp.stack([self.loss, self.open_gates])
        wait = ranks.add({"told": told})

        def take() -> None:
            wait()
            self.loss, self.open_gates = told

        return take


@dataclass
class Update:
    """What one step changes in one module.

    Attributes:
        rule: that it learns by.
        changes: dW by layer and parameter; state: new values of parameters that no optimiser moves.
        reports: by the names of the losses whose parameters the module keeps, see `losses.keys`.
        finish: waits until `changes` are summed over all ranks.
        gates: the fraction of open gates of every loss that the module learns from.
        constrained: the layer whose weights the rule bounds after they have moved, if it does.
    """

    module: int
    rule: Rule
    changes: Parameters
    reports: dict[str, Report]
    finish: Callable[[], None] = lambda: None
    state: Parameters = field(default_factory=dict)
    gates: tuple[Array, ...] = ()
    constrained: Layer | None = None

    @property
    def loss(self) -> Array | None:
        """The value of the module's losses; None where the rule descends none."""
        found = [r.loss for r in self.reports.values() if r.loss is not None]
        return sum(found[1:], found[0]) if found else None

    @property
    def open_gates(self) -> Array:
        """The fraction of open gates, a mean over the module's losses, or those it learns from."""
        found = [report.open_gates for report in self.reports.values()] or self.gates
        return sum(found) / max(1, len(found))

    @property
    def measures(self) -> dict[str, Array]:
        """The further measures of the module's losses, by name."""
        reports = self.reports.values()
        return {name: value for report in reports for name, value in report.measures.items()}


def layerwise(network: Network) -> Modules:
    """Every layer a module of its own: no error crosses from layer to layer."""
    return [[i] for i in range(len(network.layers))]


def prepare(
    network: Network,
    rule: Rule | Rules,
    modules: Modules,
    seed: int,
    losses: Sequence[Loss] | None = None,
) -> Parameters:
    """All parameters at their start, float64: the network's, and its rule's for each loss.

    Args:
        rule: of all modules, or for each its own.

    Raises:
        UserError: a rule that takes its context from above, and a single module.
    """
    rules = each(rule, modules)
    if len(modules) < 2 and looks_up(rules[0]):
        raise UserError(
            f"--context above needs modules above others, and {rules[0].name} has all layers of "
            f"{network.name} in one here: take --modules layers, or another split"
        )
    losses = losses_of(rules, modules, network) if losses is None else losses
    weights = network.prepare(seed)
    for number, (loss, key) in enumerate(zip(losses, keys(network, modules, losses), strict=True)):
        rng = seeds.generator(seed, seeds.WEIGHTS, len(network.convolutions) + number)
        target, context = (network.layers[end].outputs for end in loss.ends(modules))
        inputs = network.layers[loss.ends(modules)[0]].inputs
        own_rule = rules[loss.kept]
        more = {"inputs": inputs} if "input" in own_rule.needs else {}
        own = own_rule.prepare(target, rng, *([context] if loss.crosses else []), **more)
        weights[key] = weights.get(key, {}) | own
    learning = [(m, own) for m, own in zip(modules, rules, strict=True) if own is not None]
    for module, own_rule in learning:
        for unit in network.layers[module[-1]].read:
            number = 3 * len(network.convolutions) + network.convolutions.index(unit)
            rng = seeds.generator(seed, seeds.WEIGHTS, number)
            for name in [n for n in weights[unit.name] if n in ("weight", "bias")]:
                kept = own_rule.prepare_synapses(weights[unit.name][name], rng)
                weights[unit.name] |= {f"{name}.{what}": w for what, w in kept.items()}
    for module, own_rule in learning:
        if own_rule.feedback == "random":  # an error comes down by these, not by the weights
            inside = [conv for i in module for conv in network.layers[i].convolutions]
            for conv in inside[1:]:
                number = 2 * len(network.convolutions) + network.convolutions.index(conv)
                rng = seeds.generator(seed, seeds.WEIGHTS, number)
                weights[conv.name]["feedback"] = conv.prepare(rng)["weight"]
    return weights


def draws(
    rule: Rule | Rules,
    layout: Layout | Sequence[Layout],
    modules: Modules,
    seed: int,
    step: int,
    labels: np.ndarray | Sequence[np.ndarray] | None = None,
    losses: Sequence[Loss] | None = None,
    generators: Sequence[np.random.Generator] | None = None,
) -> list[Draw]:
    """The random choices of every loss in one step, with the classes of its samples.

    Args:
        rule: of all modules, or for each its own.
        generators: for each loss, by default those of training, by seed, step and number.
        labels: of the samples `(B,)`, or for each loss those of its target's frames `(T, B)`.
        layout: of all modules, or of each loss's target.
        losses: by default one for each module, see `losses_of`.
    """
    rules = each(rule, modules)
    rules = rules if losses is None else [rules[loss.kept] for loss in losses]
    count = len(rules)
    of = [layout] * count if isinstance(layout, Layout) else layout
    known = labels if isinstance(labels, list) else [labels] * count
    if generators is None:
        generators = [seeds.generator(seed, seeds.DRAWS, step, i) for i in range(count)]
    return [
        replace(rules[i].draw(of[i], generators[i]), labels=known[i], step=step)
        for i in range(count)
    ]


@dataclass(frozen=True)
class _Read:
    """Encodings `z` of a layer in the order of `layout`; space: of its maps.

    Of several ranks they are of all, or one's own where the rule shares contexts.
    """

    z: Array
    layout: Layout
    space: tuple[int, ...]


@dataclass(frozen=True)
class _Fed:
    """A module after its forward pass: its layers by number with what they kept, and its output.

    `reads` are the layers that a loss compares, see `_key`;
    `posts` their post factors, where the module's rule names them, and `met` their inputs, where
    one needs them.
    """

    tape: dict[int, tuple[Layer, tuple]]
    y: Array
    reads: dict[tuple[int, str, bool], _Read]
    posts: dict[int, Array | None]
    met: dict[int, Array]

    def learn(
        self, i: int, error: Array, weights: Parameters, below: bool
    ) -> tuple[list[Seen], Array | None]:
        """dW of layer i by an error at its output, and the error at its input: see `Conv.learn`."""
        (layer, kept), post = self.tape[i], self.posts.get(i)
        how = kept, error, weights, below
        return layer.learn(*how) if post is None else layer.learn(*how, post)


def updates(
    network: Network,
    rule: Rule | Rules,
    modules: Modules,
    weights: Parameters,
    inputs: Array,
    layout: Layout,
    choices: Iterable[Draw],
    watch: Callable[[Watched], None] | None = None,
    ranks: Ranks | None = None,
    *,
    losses: Sequence[Loss] | None = None,
    reading: Reading | None = None,
    look: Callable[[Layer, Array], None] | None = None,
) -> Iterator[Update]:
    """Module by module, the update that its rule prescribes for these inputs.

    A module is fed, a loss is scored as soon as both its modules are, and a module's update comes
    out when all losses that it learns from are scored. Its weights may be changed then: whatever
    reads its output has been fed, and nothing comes back from there. A frozen module is fed, and
    has no update.

    Args:
        rule: of all modules, or for each its own, None where it is frozen.
        inputs: `(M, *space, C)`; patches in the order of `layout`, utterances or clips.
        layout: of the encodings; their time is the maps' own where `reading` says so.
        choices: a `Draw` for each loss.
        watch: called for every module before its weights can change; it changes nothing.
        ranks: where several processes learn together, `inputs` are this one's share of those of
            `layout`, and an update is whole after its `finish`.
        losses: by default those of the rule, `losses_of`.
        reading: how maps become encodings, by default the mean over each input's positions. A rule
            that reads maps keeps the positions.
        look: called with every layer and its output `(M, *space, D)`, from below.
    """
    rules, reading = each(rule, modules), reading or Reading()
    losses = losses_of(rules, modules, network) if losses is None else losses
    names, choices = keys(network, modules, losses), list(choices)
    ends = [loss.ends(modules) for loss in losses]
    compared: dict[int, list[Rule]] = {}
    for loss, both in zip(losses, ends, strict=True):
        for end in both:
            compared.setdefault(end, []).append(rules[loss.kept])
    fed: dict[int, _Fed] = {}
    scored: dict[int, Scored] = {}
    x = inputs
    for newest, module in enumerate(modules):
        how = reading, compared, ranks, rules[newest], look
        fed[newest] = _feed(network, module, weights, x, layout, *how)
        x = fed[newest].y
        for i, loss in enumerate(losses):
            if loss.ready == newest:
                own = rules[loss.kept]
                how = fed, own, weights, choices[i], bool(watch), ranks
                scored[i] = _score(loss, names[i], ends[i], *how)
        for m in sorted(fed):
            if any(loss.reads(m) and i not in scored for i, loss in enumerate(losses)):
                continue
            touching = [i for i, loss in enumerate(losses) if loss.touches(m)]
            how = rules[m], weights, reading, watch, ranks
            # A module that is done has no name here: it is let go before the next one is fed.
            if touching:
                yield _learn(m, modules[m], fed.pop(m), [scored[i] for i in touching], *how)
            else:
                del fed[m]
            for i in list(scored):
                if losses[i].target not in fed and losses[i].context not in fed:
                    del scored[i]


def _feed(
    network: Network,
    module: Sequence[int],
    weights: Parameters,
    x: Array,
    layout: Layout,
    reading: Reading,
    compared: dict[int, list[Rule]],
    ranks: Ranks | None,
    rule: Rule | None,
    look: Callable[[Layer, Array], None] | None,
) -> _Fed:
    """A module's forward pass; rule: that it learns by, or None."""
    tape, reads, posts, inputs = {}, {}, {}, {}
    for i in module:
        layer, met = network.layers[i], x
        how: dict[str, object] = {} if rule is not None else {"learning": False}
        if ranks and rule is not None and getattr(layer, "normalised", False):
            how["peers"] = ranks
        x, kept, mean = layer.forward(met, weights, **how)
        tape[i] = layer, kept
        if look is not None:
            look(layer, x)
        by = compared.get(i, ())
        if by and rule is not None:
            posts[i] = post_factor(layer, rule.post, met, x, weights)
        if any("input" in one.needs for one in by):
            inputs[i] = met
        for reader in by:
            if (key := _key(i, reader)) not in reads:
                y, of_y = read_map(layer, reader.reads, met, x, mean, weights)
                space, read = y.shape[1:-1], reading.of(reader.reads)
                of, z = read.layout(layout, space), read.read(y, of_y)
                if posts.get(i) is not None:  # the drive goes to the places before the pool
                    space = read_space(layer, "places", met.shape[1:-1])
                whole = ranks and not shares.shared(reader)
                reads[key] = _Read(ranks.gather(z, of) if whole else z, of, space)
    return _Fed(tape, x, reads, posts, inputs)


def _key(layer: int, rule: Rule) -> tuple[int, str, bool]:
    """Encodings by the number of their layer, and by what a rule reads of which ranks."""
    return layer, rule.reads, shares.shared(rule)


def _score(
    loss: Loss,
    name: str,
    ends: tuple[int, int],
    fed: dict[int, _Fed],
    rule: Rule,
    weights: Parameters,
    draw: Draw,
    watching: bool,
    ranks: Ranks | None,
) -> Scored:
    """What the rule makes of the encodings of a loss's two ends; of several ranks the drives are
    on this one's own."""
    target = fed[loss.target].reads[_key(ends[0], rule)]
    context = fed[loss.context].reads[_key(ends[1], rule)]
    own = rules_own(weights[name])
    if rule.needs:
        here, i = fed[loss.target], ends[0]
        top = here.tape[i][0].convolutions[-1].name
        own |= needed(rule.needs, weights[top], here.met.get(i))
    read = (target.z, own, draw, target.layout, *((context.z,) if loss.crosses else ()))
    learning = shares.learn(ranks, rule, *read) if ranks else rule.learn(*read)
    roles = learning.roles or (tuple(rule.roles(*read)) if watching else ())
    if watching:
        roles = tuple(role.listed() for role in roles)
    return Scored(loss, name, target.z, context.z, own, draw, target.layout, learning, roles, ends)


def _learn(
    number: int,
    module: Sequence[int],
    here: _Fed,
    losses: Sequence[Scored],
    rule: Rule,
    weights: Parameters,
    reading: Reading,
    watch: Callable[[Watched], None] | None,
    ranks: Ranks | None,
) -> Update:
    """The update of a module: the drives of its losses add up, and go down through its layers."""
    reading = reading.of(rule.reads)
    last, watched = here.tape[module[-1]][0], Watched(number, rule, [], tuple(losses), reading)
    drives: dict[int, Array] = {}
    for scored in watched.ordered:
        for i, drive in scored.drives(number):
            drives[i] = drives[i] + drive if i in drives else drive
    error, changes, state, waits = None, {}, {}, []
    for i, (layer, _) in zip(reversed(module), reversed(here.tape.values()), strict=True):
        if i in drives:
            space = here.reads[_key(i, rule)].space
            error = _added(error, reading.spread(drives[i], space))
        if error is None:  # a top that nothing drives
            error = array_module(here.y).zeros_like(here.y)
        below = i != module[0]
        parts, error = here.learn(i, error, weights, below)
        if layer is last:
            parts = [replace(part, read=part.layer in layer.read) for part in parts]
            if not rule.biases:
                parts = [_without_bias(part) if part.read else part for part in parts]
            if settles(rule):
                parts, state = _settled(rule, watched, parts, weights, here, i, reading)
        changes |= {part.layer.name: part.changes for part in parts}
        for part in (part for part in parts if getattr(part, "state", None)):
            state[part.layer.name] = state.get(part.layer.name, {}) | part.state
        if layer is last and watched.decay is not None and (ranks is None or ranks.rank == 0):
            # The others' sums are added to the first rank's, so decay is taken there alone.
            for unit in layer.read:
                _decay(changes[unit.name], weights[unit.name], watched.decay.sum(axis=0))
        if ranks:
            waits += [ranks.add(part.changes) for part in parts]
        if watch is not None:
            watched.layers[:0] = parts
    reports = {}
    for scored in watched.predicted:
        learning = scored.learning
        changes.setdefault(scored.name, {}).update(learning.changes)
        if learning.state:
            state[scored.name] = state.get(scored.name, {}) | learning.state
        reports[scored.name] = Report(learning.loss, learning.open_gates, learning.measures)
        if ranks and shares.shared(rule):
            waits += [ranks.add(learning.changes), reports[scored.name].add(ranks)]
    if watch is not None:
        watch(watched)

    def finish() -> None:
        for wait in waits:
            wait()

    return Update(
        number,
        rule,
        changes,
        reports,
        finish,
        state,
        tuple(scored.learning.open_gates for scored in losses),
        last if constrains(rule) else None,
    )


def _settled(
    rule: Rule,
    watched: Watched,
    parts: list[Seen],
    weights: Parameters,
    here: _Fed,
    i: int,
    reading: Reading,
) -> tuple[list[Seen], Parameters]:
    """The dW of a module's top as the rule makes it of its sums, and what its synapses then keep.

    Where a rule has several roles, each has a sum of its own.
    """
    scored, state, drives = watched.losses[0], {}, {}
    for role in watched.roles:
        if role.name not in drives:
            drives[role.name] = array_module(scored.z).zeros_like(scored.z)
        role.onto(drives[role.name])
    sums = {next(iter(drives), "drive"): parts}
    if len(drives) > 1:
        for name, drive in drives.items():
            error = reading.spread(drive, here.reads[_key(i, rule)].space)
            sums[name] = here.learn(i, error, weights, False)[0]
    for number, part in enumerate(parts):
        if part.read:
            of = {name: every[number].changes for name, every in sums.items()}
            parts[number], made, kept = settle(rule, part, of, scored, weights)
            watched.settled[part.layer.name], state[part.layer.name] = made, kept
    return parts, state


def _without_bias(part: Seen) -> Seen:
    return replace(part, changes={n: dW for n, dW in part.changes.items() if "bias" not in n})


def _added(error: Array | None, more: Array) -> Array:
    """The sum of errors at a map, one of which all positions of an input may share."""
    if error is None:
        return more
    if more.ndim < error.ndim:
        more = more.reshape(len(more), *(1,) * (error.ndim - 2), more.shape[-1])
    return error + more


def _decay(changes: dict[str, Array], own: dict[str, Array], decay: Array) -> None:
    """Take from every neuron's weights the part `decay (O,)`: see `Learning.decay`."""
    for name in changes.keys() & {"weight", "bias"}:
        changes[name] -= decay.reshape(-1, *(1,) * (own[name].ndim - 1)) * own[name]
