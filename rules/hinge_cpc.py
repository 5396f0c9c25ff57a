"""Hinge Loss CPC: CLAPP's loss at the top, and backpropagation below it."""

from dataclasses import dataclass
from typing import ClassVar

from plasticity.rules.clapp import Clapp

from plasticity.fields import option


@dataclass(frozen=True)
class HingeCpc(Clapp):
    """Hinge Loss CPC (Illing et al. 2021, table 1): Eq. (3) on the last layer of a module.

    The error goes down through the layers of the module by the explicit transposed correlation, so
    the rule is not local. `synchronous` takes both signs of every image (CLAPP-s), otherwise a
    coin picks one (CLAPP). With modules of one layer it is `clapp_s` or `clapp`.
    """

    synchronous: bool = option(
        True,
        "hinge_cpc with one sign for each image, by a coin.",
        flag="coin",
        words={False: True, True: False},
        unset=False,
    )

    name: ClassVar[str] = "hinge_cpc"
    at_once: ClassVar[bool] = True
    modules: ClassVar[str] = "1"
    equation: ClassVar[str] = "dW = -grad max(0, 1 - y u) through all layers of the module"
    citation: ClassVar[str] = "Illing, Ventura, Bellec & Gerstner, NeurIPS 2021, Eq. (3), table 1"

    @property
    def coin(self) -> bool:
        """Whether each image takes part with one sign alone."""
        return not self.synchronous
