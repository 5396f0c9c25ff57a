"""Spike-timing-dependent plasticity in pairs, with traces over time steps."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from plasticity.arrays import Array, array_module
from plasticity.events import Layout
from plasticity.fields import option
from plasticity.rule import Draw, OneSynapse, Role, Rule


@dataclass(frozen=True)
class Stdp(Rule):
    """Pair STDP, all pairs (Morrison, Diesmann & Gerstner, Biol. Cybern. 98, 2008, Eq. 1, 2 and 7).

        dW_ji(t) = A_plus y_j(t) xbar_i(t) - A_minus x_i(t) ybar_j(t)
        xbar_i(t + 1) = exp(-1 / tau_plus) (xbar_i(t) + x_i(t)),     ybar_j with tau_minus

    averaged over patches and places; x and y are rates, in the place of spikes, and y is the
    activity `rho(a)` before any pool. A time step is one of the layout: a row of patches of an
    image, a frame of sound. Traces begin at 0.

    The engine adds up the same pairs by their pre: a trace of pre that meets post later is the post
    to come, as a trace from the future, which meets pre now. So the signals are `A_plus` times the
    trace of post from the future (`pre before post`), and `-A_minus` times that from the past
    (`post before pre`); no other post factor multiplies.

    Reads and changes one layer; keeps nothing from step to step of learning. Biases have no spikes
    and stay.

    Attributes:
        A_plus, A_minus: of potentiation and of depression.
        tau_plus, tau_minus: time constants of the traces in time steps, above 0.
    """

    A_plus: float = option(1.0, "Potentiation of a pair.")
    A_minus: float = option(1.0, "Depression of a pair.")
    tau_plus: float = option(2.0, "Time steps that pre is remembered.", least=0, above=True)
    tau_minus: float = option(2.0, "Time steps that post is remembered.", least=0, above=True)

    name: ClassVar[str] = "stdp"
    equation: ClassVar[str] = "dW_ji = A_plus y_j xbar_i - A_minus x_i ybar_j"
    citation: ClassVar[str] = "Morrison, Diesmann & Gerstner, Biol. Cybern. 98 (2008), 459-478"
    reads: ClassVar[str] = "places"
    post: ClassVar[str] = "none"
    biases: ClassVar[bool] = False

    def roles(self, z: Array, own: dict[str, Array], draw: Draw, layout: Layout) -> Iterator[Role]:
        """Every patch with the post to come, and with the post that was."""
        always = array_module(z).ones(len(z), z.dtype)
        later = layout.trace(z, self.tau_plus, future=True)
        yield Role.of_patches("pre before post", self.A_plus * later, always)
        earlier = layout.trace(z, self.tau_minus)
        yield Role.of_patches("post before pre", -self.A_minus * earlier, always)

    def definition(self, s: OneSynapse) -> float:
        """Time step by time step, with a trace of pre and one of post."""
        x, y = s.layout.by_time(s.pre), s.layout.by_time(s.post)
        dW = xbar = ybar = 0.0
        for x_t, y_t in zip(x, y, strict=True):
            dW += self.A_plus * (y_t * xbar).sum() - self.A_minus * (x_t * ybar).sum()
            xbar = math.exp(-1 / self.tau_plus) * (xbar + x_t)
            ybar = math.exp(-1 / self.tau_minus) * (ybar + y_t)
        return dW / s.pre.size
