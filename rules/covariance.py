"""The covariance rule: what counts is whether pre and post are above their means together."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from plasticity.arrays import Array, array_module
from plasticity.events import Layout
from plasticity.rule import Draw, OneSynapse, Role, Rule


@dataclass(frozen=True)
class Covariance(Rule):
    """Sejnowski, J. Math. Biology 4 (1977): the covariance of pre and post.

        dW_ji = < (y_j - <y_j>) (x_i - <x_i>) >

    where `<>` is the mean over the patches of a step and over all places, and y the activity
    `rho(a)` before any pool. A neuron that is silent where it mostly is active takes part: post is
    no factor besides. `<x_i>` cancels, since `<y_j - <y_j>>` is 0, so that the events are
    `(y_j - <y_j>) x_i`. A bias has an input that does not vary: it stays.

    Reads and changes one layer; keeps nothing.
    """

    name: ClassVar[str] = "covariance"
    equation: ClassVar[str] = "dW_ji = <(y_j - <y_j>) (x_i - <x_i>)>"
    citation: ClassVar[str] = "Sejnowski, J. Math. Biology 4 (1977), 303-321"
    reads: ClassVar[str] = "places"
    post: ClassVar[str] = "none"
    biases: ClassVar[bool] = False

    def roles(self, z: Array, own: dict[str, Array], draw: Draw, layout: Layout) -> Iterator[Role]:
        """Every patch, by how far its neurons are above their means."""
        above = z - z.mean(axis=tuple(range(z.ndim - 1)))
        yield Role.of_patches("post", above, array_module(z).ones(len(z), z.dtype))

    def definition(self, s: OneSynapse) -> float:
        """`<(y_j - <y_j>) (x_i - <x_i>)>`."""
        return ((s.post - s.post.mean()) * (s.pre - s.pre.mean())).mean()
