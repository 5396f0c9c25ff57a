"""Does an explicit rule equal minus the gradient of its loss? Layer by layer, against torch."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from plasticity import learning
from plasticity.arrays import to_host
from plasticity.data.loader import learning_batch
from plasticity.errors import UserError
from plasticity.events import Events, Layout
from plasticity.rule import Draw, Rule, reads_labels
from plasticity.training import State, cut

TOLERANCE = {"float64": 1e-10, "float32": 1e-4}


@dataclass(frozen=True)
class Comparison:
    """One parameter of one layer: the rule's dW beside minus the gradient.

    Attributes:
        error: largest difference over the largest entry of the gradient; place: where it is.
        difference: that largest difference; cosine: between dW and minus the gradient.
        open_gates: fraction of open gates in the layer's module.
    """

    seed: int
    layer: str
    parameter: str
    error: float
    difference: float
    place: tuple[int, ...]
    cosine: float
    open_gates: float
    tolerance: float

    @property
    def verdict(self) -> str:
        """`ok`, `differs`, or `proves nothing` where all gates are closed."""
        if self.open_gates == 0:
            return "proves nothing"
        return "ok" if self.error <= self.tolerance else "differs"


def compare(
    state: State, *, seed: int, batch: int, gain: float = 1.0, tolerance: float | None = None
) -> list[Comparison]:
    """One step of learning, computed by the rule and by torch's autograd in float64.

    Args:
        state: a run, at its start or trained; seed: of the images and of all draws.
        gain: multiplies all weights, so that gates become a mix of open and closed.
        tolerance: on `error`; by default `TOLERANCE` of the run's dtype.

    Raises:
        UserError: torch is missing, or a rule without a loss.
    """
    from plasticity.reference import negative_gradients

    options = state.options
    images = options.learning_set()
    made = learning_batch(images, batch, options.crop, seed, 0)
    layout = Layout(options.rows, batch, options.rows)
    patches = to_host(cut(made, images, options, state.device))
    weights = {
        layer: {name: to_host(w) * w.dtype.type(gain) for name, w in own.items()}
        for layer, own in state.weights.items()
    }
    labels = made.labels if reads_labels(state.rule) else None
    draws = learning.draws(state.rule, layout, state.modules, seed, 0, labels)
    exact = {la: {n: w.astype(np.float64) for n, w in own.items()} for la, own in weights.items()}
    words, their_draws = in_words_of_the_reference(state.rule, draws)
    _, wanted = negative_gradients(
        state.network,
        state.modules,
        exact,
        patches.astype(np.float64),
        layout,
        their_draws,
        **words,
    )
    limit = TOLERANCE[options.dtype] if tolerance is None else tolerance
    cast = [draw.on("cpu", np.dtype(options.dtype)) for draw in draws]
    found = learning.updates(
        state.network, state.rule, state.modules, weights, patches, layout, cast
    )
    rows = []
    for update in found:
        for layer, changes in sorted(update.changes.items()):
            for name, dW in changes.items():
                gradient = wanted[layer].get(name, np.zeros(dW.shape))
                difference = np.abs(dW - gradient)
                place = np.unravel_index(difference.argmax(), difference.shape)
                norms = np.linalg.norm(dW) * np.linalg.norm(gradient)
                rows.append(
                    Comparison(
                        seed,
                        layer,
                        name,
                        float(difference[place] / (np.abs(gradient).max() or 1.0)),
                        float(difference[place]),
                        tuple(int(i) for i in place),
                        float((dW * gradient).sum() / norms) if norms else 0.0,
                        float(update.open_gates),
                        limit,
                    )
                )
    return rows


def in_words_of_the_reference(
    rule: Rule, draws: Sequence[Draw]
) -> tuple[dict[str, object], list[Draw]]:
    """The rule's variant as `reference.negative_gradients` names it, and its draws.

    Raises:
        UserError: a rule whose loss the reference does not have.
    """
    from plasticity.reference import Groups
    from plasticity.rules.clapp import Clapp
    from plasticity.rules.cpc import Cpc
    from plasticity.rules.supervised import Supervised

    if isinstance(rule, Supervised):
        return {"loss": "cross_entropy"}, list(draws)
    if not isinstance(rule, Clapp):
        raise UserError(f"the rule {rule.name} is the gradient of no loss: nothing to verify")
    names = ("symmetric", "gate", "block_grad", "dendrites", "learn_prediction", "context")
    words: dict[str, object] = {name: getattr(rule, name) for name in names}
    if rule.gate == "circuit":
        if rule.circuit_noise or rule.burst_probability < 1:
            raise UserError(
                "a circuit with noise or missing bursts opens its gate where no loss does: verify "
                "it without --circuit-noise and --burst-probability, where it opens where H does"
            )
        words["gate"] = "own"
    if not isinstance(rule, Cpc):
        return words, list(draws)

    def group(e: Events) -> Groups:
        context, target, weight = (
            a.reshape(-1, 1 + rule.negatives) for a in (e.context, e.target, e.weight)
        )
        return Groups(e.k, context[:, 0], target[:, 0], target[:, 1:], weight[:, 0])

    grouped = [
        Draw(*(half and tuple(group(e) for e in half) for half in (draw.pred, draw.retro)))
        for draw in draws
    ]
    return {**words, "loss": "infonce"}, grouped
