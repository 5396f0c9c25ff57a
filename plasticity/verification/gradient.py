"""Does an explicit rule equal minus the gradient of its loss? Layer by layer, against torch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from plasticity import kernels, learning
from plasticity.arrays import resolve_device, to_device, to_host
from plasticity.errors import UserError
from plasticity.events import AllPairs, Events, Layout
from plasticity.network import Parameters
from plasticity.rule import Draw, Rule
from plasticity.runs.run import State

TOLERANCE = {"float64": 1e-10, "float32": 1e-4}


@dataclass(frozen=True)
class Comparison:
    """One parameter of one layer: the rule's dW beside what it should be.

    Attributes:
        method: `torch`, minus the gradient by autograd; `finite-difference`; `definition`, the
            rule's equation for one synapse; or `cuda:N`, the same rule on a GPU.
        error: largest difference over the largest entry of what it should be; place: where it is.
        difference: that largest difference; cosine: between both.
        open_gates: fraction of open gates in the layer's module; winners: fraction of the layer's
            neurons, at their positions, that are active and have won their pool.
        zero: whether both are 0 everywhere.
        samples, crossed: entries that were compared, and those left out since a step crossed a
            kink; of finite differences, otherwise all entries and 0.
    """

    seed: int
    layer: str
    parameter: str
    method: str
    error: float
    difference: float
    place: tuple[int, ...]
    cosine: float
    open_gates: float
    winners: float
    zero: bool
    tolerance: float
    samples: int
    crossed: int = 0

    @property
    def verdict(self) -> str:
        """`ok`, `differs`, or `proves nothing` where nothing could have differed.

        That is where all gates are closed, no neuron wins, both sides are 0 everywhere, or every
        sample has crossed a kink.
        """
        if self.zero or self.open_gates == 0 or self.winners == 0 or self.samples == self.crossed:
            return "proves nothing"
        return "ok" if self.error <= self.tolerance else "differs"


@dataclass(frozen=True)
class Case:
    """One step of learning to compare: the run's weights, images and draws of a seed, on the host.

    `draws` are in float64; `winners` and `updates` are what the rule made of them.
    """

    state: State
    seed: int
    weights: Parameters
    inputs: np.ndarray
    layout: Layout
    draws: list[Draw]
    updates: list[learning.Update]
    winners: dict[str, float]
    met: dict[str, np.ndarray]  # the input of every layer

    def learn(self, **changed: object) -> Iterator[learning.Update]:
        """The updates of all modules with some of the case's parts replaced."""
        state = self.state
        parts = {"network": state.network, "modules": state.modules, "losses": state.losses}
        parts |= {"rules": state.rules}
        parts |= vars(self) | changed
        dtype = np.dtype(self.state.options.dtype)
        return learning.updates(
            parts["network"],
            parts["rules"],
            parts["modules"],
            parts["weights"],
            parts["inputs"],
            self.layout,
            [draw.on("cpu", dtype) for draw in parts["draws"]],
            changed.get("watch"),
            losses=parts["losses"],
            reading=state.stimulus.reading,
        )


def case(state: State, *, seed: int, batch: int, gain: float = 1.0) -> Case:
    """A step of the run, at its start or trained.

    Args:
        seed: of the images and of all draws; batch: images.
        gain: multiplies all weights, so that gates become a mix of open and closed.
    """
    stimulus = state.stimulus
    made, layout = stimulus.batch(0, seed, batch), stimulus.layout(batch)
    layouts = layouts_of(state, layout)
    labels = state.labels(made, layouts) if state.taught else None
    weights = {
        layer: {name: to_host(w) * w.dtype.type(gain) for name, w in own.items()}
        for layer, own in state.weights.items()
    }
    draws = learning.draws(state.rules, layouts, state.modules, seed, 0, labels, state.losses)
    first = stimulus.inputs(made, np.dtype(state.options.dtype))
    winners: dict[str, float] = {}
    met: dict[str, np.ndarray] = {}

    def watch(watched: learning.Watched) -> None:
        for seen in watched.layers:
            winners[seen.layer.name] = seen.winners

    x = first
    for layer in state.network.layers:
        met[layer.name] = x
        x, _, _ = layer.forward(x, weights)
    made = Case(state, seed, weights, first, layout, draws, [], winners, met)
    made.updates.extend(made.learn(watch=watch))
    return made


def layouts_of(state: State, layout: Layout) -> list[Layout]:
    """For each loss the order of its target's encodings, in a batch of `layout`."""
    return [replace(of, samples=layout.samples) for of in state.layouts]


def has_loss(rule: Rule) -> bool:
    """Whether a rule is the gradient of a loss that can be computed."""
    return _shipped(rule) or hasattr(rule, "objective")


def random_below(state: State, rule: Rule) -> bool:
    """Whether an error comes down by fixed random weights, so that autograd needs them too."""
    own = (m for m, its in zip(state.modules, state.rules, strict=True) if its == rule)
    return rule.feedback == "random" and any(len(module) > 1 for module in own)


def _shipped(rule: Rule) -> bool:
    """Whether the reference states the rule's loss in words of its own."""
    from plasticity.rules.clapp import Clapp
    from plasticity.rules.supervised import Supervised

    return isinstance(rule, Clapp | Supervised) and type(rule).__module__.startswith("plasticity.")


def compare(made: Case, tolerance: float | None = None) -> list[Comparison]:
    """One step of learning, computed by the rules and by torch's autograd in float64.

    Modules whose rule has no loss are left out.

    Args:
        tolerance: on `error`; by default `TOLERANCE` of the run's dtype.

    Raises:
        UserError: torch is missing, or no rule has a loss.
    """
    from plasticity.verification.autograd import negative_gradients, torch_draw

    state = made.state
    exact = {
        la: {n: w.astype(np.float64) for n, w in own.items()} for la, own in made.weights.items()
    }
    limit = TOLERANCE[state.options.dtype] if tolerance is None else tolerance
    wanted: list[tuple[Rule, Parameters]] = []
    for rule in state.assigned.learn:
        here = [i for i, loss in enumerate(state.losses) if state.rules[loss.kept] == rule]
        draws = [made.draws[i] for i in here]
        if _shipped(rule):
            words, draws = in_words_of_the_reference(rule, draws)
        elif has_loss(rule):
            words = {"loss": rule.objective, "reads": rule.reads, "needs": rule.needs}
            draws = [torch_draw(draw) for draw in draws]
        else:
            continue
        _, slopes = negative_gradients(
            state.network,
            state.modules,
            exact,
            made.inputs.astype(np.float64),
            made.layout,
            draws,
            **words,
            losses=[state.losses[i] for i in here],
            names=[state.keys[i] for i in here],
            reading=state.stimulus.reading,
        )
        wanted.append((rule, slopes))
    if not wanted:
        raise UserError(f"the rule {state.rule.name} is the gradient of no loss")
    return [
        row
        for update in made.updates
        for rule, slopes in wanted
        if update.rule == rule
        for row in _compared(made, [update], slopes, "torch", limit)
    ]


def on_device(made: Case, name: str, tolerance: float | None = None) -> list[Comparison]:
    """The same step on the CPU and on a GPU, in the run's dtype.

    Args:
        name: `cuda` or `cuda:N`.

    Raises:
        UserError: no such GPU.
    """
    device, state = resolve_device(name), made.state
    dtype = np.dtype(state.options.dtype)
    weights = {
        la: {n: to_device(w, device) for n, w in own.items()} for la, own in made.weights.items()
    }
    updates = learning.updates(
        state.network,
        state.rules,
        state.modules,
        weights,
        to_device(made.inputs, device),
        made.layout,
        [draw.on(device, dtype) for draw in made.draws],
        losses=state.losses,
        reading=state.stimulus.reading,
    )
    wanted: Parameters = {}
    for update in updates:
        for layer, own in update.changes.items():
            wanted[layer] = {name: to_host(dW) for name, dW in own.items()}
    # Where sums that differ by their rounding are operands of the next layer, some are rounded to
    # neighbours there, and one of two that are nearly equal may win its pool.
    limit = TOLERANCE[state.options.dtype] + 8 * kernels.roundoff(state.options.precision)
    limit = limit if tolerance is None else tolerance
    return _compared(made, made.updates, wanted, device, limit)


def _compared(
    made: Case,
    updates: Sequence[learning.Update],
    wanted: Parameters,
    method: str,
    limit: float,
) -> list[Comparison]:
    rows = []
    for update in updates:
        for layer, changes in sorted(update.changes.items()):
            for name in sorted(set(changes) | set(wanted[layer])):
                w = made.weights[layer][name]
                dW, gradient = (
                    own.get(name, np.zeros(w.shape)) for own in (changes, wanted[layer])
                )
                row = compared(made, update, layer, name, dW, gradient, method, limit)
                rows.append(row)
    return rows


def compared(
    made: Case,
    update: learning.Update,
    layer: str,
    parameter: str,
    dW: np.ndarray,
    wanted: np.ndarray,
    method: str,
    limit: float,
) -> Comparison:
    """The row of a table for a parameter: dW beside what it should be, of the same shape."""
    difference = np.abs(dW - wanted)
    place = np.unravel_index(difference.argmax(), difference.shape)
    norms = np.linalg.norm(dW) * np.linalg.norm(wanted)
    return Comparison(
        seed=made.seed,
        layer=layer,
        parameter=parameter,
        method=method,
        error=float(difference[place] / (np.abs(wanted).max() or 1.0)),
        difference=float(difference[place]),
        place=tuple(int(i) for i in place),
        cosine=float((dW * wanted).sum() / norms) if norms else 0.0,
        open_gates=float(update.open_gates),
        winners=made.winners[layer],
        zero=not dW.any() and not wanted.any(),
        tolerance=limit,
        samples=dW.size,
    )


def chosen(dW: np.ndarray, samples: int, rng: np.random.Generator) -> np.ndarray:
    """Flat places of sampled entries: half of them where dW is largest, the others drawn."""
    order = np.argsort(-np.abs(dW), axis=None, kind="stable")
    first = order[: (samples + 1) // 2]
    others = rng.permutation(np.setdiff1d(order, first))[: samples - len(first)]
    return np.concatenate([first, others])


def in_words_of_the_reference(
    rule: Rule, draws: Sequence[Draw]
) -> tuple[dict[str, object], list[Draw]]:
    """The rule's variant as `reference.negative_gradients` names it, and its draws.

    Raises:
        UserError: a rule whose loss the reference does not have.
    """
    from plasticity.rules.clapp import Clapp
    from plasticity.rules.cpc import Cpc
    from plasticity.rules.supervised import Supervised
    from plasticity.verification.autograd import Everyone, Groups

    if isinstance(rule, Supervised):
        return {"loss": "cross_entropy"}, list(draws)
    if not isinstance(rule, Clapp):
        raise UserError(f"the rule {rule.name} is the gradient of no loss")
    names = ("symmetric", "gate", "block_grad", "dendrites", "learn_prediction", "context", "reads")
    words: dict[str, object] = {name: getattr(rule, name) for name in names}
    if rule.gate == "circuit":
        if rule.circuit_noise or rule.burst_probability < 1:
            raise UserError(
                "a circuit with noise or missing bursts opens its gate where no loss does: verify "
                "it without --circuit-noise and --burst-probability, where it opens where H does"
            )
        words["gate"] = "own"
    if isinstance(rule, Cpc):
        words |= {"loss": "infonce", "eps": rule.epsilon}

    def group(e: Events | AllPairs) -> Events | Groups | Everyone:
        if isinstance(e, AllPairs):
            rows = (slice(start, start + len(e.true)) for start in (e.first, e.first + e.offset))
            return Everyone(e.k, *rows, e.true, e.other)
        if not isinstance(rule, Cpc):
            return e
        context, target, weight = (
            a.reshape(-1, 1 + rule.negatives) for a in (e.context, e.target, e.weight)
        )
        return Groups(e.k, context[:, 0], target[:, 0], target[:, 1:], weight[:, 0])

    grouped = [
        Draw(*(half and tuple(group(e) for e in half) for half in (draw.pred, draw.retro)))
        for draw in draws
    ]
    return words, grouped
