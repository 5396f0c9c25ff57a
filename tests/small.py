"""A network small enough to be checked number by number, with gates open and closed."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from plasticity import learning
from plasticity.events import Layout
from plasticity.network import Conv, Network, Parameters
from plasticity.rule import Draw, Rule, reads_labels

NETWORK = Network(
    "small",
    (
        Conv("conv1", 1, 5),
        Conv("conv2", 5, 6, pool=2),
        Conv("conv3", 6, 7, pool=2),
    ),
)


@dataclass
class Case:
    """Everything that one step of learning depends on."""

    rule: Rule
    network: Network
    modules: learning.Modules
    layout: Layout
    weights: Parameters
    patches: np.ndarray
    draws: list[Draw]

    def updates(self, **changed) -> list[learning.Update]:
        """The updates of every module, with some of the case's parts replaced."""
        return list(self.one_by_one(**changed))

    def one_by_one(self, **changed) -> Iterator[learning.Update]:
        """The same as they are made."""
        parts = {**self.__dict__, **changed}
        return learning.updates(
            *(parts[p] for p in ("network", "rule", "modules", "weights", "patches")),
            parts["layout"],
            parts["draws"],
        )


def case(rule: Rule, *, network=NETWORK, layout=None, seed=0, gain=2.5, ties=False, modules=None):
    """A case in float64; `gain` scales the weights up until gates are a mix."""
    layout = layout or Layout(4, 4, 2)
    modules = modules or learning.layerwise(network)
    weights = learning.prepare(network, rule, modules, seed)
    for own in weights.values():
        for w in own.values():
            w *= gain
    rng = np.random.default_rng(seed)
    patches = rng.standard_normal((layout.rows, 8, 8, 1))
    if ties:  # few whole values and whole weights below: neighbours that are exactly equal
        patches = np.sign(patches)
        first = weights[network.layers[0].name]
        first["weight"], first["bias"] = np.sign(first["weight"]), np.sign(first["bias"])
    labels = rng.integers(0, rule.classes, layout.samples) if reads_labels(rule) else None
    draws = learning.draws(rule, layout, modules, seed, 0, labels)
    return Case(rule, network, modules, layout, weights, patches, draws)
