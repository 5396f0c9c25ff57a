"""Greedy supervised learning: a readout of the classes on top of every module."""

from dataclasses import dataclass
from typing import ClassVar

from plasticity.rules.supervised import Supervised


@dataclass(frozen=True)
class GreedySupervised(Supervised):
    """Supervised learning in modules that no error leaves (Illing et al. 2021, appendix B.1).

    Each module has a readout of its own. Inside a module of several layers the error goes down;
    the readout's transpose is needed in any case, so the rule is at best quasi-local. By default
    every layer is a module: appendix B.1 calls the published training layer-wise. Loewe et al.
    2019 took 3 modules for their ResNet-50, which is `--modules 3`.
    """

    name: ClassVar[str] = "greedy_supervised"
    modules: ClassVar[str] = "layers"
