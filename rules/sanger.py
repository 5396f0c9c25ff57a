"""Sanger's rule: neurons one after the other find the principal components of their input."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from plasticity.arrays import Array, array_module
from plasticity.events import Layout
from plasticity.rule import Change, Draw, OneSynapse, Role, Rule, Synapses


@dataclass(frozen=True)
class Sanger(Rule):
    """Sanger, Neural Networks 2 (1989), Eq. (1): the generalised Hebbian algorithm.

        dW_ji = y_j (x_i - sum over k <= j of y_k W_ki)

    averaged over patches and places. y is the potential `W x + b` of a neuron, linear as in the
    paper, so that no post factor multiplies. Linear neurons find the principal components of their
    input, in their order. A neuron hears of the weights of those before it: the term that they take
    is `LT[<y y^T>] W`, LT the lower triangle, which stands beside the sum over events.

    Reads and changes one layer; keeps nothing. Biases stay.
    """

    name: ClassVar[str] = "sanger"
    equation: ClassVar[str] = "dW_ji = y_j (x_i - sum over k <= j of y_k W_ki)"
    citation: ClassVar[str] = "Sanger, Neural Networks 2 (1989), 459-473, Eq. (1)"
    reads: ClassVar[str] = "potential"
    post: ClassVar[str] = "none"
    biases: ClassVar[bool] = False

    def roles(self, z: Array, own: dict[str, Array], draw: Draw, layout: Layout) -> Iterator[Role]:
        """Hebb's term: every patch."""
        yield Role.of_patches("post", z, array_module(z).ones(len(z), z.dtype))

    def synapses(self, s: Synapses) -> Change:
        """What neurons before it, and itself, take from the input of a neuron."""
        y = s.z.reshape(-1, s.z.shape[-1])
        neuron = array_module(y).arange(y.shape[1])
        lower = (neuron[:, None] >= neuron) * (y.T @ y / len(y))
        return Change(added={"taken": -(lower @ s.W.reshape(len(s.W), -1)).reshape(s.W.shape)})

    def definition(self, s: OneSynapse) -> float:
        """Neuron after neuron takes its part of the input."""
        left = s.pre.copy()
        for k in range(s.j + 1):
            left -= s.potentials[..., k] * s.weights[k]
        return (s.potential * left).mean()
