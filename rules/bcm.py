"""BCM: between depression and potentiation lies a threshold that slides."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from plasticity.arrays import Array, array_module
from plasticity.events import Layout
from plasticity.fields import option
from plasticity.rule import Draw, OneSynapse, Parameter, Role, Rule


@dataclass(frozen=True)
class Bcm(Rule):
    """Bienenstock, Cooper & Munro, J. Neuroscience 2 (1982), with the threshold E[y^2].

        dW_ji = y_j (y_j - theta_j) x_i - epsilon W_ji
        theta_j <- theta_j + (<y_j^2> - theta_j) / tau

    where `<>` is the mean over the patches and positions of a step (the quadratic form of Intrator
    & Cooper, Neural Networks 5, 1992). A neuron that is less active than theta depresses its
    synapses; one that is active all the time raises theta.

    Reads and changes one layer; keeps `theta (D,)`, which starts at 0.

    Attributes:
        tau: time constant of theta in steps, at least 1.
        epsilon: decay of the weights.
    """

    tau: float = option(20.0, "Time constant of theta in steps.", least=1)
    epsilon: float = option(0.0, "Decay of the weights.", least=0)

    name: ClassVar[str] = "bcm"
    parameters: ClassVar[Mapping[str, Parameter]] = {
        "theta": Parameter("(neuron j)"),
    }
    equation: ClassVar[str] = "dW_ji = y_j (y_j - theta_j) x_i - epsilon W_ji, theta_j = E[y_j^2]"
    citation: ClassVar[str] = "Bienenstock, Cooper & Munro, J. Neuroscience 2 (1982), 32-48"
    reads: ClassVar[str] = "map"

    def prepare(self, neurons: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """`theta (D,)`, 0: at first every active neuron potentiates."""
        return {"theta": np.zeros(neurons)}

    def roles(self, z: Array, own: dict[str, Array], draw: Draw, layout: Layout) -> Iterator[Role]:
        """Every patch, with the threshold as earlier steps have left it."""
        gate = array_module(z).ones(len(z), z.dtype)
        yield Role.of_patches("post", z * (z - own["theta"]), gate)

    def decay(self, z: Array, own: dict[str, Array]) -> Array | None:
        """`epsilon`, each patch its share."""
        if not self.epsilon:
            return None
        return array_module(z).full((len(z), z.shape[-1]), self.epsilon / len(z), z.dtype)

    def definition(self, s: OneSynapse) -> float:
        """`y_j (y_j - theta_j) x_i`, averaged, `- epsilon W_ji`."""
        theta = s.own["theta"][s.j]
        return (s.post * (s.post - theta) * s.pre).mean() - self.epsilon * s.W

    def follow(self, z: Array, own: dict[str, Array]) -> dict[str, Array]:
        """The threshold slides towards the mean of `y^2`."""
        square = (z * z).reshape(-1, z.shape[-1]).mean(axis=0)
        return {"theta": own["theta"] + (square - own["theta"]) / self.tau}
