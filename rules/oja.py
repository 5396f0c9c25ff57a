"""Oja's rule: Hebbian learning whose weights stay bounded."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from plasticity.arrays import Array, array_module
from plasticity.events import Layout
from plasticity.rule import Draw, OneSynapse, Role, Rule


@dataclass(frozen=True)
class Oja(Rule):
    """Oja, J. Math. Biology 15 (1982), Eq. (3): the first principal component of the input.

        dW_ji = y_j (x_i - y_j W_ji)

    averaged over patches and positions, the bias as a weight from an input that is always 1. `y` is
    the activity after ReLU and pooling, so only winners learn. A linear neuron's weights go to the
    input's first principal component, of length 1.

    Reads and changes one layer. In a stack of layers activity grows from one to the next, and with
    it the rate that is stable, so that Adam moves the weights unless `--optimiser plain` is asked
    for; both rest where the mean of dW is 0.
    """

    name: ClassVar[str] = "oja"
    equation: ClassVar[str] = "dW_ji = y_j (x_i - y_j W_ji)"
    citation: ClassVar[str] = "Oja, J. Math. Biology 15 (1982), 267-273, Eq. (3)"
    reads: ClassVar[str] = "map"

    def roles(self, z: Array, own: dict[str, Array], draw: Draw, layout: Layout) -> Iterator[Role]:
        """Hebb's term: every patch, its gate open."""
        yield Role.of_patches("post", z, array_module(z).ones(len(z), z.dtype))

    def decay(self, z: Array, own: dict[str, Array]) -> Array:
        """`y_j^2`, averaged as the term of Hebb is."""
        return (z * z).reshape(len(z), -1, z.shape[-1]).sum(axis=1) / (z.size // z.shape[-1])

    def definition(self, s: OneSynapse) -> float:
        """`y_j (x_i - y_j W_ji)`, averaged."""
        return (s.post * (s.pre - s.post * s.W)).mean()
