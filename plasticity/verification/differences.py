"""Minus the gradient of a rule's loss by central differences, without autograd.

A loss of this kind has kinks: the hinge, the ReLU, the winner of a pool. Where a step crosses one,
the difference quotient says nothing about the slope. Such samples are counted, not compared.
"""

from dataclasses import replace

import numpy as np

from plasticity import learning
from plasticity.errors import UserError
from plasticity.network import Parameters
from plasticity.verification.gradient import Case, Comparison, compared

STEP = 1e-6
TOLERANCE = 1e-4


def compare(made: Case, samples: int = 12, tolerance: float | None = None) -> list[Comparison]:
    """Sampled entries of every parameter, in float64, against slopes of the rule's `objective`.

    Half of the samples are the entries that the rule changes most, the others are drawn.

    Args:
        samples: of each parameter; tolerance: on `Comparison.error`, by default `TOLERANCE`.

    Raises:
        UserError: a rule that states no loss.
    """
    state, rule = made.state, made.state.rule
    if not hasattr(rule, "objective"):
        raise UserError(f"the rule {rule.name} is the gradient of no loss")
    limit = TOLERANCE if tolerance is None else tolerance
    weights = {la: {n: w.astype(float) for n, w in own.items()} for la, own in made.weights.items()}
    rng, rows = np.random.default_rng(made.seed), []
    for update, module, draw in zip(made.updates, state.modules, made.draws, strict=True):
        loss = _Loss(made, module, draw, weights)
        for layer in sorted(update.changes):
            for name in sorted(update.changes[layer]):
                dW = update.changes[layer][name]
                at = _chosen(dW, samples, rng)
                slopes, gaps = np.array([loss.slope(layer, name, i) for i in at]).T
                # A central difference is off by at most half of the gap between its two sides.
                kept = gaps <= 2 * limit * np.abs(slopes).max()
                found, wanted = dW.reshape(-1)[at], -slopes
                found, wanted = (np.where(kept, side, 0) for side in (found, wanted))
                row = compared(made, update, layer, name, found, wanted, "finite-difference", limit)
                place = np.unravel_index(at[row.place[0]], dW.shape)
                place = tuple(int(i) for i in place)
                rows.append(replace(row, place=place, crossed=int((~kept).sum())))
    return rows


def _chosen(dW: np.ndarray, samples: int, rng: np.random.Generator) -> np.ndarray:
    order = np.argsort(-np.abs(dW), axis=None, kind="stable")
    first = order[: (samples + 1) // 2]
    others = rng.permutation(np.setdiff1d(order, first))[: samples - len(first)]
    return np.concatenate([first, others])


class _Loss:
    """The loss of one module as a function of one weight, everything else held."""

    def __init__(self, made: Case, module: list[int], draw, weights: Parameters) -> None:
        self.made, self.draw, self.weights = made, draw, weights
        self.layers = [made.state.network.layers[i] for i in module]
        self.x = made.inputs[self.layers[0].name].astype(float)
        self.held, _ = self._forward()
        self.value = self._objective(self.held)

    def _forward(self) -> tuple[np.ndarray, list[np.ndarray]]:
        """What the rule reads, and who is active and wins in every layer."""
        x, found = self.x, []
        for layer in self.layers:
            x, kept, z = layer.forward(x, self.weights)
            found += layer.branches(kept)
        return (x if self.made.state.rule.reads == "map" else z), found

    def _objective(self, z: np.ndarray) -> float:
        own = self.weights[self.layers[-1].convolutions[-1].name]
        own = {name: w for name, w in own.items() if name not in learning.NETWORKS_OWN}
        rule = self.made.state.rule
        return float(rule.objective(z, self.held, own, self.draw, self.made.layout))

    def slope(self, layer: str, name: str, i: int) -> tuple[float, float]:
        """The slope at entry i of a parameter, and how far those to its two sides differ.

        They differ by as much as the slope jumps at a kink between them, of whatever kind. Where
        winners change the difference is infinite: kinks could balance each other.
        """
        flat = self.weights[layer][name].reshape(-1)
        before, sides, winners = flat[i], [], []
        step = STEP * max(1.0, abs(before))
        for sign in (1, -1):
            flat[i] = before + sign * step
            # What the rule keeps for itself changes no activity.
            z, won = self._forward() if name in learning.NETWORKS_OWN else (self.held, [])
            sides.append(self._objective(z))
            winners.append(won)
        flat[i] = before
        up, down = (sides[0] - self.value) / step, (self.value - sides[1]) / step
        same = all(np.array_equal(a, b) for a, b in zip(*winners, strict=True))
        return (up + down) / 2, abs(up - down) if same else np.inf
