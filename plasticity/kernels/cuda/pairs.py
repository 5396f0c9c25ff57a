"""Chosen synapses on a GPU."""

import numpy as np

from plasticity.arrays import Array
from plasticity.kernels.cuda import launch
from plasticity.kernels.cuda.launch import CTYPES
from plasticity.kernels.geometry import Geometry


def coactivity(
    x: Array,
    winner: Array,
    synapses: np.ndarray,
    geometry: Geometry,
    drive: Array | None = None,
) -> Array:
    """See `definition.pairs.coactivity`; the synapses come from the host."""
    import cupy

    x, winner = cupy.ascontiguousarray(x), cupy.ascontiguousarray(winner, np.uint8)
    driven = np.bool_(drive is not None)
    drive = x[:0] if drive is None else cupy.ascontiguousarray(drive, x.dtype)
    out = cupy.empty((len(x), len(synapses)), x.dtype)
    square = geometry.pool[0], geometry.stride[0], geometry.padding[0]
    sizes = map(np.int64, (*x.shape, *winner.shape[1:], len(synapses), *square))
    name, chosen = f"coactivity<{CTYPES[x.dtype]}>", cupy.asarray(synapses, np.int64)
    factors = (x, winner, drive, driven, chosen)
    launch.run("pairs", name, len(synapses), len(x), *factors, *sizes, out)
    return out
