"""How weights move along their dW, and how the rate changes as a run goes on."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from plasticity import kernels
from plasticity.arrays import Array, array_module
from plasticity.network import Parameters


@dataclass(frozen=True)
class Schedule:
    """By what the rates of all layers are multiplied in a step.

        ramp = min(1, (s + 1) / warm_up)
        step:    ramp factor^(how many of the times `at` are <= s)
        cosine:  ramp (1 + cos(pi (s - warm_up) / (steps - warm_up))) / 2, from s = warm_up on

    where s steps are done before this one. They are torch's LinearLR, MultiStepLR and
    CosineAnnealingLR.

    Attributes:
        steps: where the cosine comes to 0.
    """

    kind: str = "constant"
    warm_up: int = 0
    at: tuple[int, ...] = ()
    factor: float = 0.1
    steps: int = 0

    def __call__(self, step: int) -> float:
        """The factor in a step, counted from 1."""
        done = step - 1
        ramp = min(1.0, step / self.warm_up) if self.warm_up else 1.0
        if self.kind == "step":
            return ramp * self.factor ** sum(at <= done for at in self.at)
        if self.kind == "cosine" and done >= self.warm_up:
            part = (done - self.warm_up) / max(1, self.steps - self.warm_up)
            return ramp * (1 + math.cos(math.pi * min(1.0, part))) / 2
        return ramp


@dataclass(frozen=True)
class Pace:
    """How the weights of a layer move.

    Attributes:
        rate: the learning rate.
        optimiser: `plain`, `W += rate dW`, as classical rules are written, or `adam` (Kingma & Ba
            2015), with moments for every parameter; its step counts from 1.
        weight_decay: every parameter that moves, biases too, has this part of it taken from its dW
            before the optimiser sees it: the `weight_decay` of torch's Adam and SGD, which the
            published codes use. It is not decoupled (AdamW).
    """

    rate: float
    optimiser: str = "adam"
    weight_decay: float = 0.0

    def at(self, step: int, factor: float = 1.0) -> tuple[float, float]:
        """The two numbers that change from step to step, counted from 1: the rate and Adam's
        epsilon, see `kernels.adam_pace`.

        Args:
            factor: of the rate in this step.
        """
        rate = self.rate * factor
        return (rate, 0.0) if self.optimiser == "plain" else kernels.adam_pace(step, rate)

    @property
    def name(self) -> str:
        """The optimiser's name."""
        return self.optimiser.capitalize()

    def ascend(
        self,
        own: dict[str, Array],
        changes: dict[str, Array],
        moments: dict,
        now: tuple[float, float] | Array,
    ) -> None:
        """Move the weights of one layer along their changes, in place.

        Args:
            now: see `at`; on a GPU it may lie there, `(2,)` in the dtype of the weights.
        """
        if self.weight_decay:
            changes = {
                n: dW - dW.dtype.type(self.weight_decay) * own[n] for n, dW in changes.items()
            }
        if self.optimiser == "plain":
            for name, dW in changes.items():
                own[name] += (dW.dtype.type(now[0]) if isinstance(now, tuple) else now[0]) * dW
        else:
            parameters = [
                (own[name], dW, moments[name]["m"], moments[name]["v"])
                for name, dW in changes.items()
            ]
            kernels.adam_by(parameters, now)


@dataclass
class Optimiser:
    """Moves the weights of every layer along their dW, each at its own pace.

    Attributes:
        paces: by layer; one that has none does not learn.
        moments: `moments[layer][name]["m" | "v"]`, where a pace is Adam's.
        schedule: of the rates of all layers.
    """

    paces: Mapping[str, Pace]
    moments: dict[str, dict[str, dict[str, Array]]]
    schedule: Schedule = Schedule()

    @classmethod
    def start(
        cls,
        paces: Pace | Mapping[str, Pace],
        weights: Parameters,
        schedule: Schedule = Schedule(),
    ) -> "Optimiser":
        """An optimiser that has seen nothing; one pace is that of all layers."""
        paces = dict.fromkeys(weights, paces) if isinstance(paces, Pace) else paces
        return cls(
            paces,
            {
                layer: {
                    name: {m: array_module(w).zeros_like(w) for m in ("m", "v")}
                    for name, w in own.items()
                    if "." not in name  # what synapses keep is moved by no optimiser
                }
                for layer, own in weights.items()
                if layer in paces and paces[layer].optimiser == "adam"
            },
            schedule,
        )

    def restarted(self, weights: Parameters) -> "Optimiser":
        """One of the same paces for these weights, that has seen nothing."""
        return self.start(self.paces, weights, self.schedule)

    def of(self, layer: str, moments: dict[str, dict[str, Array]]) -> "Optimiser":
        """The optimiser of one layer alone, with these moments."""
        return replace(self, moments={layer: moments})

    def at(self, step: int) -> np.ndarray:
        """Every layer's `Pace.at`, in the order of the paces: `(layers, 2)`, float64."""
        factor = self.schedule(step)
        found = [pace.at(step, factor) for pace in self.paces.values()]
        return np.array(found).reshape(-1, 2)

    def ascend(
        self, weights: Parameters, changes: Parameters, step: int, now: Array | None = None
    ) -> None:
        """Move the weights along their changes, in place; steps count from 1.

        Args:
            now: `at` this step, where it lies on a GPU already, in the dtype of the weights.
        """
        order, factor = list(self.paces), self.schedule(step) if now is None else 1.0
        for layer, own in changes.items():
            pace, moments = self.paces[layer], self.moments.get(layer, {})
            at = pace.at(step, factor) if now is None else now[order.index(layer)]
            pace.ascend(weights[layer], own, moments, at)
