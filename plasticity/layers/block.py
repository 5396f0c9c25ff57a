"""A residual block of convolutions."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from plasticity import kernels
from plasticity.arrays import Array
from plasticity.errors import UserError
from plasticity.layers.conv import Conv, ConvSeen, through
from plasticity.layers.layer import Parameters


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

    def with_precision(self, precision: str) -> "Block":
        """The same block, the products of its convolutions of operands of that precision."""
        skip = self.shortcut and self.shortcut.with_precision(precision)
        path = tuple(conv.with_precision(precision) for conv in self.path)
        return replace(self, path=path, shortcut=skip)

    def branches(self, kept: tuple) -> list[Array]:
        """Where the block's ReLUs are open, and who wins: see `Conv.branches`."""
        r, path, along = kept
        found = [r > 0]
        for conv, its in zip(self.path, path, strict=True):
            found += conv.branches(its)
        return found if along is None else found + self.shortcut.branches(along)

    def in_torch(self, functional: Any, x: Any, params: dict[str, dict[str, Any]]) -> Any:
        """The same block in torch's operations: see `Conv.in_torch`."""
        r = y = functional.relu(x)
        for conv in self.path:
            y = conv.in_torch(functional, y, params)
        return y + (x if self.shortcut is None else self.shortcut.in_torch(functional, r, params))

    @property
    def torch_modules(self) -> tuple[str, ...]:
        """Nothing: it is no Sequential of torch's."""
        return ()

    recurrent: ClassVar[bool] = False
    normalised: ClassVar[bool] = False
    linear: ClassVar[bool] = True  # its output

    @property
    def dims(self) -> int:
        """The spatial dimensions of its maps."""
        return self.path[0].dims

    @property
    def formula(self) -> str:
        """What it computes, in a line."""
        path = "r"
        for conv in self.path:
            made = f"{conv.name.removeprefix(self.name + '.')}({path})"
            path = made if conv.linear else f"relu({made})"
        skip = "x" if self.shortcut is None else "shortcut(r)"
        return f"{self.name}: r = relu(x), {path} + {skip}"

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

    def unpooled(self, potential: bool = False) -> "Block":
        """Itself: its output is neither rectified nor pooled."""
        return self

    def learn(
        self,
        kept: tuple,
        error: Array,
        weights: Parameters,
        below: bool,
        post: Array | None = None,
    ) -> tuple[list[ConvSeen], Array | None]:
        """dW of each convolution, and the error at the block's input: see `Conv.learn`.

        A post factor that the rule names is that of the block's output.
        """
        (r, path, along), inner, found = kept, error, []
        for conv, its in zip(reversed(self.path), reversed(path), strict=True):
            factor = post if conv is self.path[-1] else None
            further = below or conv is not self.path[0]
            seen, inner = conv.learn(its, inner, weights, further, factor)
            found = seen + found
        if self.shortcut is None:
            beside = through(error, post)
            return found, kernels.rectified(r, inner, beside=beside) if below else None
        seen, skip = self.shortcut.learn(along, error, weights, below, post)
        found[-1:-1] = seen
        return found, kernels.rectified(r, inner, inside=skip) if below else None
