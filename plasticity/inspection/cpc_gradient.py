"""The gradient of CPC taken apart: Eq. (9) to (12), and what a synapse would need for each term.

Illing et al. 2021, appendix A. With `pi = softmax(u)` over the true future and the negatives,

    (9)   grad log pi_true       = grad u_true - sum_tau pi_tau grad u_tau
    (10)  dW_pred,jk             = (z_j true - sum_tau pi_tau z_j tau) c_k
    (11)  dW_ji, as a target     = (W_pred c)_j (rho'_j x_i true - sum_tau pi_tau rho'_j x_i tau)
    (12)  dW_ji, as the context  = (W_pred^T (z true - sum_tau pi_tau z tau))_j rho'_j x_i

where tau runs over the true future and all negatives. Each has a part of the `true` future and an
`expected` one. Target and context are the same layer here, so a layer's weights change by (11) and
(12) together; in a module of several layers both are carried down.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import islice

import numpy as np

from plasticity import kernels, seeds
from plasticity.arrays import Array, array_module, to_device
from plasticity.errors import UserError
from plasticity.learning import Scored, Seen, Watched
from plasticity.network import Parameters
from plasticity.rules.clapp_s import ClappS
from plasticity.rules.cpc import Cpc
from plasticity.runs.run import State

TOLERANCE = {"float64": 1e-10, "float32": 1e-4}

Term = tuple[int, str]
"""An equation's number and its part, `true` or `expected`."""

TERMS: dict[Term, str] = {
    (10, "true"): "nothing that CLAPP's Eq. (8) has not: z_j and c_k of one sample",
    (10, "expected"): "neuron j sends sum pi z_j besides its activity z_j",
    (11, "true"): "nothing that CLAPP's Eq. (6) has not: (W_pred c)_j, post and pre of one sample",
    (11, "expected"): "the synapse keeps post x pre of all samples until every pi is known",
    (12, "true"): "the synapses of W_pred backwards; CLAPP's Eq. (7) has W_retro of its own",
    (12, "expected"): "W_pred backwards, and through it a second quantity of every neuron",
}
"""What a synapse needs for a term."""

NEEDS: dict[str, tuple[Term, ...]] = {
    "two quantities sent by one neuron": ((10, "expected"), (12, "expected")),
    "a sum over all samples at the synapse": ((11, "expected"),),
    "the transpose of W_pred": ((12, "true"), (12, "expected")),
}
"""What CLAPP does without, and the terms that a rule without it loses."""


@dataclass(frozen=True)
class Check:
    """Whether the terms add up to the dW of the rule.

    Attributes:
        error: the largest difference over the largest entry of dW.
        cancelled: the largest entry of a term over that of dW; where terms cancel, their rounding
            is as much larger than dW's own.
    """

    layer: str
    parameter: str
    error: float
    cancelled: float
    tolerance: float

    @property
    def agrees(self) -> bool:
        return self.rounding <= self.tolerance

    @property
    def rounding(self) -> float:
        """The largest difference over the largest entry of dW or of a term."""
        return self.error / max(1.0, self.cancelled)


@dataclass(frozen=True)
class Part:
    """A part of a layer's update dW: one term, or all that is lost without something.

    Attributes:
        what: the term, or what is needed; terms: those that are in it.
        size: its norm over the norm of dW.
        share: its projection on dW, `<part, dW> / |dW|^2`; those of all terms add up to 1.
        without: cosine of dW without it with dW; NaN where nothing is left.
    """

    layer: str
    parameter: str
    what: str
    terms: tuple[str, ...]
    size: float
    share: float
    without: float


@dataclass(frozen=True)
class Signals:
    """What neurons and synapses of a module's top layer would have to tell apart, in numbers.

    Attributes:
        pi_true: mean probability of the true future; chance is one over samples.
        samples: 1 + N, whose products a synapse keeps; effective: `exp` of the mean entropy of pi,
            how many of them count.
        second_size: norm of `z true - sum pi z` over that of the activity `z true`, all contexts.
        second_cosine: cosine of the two over contexts and neurons; 1 would make them one signal.
        backward_cosine: cosine of the dendritic signal of Eq. (12), through the transpose of
            W_pred, with what another matrix in its place sends: the run's own W_retro, if it has
            one (`backward` says so), or a matrix at a random start.
        clapp_weight, clapp_W_pred: cosine of dW with that of CLAPP-s on the same samples, with
            W_retro = W_pred^T.
    """

    layer: str
    pi_true: float
    samples: int
    effective: float
    second_size: float
    second_cosine: float
    backward_cosine: float
    backward: str
    clapp_weight: float
    clapp_W_pred: float


@dataclass(frozen=True)
class Analysis:
    """The InfoNCE gradient of a network for a batch, taken apart."""

    network: str
    step: int
    checks: tuple[Check, ...]
    terms: tuple[Part, ...]
    needs: tuple[Part, ...]
    signals: tuple[Signals, ...]

    @property
    def agrees(self) -> bool:
        """Whether the terms add up to the update of the rule in every layer and parameter."""
        return all(check.agrees for check in self.checks)

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            **asdict(self),
            "agrees": self.agrees,
            "needed_for": {name_of(term): text for term, text in TERMS.items()},
        }

    def long_table(self) -> list[dict[str, object]]:
        """Everything as rows: section, layer, parameter, what, quantity, value."""
        found = []
        for section in ("checks", "terms", "needs", "signals"):
            for row in getattr(self, section):
                values = asdict(row)
                words = {n: str(values.get(n, "")) for n in ("layer", "parameter", "what")}
                found += [
                    {"section": section, **words, "quantity": name, "value": float(value)}
                    for name, value in values.items()
                    if isinstance(value, float | int)
                ]
        return found


def name_of(term: Term) -> str:
    """`Eq. (11), expected`."""
    return f"Eq. ({term[0]}), {term[1]}"


def cpc_gradient(state: State, tolerance: float | None = None) -> Analysis:
    """Take the update that InfoNCE prescribes for the next step of a run apart, layer by layer.

    Of a run by `cpc` or `gim` it is the step that it would take; of another run with predictions
    `W_pred` what `cpc` would do in its place. W_retro is the transpose of W_pred, and nothing is
    blocked or frozen, as in Eq. (9) to (12). No weight changes.

    Args:
        tolerance: on the rounding of the sums; by default `TOLERANCE` of the run's dtype.

    Raises:
        UserError: a run without predictions or with its context from above, or too few images for
            its batch.
    """
    options = state.options
    tolerance = TOLERANCE[options.dtype] if tolerance is None else tolerance
    one, retro = _with_one_matrix(state)
    modules: list[dict[str, list]] = []

    def watch(watched: Watched) -> None:
        modules.append(_module(one, watched, retro, tolerance))

    for _ in one.next(watch)[1]:
        pass
    tables = {name: tuple(row for rows in modules for row in rows[name]) for name in modules[0]}
    return Analysis(state.network.name, state.step + 1, **tables)


def _module(
    state: State, watched: Watched, retro: dict[str, Array], tolerance: float
) -> dict[str, list]:
    """The tables of one module, by the name of the field of `Analysis`."""
    found: dict[str, list] = {"checks": [], "terms": [], "needs": [], "signals": []}
    top, rule = watched.layers[-1].layer.name, state.rule
    (scored,) = watched.predicted
    backward = _backward(state, watched.module, scored.own["W_pred"], retro.get(top))
    drives, predictions, told = terms(rule, scored, backward)
    for seen in watched.layers:
        layer = seen.layer.name
        for parameter, by_term in _by_parameter(watched, seen, drives, predictions, state.weights):
            dW = seen.changes[parameter]
            found["checks"].append(_check(layer, parameter, by_term, dW, tolerance))
            if parameter == "bias":
                continue
            for term, part in by_term.items():
                found["terms"].append(_part(layer, parameter, name_of(term), (term,), part, dW))
            for need, of in NEEDS.items():
                if lost := tuple(term for term in of if term in by_term):
                    part = sum(by_term[term] for term in lost)
                    found["needs"].append(_part(layer, parameter, need, lost, part, dW))
    beside = _clapp_beside(rule, scored, watched, state.weights)
    kind = "W_retro of the run" if top in retro else "a random start"
    found["signals"] = [Signals(top, **told, backward=kind, **beside)]
    return found


def _with_one_matrix(state: State) -> tuple[State, dict[str, Array]]:
    """The state as `cpc` with W_retro = W_pred^T, and the W_retro that it has, by layer."""
    tops = state.names
    if state.mixed:
        raise UserError(
            f"Eq. (10) to (12) are taken apart where one rule learns in all layers, and this run "
            f"has {state.rule_name}: take a run without [layer.NAME] sections"
        )
    if any("W_pred" not in state.weights[top] for top in tops):
        raise UserError(
            f"the rule {state.rule.name} has no predictions W_pred, which the score u of CPC is "
            "made of: take a run by another rule"
        )
    if state.network.convolutions != state.network.layers:
        raise UserError(
            f"{state.network.name} has blocks whose paths part and meet again: the terms of Eq. "
            "(9) to (12) are carried down chains of layers, such as vgg6"
        )
    if getattr(state.rule, "context", "same") != "same":
        raise UserError(
            "Eq. (10) to (12) are taken apart where context and target are the same layer: take a "
            "run without --context above"
        )
    if any(loss.crosses for loss in state.losses):
        raise UserError(
            "Eq. (10) to (12) are taken apart where context and target are the same layer, and "
            f"{state.network.name} has a GRU that predicts the layer below it: take a run with "
            f"--layers {len(state.network.layers) - 1}"
        )
    if isinstance(state.rule, Cpc):
        rule = replace(state.rule, symmetric=True, block_grad=False, learn_prediction=True)
    else:
        rule = Cpc(steps=len(state.weights[tops[0]]["W_pred"]))
    weights = {
        layer: {name: w for name, w in own.items() if name in ("weight", "bias", "W_pred")}
        for layer, own in state.weights.items()
    }
    retro = {top: own["W_retro"] for top, own in state.weights.items() if "W_retro" in own}
    assigned = replace(state.assigned, rules=[rule] * len(state.modules))
    return replace(state, rule=rule, assigned=assigned, weights=weights), retro


def _backward(state: State, module: int, W_pred: Array, W_retro: Array | None) -> Array:
    """A matrix in the place of the transpose of W_pred: `(K, D, D)`, W_retro or a random one."""
    if W_retro is not None:
        return W_retro
    rng = seeds.generator(state.options.seed, seeds.WEIGHTS, 2**16 + module)
    drawn = replace(state.rule, symmetric=False).prepare(W_pred.shape[1], rng)["W_retro"]
    return to_device(drawn.astype(W_pred.dtype), state.device)


def terms(
    rule: Cpc, scored: Scored, backward: Array
) -> tuple[dict[Term, Array], dict[Term, Array], dict[str, float]]:
    """Eq. (10) to (12) for one module, averaged over contexts and prediction steps.

    The published code takes `-log(pi + 1e-11)`: all terms have its factor `pi / (pi + 1e-11)`.

    Args:
        backward: `(K, D, D)`, to compare the transpose of W_pred with.

    Returns:
        The dendritic drives `(N, D)` of Eq. (11) and (12), dW_pred `(K, D, D)` of Eq. (10), and
        numbers for `Signals`.
    """
    z, W_pred, layout = scored.z, scored.own["W_pred"], scored.layout
    xp, samples = array_module(z), 1 + rule.negatives
    drives = {term: xp.zeros_like(z) for term in TERMS if term[0] != 10}
    predictions = {term: xp.zeros_like(W_pred) for term in TERMS if term[0] == 10}
    second, back, pi_true, entropy = _Pair(), _Pair(), 0.0, 0.0
    for event, W, V in zip(scored.draw.pred, W_pred, backward, strict=True):
        contexts = z[event.contexts(layout)]
        prediction = kernels.product(contexts, W.T)  # W_pred c
        source = event.context - event.first
        u = kernels.scores(z, prediction, event.target, source).reshape(-1, samples)
        pi = xp.exp(u - u.max(axis=1, keepdims=True))
        pi /= pi.sum(axis=1, keepdims=True)
        true = xp.zeros_like(pi)
        true[:, 0] = 1
        pi_true += float(pi[:, 0].mean()) / rule.steps
        entropy -= float((pi * xp.log(xp.maximum(pi, 1e-30))).sum(axis=1).mean()) / rule.steps
        weight = event.weight[::samples] * pi[:, 0] / (pi[:, 0] + rule.epsilon)
        summed = {}
        for part, choice in (("true", true), ("expected", -pi)):
            factor = (choice * weight[:, None]).reshape(-1)
            kernels.add_rows(drives[11, part], event.target, factor, prediction, source)
            over = xp.zeros_like(contexts)  # the sum over samples, in every context
            kernels.add_rows(over, source, factor, z, event.target)
            predictions[10, part][event.k - 1] = kernels.product(over.T, contexts)
            drives[12, part][event.contexts(layout)] += kernels.product(over, W)  # W_pred^T (...)
            summed[part] = over
        both = summed["true"] + summed["expected"]
        second.add(summed["true"], both)
        back.add(kernels.product(both, W), kernels.product(both, V.T))
    numbers = {
        "pi_true": pi_true,
        "samples": samples,
        "effective": float(np.exp(entropy)),
        "second_size": second.size,
        "second_cosine": second.cosine,
        "backward_cosine": back.cosine,
    }
    return drives, predictions, numbers


class _Pair:
    """Two signals, met piece by piece."""

    def __init__(self) -> None:
        self.products = np.zeros(3)

    def add(self, a: Array, b: Array) -> None:
        self.products += [_inner(a, a), _inner(a, b), _inner(b, b)]

    @property
    def size(self) -> float:
        """The norm of the second over that of the first."""
        aa, _, bb = self.products
        return float(np.sqrt(bb / aa)) if aa else float("nan")

    @property
    def cosine(self) -> float:
        aa, ab, bb = self.products
        return float(ab / np.sqrt(aa * bb)) if aa and bb else float("nan")


def _inner(a: Array, b: Array) -> float:
    return float((a.astype(float) * b.astype(float)).sum())


def _cosine(a: Array, b: Array) -> float:
    pair = _Pair()
    pair.add(a, b)
    return pair.cosine


def _carried(watched: Watched, drive: Array, weights: Parameters) -> Iterator[dict[str, Array]]:
    """dW of the layers of a module from above, for a drive on its top: post factor, correlation."""
    layers = watched.layers
    error = watched.reading.spread(drive, layers[-1].winner.shape[1:-1])
    for seen in reversed(layers):
        kept, below = seen.kept, seen is not layers[0]
        (found,), error = seen.layer.learn(kept, error, weights, below)
        yield found.changes


def _by_parameter(
    watched: Watched,
    of: Seen,
    drives: dict[Term, Array],
    predictions: dict[Term, Array],
    weights: Parameters,
) -> Iterator[tuple[str, dict[Term, Array]]]:
    """The terms of every parameter of a layer of a module."""
    depth = len(watched.layers) - 1 - watched.layers.index(of)
    made = {
        term: next(islice(_carried(watched, drive, weights), depth, None))
        for term, drive in drives.items()
    }
    for parameter in ("weight", "bias"):
        yield parameter, {term: changes[parameter] for term, changes in made.items()}
    if depth == 0:
        yield "W_pred", predictions


def _check(
    layer: str, parameter: str, by_term: dict[Term, Array], dW: Array, tolerance: float
) -> Check:
    xp = array_module(dW)
    largest = float(xp.abs(dW).max()) or 1.0
    error = float(xp.abs(sum(by_term.values()) - dW).max()) / largest
    cancelled = max(float(xp.abs(part).max()) for part in by_term.values()) / largest
    return Check(layer, parameter, error, cancelled, tolerance)


def _part(
    layer: str, parameter: str, what: str, of: tuple[Term, ...], part: Array, dW: Array
) -> Part:
    square = _inner(dW, dW) or float("nan")
    return Part(
        layer,
        parameter,
        what,
        tuple(name_of(term) for term in of),
        float(np.sqrt(_inner(part, part) / square)),
        _inner(part, dW) / square,
        _cosine(dW - part, dW),
    )


def _clapp_beside(
    rule: Cpc, scored: Scored, watched: Watched, weights: Parameters
) -> dict[str, float]:
    """Cosines of the top layer's dW with those of CLAPP-s on the same samples."""
    clapp = ClappS(steps=rule.steps, negatives=rule.negatives, symmetric=True)
    learned = clapp.learn(scored.z, scored.own, scored.draw, scored.layout)
    top = watched.layers[-1]
    changes = next(_carried(watched, learned.drive, weights))
    return {
        "clapp_weight": _cosine(changes["weight"], top.changes["weight"]),
        "clapp_W_pred": _cosine(learned.changes["W_pred"], top.changes["W_pred"]),
    }
