"""A gated recurrent unit on a GPU: all times in one launch, a block for each sequence."""

import numpy as np

from plasticity.arrays import Array
from plasticity.kernels.cuda import launch
from plasticity.kernels.cuda.launch import BLOCK, CTYPES


def gru_states(
    drive: Array, weight_hh: Array, bias_ih: Array, bias_hh: Array
) -> tuple[Array, Array]:
    """See `definition.gru.gru_states`."""
    import cupy

    (M, T, _), H = drive.shape, weight_hh.shape[1]
    h, gates = (cupy.empty((M, T, *rest), drive.dtype) for rest in ((H,), (4, H)))
    arrays = drive, cupy.ascontiguousarray(weight_hh.T), bias_ih, bias_hh
    name = f"gru_states<{CTYPES[drive.dtype]}>"
    launch.run("gru", name, BLOCK * M, 1, *arrays, *map(np.int64, (M, T, H)), h, gates)
    return h, gates


def gru_posts(
    error: Array, h: Array, gates: Array, weight_hh: Array, credit: str
) -> tuple[Array, Array, Array]:
    """See `definition.gru.gru_posts`."""
    import cupy

    M, T, H = h.shape
    by_input, by_state, found = (cupy.empty((M, T, n * H), h.dtype) for n in (3, 3, 1))
    how = np.bool_(credit != "none"), np.bool_(credit == "bptt")
    sizes = map(np.int64, (M, T, H))
    arrays, made = (error, h, gates, weight_hh), (by_input, by_state, found)
    name = f"gru_posts<{CTYPES[h.dtype]}>"
    launch.run("gru", name, BLOCK * M, 1, *arrays, *sizes, *how, *made)
    return made
