"""The measures of every layer in the course of a run: see `learning.measures`."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from plasticity.arrays import Array, array_module, to_device, to_host
from plasticity.errors import UserError
from plasticity.layers import Layer, Parameters
from plasticity.layers.layer import Peers
from plasticity.learning import measures
from plasticity.network import Network
from plasticity.runs.folder import MEASURES, Checkpoint

EVERY = 10
"""Steps from one measured step to the next; the first one is measured too."""

WINDOW = 100
"""A neuron is dead if it has not answered in the measured steps among so many last ones."""


def due(step: int) -> bool:
    """Whether a step, counted from 1, is measured."""
    return step == 1 or step % EVERY == 0


@dataclass
class Measures:
    """The measures of a run up to now; outputs are those of the step, weights those after it.

    Attributes:
        start: for each layer its `matrices` when the run began.
        steps: that were measured; values: of each measure for each of them `(layers,)`.
        answered: for each layer the last measured step in which a neuron has answered `(D,)`, 0
            for none.
    """

    start: dict[str, list[Array]] = field(default_factory=dict)
    steps: list[int] = field(default_factory=list)
    values: dict[str, list[np.ndarray]] = field(default_factory=dict)
    answered: dict[str, Array] = field(default_factory=dict)
    _pending: list[tuple[int, dict[str, list[Array]]]] = field(default_factory=list)

    @classmethod
    def of(cls, network: Network, weights: Parameters) -> "Measures":
        """Those of a run that begins with these weights, none yet."""
        kept = {
            la.name: [w.copy() for w in measures.matrices(la, weights)] for la in network.layers
        }
        return cls(kept)

    def restore(self, stored: Checkpoint, network: Network, device: str) -> None:
        """Take up the measures of a checkpoint; an earlier version has measured nothing.

        Raises:
            UserError: measures that are not those of this network, or of so many steps.
        """
        names, steps = ["step", *MEASURES], stored.measures.get("step", np.zeros(0, np.int64))
        shapes = {n: (len(steps), len(network.layers)) for n in MEASURES} | {"step": (len(steps),)}
        found = {name: values.shape for name, values in stored.measures.items()}
        inside = ((steps >= 1) & (steps <= stored.step)).all() and (np.diff(steps) > 0).all()
        if found and (found != shapes or not inside):
            raise UserError(
                f"the checkpoint does not fit its options: measures should hold {', '.join(names)} "
                f"of {len(network.layers)} layers at rising steps from 1 to {stored.step}"
            )
        outputs = {layer.name: (layer.outputs,) for layer in network.layers}
        if stored.answered and {n: a.shape for n, a in stored.answered.items()} != outputs:
            raise UserError(
                "the checkpoint does not fit its options: answered should hold a number for each "
                f"neuron of {', '.join(outputs)}"
            )
        self.steps = [int(step) for step in steps]
        self.values = {name: list(stored.measures[name]) for name in MEASURES if found}
        self.answered = {name: to_device(a, device) for name, a in stored.answered.items()}

    def watching(self, step: int, peers: Peers | None) -> Callable[[Layer, Array], None] | None:
        """Who looks at the output of every layer in a step, counted from 1, or None."""
        if not due(step):
            return None
        found: dict[str, list[Array]] = {}
        self._pending.append((step, found))

        def look(layer: Layer, y: Array) -> None:
            activity, sparsity, answers = measures.outputs(y, peers)
            xp, last = array_module(y), self.answered.get(layer.name, 0)
            self.answered[layer.name] = last = xp.where(answers, step, last)
            dead = (last < max(1, step - WINDOW + 1)).mean()
            found[layer.name] = [activity, sparsity, dead]

        return look

    def stepped(self, step: int, network: Network, weights: Parameters) -> None:
        """The step is over, and its weights have moved."""
        if not due(step):
            return
        for layer in network.layers:
            now = measures.matrices(layer, weights)
            self._pending[-1][1][layer.name] += measures.synapses(now, self.start[layer.name])

    def flush(self) -> None:
        """Read what still lies on the device."""
        for step, found in self._pending:
            self.steps.append(step)
            every = [value for own in found.values() for value in own]
            of = to_host(array_module(*every).stack(every)).reshape(len(found), -1)
            for name, values in zip(MEASURES, of.T, strict=True):
                self.values.setdefault(name, []).append(values)
        self._pending.clear()

    @property
    def last(self) -> dict[str, dict[str, float]]:
        """Each measure of every layer, by its name, as it was measured last; empty before."""
        return {
            name: dict(zip(self.start, values[-1].tolist(), strict=True))
            for name, values in self.values.items()
        }

    def as_arrays(self) -> dict[str, np.ndarray]:
        """`step` and every measure, as they are stored."""
        found = {name: np.array(values) for name, values in self.values.items()}
        return {"step": np.array(self.steps, np.int64), **found} if self.steps else {}
