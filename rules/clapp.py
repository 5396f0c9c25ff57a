"""CLAPP: contrastive, local and predictive plasticity."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from plasticity.rules import circuit

from plasticity import events, kernels
from plasticity.arrays import Array, array_module
from plasticity.errors import UserError
from plasticity.events import AllPairs, AllTogether, Events, Layout, Steps, Together
from plasticity.fields import option
from plasticity.rule import Draw, Learning, Parameter, Role, Rule, at_once


@dataclass(frozen=True)
class Clapp(Rule):
    """CLAPP (Illing, Ventura, Bellec & Gerstner, NeurIPS 2021), Eq. (1) to (8), (14) to (17).

    For a context c, a target z (the true future: y = +1, another input: y = -1) and the score
    `u = z^T W_pred c` the loss is `L = max(0, 1 - y u)`, Eq. (3). The gate H is open where L > 0.
    With `gamma = y H`,

        target role,   Eq. (6): dW_ji = gamma (W_pred c)_j  rho'(a_z,j) x_z,i
        context role,  Eq. (7): dW_ji = gamma (W_retro z)_j rho'(a_c,j) x_c,i
        predictions,   Eq. (8): dW_pred,jk = gamma z_j c_k,  dW_retro,kj = gamma c_k z_j

    Reads the encodings of one layer; changes that layer's weights, `W_pred` and `W_retro`.

    With its context from above, c is the encoding of the next layer (of the next module's top) and
    z that of this one: the target role changes this layer, the context role the next one, and
    `x_c` stays a constant although it is z's own layer (appendices, convention on gradients). The
    last layer has none above it and is its own context (appendix C). The published code has this
    variant for the symmetric weights alone and lets Adam step twice, for a layer's own loss and
    for that of the layer below; here both add up in one dW.

    Attributes:
        steps: prediction steps K.
        negatives: how many a context has; negatives_from: `patch`, `batch`, `all` or `others`, see
            `events.draw`. With `others` all pairs are compared, as for film: the loss then has the
            factor 1/2 of the published video code, `all_pairs_factor`.
        symmetric: `W_retro = W_pred^T`, one set of matrices.
        gate: `own`, each half of Eq. (14) has its own draw and gate (the exact gradient of L~
            without its factor 1/2); `shared`, one gate from W_pred's score for both (Eq. 17);
            `circuit`, as `own`, but H is what a circuit of bursts makes of it (appendix C, see
            `rules/circuit.py`); `off`, gamma = y. The symmetric rule has one score, so one gate.
        circuit_noise, burst_probability: of the circuit; with 0 and 1 it opens where H does.
        block_grad: leave the context role out, Eq. (13).
        dendrites: False puts 1 for every dendritic signal.
        learn_prediction: False freezes `W_pred` and `W_retro`.
        context: `same`, the layer itself, or `above`, the layer above it.
        reads: `encoding`, or `map`, where a score is the scalar product of flattened maps.
        start: how W_pred and W_retro are drawn, see `prepare`.
        at_once: whether `gamma` and `loss` look at each context by itself, so that they may be
            given the events of all prediction steps and both halves in one, as a card takes them
            (all pairs as one `AllPairs` with the contexts of all, whose k is 0), or those of some
            contexts alone, as ranks share them. A class says so itself: one that inherits from it
            goes step by step through the whole batch, unless it does.
    """

    steps: int = option(
        5,
        "How far to predict, K.",
        flag="prediction_steps",
        shown="the rule's, mostly 5; for sound 12",
        least=1,
        most=10**4,
        unset=0,
    )
    negatives: int = option(
        1, "Negatives for each context.", flag="negatives", least=1, most=10**6, unset=0
    )
    negatives_from: str = option(
        "patch",
        "patch: other images, same position; batch: any target of the batch; all: any encoding of "
        "the batch; others: every other target of the batch.",
        flag="negatives_from",
        shown="the rule's, for sound all, for film others",
        choices=("patch", "batch", "all", "others"),
        unset="",
    )
    symmetric: bool = option(
        False,
        "retro: W_pred and W_retro apart; symmetric: one of them.",
        flag="weights",
        words={"retro": False, "symmetric": True},
        unset="",
    )
    gate: str = option(
        "own",
        "own: a gate for each half; shared: one, by W_pred; circuit: as own, from bursts "
        "(appendix C); off: gamma = y.",
        flag="gate",
        choices=("own", "shared", "circuit", "off"),
        unset="",
    )
    circuit_noise: float = option(
        0.0,
        "--gate circuit: noise of the summed ON and OFF bursts, in units of the threshold.",
        flag="circuit_noise",
        least=0,
    )
    burst_probability: float = option(
        1.0,
        "--gate circuit: how often a neuron whose prediction meets its activity bursts.",
        flag="burst_probability",
        least=0,
        above=True,
        most=1,
    )
    block_grad: bool = option(False, "The target role alone (Eq. 13).", flag="block_grad")
    dendrites: bool = option(
        True, "Dendritic signals, or 1 for all.", flag="dendrites", off="no_dendrites"
    )
    learn_prediction: bool = option(
        True,
        "Let W_pred and W_retro learn.",
        flag="learn_prediction",
        off="freeze_prediction",
    )
    context: str = option(
        "same",
        "What predicts a layer: same, the layer itself; above, the layer above it.",
        flag="context",
        choices=("same", "above"),
        unset="",
    )

    reads: str = option(
        "encoding",
        "What is predicted: encodings, or map, whole maps by matrices that all positions share.",
        choices=("encoding", "map"),
    )
    start: str = option(
        "uniform",
        "How W_pred and W_retro start: uniform, or normal as in the published video code.",
        choices=("uniform", "normal"),
    )

    name: ClassVar[str] = "clapp"
    at_once: ClassVar[bool] = True
    predicts: ClassVar[bool] = True
    parameters: ClassVar[Mapping[str, Parameter]] = {
        "W_pred": Parameter("(prediction step, target neuron j, context neuron k)", "target"),
        "W_retro": Parameter("(prediction step, context neuron k, target neuron j)", "context"),
    }
    all_pairs_factor: ClassVar[float] = 0.5
    coin: ClassVar[bool] = True  # each image takes part with one sign, drawn by a fair coin
    modules: ClassVar[str] = "layers"  # every layer a module of its own
    equation: ClassVar[str] = "dW_ji = gamma * (dendritic signal)_j * rho'(a_j) * x_i, gamma = y H"
    citation: ClassVar[str] = "Illing, Ventura, Bellec & Gerstner, NeurIPS 2021, Eq. (3), (6)-(8)"

    def __post_init__(self) -> None:
        super().__post_init__()
        noise, probability = self.circuit_noise, self.burst_probability
        if self.gate != "circuit" and (noise, probability) != (0, 1):
            raise UserError(
                "--circuit-noise and --burst-probability are of the surprise circuit: they go with "
                f"--gate circuit, not with {self.gate}"
            )
        if self.gate == "circuit" and self.negatives_from == "others":
            raise UserError(
                "--gate circuit looks at one event after the other, and --negatives-from others "
                "compares all at once: take --negatives-from batch with it"
            )

    def prepare(
        self, neurons: int, rng: np.random.Generator, above: int | None = None
    ) -> dict[str, np.ndarray]:
        """`W_pred (K, D, C)` [k, target neuron, context neuron], `W_retro` the other way round.

        Uniform within 1/sqrt(D), the default of the published code's 1x1 convolutions, or normal
        with variance 2 / D, as its video code starts them. C = D, unless the context is a layer
        `above` with neurons of its own number.
        """
        K, D, C, bound = self.steps, neurons, above or neurons, neurons**-0.5
        shapes = {"W_pred": (K, D, C), "W_retro": (K, C, D)}
        names = ("W_pred",) if self.symmetric or self.block_grad else ("W_pred", "W_retro")
        if self.start == "normal":
            return {name: rng.normal(0, 2**0.5 * bound, shapes[name]) for name in names}
        return {name: rng.uniform(-bound, bound, shapes[name]) for name in names}

    def draw(self, layout: Layout, rng: np.random.Generator) -> Draw:
        """Signs and negatives, for each half its own unless the halves share a gate."""

        def half() -> tuple[Events, ...]:
            return events.draw(
                layout,
                rng,
                steps=self.steps,
                coin=self.coin,
                negatives=self.negatives,
                negatives_from=self.negatives_from,
                factor=self.all_pairs_factor,
            )

        pred = half()
        retro = half() if self._own_halves else None
        if self.gate == "circuit":
            pred, retro = events.keyed(pred, rng), retro and events.keyed(retro, rng)
        return Draw(pred, retro)

    @property
    def hinge(self) -> bool:
        """Whether Eq. (3) is its loss: not where gamma = y, whose loss is `-y u`."""
        return self.gate != "off"

    @property
    def locality(self) -> str:
        """What an update depends on: see `Rule`. An error comes down inside modules of layers."""
        if self.context == "above":
            return "neighbours"
        return "layer" if self.modules == "layers" else "module"

    @property
    def _own_halves(self) -> bool:
        return not self.symmetric and not self.block_grad and self.gate != "shared"

    def surprise(self, u: Array, event: Events) -> Array:
        """H: whether the event surprises, `1 - y u > 0`."""
        return 1 - event.label * u > 0

    def gamma(self, u: Array, event: Events) -> Array:
        """`gamma = y H`, times the event's weight: its sign where it surprises."""
        y = event.label
        return (
            y * event.weight if self.gate == "off" else y * self.surprise(u, event) * event.weight
        )

    def loss(self, u: Array, event: Events) -> Array:
        """Eq. (3), `max(0, 1 - y u)`, averaged; without a gate `-y u`, whose slope gamma = y is."""
        y = event.label
        surprise = -y * u if self.gate == "off" else (1 - y * u).clip(0)
        return (surprise * event.weight).sum()

    def objective(
        self,
        z: Array,
        held: Array,
        own: dict[str, Array],
        draw: Draw,
        layout: Layout,
        above: Array | None = None,
        held_above: Array | None = None,
    ) -> Array:
        """The loss whose slope dW is: Eq. (3), or `L_z + L_c` of Eq. (14).

        `L_z` moves the target alone and `L_c` the context alone, without the factor 1/2. Contexts
        are encodings of the same layer, or of another one, `above`.

        Raises:
            UserError: a variant that descends no loss.
        """
        if not self.dendrites or (self.gate == "shared" and not self.symmetric):
            raise UserError(
                f"{self.name} descends no loss with one shared gate or without dendritic input"
            )
        if self.circuit_noise or self.burst_probability < 1:
            raise UserError(f"{self.name} descends no loss where a noisy circuit opens its gates")
        c, held_c = (z, held) if above is None else (above, held_above)
        context = c if self.symmetric and not self.block_grad else held_c
        total = 0.0
        for event, W in zip(draw.pred, own["W_pred"], strict=True):
            total = total + self.loss(_scores(event, z, context @ W.T, layout), event)
        if self._own_halves:
            for event, W in zip(draw.retro, own["W_retro"], strict=True):
                total = total + self.loss(_scores(event, held @ W.T, c, layout), event)
        return total

    def roles(
        self,
        z: Array,
        own: dict[str, Array],
        draw: Draw,
        layout: Layout,
        above: Array | None = None,
    ) -> Iterator[Role]:
        """The factors of every event, for each prediction step the target and the context role."""
        c = z if above is None else above
        pairs = isinstance(draw.pred[0], AllPairs)
        seen = [c[e.contexts(layout)] for e in draw.pred]
        predictions = _seen(seen, own["W_pred"], pairs)  # W_pred c
        if not self.block_grad:
            W_retro = own["W_pred"].transpose(0, 2, 1) if self.symmetric else own["W_retro"]
            retro = draw.pred if draw.retro is None else draw.retro
            futures = [z[e.targets(layout)] for e in retro]  # what may be a target
            contexts = [c[e.contexts(layout)] for e in retro]
            # Where targets are more than contexts, or all pairs meet, W_retro waits for their sum:
            # `Role.through`.
            summed = self.dendrites and self.gate != "circuit"
            summed = summed and (pairs or len(futures[0]) > len(contexts[0]))
            if not summed:
                retrodictions = _seen(futures, W_retro, pairs)  # W_retro z
            elif draw.retro is not None:
                carried = _seen(contexts, W_retro.transpose(0, 2, 1), pairs)  # W_retro^T c

        for i, event in enumerate(draw.pred):
            prediction, targets = next(predictions), z[event.targets(layout)]
            u = event.scores(_flat(targets), _flat(prediction), layout)
            gamma = self.gamma(self._heard(u, event, targets, prediction, layout), event)
            source = None if pairs else event.context - event.first
            yield Role("target", event, u, gamma, self._dendrite(prediction), source)

            if self.block_grad:
                continue
            event, start = retro[i], retro[i].targets(layout).start
            source = None if pairs else event.target - start
            retrodiction = None if summed else next(retrodictions)
            if draw.retro is not None:
                meet = (futures[i], next(carried)) if summed else (retrodiction, contexts[i])
                u = event.scores(*map(_flat, meet), layout)
                gamma = self.gamma(self._heard(u, event, *meet, layout), event)
            if summed:
                yield Role("context", event, u, gamma, futures[i], source, W_retro[i])
            else:
                yield Role("context", event, u, gamma, self._dendrite(retrodiction), source)

    def _heard(
        self, u: Array, event: Events, targets: Array, contexts: Array, layout: Layout
    ) -> Array:
        """What the gate compares with 1: the score, or what a circuit makes of it."""
        if self.gate != "circuit":
            return u
        how = {"noise": self.circuit_noise, "probability": self.burst_probability}
        meet = (_flat(targets), _flat(contexts), *event.within(layout))
        return circuit.evidence(*meet, u, key=event.key, **how)

    def _dendrite(self, signal: Array) -> Array:
        return signal if self.dendrites else array_module(signal).ones_like(signal)

    def learn(
        self,
        z: Array,
        own: dict[str, Array],
        draw: Draw,
        layout: Layout,
        above: Array | None = None,
    ) -> Learning:
        """Sum the events: the drive `delta (N, D)` of Eq. (6) and (7), dW_pred, dW_retro, Eq. (8).

        Args:
            z: encodings `(N, D)`, or with positions kept `(N, *P, D)`, in the order of `layout`;
                a score is then the scalar product of flattened maps, and W_pred and W_retro are
                shared by the positions. own: `W_pred` and `W_retro`.
            above: encodings `(N, C)` of the context's layer, if that is another one.
        """
        if self._all_at_once(z, draw):
            return self._learn_at_once(z, own, draw, above)
        xp, c = array_module(z), z if above is None else above
        drive = xp.zeros_like(z)
        context_drive = drive if above is None else xp.zeros_like(above)
        names = [name for name in ("W_pred", "W_retro") if name in own and self.learn_prediction]
        pairs: dict[str, list] = {name: [] for name in names}
        through: list[tuple[slice, Array, Array]] = []
        met = gamma = None
        loss, opened, agreed, halves = 0.0, 0.0, 0.0, 2 if draw.retro is not None else 1
        summed: list[Role] = []
        changes = {name: kernels.empty_like(own[name]) for name in names}
        done = dict.fromkeys(names, 0)

        def settle() -> None:
            """Make the products that have been put off."""
            carried = kernels.products([(_rows(met), W) for _, met, W in through])
            for (rows, _, _), part in zip(through, carried, strict=True):
                context_drive[rows] += part.reshape(context_drive[rows].shape)
            through.clear()
            for name, dW in changes.items():
                first, done[name] = done[name], done[name] + len(pairs[name])
                kernels.products(pairs[name], out=dW[first : done[name]])
                pairs[name].clear()

        for role in self.roles(z, own, draw, layout, above):
            event, first = role.events, role.name == "target"
            rows, targets = event.contexts(layout), event.targets(layout)
            if gamma is not role.gamma and (pairs or role.through is not None):
                # The targets as each context meets them: sum over events of gamma z.
                met, gamma = xp.zeros((len(c[rows]), *z.shape[1:]), z.dtype), role.gamma
                event.onto_contexts(_flat(met), gamma, _flat(z[targets]), layout)
            if role.through is not None:
                through.append((rows, met, role.through.T))
            elif first:
                event.onto_targets(_flat(drive[targets]), role.gamma, _flat(role.dendrite), layout)
            else:
                to = _flat(context_drive[rows])
                event.onto_contexts(to, role.gamma, _flat(role.dendrite), layout)

            if first or draw.retro is not None:  # a score of its own
                loss = loss + self.loss(role.score, event) / halves
                open_gates = role.gamma != 0
                opened = opened + event.open(open_gates) / (halves * self.steps)
                if self.gate == "circuit":
                    as_H = open_gates == self.surprise(role.score, event)
                    agreed = agreed + as_H.mean() / (halves * self.steps)
            if pairs and (first or not self.symmetric):
                if first:
                    pairs["W_pred"].append((_rows(met).T, _rows(c[rows])))
                else:
                    pairs["W_retro"].append((_rows(c[rows]).T, _rows(met)))
            # Whole maps of all prediction steps would fill the memory: they are let go at once.
            if isinstance(event, AllPairs):
                settle()
            else:
                summed.append(role)
        settle()
        measures = {"agreement": agreed} if self.gate == "circuit" else {}
        up = None if above is None else context_drive
        return Learning(drive, loss, opened, changes, measures, up, roles=tuple(summed))

    def _all_at_once(self, z: Array, draw: Draw) -> bool:
        """Whether the events have come together, and nothing looks at one step or event alone."""
        plain = self.dendrites and self.gate != "circuit"
        return plain and isinstance(draw.pred, Steps) and at_once(self)

    def _learn_at_once(
        self, z: Array, own: dict[str, Array], draw: Draw, above: Array | None
    ) -> Learning:
        """`learn` for all prediction steps and both halves at once: few launches on a card.

        Every step has as many rows as the first has contexts. Those beyond a step's own contexts
        meet no event, so that they add nothing to what products make of all rows.
        """
        xp, c, every, K = array_module(z), z if above is None else above, draw.pred.all, self.steps
        n, first, W_pred = every.contexts, every.first, own["W_pred"]
        halves = len(first)
        contexts, own_contexts = (_rows(c[at : at + n]) for at in (first[0], first[-1]))
        W_retro = W_pred.transpose(0, 2, 1) if self.symmetric else own.get("W_retro")

        carried = xp.empty((halves * K, len(contexts), z.shape[-1]), z.dtype)
        kernels.multiply(contexts, W_pred.transpose(0, 2, 1), out=carried[:K])  # W_pred c
        if halves == 2:
            kernels.multiply(own_contexts, W_retro, out=carried[K:])  # W_retro^T c
        flat = carried.reshape(halves * K * n, -1)
        gamma, loss, opened = self._gated(every.scores(_flat(z), flat), every)
        loss = loss / halves if halves > 1 else loss

        drive, shape = xp.zeros(z.shape, z.dtype), carried.shape
        every.onto_targets(_flat(drive), gamma, flat)  # Eq. (6)
        del carried, flat  # whole maps of all prediction steps, where positions are kept
        # The targets as each context meets them: sum over events of gamma z.
        met = every.met(gamma, _flat(z)).reshape(shape)
        up = None if above is None else xp.zeros(above.shape, above.dtype)
        if not self.block_grad:
            parts = kernels.multiply(met[-K:], W_retro.transpose(0, 2, 1))
            onto_contexts = _rows((drive if up is None else up)[first[-1] : first[-1] + n])
            kernels.add_stack(onto_contexts, parts)  # Eq. (7)
        changes = {}
        if self.learn_prediction:  # Eq. (8)
            changes["W_pred"] = kernels.multiply(met[:K].transpose(0, 2, 1), contexts)
            if "W_retro" in own:
                changes["W_retro"] = kernels.multiply(own_contexts.T, met[-K:])
        return Learning(drive, loss, opened, changes, {}, up)

    def _gated(self, u: Array, every: Together | AllTogether) -> tuple[Array, Array, Array]:
        """gamma of all events, the loss, a sum over the halves, and the fraction of open gates."""
        if self.gate != "off" and self._keeps(Clapp, "gamma", "loss", "surprise"):
            return every.hinge(u)
        gamma = self.gamma(u, every.event)
        return gamma, self.loss(u, every.event), every.open(gamma != 0)

    def _keeps(self, of: "type[Clapp]", *names: str) -> bool:
        """Whether the rule has these equations of the class `of`, for which there are kernels."""
        return all(getattr(type(self), name) is getattr(of, name) for name in names)


def _flat(rows: Array) -> Array:
    """Encodings as rows `(n, P D)`, where they keep P positions."""
    return rows.reshape(len(rows), -1)


def _rows(maps: Array) -> Array:
    """Every position a row, `(n P, D)`: W_pred is the same for all of them."""
    return maps.reshape(-1, maps.shape[-1])


def _seen(maps: list[Array], W: Array, one_by_one: bool) -> Iterator[Array]:
    """`W x` of the rows x, at every position, of every prediction step.

    Args:
        one_by_one: each when it is asked for; otherwise all are made at once, which is faster.
    """
    products = [(_rows(x), W_k.T) for x, W_k in zip(maps, W, strict=True)]
    made = (kernels.product(*p) for p in products) if one_by_one else kernels.products(products)
    for x, y in zip(maps, made, strict=True):
        yield y.reshape(*x.shape[:-1], y.shape[1])


def _scores(event: Events | AllPairs, of_targets: Array, of_contexts: Array, layout: Layout):
    """The scores of all events, plainly, from rows of all encodings."""
    if isinstance(event, AllPairs):
        targets, contexts = of_targets[event.targets(layout)], of_contexts[event.contexts(layout)]
        return contexts.reshape(len(contexts), -1) @ targets.reshape(len(targets), -1).T
    product = of_targets[event.target] * of_contexts[event.context]
    return product.reshape(len(product), -1).sum(-1)
