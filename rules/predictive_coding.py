"""Predictive coding: a layer predicts its own input, and learns from what it did not predict."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from plasticity.arrays import Array, array_module
from plasticity.events import Layout
from plasticity.rule import Draw, Learning, Parameter, Role, Rule


@dataclass(frozen=True)
class PredictiveCoding(Rule):
    """Rao & Ballard, Nature Neuroscience 2 (1999), Eq. (1) to (9), with encodings in one step.

        L = 1/2 |x - U z|^2,    e = x - U z
        dU_ij = e_i z_j,        dW_ji = (U^T e)_j rho'(a_j) x_i

    averaged over patches. z are the encodings of a layer, x the means of its inputs over positions,
    which for all but the lowest layer are activities of the layer below: the layer predicts them
    top-down by U, and error neurons e report what is left. In the paper z descends the same error
    step by step; here it is what the layer computes of its input at once (amortised), so that W
    learns what the descent would find. There is no prior on z.

    Reads the encodings and the input of one layer; changes its weights and biases, and U.
    """

    name: ClassVar[str] = "predictive_coding"
    parameters: ClassVar[Mapping[str, Parameter]] = {"U": Parameter("(input i, neuron j)")}
    equation: ClassVar[str] = "dW_ji = (U^T e)_j rho'(a_j) x_i, dU_ij = e_i z_j, e = x - U z"
    citation: ClassVar[str] = "Rao & Ballard, Nature Neuroscience 2 (1999), 79-87"
    needs: ClassVar[tuple[str, ...]] = ("input",)

    def prepare(self, neurons: int, rng: np.random.Generator, inputs: int) -> dict[str, np.ndarray]:
        """`U (C, D)`, uniform within 1/sqrt(D)."""
        return {"U": rng.uniform(-1, 1, (inputs, neurons)) * neurons**-0.5}

    def error(self, z: Array, own: dict[str, Array], layout: Layout) -> Array:
        """`e = x - U z`, `(N, C)`: x are means over a patch, or over the time of a frame."""
        x = own["input"]
        if len(x) == len(z):
            x = x.reshape(len(x), -1, x.shape[-1]).mean(1)
        else:  # sound: as many samples, or frames of the layer below, as make a frame here
            many = x.shape[1] // layout.time
            x = x[:, : many * layout.time].reshape(len(x), layout.time, many, -1).mean(2)
            x = x.swapaxes(0, 1).reshape(len(z), -1)
        return x - z @ own["U"].T

    def roles(self, z: Array, own: dict[str, Array], draw: Draw, layout: Layout) -> Iterator[Role]:
        """Every patch, by what it did not predict: its error, back through U."""
        e = self.error(z, own, layout)
        score = (e * e).sum(axis=1)
        always = array_module(z).ones(len(z), z.dtype)
        yield Role.of_patches("post", e @ own["U"], always, score)

    def objective(
        self, z: Array, held: Array, own: dict[str, Array], draw: Draw, layout: Layout
    ) -> Array:
        """`1/2 |x - U z|^2`, averaged over patches."""
        e = self.error(z, own, layout)
        return (e * e).sum() / (2 * len(z))

    def learn(self, z: Array, own: dict[str, Array], draw: Draw, layout: Layout) -> Learning:
        """As of every rule, and `dU = e z^T`."""
        learned = super().learn(z, own, draw, layout)
        learned.changes["U"] = self.error(z, own, layout).T @ z / len(z)
        return learned
