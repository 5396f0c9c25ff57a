"""Feedback alignment: errors come down by random weights that never learn."""

from dataclasses import dataclass
from typing import ClassVar

from plasticity.rules.hinge_cpc import HingeCpc


@dataclass(frozen=True)
class FeedbackAlignment(HingeCpc):
    """Feedback alignment (Lillicrap, Cownden, Tweed & Akerman, Nature Communications 7, 2016).

    CLAPP's loss, Eq. (3), at the top of a module, and below it an error that comes down by fixed
    random matrices B in the place of the transposed weights,

        e_below = B (rho'(a) e),    dW_ji = e_j rho'(a_j) x_i

    so that no synapse needs to know another one's weight. It is the gradient of no loss. The top
    layer of a module learns as in `hinge_cpc`; each layer above the lowest keeps `feedback`, of the
    shape of its weights.
    """

    name: ClassVar[str] = "feedback_alignment"
    at_once: ClassVar[bool] = True
    equation: ClassVar[str] = "dW_ji = e_j rho'(a_j) x_i, e_below = B (rho'(a) e), B fixed, random"
    citation: ClassVar[str] = "Lillicrap, Cownden, Tweed & Akerman, Nature Communications 7 (2016)"
    feedback: ClassVar[str] = "random"
