"""SoftHebb: Hebbian learning in a soft winner-take-all circuit."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from plasticity.arrays import Array, array_module
from plasticity.events import Layout
from plasticity.fields import option
from plasticity.rule import Draw, OneSynapse, Role, Rule


@dataclass(frozen=True)
class SoftHebb(Rule):
    """Moraitis et al. 2022, Eq. (1); Journe, Garcia Rodriguez, Guo & Moraitis, ICLR 2023, Eq. (2).

        dW_ji = s_j y_j (x_i - u_j W_ji),    y_j = exp(u_j / tau) / sum over k of exp(u_k / tau)

    averaged over patches and places. u is the potential `W x + b`, and the neurons of one place
    compete by a soft maximum. s is 1; with `anti_hebbian` it is -1 for all but the most excited
    neuron of a place, as in the deep networks of 2023. No other post factor multiplies.

    Reads and changes one layer; keeps nothing. Biases, the priors of 2022, stay.
    """

    tau: float = option(1.0, "Temperature of the competition.", least=0, above=True)
    anti_hebbian: bool = option(True, "Neurons that lose the competition unlearn.")

    name: ClassVar[str] = "softhebb"
    equation: ClassVar[str] = "dW_ji = s_j y_j (x_i - u_j W_ji), y = softmax(u / tau)"
    citation: ClassVar[str] = "Journe, Garcia Rodriguez, Guo & Moraitis, ICLR 2023, Eq. (2)"
    reads: ClassVar[str] = "potential"
    post: ClassVar[str] = "none"
    biases: ClassVar[bool] = False

    def competed(self, u: Array) -> Array:
        """`s_j y_j` of potentials `(..., D)`."""
        xp, largest = array_module(u), u.max(axis=-1, keepdims=True)
        e = xp.exp((u - largest) / self.tau)
        y = e / e.sum(axis=-1, keepdims=True)
        if not self.anti_hebbian:
            return y
        first = xp.arange(u.shape[-1]) == u.argmax(axis=-1)[..., None]
        return xp.where(first, y, -y)

    def roles(self, z: Array, own: dict[str, Array], draw: Draw, layout: Layout) -> Iterator[Role]:
        """Hebb's term: every patch."""
        yield Role.of_patches("post", self.competed(z), array_module(z).ones(len(z), z.dtype))

    def decay(self, z: Array, own: dict[str, Array]) -> Array:
        """`s_j y_j u_j`, averaged as the term of Hebb is."""
        taken = (self.competed(z) * z).reshape(len(z), -1, z.shape[-1])
        return taken.mean(axis=1) / len(z)

    def definition(self, s: OneSynapse) -> float:
        """`s_j y_j (x_i - u_j W_ji)`, averaged."""
        e = np.exp((s.potentials - s.potentials.max()) / self.tau)
        y = e[..., s.j] / e.sum(axis=-1)
        if self.anti_hebbian:
            y = np.where(s.potentials.argmax(axis=-1) == s.j, y, -y)
        return (y * (s.pre - s.potential * s.W)).mean()
