"""Contrastive Predictive Coding: one module, InfoNCE at its top."""

from dataclasses import dataclass
from typing import ClassVar

from plasticity.rules.clapp import Clapp

from plasticity import kernels
from plasticity.arrays import Array, array_module
from plasticity.errors import UserError
from plasticity.events import AllPairs, AllTogether, Events, Together


@dataclass(frozen=True)
class Cpc(Clapp):
    """CPC (van den Oord, Li & Vinyals 2018, Eq. 4; Illing et al. 2021, appendix A).

    Each context chooses the true future among 1 + N targets. With scores `u` and
    `pi = softmax(u)` the loss is `-log pi_true`, and what stands in CLAPP's place of `gamma` is

        gamma = [the target is the true one] - pi        Eq. (9)

    Each event's gamma needs the scores of all negatives, and the error goes down through the
    layers of the module: the rule is not local. Nor does it leave the module: a GRU's loss, whose
    targets are another module's, teaches its own module alone.

    Attributes:
        epsilon: added to pi_true inside the logarithm: the published image code's, 0 in GIM's for
            sound.
    """

    negatives: int = 16
    negatives_from: str = "batch"
    symmetric: bool = True
    epsilon: float = 1e-11

    name: ClassVar[str] = "cpc"
    at_once: ClassVar[bool] = True
    blocks_target: ClassVar[bool] = True
    coin: ClassVar[bool] = False
    hinge: ClassVar[bool] = False
    all_pairs_factor: ClassVar[float] = 1.0  # the mean over contexts, each with n targets
    modules: ClassVar[str] = "1"
    equation: ClassVar[str] = "dW = grad log softmax(u)_true through all layers of the module"
    citation: ClassVar[str] = "van den Oord, Li & Vinyals 2018, Eq. (4); Illing et al. 2021, App. A"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.gate != "own" or not self.dendrites:
            raise UserError(
                f"{self.name} has no surprise gate to share or switch off, and keeps its dendritic "
                "input: --gate and --no-dendrites are for clapp, clapp_s and hinge_cpc"
            )

    def _by_context(self, values: Array, event: Events | AllPairs) -> tuple[Array, Array]:
        """Values of events by context, `(contexts, targets)`, and of each the true one's."""
        if isinstance(event, AllPairs):
            rows = array_module(values).arange(len(values))
            return values, values[rows, event.number][:, None]
        values = values.reshape(-1, 1 + self.negatives)
        return values, values[:, :1]

    def _choice(self, u: Array, event: Events | AllPairs) -> tuple[Array, Array]:
        """`log pi` and pi of the targets of each context, `(contexts, targets)`."""
        xp = array_module(u)
        u, _ = self._by_context(u, event)
        u = u - u.max(axis=1, keepdims=True)  # large scores do not overflow
        pi = xp.exp(u)
        total = pi.sum(axis=1, keepdims=True)
        return u - xp.log(total), pi / total

    def gamma(self, u: Array, event: Events | AllPairs) -> Array:
        """Eq. (9), times the weight of the context in the average."""
        _, pi = self._choice(u, event)
        (label, _), (pi, true) = (self._by_context(a, event) for a in (event.label, pi))
        _, weight = self._by_context(event.weight, event)
        gamma = ((label > 0) - pi) * weight
        if self.epsilon:
            gamma = gamma * true / (true + self.epsilon)
        return gamma.reshape(u.shape)

    def _gated(self, u: Array, every: Together | AllTogether) -> tuple[Array, Array, Array]:
        """As Clapp's: gamma, the loss and the gates of all events."""
        if not self._keeps(Cpc, "gamma", "loss", "_choice", "_by_context"):
            return super()._gated(u, every)
        by_context = every.by_context(u, 1 + self.negatives)
        gamma, *sums = kernels.infonce(*by_context, self.epsilon)
        return gamma.reshape(u.shape), *sums

    def loss(self, u: Array, event: Events | AllPairs) -> Array:
        """`-log pi_true`, averaged over contexts and prediction steps."""
        log, pi = self._choice(u, event)
        (_, log), (_, pi) = (self._by_context(a, event) for a in (log, pi))
        _, weight = self._by_context(event.weight, event)
        true = array_module(u).log(pi + self.epsilon) if self.epsilon else log
        return -(weight * true).sum()
