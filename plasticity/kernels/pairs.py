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
    *,
    stride: int | tuple[int, ...] = 1,
    padding: int | tuple[int, ...] = 1,
) -> Array:
    """`sum over positions p of post_j(p) pre_i(p + offset)` by patch, `(N, S)`.

    Args:
        x: `(N, *space, C)`; winner: see `direct.forward`.
        synapses: post, pre and kernel offset of each, int `(S, 2 + dims)`, on the host.
    """
    xp = array_module(x, winner)
    out = xp.zeros((len(x), len(synapses)), x.dtype)
    if _compiled(x, winner, pool, stride, padding):
        from plasticity.kernels import pairs_cpu

        side = pool if isinstance(pool, int) else pool[0]
        pairs_cpu.coactivity(
            *map(np.ascontiguousarray, (x, winner)),
            synapses,
            side,
            _one(stride),
            _one(padding),
            out,
        )
        return out
    space = output_space(x.shape[1:-1], kernel, stride, padding)
    ones, spatial = xp.ones((len(x), 1), x.dtype), tuple(range(1, 1 + len(space)))
    for offset in {tuple(int(i) for i in row[2:]) for row in synapses}:
        view = pre_factor(x, offset, kernel, stride, padding)
        here = np.flatnonzero((synapses[:, 2:] == offset).all(axis=1))
        for start in range(0, len(here), BLOCK):
            some = here[start : start + BLOCK]
            j, i = (xp.asarray(synapses[some, d]) for d in (0, 1))
            drive = xp.broadcast_to(ones, (len(x), len(some)))
            post = post_factor(winner[..., j], drive, pool, space)
            out[:, xp.asarray(some)] = (post * view[..., i]).sum(axis=spatial)
    return out


def _one(value: int | tuple[int, ...]) -> int:
    return value if isinstance(value, int) else value[0]


def _compiled(x: Array, winner: Array, pool: object, stride: object, padding: object) -> bool:
    same = all(isinstance(v, int) or len({*v}) == 1 for v in (pool, stride, padding))
    return isinstance(x, np.ndarray) and x.dtype == np.float32 and x.ndim == 4 and same
