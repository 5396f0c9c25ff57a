"""How a map becomes encodings and, as its transpose, how a drive on encodings goes back to it."""

import math
from dataclasses import dataclass, replace

from plasticity.arrays import Array, array_module
from plasticity.events import Layout
from plasticity.layers import Layer, Parameters


def read_map(
    layer: Layer, reads: str, x: Array, y: Array, mean: Array | None, weights: Parameters
) -> tuple[Array, Array | None]:
    """The map of a layer that a rule reads, see `Rule.reads`, and its mean if the layer has it.

    Args:
        x: input of the layer; y, mean: its output, as `forward` gives them.
    """
    if reads in ("encoding", "map"):
        return y, mean
    before = layer.unpooled(reads == "potential")
    return (y if before is layer else before.forward(x, weights, learning=False)[0]), None


def read_space(layer: Layer, reads: str, space: tuple[int, ...]) -> tuple[int, ...]:
    """The spatial shape of the map that a rule reads, for an input of this spatial shape."""
    return (layer if reads in ("encoding", "map") else layer.unpooled()).space(space)


def post_factor(layer: Layer, post: str, x: Array, y: Array, weights: Parameters) -> Array | None:
    """The post factor that a rule names, see `Rule.post`; None for the layer's own.

    Returns:
        What broadcasts to the layer's activity before the pool, `(M, *places, O)`.
    """
    if post == "winner":
        return None
    if post == "none" or (post == "active" and layer.linear):
        return array_module(y).ones((1,) * y.ndim, y.dtype)
    z, _ = read_map(layer, "places", x, y, None, weights)
    return z if post == "activity" else (z > 0).astype(z.dtype)


@dataclass(frozen=True)
class Reading:
    """What one encoding is: the rows `z` that a rule compares, taken from maps `(M, *space, D)`.

    Attributes:
        time: `inputs`, where the inputs themselves follow each other in time (patches of an
            image); `map`, where the first axis of a map is time (sound, film).
        positions: what becomes of the axes that are left: their `mean`, or `keep` them.
    """

    time: str = "inputs"
    positions: str = "mean"

    def of(self, reads: str) -> "Reading":
        """The same for a rule that reads this: all but encodings keep their positions."""
        return self if reads == "encoding" else replace(self, positions="keep")

    def layout(self, of: Layout, space: tuple[int, ...]) -> Layout:
        """The order of the rows that are read from maps of this spatial shape."""
        return of if self.time == "inputs" else replace(of, time=space[0])

    def read(self, y: Array, mean: Array | None = None) -> Array:
        """Encodings `(N, *positions, D)` of maps `y (M, *space, D)`, rows in the layout's order.

        Args:
            mean: of y over its positions `(M, D)`, if the layer has taken it on the way.
        """
        if self.time == "map":
            y, mean = y.swapaxes(0, 1).reshape(-1, *y.shape[2:]), None
        if self.positions == "keep" or y.ndim == 2:
            return y
        return y.mean(axis=tuple(range(1, y.ndim - 1))) if mean is None else mean

    def spread(self, drive: Array, space: tuple[int, ...]) -> Array:
        """The transpose of `read`: from a drive on encodings to an error at the map.

        Args:
            drive: `(N, D)`, whether positions are kept or not, or `(N, *positions, D)`.

        Returns:
            `(M, *space, D)`, or `(M, D)` where all positions of an input share it.
        """
        positions = space if self.time == "inputs" else space[1:]
        if drive.ndim == 2 and positions:  # the encoding is a mean: each has its part
            drive = drive / math.prod(positions)
        if self.time == "inputs":
            return drive
        xp, left = array_module(drive), (1,) * len(positions)
        if drive.ndim == 2:
            drive = drive.reshape(len(drive), *left, drive.shape[1])
        drive = xp.broadcast_to(drive, (len(drive), *positions, drive.shape[-1]))
        drive = drive.reshape(space[0], -1, *drive.shape[1:])
        return xp.ascontiguousarray(drive.swapaxes(0, 1))
