"""What a network is: layers, their shapes, their weights at the start, and its forward pass."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from plasticity import kernels, seeds
from plasticity.arrays import Array
from plasticity.errors import UserError

Parameters = dict[str, dict[str, Array]]
"""Layer name -> parameter name (`weight`, `bias`, and what the rule keeps) -> array."""


@dataclass(frozen=True)
class Conv:
    """A convolution with ReLU and, where `pool` > 1, a MaxPool that acts as lateral inhibition.

    Its spatial dimensions are those of `kernel`: one for sound, two for images, three for video.
    """

    name: str
    inputs: int
    outputs: int
    kernel: tuple[int, ...] = (3, 3)
    stride: int | tuple[int, ...] = 1
    padding: int | tuple[int, ...] = 1
    pool: int | tuple[int, ...] = 1

    def space(self, space: tuple[int, ...]) -> tuple[int, ...]:
        """The spatial shape after convolution and pooling."""
        pool = (self.pool,) * len(space) if isinstance(self.pool, int) else self.pool
        out = kernels.output_space(space, self.kernel, self.stride, self.padding)
        return tuple(n // p for n, p in zip(out, pool, strict=True))

    def prepare(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Weight `(O, C, *kernel)` and bias `(O,)`, float64, uniform within 1/sqrt(fan in)."""
        bound = 1 / math.sqrt(self.inputs * math.prod(self.kernel))
        shape = (self.outputs, self.inputs, *self.kernel)
        return {
            "weight": rng.uniform(-bound, bound, shape),
            "bias": rng.uniform(-bound, bound, self.outputs),
        }

    def forward(
        self, x: Array, own: dict[str, Array], winners: bool = True
    ) -> tuple[Array, Array | None, Array]:
        """Activity, winners and encoding: see `kernels.forward`."""
        return kernels.forward(
            x,
            own["weight"],
            own["bias"],
            self.pool,
            stride=self.stride,
            padding=self.padding,
            winners=winners,
        )

    def correlate(self, x: Array, winner: Array, drive: Array) -> dict[str, Array]:
        """dW and db from input, winners and drive at the output: see `kernels.correlate`."""
        dW, db = kernels.correlate(
            x, winner, drive, self.kernel, self.pool, stride=self.stride, padding=self.padding
        )
        return {"weight": dW, "bias": db}

    def back(self, x: Array, winner: Array, drive: Array, own: dict[str, Array]) -> Array:
        """The error at the input, for modules of several layers: see `kernels.back`."""
        return kernels.back(
            winner,
            drive,
            own["weight"],
            x.shape[1:-1],
            self.pool,
            stride=self.stride,
            padding=self.padding,
        )


@dataclass(frozen=True)
class Network:
    """A stack of layers that sees one patch at a time."""

    name: str
    layers: tuple[Conv, ...]
    citation: str = ""
    splits: tuple[tuple[str, tuple[int, ...]], ...] = ()

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

    def shapes(self, patch: tuple[int, ...]) -> list[tuple[int, ...]]:
        """The map of every layer, `(*space, channels)`, for a patch of this spatial shape.

        Raises:
            UserError: a layer that nothing would reach, by name. Nothing is allocated before.
        """
        space, found = patch, []
        for layer in self.layers:
            below, space = space, layer.space(space)
            if min(space) < 1:
                side = "x".join(map(str, below))
                raise UserError(
                    f"layer {layer.name} of {self.name} cannot be fed: a map of {side} leaves "
                    f"nothing after its convolution and pooling (pool {layer.pool}); "
                    "take a larger --patch or fewer --layers"
                )
            found.append((*space, layer.outputs))
        return found

    def prepare(self, seed: int) -> Parameters:
        """Weights and biases at their start, float64."""
        return {
            layer.name: layer.prepare(seeds.generator(seed, seeds.WEIGHTS, i))
            for i, layer in enumerate(self.layers)
        }

    def encodings(self, patches: Array, weights: Parameters) -> Iterator[Array]:
        """The encoding `(N, D)` of every patch `(N, *space, C)`, layer after layer."""
        x = patches
        for layer in self.layers:
            x, _, z = layer.forward(x, weights[layer.name], winners=False)
            yield z
