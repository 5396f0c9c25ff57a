"""Limits that hold on every processor: sums differ by their rounding and by no more.

BLAS, vector units and fused multiply-adds order and round the summands of a sum each in their own
way. In any order the rounding of n summands is at most about n eps times the sum of their absolute
values (Higham, Accuracy and Stability of Numerical Algorithms, 2nd edition, section 4.2), however
small the sum itself is.
"""

import numpy as np

from plasticity.kernels.definition import convolution
from plasticity.kernels.geometry import SILENT, Geometry


def close(found, wanted, size, terms):
    """Assert that two results of one sum agree to rounding.

    Args:
        size: the sum of the summands' absolute values, for each element or one for all.
        terms: the roundings on the way to an element: its summands, and a few for each factor.
    """
    found, wanted = np.asarray(found), np.asarray(wanted)
    assert found.shape == wanted.shape
    eps = max(np.finfo(a.dtype).eps for a in (found, wanted))
    error, limit = np.abs(found - wanted), np.broadcast_to(terms * eps * size, wanted.shape)
    assert (error <= limit).all(), f"{(error - limit).max():.2e} beyond {terms} roundings"


def close_to_the_largest(found, wanted, size, limit):
    """Assert that sums agree to `limit` of the largest of their sizes.

    For Winograd's transforms, which mix the values of a tile: a small sum is as inexact there as
    the large ones beside it.
    """
    assert found.shape == wanted.shape
    if wanted.size:
        assert np.abs(found - wanted).max() <= limit * np.max(size)


def sizes_of(x, weight, bias, winner, drive, geometry: Geometry):
    """The sums of their summands' absolute values, of the activity, dW, db and the error below."""
    x, weight, bias, drive = (np.abs(a).astype(float) for a in (x, weight, bias, drive))
    activity = convolution.convolve(x, weight, bias, geometry)
    error = convolution.back(winner, drive, weight, x.shape[1:-1], geometry)
    return activity, *convolution.correlate(x, winner, drive, geometry), error


def close_slope(slope, dW, direction, limit=1e-5, noise=0.0):
    """Assert that a slope by finite differences is dW along `direction`, cancelled or not.

    `noise` is the rounding of the difference over its step, where dW itself may cancel.
    """
    parts = dW * direction
    assert abs(slope - parts.sum()) <= limit * np.abs(parts).sum() + noise


def adds_up(share, dW):
    """Assert that shares in float32, `(..., roles, k)`, make dW, beside the largest sum of them.

    A run in float64 leaves the rounding of the shares. One in float32 adds its own: each dW there
    is a sum of some 10^4 products, of both signs and so larger in all than the shares that they
    make, and n eps is 10^-3.
    """
    assert np.abs(dW).max() > 0
    parts = share.reshape(*dW.shape, -1)
    limit = 1e-3 if dW.dtype == np.float32 else parts.shape[-1] * np.finfo(share.dtype).eps
    error = np.abs(parts.sum(axis=-1, dtype=float) - dW).max()
    assert error <= limit * np.abs(parts).sum(axis=-1).max()


def at_winners(winner, a, geometry: Geometry):
    """The activity `(N, *pooled, O)` of the neuron that `winner` names in each pool, else 0.

    Which of two neurons wins is up to rounding where they are equal but for it; how active the
    winner is, is not.
    """
    spans = list(zip(geometry.pool_stride, winner.shape[1:-1], strict=True))
    found = np.zeros(winner.shape, a.dtype)
    for code, offset in enumerate(np.ndindex(*geometry.pool)):
        window = (slice(o, o + s * n, s) for o, (s, n) in zip(offset, spans, strict=True))
        found = np.where(winner == code, a[:, *window], found)
    assert ((winner == SILENT) | (winner <= code)).all()
    return found


def gru_limits(drive, weight_hh, bias_ih, bias_hh, h, gates, eps):
    """How far rounding may take `h` and `gates`, float64, in a form of precision `eps`.

    A bound for each time: the roundings of its own sums, and what the times before hand on through
    the weights. sigma has slopes up to 1/4 and tanh up to 1; each takes a few roundings itself.
    """
    (M, T, H), W, few = h.shape, np.abs(weight_hh), 8
    p, dp, dh, dgates = np.zeros((M, H)), np.zeros((M, H)), np.empty_like(h), np.empty_like(gates)
    for t in range(T):
        by_input = np.abs(drive[:, t]) + np.abs(bias_ih)
        by_state = np.abs(p) @ W.T + np.abs(bias_hh)
        moved = dp @ W.T
        r, z, n, s = gates[:, t].transpose(1, 0, 2)
        da = (H + few) * eps * (by_input + by_state) + moved
        dr, dz = (part / 4 + few * eps for part in (da[:, :H], da[:, H : 2 * H]))
        ds = (H + few) * eps * by_state[:, 2 * H :] + moved[:, 2 * H :]
        summed = few * eps * (by_input[:, 2 * H :] + np.abs(r * s))
        dn = summed + dr * np.abs(s) + (r + dr) * ds + few * eps
        dp = (1 - z) * dn + np.abs(n - p) * dz + z * dp + dz * (dn + dp) + few * eps
        dgates[:, t], dh[:, t], p = np.stack([dr, dz, dn, ds], axis=1), dp, h[:, t]
    return dh, dgates


def gru_sizes(error, h, gates, weight_hh, credit):
    """The sums of their summands' absolute values of what `gru_posts` gives, and their number."""
    (M, T, H), W = h.shape, np.abs(weight_hh)
    lam, by_input, by_state = np.abs(error), np.zeros((M, T, 3 * H)), np.zeros((M, T, 3 * H))
    for t in range(T - 1, -1, -1):
        if t + 1 < T and credit != "none":
            lam[:, t] += gates[:, t + 1, 1] * lam[:, t + 1]
        if t + 1 < T and credit == "bptt":
            lam[:, t] += by_state[:, t + 1] @ W
        r, z, n, s = np.abs(gates[:, t]).transpose(1, 0, 2)
        p = np.abs(h[:, t - 1]) if t else 0
        g_n, g_z = (1 - z) * (1 + n * n), (p + n) * z * (1 - z)
        both = [g_n * s * r * (1 - r), g_z]
        by_input[:, t] = np.concatenate([lam[:, t] * g for g in (*both, g_n)], axis=1)
        by_state[:, t] = np.concatenate([lam[:, t] * g for g in (*both, g_n * r)], axis=1)
    return by_input, by_state, lam, T * (3 * H + 16)
