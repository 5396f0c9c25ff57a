"""CLAPP-s: CLAPP that sees a positive and a negative sample at every step."""

from dataclasses import dataclass
from typing import ClassVar

from plasticity.rules.clapp import Clapp


@dataclass(frozen=True)
class ClappS(Clapp):
    """The synchronous CLAPP-s: Eq. (3) to (8) summed over fixation and saccade of every image."""

    name: ClassVar[str] = "clapp_s"
    at_once: ClassVar[bool] = True
    coin: ClassVar[bool] = False
