"""How weights move along their dW."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from plasticity import kernels
from plasticity.arrays import Array, array_module
from plasticity.network import Parameters


@dataclass(frozen=True)
class Pace:
    """How the weights of a layer move.

    Attributes:
        rate: the learning rate.
        optimiser: `plain`, `W += rate dW`, as classical rules are written, or `adam` (Kingma & Ba
            2015), with moments for every parameter; its step counts from 1.
    """

    rate: float
    optimiser: str = "adam"

    @property
    def name(self) -> str:
        """The optimiser's name."""
        return self.optimiser.capitalize()

    def ascend(
        self, own: dict[str, Array], changes: dict[str, Array], moments: dict, step: int
    ) -> None:
        """Move the weights of one layer along their changes, in place."""
        if self.optimiser == "plain":
            for name, dW in changes.items():
                own[name] += dW.dtype.type(self.rate) * dW
        else:
            parameters = [
                (own[name], dW, moments[name]["m"], moments[name]["v"])
                for name, dW in changes.items()
            ]
            kernels.adam(parameters, step, self.rate)


@dataclass
class Optimiser:
    """Moves the weights of every layer along their dW, each at its own pace.

    Attributes:
        paces: by layer; one that has none does not learn.
        moments: `moments[layer][name]["m" | "v"]`, where a pace is Adam's.
    """

    paces: Mapping[str, Pace]
    moments: dict[str, dict[str, dict[str, Array]]]

    @classmethod
    def start(cls, paces: Pace | Mapping[str, Pace], weights: Parameters) -> "Optimiser":
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
        )

    def restarted(self, weights: Parameters) -> "Optimiser":
        """One of the same paces for these weights, that has seen nothing."""
        return self.start(self.paces, weights)

    def of(self, layer: str, moments: dict[str, dict[str, Array]]) -> "Optimiser":
        """The optimiser of one layer alone, with these moments."""
        return replace(self, moments={layer: moments})

    def ascend(self, weights: Parameters, changes: Parameters, step: int) -> None:
        """Move the weights along their changes, in place; steps count from 1."""
        for layer, own in changes.items():
            self.paces[layer].ascend(weights[layer], own, self.moments.get(layer, {}), step)
