"""The lower bound of every comparison: weights that stay as they were drawn."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from plasticity.arrays import Array, array_module
from plasticity.events import Layout
from plasticity.rule import Draw, Learning, Role


@dataclass(frozen=True)
class Random:
    """No plasticity: dW = 0, `Random init` in table 1 of Illing et al. 2021."""

    name: ClassVar[str] = "random"
    modules: ClassVar[str] = "layers"
    equation: ClassVar[str] = "dW_ji = 0"
    citation: ClassVar[str] = "Illing, Ventura, Bellec & Gerstner, NeurIPS 2021, table 1"

    def options(self) -> dict[str, object]:
        """It has none."""
        return {}

    def prepare(self, neurons: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """It keeps no parameters."""
        return {}

    def draw(self, layout: Layout, rng: np.random.Generator) -> Draw:
        """It draws nothing."""
        return Draw(())

    def roles(self, z: Array, own: dict[str, Array], draw: Draw, layout: Layout) -> Iterator[Role]:
        """No event moves a synapse."""
        return iter(())

    def learn(self, z: Array, own: dict[str, Array], draw: Draw, layout: Layout) -> Learning:
        """A drive of zero."""
        xp = array_module(z)
        return Learning(xp.zeros_like(z), xp.zeros(()), xp.zeros(()))
