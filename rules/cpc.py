"""Contrastive Predictive Coding: one module, InfoNCE at its top."""

from dataclasses import dataclass
from typing import ClassVar

from plasticity.rules.clapp import Clapp

from plasticity.arrays import Array, array_module
from plasticity.errors import UserError
from plasticity.events import Events


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
    blocks_target: ClassVar[bool] = True
    coin: ClassVar[bool] = False
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

    def _choice(self, u: Array) -> tuple[Array, Array]:
        """`log pi (contexts, 1 + N)`, the true target first, and pi."""
        xp = array_module(u)
        u = u.reshape(-1, 1 + self.negatives)
        u = u - u.max(axis=1, keepdims=True)  # large scores do not overflow
        pi = xp.exp(u)
        total = pi.sum(axis=1, keepdims=True)
        return u - xp.log(total), pi / total

    def gamma(self, u: Array, event: Events) -> Array:
        """Eq. (9), times the weight of the context in the average."""
        _, pi = self._choice(u)
        gamma, true = -pi, pi[:, :1]
        gamma[:, 0] += 1
        gamma = gamma * event.weight.reshape(pi.shape)[:, :1]
        if self.epsilon:
            gamma = gamma * true / (true + self.epsilon)
        return gamma.reshape(-1)

    def loss(self, u: Array, event: Events) -> Array:
        """`-log pi_true`, averaged over contexts and prediction steps."""
        log, pi = self._choice(u)
        weight = event.weight.reshape(pi.shape)[:, 0]
        true = array_module(u).log(pi[:, 0] + self.epsilon) if self.epsilon else log[:, 0]
        return -(weight * true).sum()
