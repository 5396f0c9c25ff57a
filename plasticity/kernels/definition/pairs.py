"""Chosen synapses, one by one: what post and pre have in common in every input."""

import numpy as np

from plasticity.arrays import Array, array_module
from plasticity.kernels.definition.convolution import post_factor, pre_factor
from plasticity.kernels.geometry import Geometry

BLOCK = 16  # synapses at a time


def coactivity(
    x: Array,
    winner: Array,
    synapses: np.ndarray,
    geometry: Geometry,
    drive: Array | None = None,
) -> Array:
    """`sum over positions p of drive_j(p) post_j(p) pre_i(p + offset)` by input, `(N, S)`.

    Args:
        x: `(N, *space, C)`; winner: see `convolution.forward`.
        synapses: post, pre and kernel offset of each, int `(S, 2 + dims)`, on the host.
        drive: of the shape of `winner`; None for 1 everywhere.
    """
    xp, space = array_module(x, winner, drive), geometry.output(x.shape[1:-1])
    out = xp.zeros((len(x), len(synapses)), x.dtype)
    ones, spatial = xp.ones((len(x), 1), x.dtype), tuple(range(1, 1 + len(space)))
    for offset in {tuple(int(i) for i in row[2:]) for row in synapses}:
        view = pre_factor(x, offset, geometry)
        here = np.flatnonzero((synapses[:, 2:] == offset).all(axis=1))
        for start in range(0, len(here), BLOCK):
            some = here[start : start + BLOCK]
            j, i = (xp.asarray(synapses[some, d]) for d in (0, 1))
            own = xp.broadcast_to(ones, (len(x), len(some))) if drive is None else drive[..., j]
            post = post_factor(winner[..., j], own, geometry, space)
            out[:, xp.asarray(some)] = (post * view[..., i]).sum(axis=spatial)
    return out
