"""A reward that comes late: eligibility of every synapse, and one number for all of them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from plasticity.arrays import Array, array_module
from plasticity.events import Layout
from plasticity.fields import option
from plasticity.rule import (
    Change,
    Draw,
    Learning,
    OneSynapse,
    Parameter,
    Role,
    Rule,
    Synapses,
)


@dataclass(frozen=True)
class RewardHebb(Rule):
    """Reward-modulated Hebb (Fremaux & Gerstner, Front. Neural Circuits 9, 2016, Eq. 15 and 16).

        e_ji <- (1 - 1 / tau) e_ji + < (y_j - <y_j>) x_i >,    dW_ji = (R - Rbar) e_ji
        Rbar <- Rbar + (R - Rbar) / tau_reward

    averaged over patches and places before any pool; a time step is one of learning. Every synapse
    keeps an eligibility e, of what pre and post had in common lately, and one number for all, the
    reward beyond what is expected, makes it a change. Here R is the fraction of the images whose
    class the layer names: neuron j votes for class `j modulo classes` with its activity, and the
    class of most votes for a neuron is named (of sound: of every frame with a label).

    Reads one layer and the labels of the step; changes the layer's weights, keeps an eligibility
    for each synapse and `expected (1,)`, Rbar. Biases stay.
    """

    classes: int = option(10, "Classes that are voted for.", least=2)
    tau: float = option(5.0, "Time constant of eligibility in steps.", least=1)
    tau_reward: float = option(20.0, "Time constant of the expected reward in steps.", least=1)

    name: ClassVar[str] = "reward_hebb"
    parameters: ClassVar[Mapping[str, Parameter]] = {"expected": Parameter("(1)")}
    labels: ClassVar[bool] = True
    equation: ClassVar[str] = "dW_ji = (R - Rbar) e_ji, e_ji a leaky sum of <(y_j - <y_j>) x_i>"
    citation: ClassVar[str] = "Fremaux & Gerstner, Front. Neural Circuits 9:85 (2016)"
    reads: ClassVar[str] = "places"
    post: ClassVar[str] = "none"
    biases: ClassVar[bool] = False

    def prepare(self, neurons: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """At first the reward of chance is expected, `1 / classes`."""
        return {"expected": np.full(1, 1 / self.classes)}

    def prepare_synapses(self, W: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Nothing was met yet."""
        return {"eligibility": np.zeros_like(W)}

    def reward(self, z: Array, draw: Draw, layout: Layout) -> Array:
        """R, the fraction of images, or of labelled frames, whose class the layer names."""
        xp, labels = array_module(z), draw.labels.reshape(-1)
        y = z.reshape(len(z), -1, z.shape[-1]).mean(axis=1)
        if draw.labels.ndim == 1:
            y = y.reshape(*layout.shape, -1).mean(axis=(0, 2))
        votes = xp.full((len(y), self.classes), -np.inf)
        for c in range(min(self.classes, y.shape[1])):
            votes[:, c] = y[:, c :: self.classes].mean(axis=1)
        right, known = (votes.argmax(axis=1) == labels).sum(), (labels >= 0).sum()
        return (right / xp.maximum(known, 1)).astype(z.dtype)

    def roles(self, z: Array, own: dict[str, Array], draw: Draw, layout: Layout) -> Iterator[Role]:
        """What becomes eligible: every patch, by how far its neurons are above their means."""
        above = z - z.mean(axis=tuple(range(z.ndim - 1)))
        yield Role.of_patches("eligible", above, array_module(z).ones(len(z), z.dtype))

    def synapses(self, s: Synapses) -> Change:
        """The reward beyond the expected one, for what was met now and for what is remembered."""
        surplus = self.reward(s.z, s.draw, s.layout) - s.own["expected"][0]
        remembered = (1 - 1 / self.tau) * s.state["eligibility"]
        return Change(
            factor={"eligible": surplus},
            added={"remembered": surplus * remembered},
            state={"eligibility": remembered + s.sums["eligible"]},
        )

    def follow(
        self, z: Array, own: dict[str, Array], draw: Draw, layout: Layout
    ) -> dict[str, Array]:
        """What is expected follows the reward."""
        expected = own["expected"]
        reward = self.reward(z, draw, layout)
        return {"expected": expected + (reward - expected) / self.tau_reward}

    def learn(self, z: Array, own: dict[str, Array], draw: Draw, layout: Layout) -> Learning:
        """As of every rule; the reward is the accuracy."""
        learned = super().learn(z, own, draw, layout)
        learned.measures["accuracy"] = self.reward(z, draw, layout)
        return learned

    def definition(self, s: OneSynapse) -> float:
        """Image by image the vote, then the eligibility of one synapse."""
        y, labels = s.posts.mean(axis=1), s.draw.labels.reshape(-1)
        if s.draw.labels.ndim == 1:
            y = y.reshape(*s.layout.shape, -1).mean(axis=(0, 2))
        right = 0
        for active, label in zip(y, labels, strict=True):
            classes = range(min(self.classes, len(active)))
            right += max(classes, key=lambda c: active[c :: self.classes].mean()) == label
        R = right / max(1, (labels >= 0).sum())
        e = (1 - 1 / self.tau) * s.state["eligibility"]
        e += ((s.post - s.post.mean()) * s.pre).mean()
        return (R - s.own["expected"][0]) * e
