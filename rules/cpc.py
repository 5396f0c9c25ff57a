"""Contrastive Predictive Coding: one module, InfoNCE at its top."""

from dataclasses import dataclass
from typing import ClassVar

from plasticity.rules.clapp import Clapp

from plasticity.arrays import Array, array_module
from plasticity.errors import UserError
from plasticity.events import Events

EPSILON = 1e-11  # the published code's, inside the logarithm


@dataclass(frozen=True)
class Cpc(Clapp):
    """CPC (van den Oord, Li & Vinyals 2018, Eq. 4; Illing et al. 2021, appendix A).

    Each context chooses the true future among 1 + N targets. With scores `u` and
    `pi = softmax(u)` the loss is `-log pi_true`, and what stands in CLAPP's place of `gamma` is

        gamma = [the target is the true one] - pi        Eq. (9)

    Each event's gamma needs the scores of all negatives, and the error goes down through the
    layers of the module: the rule is not local.
    """

    negatives: int = 16
    negatives_from: str = "batch"
    symmetric: bool = True

    name: ClassVar[str] = "cpc"
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
        """`pi (contexts, 1 + N)`, the true target first, and the probability of the true one."""
        xp = array_module(u)
        u = u.reshape(-1, 1 + self.negatives)
        pi = xp.exp(u - u.max(axis=1, keepdims=True))  # large scores do not overflow
        pi /= pi.sum(axis=1, keepdims=True)
        return pi, pi[:, :1]

    def gamma(self, u: Array, event: Events) -> Array:
        """Eq. (9), times the weight of the context in the average."""
        pi, true = self._choice(u)
        gamma = -pi
        gamma[:, 0] += 1
        weight = event.weight.reshape(pi.shape)[:, :1]
        return (gamma * weight * true / (true + EPSILON)).reshape(-1)

    def loss(self, u: Array, event: Events) -> Array:
        """`-log pi_true`, averaged over contexts and prediction steps."""
        pi, true = self._choice(u)
        weight = event.weight.reshape(pi.shape)[:, :1]
        return -(weight * array_module(u).log(true + EPSILON)).sum()
