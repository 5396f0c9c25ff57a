"""Three factors: Hebbian learning under a gate that comes from elsewhere."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from plasticity.arrays import Array, array_module
from plasticity.events import Layout
from plasticity.fields import option
from plasticity.rule import Draw, OneSynapse, Parameter, Role, Rule


@dataclass(frozen=True)
class Hebbian(Rule):
    """Gated Hebbian learning (Gerstner, Lehmann, Liakoni, Corneil & Brea 2018, Eq. 3).

        dW_ji = M y_j (x_i - y_j W_ji)

    averaged over patches and positions. M is the third factor, one number for the whole layer and
    every patch, such as a neuromodulator's. Here it is novelty: 1 for a patch whose mean activity z
    is farther from what the layer has met so far than patches usually are, otherwise 0,

        M = 1 if |z - m|^2 > s, where m and s follow the means of z and of |z - m|^2

    A rule of your own gives another `third_factor`: reward, surprise, the time of day. The term
    with W_ji (Oja 1982) keeps the weights bounded, under the same gate; without `bounded` it is
    left out.

    Reads and changes one layer; keeps `expected (D,)`, m, and `spread (1,)`, s.

    Attributes:
        gate: `novelty`, or `off`: M = 1.
        tau: time constant of m and s in steps, at least 1.
    """

    gate: str = option(
        "novelty", "novelty, or off: M = 1.", flag="gate", choices=("novelty", "off"), unset=""
    )
    bounded: bool = True
    tau: float = option(20.0, "Time constant of m and s in steps.", least=1)

    name: ClassVar[str] = "hebbian"
    parameters: ClassVar[Mapping[str, Parameter]] = {
        "expected": Parameter("(neuron j)"),
        "spread": Parameter("(1)"),
    }
    equation: ClassVar[str] = "dW_ji = M y_j (x_i - y_j W_ji), M = novelty of the patch"
    citation: ClassVar[str] = (
        "Gerstner, Lehmann, Liakoni, Corneil & Brea, Front. Neural Circuits 2018"
    )
    reads: ClassVar[str] = "map"

    def prepare(self, neurons: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """What is expected before anything was met: nothing."""
        return {"expected": np.zeros(neurons), "spread": np.zeros(1)}

    def distance(self, z: Array, own: dict[str, Array]) -> Array:
        """How far every patch is from what the layer expects, `|z - m|^2`, `(N,)`."""
        mean = z.reshape(len(z), -1, z.shape[-1]).mean(axis=1)
        return ((mean - own["expected"]) ** 2).sum(axis=1)

    def third_factor(self, z: Array, own: dict[str, Array]) -> Array:
        """M, one number for each patch `(N,)`."""
        if self.gate == "off":
            return array_module(z).ones(len(z), z.dtype)
        return (self.distance(z, own) > own["spread"]).astype(z.dtype)

    def roles(self, z: Array, own: dict[str, Array], draw: Draw, layout: Layout) -> Iterator[Role]:
        """Every patch, under its gate."""
        score = self.distance(z, own)
        yield Role.of_patches("post", z, self.third_factor(z, own), score)

    def decay(self, z: Array, own: dict[str, Array]) -> Array | None:
        """`M y_j^2`, averaged as the term of Hebb is."""
        if not self.bounded:
            return None
        square = (z * z).reshape(len(z), -1, z.shape[-1]).mean(axis=1) / len(z)
        return self.third_factor(z, own)[:, None] * square

    def definition(self, s: OneSynapse) -> float:
        """`M y_j (x_i - y_j W_ji)`, averaged; M is of a patch."""
        surprise = ((s.posts.mean(axis=1) - s.own["expected"]) ** 2).sum(axis=1)
        M = (surprise > s.own["spread"]) if self.gate == "novelty" else np.ones(len(surprise))
        taken = s.post * s.W if self.bounded else 0
        return (M[:, None] * s.post * (s.pre - taken)).mean()

    def follow(self, z: Array, own: dict[str, Array]) -> dict[str, Array]:
        """m and s move towards the means of this step."""
        mean, m, s = z.reshape(-1, z.shape[-1]).mean(axis=0), own["expected"], own["spread"]
        return {
            "expected": m + (mean - m) / self.tau,
            "spread": s + (self.distance(z, own).mean() - s) / self.tau,
        }
