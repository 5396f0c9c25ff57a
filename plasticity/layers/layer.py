"""What a layer is to the rest: what it computes, and what it tells of a step."""

from typing import Any, Protocol

import numpy as np

from plasticity.arrays import Array

Parameters = dict[str, dict[str, Array]]
"""Name of a unit -> parameter name -> array.

The parameters are `weight` and `bias`, of a GRU `weight_ih`, `weight_hh`, `bias_ih` and `bias_hh`,
of a normalised convolution `gain`, `shift`, `running_mean` and `running_var` besides,
and what the rule keeps in a module's last unit.
"""


class Peers(Protocol):
    """Others that learn with as many inputs each, such as ranks."""

    size: int

    def mean(self, a: Array) -> Array:
        """The mean over all of them of what each has."""


class Seen(Protocol):
    """What one unit met in a step: all that its dW was made of, and how it is to be read.

    Inspection, recording and verification ask this and know no kind of layer.

    Attributes:
        layer: the unit; x: its input `(M, *space, C)`; changes: its dW by parameter.
        error: what went into the post factor: the drive of a rule, or the error from above. It is
            `(M, O)` where all positions of an input share it, else of the shape of the output.
        state: new values of parameters that no optimiser moves, such as running means.
        read: whether the rule reads its output, so that the error is the rule's drive.
    """

    layer: Any
    x: Array
    error: Array
    changes: dict[str, Array]
    state: dict[str, Array]
    read: bool

    @property
    def space(self) -> tuple[int, ...]:
        """The spatial shape of the places where post and pre meet, before anything is pooled."""

    @property
    def driven(self) -> tuple[int, ...]:
        """The spatial shape of the output, which the error drives."""

    @property
    def positions(self) -> int:
        """P, the positions of the output: over them an encoding may be a mean."""

    def neuron(self, index: tuple[int, ...]) -> int:
        """The neuron that a synapse is onto, by its place in a matrix or bias; or those of several,
        by arrays of their places."""

    def through(self, j: int, signal: np.ndarray, inputs: Array | None = None) -> np.ndarray:
        """A signal through the post factor of neuron j, at every place: `(M, places)`, float64.

        Args:
            signal: `(M, 1)`, or of the output's shape with one channel; inputs: only these.
        """

    def pre(self, parameter: str, index: tuple[int, ...]) -> np.ndarray:
        """The pre factor of a synapse at every place `(M, places)`, or its eligibility trace."""

    def around(self, parameter: str, index: tuple[int, ...]) -> list[tuple[int, ...]]:
        """The synapses whose rounding fast forms share with this one, itself among them."""

    def inhibition(self, j: int, weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Where neuron j `won` its pool, and where it is `active`: bool `(M, places)`."""

    def windows(self, values: np.ndarray) -> np.ndarray:
        """Values `(M, places)` by the position of the output that they compete for:
        `(M, P, competitors)`."""

    def wins(self, j: int) -> np.ndarray:
        """The post factor of neuron j by position: `(M, P, competitors)`, float64.

        Where pools overlap a place is in several, and may have won some.
        """

    def activity(self, dtype: type = float) -> Array:
        """The fraction of the positions where a neuron is active and has won `(M, O)`."""

    @property
    def winners(self) -> float:
        """The fraction of neurons, at their places, that are active and have won."""

    def silenced(self) -> dict[str, float]:
        """Which neurons no update reaches, as fractions by reason."""

    def coactivity(self, synapses: np.ndarray, drive: Array | None = None) -> Array:
        """What post and pre of chosen synapses have in common, by input `(M, S)`.

        Args:
            synapses: their entries in the unit's `main` matrix, `(S, dims)`, on the host.
            drive: of the output's shape, by default 1.
        """

    def along(self, change: np.ndarray) -> np.ndarray:
        """`<dW_m, change>` for the part dW_m of every input, `(M,)`; dW_m is never formed."""

    def on_host(self) -> "Seen":
        """The same with NumPy arrays."""
