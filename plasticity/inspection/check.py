"""Do the events of a rule add up to its dW? On drawn synapses of every layer."""

from dataclasses import dataclass

import numpy as np

from plasticity.inspection.step import look
from plasticity.inspection.synapse import inspect
from plasticity.rule import Rule
from plasticity.runs.run import State


@dataclass(frozen=True)
class Sum:
    """One synapse: the sum over its events beside dW as the training step applies it.

    `scale` is the sum of absolute values, which rounding is measured by.
    """

    seed: int
    layer: str
    parameter: str
    index: tuple[int, ...]
    total: float
    applied: float
    scale: float
    agrees: bool

    @property
    def verdict(self) -> str:
        """`ok`, `differs`, or `proves nothing` where no event moves the synapse."""
        if not self.agrees:
            return "differs"
        return "ok" if self.scale else "proves nothing"


def sums(state: State, seed: int = 0, samples: int = 3) -> list[Sum]:
    """Drawn synapses and biases of every layer that the rule reads, in the next step.

    Args:
        samples: of the weights of each layer, and of its biases: where dW is largest, and drawn
            from those that move.
    """
    rng, found = np.random.default_rng(seed), []
    for module, rule in zip(state.modules, state.rules, strict=True):
        if rule is None or type(rule).roles is Rule.roles:
            continue
        step = look(state, state.network.layers[module[-1]].convolutions[-1].name)
        for name in step.matrices:
            dW = step.seen.changes[name]
            moved = np.flatnonzero(dW) if dW.any() else np.zeros(1, int)
            drawn = rng.permutation(moved)[: samples - 1]
            for flat in {int(np.abs(dW).argmax()): None, **dict.fromkeys(map(int, drawn))}:
                at = tuple(int(i) for i in np.unravel_index(flat, dW.shape))
                one = inspect(step, name, at)
                row = (at, one.total, one.applied, one.scale, one.agrees)
                found.append(Sum(seed, step.layer.name, name, *row))
    return found
