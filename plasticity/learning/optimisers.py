"""How weights move along their dW."""

from dataclasses import dataclass

from plasticity import kernels
from plasticity.arrays import Array, array_module
from plasticity.network import Parameters


@dataclass
class Plain:
    """`W += rate dW`, as classical rules are written."""

    rate: float
    moments: dict[str, dict[str, dict[str, Array]]]

    @classmethod
    def start(cls, rate: float, weights: Parameters) -> "Plain":
        """It keeps nothing."""
        return cls(rate, {})

    def ascend(self, weights: Parameters, changes: Parameters, step: int) -> None:
        """Move the weights along their changes, in place."""
        for layer, own in changes.items():
            for name, dW in own.items():
                weights[layer][name] += dW.dtype.type(self.rate) * dW


@dataclass
class Adam:
    """Adam (Kingma & Ba 2015), with moments for every parameter; its step counts from 1."""

    rate: float
    moments: dict[str, dict[str, dict[str, Array]]]

    @classmethod
    def start(cls, rate: float, weights: Parameters) -> "Adam":
        """An optimiser that has seen nothing."""
        return cls(
            rate,
            {
                layer: {
                    name: {m: array_module(w).zeros_like(w) for m in ("m", "v")}
                    for name, w in own.items()
                    if "." not in name  # what synapses keep is moved by no optimiser
                }
                for layer, own in weights.items()
            },
        )

    def ascend(self, weights: Parameters, changes: Parameters, step: int) -> None:
        """Move the weights along their changes, in place."""
        for layer, own in changes.items():
            moments = self.moments[layer]
            parameters = [
                (weights[layer][name], dW, moments[name]["m"], moments[name]["v"])
                for name, dW in own.items()
            ]
            kernels.adam(parameters, step, self.rate)


OPTIMISERS = {"adam": Adam, "plain": Plain}
