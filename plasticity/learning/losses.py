"""Which module is predicted from which: a loss joins a target and a context."""

from collections.abc import Sequence
from dataclasses import dataclass

from plasticity.network import Layer, Network
from plasticity.rule import Rule, looks_up

Modules = Sequence[Sequence[int]]
"""For each module the numbers of its layers, from 0; CLAPP's modules are single layers."""

Rules = Sequence[Rule | None]
"""For each module the rule that it learns by; None where it is frozen."""


def each(rule: Rule | Rules, modules: Modules) -> Rules:
    """The rule of every module: the same of all, or as given."""
    return rule if isinstance(rule, list | tuple) else [rule] * len(modules)


@dataclass(frozen=True)
class Loss:
    """A module's encodings z, the `target`, predicted from the encodings c of its `context`.

    Both are modules by their numbers, from 0, and their encodings are those of their top layers.
    Mostly they are the same. Where they differ, each learns in its own role and no error crosses
    between them.

    Attributes:
        layer: the layer that is the target, where it is not its module's top.
        blocked: whether the target does not learn from this loss; blocked_context: whether the
            context does not, since it learns by another rule, or not at all.
        keeper: the module that keeps the parameters, by default the target.
    """

    target: int
    context: int
    layer: int | None = None
    blocked: bool = False
    keeper: int | None = None
    blocked_context: bool = False

    @property
    def crosses(self) -> bool:
        """Whether the context is another layer than the target."""
        return self.target != self.context or self.layer is not None

    @property
    def kept(self) -> int:
        """The module that keeps its parameters."""
        return self.target if self.keeper is None else self.keeper

    @property
    def ready(self) -> int:
        """The module after whose forward pass both ends are known."""
        return max(self.target, self.context)

    def reads(self, module: int) -> bool:
        """Whether it compares encodings of the module."""
        return module in (self.target, self.context)

    def touches(self, module: int) -> bool:
        """Whether the module learns from this loss."""
        if module == self.context and not self.blocked_context:
            return True
        return module == self.target and not self.blocked

    def ends(self, modules: Modules) -> tuple[int, int]:
        """The layers that are target and context."""
        target = modules[self.target][-1] if self.layer is None else self.layer
        return target, modules[self.context][-1]


def losses_of(
    rule: Rule | Rules, modules: Modules, network: Network | None = None, below_gru: str = ""
) -> list[Loss]:
    """The losses of a rule, or of the rules of the modules.

    Every module predicts itself, or is predicted by the one above it; the last module has none
    above it and is its own context (appendix C). A recurrent layer, such as a GRU, predicts the
    layer below it (appendix B.2), if the rule predicts at all. A loss that joins two modules
    teaches those that learn by its rule: one that has another rule, or is frozen, is read alone.

    Args:
        network: needed to know recurrent layers.
        below_gru: what the layer below a recurrent one learns from: `both` (or empty), its own loss
            and the one that it is the target of, or `gru`, the latter alone.
    """
    last, rules, found = len(modules) - 1, each(rule, modules), []
    for m, (module, own) in enumerate(zip(modules, rules, strict=True)):
        if own is None:
            continue
        below, above = module[-1] - 1, min(m + int(looks_up(own)), last)
        recurrent = network is not None and network.layers[module[-1]].recurrent
        if not (recurrent and getattr(own, "predicts", False)) or below < 0:
            found.append(Loss(m, above, blocked_context=rules[above] != own))
        elif below in module:
            found.append(Loss(m, m, layer=below))
        else:
            if below_gru == "gru":
                found.pop()
            blocked = getattr(own, "blocks_target", False) or rules[m - 1] != own
            found.append(Loss(m - 1, m, blocked=blocked, keeper=m))
    return found


def top(network: Network, module: Sequence[int]) -> Layer:
    """What ends a module: the rule reads its output and is driving its neurons."""
    return network.layers[module[-1]].convolutions[-1]


def keys(network: Network, modules: Modules, losses: Sequence[Loss]) -> list[str]:
    """The name under which the parameters of each loss are kept: see `named`."""
    return named(losses, [top(network, module).name for module in modules])


def named(losses: Sequence[Loss], tops: Sequence[str]) -> list[str]:
    """A name for each loss, by those of the modules' tops.

    The first loss that a module keeps is called as its top, a further one by both its ends, such as
    `conv5<gru`.
    """
    found: list[str] = []
    for loss in losses:
        name = tops[loss.kept]
        found.append(f"{tops[loss.target]}<{tops[loss.context]}" if name in found else name)
    return found
