"""Hebb's rule, and weights that are brought back to a length after every step."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from plasticity.arrays import Array, array_module
from plasticity.events import Layout
from plasticity.fields import option
from plasticity.rule import Draw, OneSynapse, Role, Rule


@dataclass(frozen=True)
class NormalisedHebb(Rule):
    """Hebb with weight normalisation (von der Malsburg 1973; Miller & MacKay 1994, Eq. 5).

        dW_ji = y_j x_i,  then  W_ji <- length W_ji / |W_j|

    averaged over patches and places. y is the activity after ReLU and pooling, so that only winners
    learn; `|W_j|` is the Euclidean norm of all weights onto neuron j, and the division comes after
    the optimiser has moved them: a constraint, no part of dW.

    Reads and changes one layer; keeps nothing. Biases stay.
    """

    length: float = option(1.0, "The norm of the weights onto a neuron.", least=0, above=True)

    name: ClassVar[str] = "normalised_hebb"
    equation: ClassVar[str] = "dW_ji = y_j x_i, then W_ji <- W_ji / |W_j|"
    citation: ClassVar[str] = "Miller & MacKay, Neural Computation 6 (1994), 100-126, Eq. (5)"
    reads: ClassVar[str] = "map"
    biases: ClassVar[bool] = False

    def roles(self, z: Array, own: dict[str, Array], draw: Draw, layout: Layout) -> Iterator[Role]:
        """Hebb's term: every patch."""
        yield Role.of_patches("post", z, array_module(z).ones(len(z), z.dtype))

    def constrain(self, W: Array, state: dict[str, Array]) -> Array:
        """The weights onto every neuron at their length."""
        xp, rows = array_module(W), W.reshape(len(W), -1)
        norm = xp.sqrt((rows * rows).sum(axis=1))
        scale = self.length / xp.where(norm > 0, norm, 1)
        return W * scale.reshape(-1, *(1,) * (W.ndim - 1)).astype(W.dtype)

    def definition(self, s: OneSynapse) -> float:
        """`y_j x_i`, averaged."""
        return (s.post * s.pre).mean()
