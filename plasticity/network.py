"""What a network is: layers, their shapes, their weights at the start, and its forward pass."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from plasticity import kernels, seeds
from plasticity.arrays import Array, array_module
from plasticity.errors import UserError
from plasticity.kernels.geometry import Geometry, Pool, Sizes

Parameters = dict[str, dict[str, Array]]
"""Name of a convolution -> parameter name -> array.

The parameters are `weight`, `bias` and, in a module's last convolution, what the rule keeps.
"""


@dataclass(frozen=True)
class Seen:
    """What one convolution met in a step: all that its dW was made of.

    Attributes:
        x: its input `(N, *space, C)`; winner: see `kernels.forward`, 0 for all of a linear one.
        error: what went into the post factor: `delta / P`, `(N, O)`, where its output is what the
            rule reads, and below that the error from above, of the shape of `winner`.
        changes: its dW by parameter.
        read: whether the rule reads its output, and its error is the rule's drive.
    """

    layer: "Conv"
    x: Array
    winner: Array
    error: Array
    changes: dict[str, Array]
    read: bool = False


@dataclass(frozen=True)
class Conv:
    """A convolution with ReLU and, where `pool` > 1, a MaxPool that acts as lateral inhibition.

    Its spatial dimensions are those of `kernel`: one for sound, two for images, three for video.
    A `linear` one has neither ReLU nor MaxPool.
    """

    name: str
    inputs: int
    outputs: int
    kernel: tuple[int, ...] = (3, 3)
    stride: Sizes = 1
    padding: Sizes = 1
    pool: Sizes | Pool = 1
    linear: bool = False
    geometry: Geometry = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        made = Geometry.of(self.kernel, self.stride, self.padding, self.pool, self.linear)
        object.__setattr__(self, "geometry", made)

    @property
    def convolutions(self) -> tuple["Conv", ...]:
        """What has weights in this layer, from below: itself."""
        return (self,)

    @property
    def read(self) -> tuple["Conv", ...]:
        """The convolutions whose outputs add up to the layer's, which the rule reads at a top."""
        return (self,)

    @property
    def parameters(self) -> int:
        """How many weights and biases it has."""
        return self.outputs * (self.inputs * math.prod(self.kernel) + 1)

    def space(self, space: tuple[int, ...]) -> tuple[int, ...]:
        """The spatial shape after convolution and pooling."""
        return self.geometry.space(space)

    def prepare(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Weight `(O, C, *kernel)` and bias `(O,)`, float64, uniform within 1/sqrt(fan in)."""
        bound = 1 / math.sqrt(self.inputs * math.prod(self.kernel))
        shape = (self.outputs, self.inputs, *self.kernel)
        return {
            "weight": rng.uniform(-bound, bound, shape),
            "bias": rng.uniform(-bound, bound, self.outputs),
        }

    def forward(
        self, x: Array, weights: Parameters, learning: bool = True
    ) -> tuple[Array, tuple | None, Array]:
        """Activity, what `learn` needs (input and winners) if it is wanted, and encoding.

        See `kernels.forward`.
        """
        own = weights[self.name]
        y, winner, z = kernels.forward(x, own["weight"], own["bias"], self.geometry, learning)
        return y, (x, winner) if learning else None, z

    def learn(
        self, kept: tuple, error: Array, weights: Parameters, below: bool
    ) -> tuple[list[Seen], Array | None]:
        """dW from what `forward` kept and the error at the output, and the error at the input.

        The latter, for modules of several layers, is None unless `below`. See `kernels.correlate`
        and `kernels.back`.
        """
        (x, winner), back = kept, None
        dW, db = kernels.correlate(x, winner, error, self.geometry)
        if below:
            own, space = weights[self.name], x.shape[1:-1]
            weight = own.get("feedback", own["weight"])  # fixed ones in the transposed ones' place
            back = kernels.back(winner, error, weight, space, self.geometry)
        if winner is None:
            xp, shape = array_module(x), (len(x), *self.space(x.shape[1:-1]), self.outputs)
            winner = xp.broadcast_to(xp.zeros((), xp.uint8), shape)
        return [Seen(self, x, winner, error, {"weight": dW, "bias": db})], back


@dataclass(frozen=True)
class Block:
    """A residual block with its ReLU before its convolutions (He et al. 2016, "pre-activation").

        r = rho(x)    y = path(r) + skip

    The `path` is a chain of convolutions, the last of them linear. The skip is x itself, or, where
    shapes differ, the linear convolution `shortcut` of r. The sum has no ReLU: the block above
    begins with one. The encoding is the mean of y over its positions.

    In the convolution that ends the path, and in the shortcut, a synapse's update at the top of a
    module is that of a layer: pre is the input below it, and post is 1 since no ReLU follows.
    Below them the error comes down as in a module of several layers.
    """

    name: str
    path: tuple[Conv, ...]
    shortcut: Conv | None = None

    @property
    def inputs(self) -> int:
        return self.path[0].inputs

    @property
    def outputs(self) -> int:
        return self.path[-1].outputs

    @property
    def convolutions(self) -> tuple[Conv, ...]:
        """What has weights in this layer; the last one ends the path."""
        skip = () if self.shortcut is None else (self.shortcut,)
        return (*self.path[:-1], *skip, self.path[-1])

    @property
    def read(self) -> tuple[Conv, ...]:
        """The end of the path and the shortcut: see `Conv.read`."""
        return self.convolutions[len(self.path) - 1 :]

    def space(self, space: tuple[int, ...]) -> tuple[int, ...]:
        """The spatial shape after the block.

        Raises:
            UserError: a path and a skip whose shapes do not fit each other.
        """
        skip, channels = space, self.inputs
        if self.shortcut is not None:
            skip, channels = self.shortcut.space(space), self.shortcut.outputs
        for conv in self.path:
            space = conv.space(space)
        if (space, self.outputs) != (skip, channels):
            raise UserError(
                f"{self.name} adds a path of shape {(*space, self.outputs)} and a skip of shape "
                f"{(*skip, channels)}: give it a shortcut that fits"
            )
        return space

    def forward(
        self, x: Array, weights: Parameters, learning: bool = True
    ) -> tuple[Array, tuple | None, Array]:
        """Its output, what `learn` needs if it is wanted, and the encoding."""
        r = y = kernels.rectify(x)
        kept, skip, along = [], x, None
        if self.shortcut is not None:
            skip, along, _ = self.shortcut.forward(r, weights, learning)
        for conv in self.path:
            y, its, _ = conv.forward(y, weights, learning)
            kept.append(its)
        z = kernels.add_skip(y, skip)
        return y, (r, kept, along) if learning else None, z

    def learn(
        self, kept: tuple, error: Array, weights: Parameters, below: bool
    ) -> tuple[list[Seen], Array | None]:
        """dW of each convolution, and the error at the block's input: see `Conv.learn`."""
        (r, path, along), inner, found = kept, error, []
        for conv, its in zip(reversed(self.path), reversed(path), strict=True):
            seen, inner = conv.learn(its, inner, weights, below or conv is not self.path[0])
            found = seen + found
        if self.shortcut is None:
            return found, kernels.rectified(r, inner, beside=error) if below else None
        seen, skip = self.shortcut.learn(along, error, weights, below)
        found[-1:-1] = seen
        return found, kernels.rectified(r, inner, inside=skip) if below else None


Layer = Conv | Block
"""What a module is made of; its name, and what it does forward and when it learns."""


@dataclass(frozen=True)
class Network:
    """A stack of layers that sees one patch at a time."""

    name: str
    layers: tuple[Layer, ...]
    citation: str = ""
    splits: tuple[tuple[str, tuple[int, ...]], ...] = ()

    def __post_init__(self) -> None:
        names = [conv.name for conv in self.convolutions]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise UserError(
                f"the network {self.name} has several layers named {', '.join(twice)}: weights are "
                "kept by these names, give each its own"
            )

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
                    "nothing after its convolution and pooling; "
                    "take a larger --patch or fewer --layers"
                )
            found.append((*space, layer.outputs))
        return found

    def prepare(self, seed: int) -> Parameters:
        """Weights and biases at their start, float64."""
        return {
            conv.name: conv.prepare(seeds.generator(seed, seeds.WEIGHTS, i))
            for i, conv in enumerate(self.convolutions)
        }

    def encodings(self, patches: Array, weights: Parameters) -> Iterator[Array]:
        """The encoding `(N, D)` of every patch `(N, *space, C)`, layer after layer."""
        x = patches
        for layer in self.layers:
            x, _, z = layer.forward(x, weights, learning=False)
            yield z
