"""The lower bound of every comparison: weights that stay as they were drawn."""

from dataclasses import dataclass
from typing import ClassVar

from plasticity.arrays import Array, array_module
from plasticity.events import Layout
from plasticity.rule import Draw, Learning, Rule


@dataclass(frozen=True)
class Random(Rule):
    """No plasticity: dW = 0, `Random init` in table 1 of Illing et al. 2021."""

    name: ClassVar[str] = "random"
    learns: ClassVar[bool] = False
    modules: ClassVar[str] = "layers"
    equation: ClassVar[str] = "dW_ji = 0"
    citation: ClassVar[str] = "Illing, Ventura, Bellec & Gerstner, NeurIPS 2021, table 1"

    def learn(self, z: Array, own: dict[str, Array], draw: Draw, layout: Layout) -> Learning:
        """A drive of zero."""
        xp = array_module(z)
        return Learning(xp.zeros_like(z), None, xp.zeros(()))
