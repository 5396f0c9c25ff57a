"""Which module is predicted from which: a loss joins a target module and a context module."""

from collections.abc import Sequence
from dataclasses import dataclass

from plasticity.network import Conv, Network
from plasticity.rule import Rule, looks_up

Modules = Sequence[Sequence[int]]
"""For each module the numbers of its layers, from 0; CLAPP's modules are single layers."""


@dataclass(frozen=True)
class Loss:
    """A module's encodings z, the `target`, predicted from the encodings c of its `context`.

    Both are modules by their numbers, from 0; mostly they are the same. Where they differ, each
    learns in its own role and no error crosses between them.
    """

    target: int
    context: int

    @property
    def crosses(self) -> bool:
        """Whether the context is another module than the target."""
        return self.target != self.context

    @property
    def ready(self) -> int:
        """The module after whose forward pass both ends are known."""
        return max(self.target, self.context)

    def touches(self, module: int) -> bool:
        """Whether the module learns from this loss."""
        return module in (self.target, self.context)


def losses_of(rule: Rule, modules: Modules) -> list[Loss]:
    """The losses of a rule: every module predicts itself, or is predicted by the one above it.

    The last module has none above it and is its own context (appendix C).
    """
    last, up = len(modules) - 1, int(looks_up(rule))
    return [Loss(m, min(m + up, last)) for m in range(last + 1)]


def top(network: Network, module: Sequence[int]) -> Conv:
    """What ends a module: the rule reads its output and is driving its neurons."""
    return network.layers[module[-1]].convolutions[-1]


def keys(network: Network, modules: Modules, losses: Sequence[Loss]) -> list[str]:
    """The name under which the parameters of each loss are kept.

    The first loss of a target keeps them with its top layer, a further one by itself, such as
    `conv5<gru`.
    """
    tops, found = [top(network, module).name for module in modules], []
    for loss in losses:
        name = tops[loss.target]
        found.append(f"{name}<{tops[loss.context]}" if name in found else name)
    return found
