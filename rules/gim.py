"""Greedy InfoMax: CPC in modules that no error leaves."""

from dataclasses import dataclass
from typing import ClassVar

from plasticity.rules.cpc import Cpc


@dataclass(frozen=True)
class Gim(Cpc):
    """GIM (Loewe, O'Connor & Veeling, NeurIPS 2019): InfoNCE at the top of each of 3 modules."""

    name: ClassVar[str] = "gim"
    at_once: ClassVar[bool] = True
    modules: ClassVar[str] = "3"
    citation: ClassVar[str] = "Loewe, O'Connor & Veeling, NeurIPS 2019"
