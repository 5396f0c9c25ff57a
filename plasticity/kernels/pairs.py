"""Chosen synapses, one by one: what post and pre have in common in every patch."""

import numpy as np

from plasticity.arrays import Array, array_module
from plasticity.kernels.direct import output_space, post_factor, pre_factor

BLOCK = 16  # synapses at a time


def coactivity(
    x: Array,
    winner: Array,
    synapses: np.ndarray,
    kernel: tuple[int, ...],
    pool: int | tuple[int, ...] = 1,
    drive: Array | None = None,
    *,
    stride: int | tuple[int, ...] = 1,
    padding: int | tuple[int, ...] = 1,
) -> Array:
    """`sum over positions p of drive_j(p) post_j(p) pre_i(p + offset)` by patch, `(N, S)`.

    Args:
        x: `(N, *space, C)`; winner: see `direct.forward`.
        synapses: post, pre and kernel offset of each, int `(S, 2 + dims)`, on the host.
        drive: of the shape of `winner`; None for 1 everywhere, which alone has a compiled form on
            the CPU.
    """
    xp = array_module(x, winner, drive)
    sizes = [_one(value) for value in (pool, stride, padding)]
    if x.ndim == 4 and None not in sizes:
        if xp is not np and x.dtype.char in "fd":
            from plasticity.kernels import cuda

            return cuda.coactivity(x, winner, synapses, drive, *sizes)
        if xp is np and x.dtype == np.float32 and drive is None:
            from plasticity.kernels import pairs_cpu

            out = np.empty((len(x), len(synapses)), x.dtype)
            pairs_cpu.coactivity(*map(np.ascontiguousarray, (x, winner)), synapses, *sizes, out)
            return out
    out = xp.zeros((len(x), len(synapses)), x.dtype)
    space = output_space(x.shape[1:-1], kernel, stride, padding)
    ones, spatial = xp.ones((len(x), 1), x.dtype), tuple(range(1, 1 + len(space)))
    for offset in {tuple(int(i) for i in row[2:]) for row in synapses}:
        view = pre_factor(x, offset, kernel, stride, padding)
        here = np.flatnonzero((synapses[:, 2:] == offset).all(axis=1))
        for start in range(0, len(here), BLOCK):
            some = here[start : start + BLOCK]
            j, i = (xp.asarray(synapses[some, d]) for d in (0, 1))
            own = xp.broadcast_to(ones, (len(x), len(some))) if drive is None else drive[..., j]
            post = post_factor(winner[..., j], own, pool, space)
            out[:, xp.asarray(some)] = (post * view[..., i]).sum(axis=spatial)
    return out


def _one(value: int | tuple[int, ...]) -> int | None:
    """The size that all dimensions share, or None."""
    several = {value} if isinstance(value, int) else {*value}
    return several.pop() if len(several) == 1 else None
