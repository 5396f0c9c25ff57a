"""What a network is: layers, their shapes, their weights at the start, and its forward pass."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

from plasticity import seeds
from plasticity.arrays import Array
from plasticity.errors import UserError
from plasticity.kernels import Pool
from plasticity.layers import Block, Conv, Gru, Layer, Norm, NormConv, Parameters, Seen

__all__ = [
    "Block",
    "Conv",
    "Gru",
    "Layer",
    "Network",
    "Norm",
    "NormConv",
    "Parameters",
    "Pool",
    "Seen",
]


@dataclass(frozen=True)
class Network:
    """A stack of layers that sees one patch at a time."""

    name: str
    layers: tuple[Layer, ...]
    citation: str = ""
    splits: tuple[tuple[str, tuple[int, ...]], ...] = ()

    def __post_init__(self) -> None:
        if not self.layers:
            raise UserError(f"the network {self.name} has no layer")
        dims = sorted({layer.dims for layer in self.layers})
        if len(dims) > 1:
            raise UserError(
                f"the layers of {self.name} have {' and '.join(map(str, dims))} dimensions: all of "
                "a network's have the same number, 1 for sound and 2 for images"
            )
        for below, above in pairwise(self.layers):
            if above.inputs != below.outputs:
                raise UserError(
                    f"layer {above.name} of {self.name} takes {above.inputs} channels, and "
                    f"{below.name} below it has {below.outputs} neurons"
                )
        names = [conv.name for conv in self.convolutions]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise UserError(
                f"the network {self.name} has several layers named {', '.join(twice)}: weights are "
                "kept by these names, give each its own"
            )

    @property
    def dims(self) -> int:
        """The spatial dimensions of its maps: 1 for sound, 2 for images."""
        return self.layers[0].dims

    @property
    def convolutions(self) -> tuple[Conv, ...]:
        """Everything that has weights, from below: `Parameters` and inspection go by its names."""
        return tuple(conv for layer in self.layers for conv in layer.convolutions)

    def modules(self, split: str) -> list[list[int]]:
        """The layers of each module, counted from 0.

        Args:
            split: `layers` (each its own), a name that the network knows, or the numbers of layers
                of the modules from below, such as `3+1+1+1`.

        Raises:
            UserError: another name, or numbers that do not add up to the layers there are.
        """
        sizes = dict(self.splits).get(split)
        if split == "layers":
            sizes = (1,) * len(self.layers)
        elif split == "1":
            sizes = (len(self.layers),)
        elif sizes is None and all(part.isdigit() for part in split.split("+")) and "+" in split:
            sizes = tuple(map(int, split.split("+")))
        if sizes is None or sum(sizes) != len(self.layers) or min(sizes) < 1:
            known = ", ".join(["layers", "1", *(name for name, _ in self.splits)])
            raise UserError(
                f"--modules {split} does not split the {len(self.layers)} layers of {self.name}: "
                f"expected {known}, or layers for each module such as 3+1+1+1"
            )
        starts = [sum(sizes[:i]) for i in range(len(sizes))]
        return [list(range(a, a + n)) for a, n in zip(starts, sizes, strict=True)]

    def first(self, count: int) -> "Network":
        """The same network with its first `count` layers alone."""
        if not 1 <= count <= len(self.layers):
            raise UserError(f"--layers {count}: {self.name} has 1 to {len(self.layers)} layers")
        return replace(self, layers=self.layers[:count])

    def with_credit(self, credit: str) -> "Network":
        """The same network, with another credit in time for its recurrent layers, see `Gru`."""
        layers = (replace(la, credit=credit) if la.recurrent else la for la in self.layers)
        return replace(self, layers=tuple(layers))

    def with_norm(self, statistics: str = "", order: str = "") -> "Network":
        """The same network, its norms by other statistics or in another order, see `NormConv`.

        Args:
            statistics: `batch` or `running`; order: `relu-norm` or `norm-relu`; empty for what the
                network has.
        """

        def changed(conv: NormConv) -> NormConv:
            norm = replace(conv.norm, statistics=statistics or conv.norm.statistics)
            words = order.replace("-", " ")
            return replace(conv, norm=norm, order=f"conv {words} pool" if order else conv.order)

        if not (statistics or order):
            return self
        layers = (changed(la) if isinstance(la, NormConv) else la for la in self.layers)
        return replace(self, layers=tuple(layers))

    def with_precision(self, precision: str) -> "Network":
        """The same network, the products of its convolutions of operands of that precision.

        Recurrent layers stay as they are.

        Args:
            precision: of `kernels.PRECISIONS`.
        """
        layers = (
            layer.with_precision(precision) if hasattr(layer, "with_precision") else layer
            for layer in self.layers
        )
        return replace(self, layers=tuple(layers))

    def shapes(self, space: tuple[int, ...]) -> list[tuple[int, ...]]:
        """The map of every layer, `(*space, channels)`, for an input of this spatial shape.

        Raises:
            UserError: a layer that nothing would reach, by name. Nothing is allocated before.
        """
        found = []
        for layer in self.layers:
            below, space = space, layer.space(space)
            if min(space) < 1:
                side = "x".join(map(str, below))
                raise UserError(
                    f"layer {layer.name} of {self.name} cannot be fed: a map of {side} leaves "
                    "nothing after its convolution and pooling; "
                    + ("take longer --samples" if self.dims == 1 else "take a larger --patch")
                    + " or fewer --layers"
                )
            found.append((*space, layer.outputs))
        return found

    def prepare(self, seed: int) -> Parameters:
        """Weights and biases at their start, float64."""
        return {
            conv.name: conv.prepare(seeds.generator(seed, seeds.WEIGHTS, i))
            for i, conv in enumerate(self.convolutions)
        }

    def maps(self, x: Array, weights: Parameters) -> Iterator[tuple[Array, Array | None]]:
        """Layer after layer its map `(M, *space, D)` of inputs `x`, and its mean over positions.

        The mean is None where a layer does not take it on the way.
        """
        for layer in self.layers:
            x, _, mean = layer.forward(x, weights, learning=False)
            yield x, mean

    def encodings(self, x: Array, weights: Parameters) -> Iterator[Array]:
        """Layer after layer the mean of its map over positions `(M, D)`, of inputs `x`."""
        for y, mean in self.maps(x, weights):
            yield y.mean(axis=tuple(range(1, y.ndim - 1))) if mean is None else mean
