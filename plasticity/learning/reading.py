"""How a map becomes encodings and, as its transpose, how a drive on encodings goes back to it."""

import math
from dataclasses import dataclass, replace

from plasticity.arrays import Array, array_module
from plasticity.events import Layout


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
