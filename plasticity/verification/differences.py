"""Minus the gradient of a rule's loss by central differences, without autograd.

A loss of this kind has kinks: the hinge, the ReLU, the winner of a pool. Where a step crosses one,
the difference quotient says nothing about the slope. Such samples are counted, not compared.
"""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from plasticity import learning
from plasticity.errors import UserError
from plasticity.network import Parameters
from plasticity.rule import Rule
from plasticity.verification import gradient
from plasticity.verification.gradient import Case, Comparison, chosen, compared, layouts_of

STEP = 1e-6
TOLERANCE = 1e-4


def compare(made: Case, samples: int = 12, tolerance: float | None = None) -> list[Comparison]:
    """Sampled entries of every parameter, in float64, against slopes of the rule's `objective`.

    Half of the samples are the entries that the rule changes most, the others are drawn.

    Args:
        samples: of each parameter; tolerance: on `Comparison.error`, by default `TOLERANCE`.

    Raises:
        UserError: no rule states a loss, or an error that comes down by random weights.
    """
    state = made.state
    stated = [rule for rule in state.assigned.learn if hasattr(rule, "objective")]
    if not stated:
        raise UserError(f"the rule {state.rule.name} is the gradient of no loss")
    for rule in stated:
        if gradient.random_below(state, rule):
            raise UserError(
                f"{rule.name} sends its error down by fixed random weights, which is no slope: "
                "compare it by --method torch, or take --modules layers"
            )
    limit = TOLERANCE if tolerance is None else tolerance
    weights = {la: {n: w.astype(float) for n, w in own.items()} for la, own in made.weights.items()}
    rng, rows = np.random.default_rng(made.seed), []
    every, x = range(len(state.network.layers)), made.inputs.astype(float)
    held = {rule.reads: _encodings(made, rule, every, x, weights)[0] for rule in stated}
    for update in (update for update in made.updates if update.rule in stated):
        loss = _Loss(made, update.module, weights, held[update.rule.reads])
        for layer in sorted(update.changes):
            for name in sorted(update.changes[layer]):
                if layer in loss.shortened and name in learning.NETWORKS_OWN:
                    continue
                dW = update.changes[layer][name]
                at = chosen(dW, samples, rng)
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


def _encodings(
    made: Case, rule: Rule, layers: Iterable[int], x: np.ndarray, weights: Parameters
) -> tuple[dict[int, np.ndarray], list[np.ndarray]]:
    """What a rule may read of every layer, and who is active and wins in it."""
    state, found, branches = made.state, {}, []
    reads = rule.reads
    reading = state.stimulus.reading.of(reads)
    for i in layers:
        layer = state.network.layers[i]
        met = x
        x, kept, mean = layer.forward(met, weights)
        branches += layer.branches(kept)
        found[i] = reading.read(*learning.read_map(layer, reads, met, x, mean, weights))
    return found, branches


class _Loss:
    """The losses that a module learns from as a function of one weight, everything else held.

    Attributes:
        shortened: recurrent layers whose credit does not go back in time: no slope is theirs.
    """

    def __init__(
        self, made: Case, number: int, weights: Parameters, held: dict[int, np.ndarray]
    ) -> None:
        state = made.state
        self.made, self.weights, self.held = made, weights, held
        self.module, self.rule = state.modules[number], state.rules[number]
        layers = [state.network.layers[i] for i in self.module]
        self.x = made.met[layers[0].name].astype(float)
        self.shortened = {la.name for la in layers if la.recurrent and la.credit != "bptt"}
        names = learning.keys(state.network, state.modules, state.losses)
        every = zip(state.losses, names, made.draws, layouts_of(state, made.layout), strict=True)
        self.losses = [one for one in every if one[0].touches(number)]
        self.value = self._objective(held)

    def _objective(self, read: dict[int, np.ndarray]) -> float:
        rule, total = self.rule, 0.0
        for loss, name, draw, layout in self.losses:
            ends = loss.ends(self.made.state.modules)
            top = self.made.state.network.layers[ends[0]]
            x, kept = self.made.met[top.name], self.weights[top.convolutions[-1].name]
            own = learning.rules_own(self.weights[name])
            own |= learning.needed(rule.needs, kept, x.astype(float))
            z, c = (read.get(end, self.held[end]) for end in ends)
            held, held_c = (self.held[end] for end in ends)
            above = (c, held_c) if loss.crosses else ()
            z = held if loss.blocked else z
            total += float(rule.objective(z, held, own, draw, layout, *above))
        return total

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
            read, won = self.held, []
            if name in learning.NETWORKS_OWN:
                read, won = _encodings(self.made, self.rule, self.module, self.x, self.weights)
            sides.append(self._objective(read))
            winners.append(won)
        flat[i] = before
        up, down = (sides[0] - self.value) / step, (self.value - sides[1]) / step
        same = all(np.array_equal(a, b) for a, b in zip(*winners, strict=True))
        return (up + down) / 2, abs(up - down) if same else np.inf
