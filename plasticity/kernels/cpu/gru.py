"""A gated recurrent unit in float32: of each time one product by BLAS and one compiled loop.

A thread takes its share of the sequences through all times.
"""

from collections.abc import Callable

import numpy as np

from plasticity.arrays import Array
from plasticity.kernels.cpu import memory, threads
from plasticity.kernels.cpu.compiled import njit

F = np.float32
FAST = {"fastmath": {"contract", "nsz"}, "error_model": "numpy"}  # NaN stays what it is


def gru_states(
    drive: Array, weight_hh: Array, bias_ih: Array, bias_hh: Array
) -> tuple[Array, Array]:
    """See `definition.gru.gru_states`."""
    (M, T, _), H = drive.shape, weight_hh.shape[1]
    h, gates = memory.empty((M, T, H)), memory.empty((M, T, 4, H))
    turned = np.ascontiguousarray(weight_hh.T)

    def share(part: slice) -> None:
        own = drive[part], h[part], gates[part]
        p, by_state = np.zeros((len(own[0]), H), F), np.empty((len(own[0]), 3 * H), F)
        for t in range(T):
            np.matmul(p, turned, out=by_state)
            _step(t, p, by_state, bias_ih, bias_hh, *own)

    _each(share, M)
    return h, gates


def gru_posts(
    error: Array, h: Array, gates: Array, weight_hh: Array, credit: str
) -> tuple[Array, Array, Array]:
    """See `definition.gru.gru_posts`."""
    M, T, H = h.shape
    by_input, by_state, found = (memory.empty((M, T, n * H)) for n in (3, 3, 1))
    leaky, recurrent = np.float32(credit != "none"), credit == "bptt"

    def share(part: slice) -> None:
        own = [a[part] for a in (error, h, gates, by_input, by_state, found)]
        later = np.zeros((len(own[0]), H), F)
        for t in range(T - 1, -1, -1):
            if recurrent and t + 1 < T:
                np.matmul(by_state[part, t + 1], weight_hh, out=later)
            _step_back(t, leaky, later, *own)

    _each(share, M)
    return by_input, by_state, found


def _each(share: Callable[[slice], None], M: int) -> None:
    threads.each(lambda span: share(slice(*span)), threads.shares(M))


@njit(inline="always", **FAST)
def _exp(x):
    """e^x to two units in the last place, in steps that vectors take (Cephes, `expf`)."""
    x = F(88) if x > F(88) else x
    x = F(-87) if x < F(-87) else x
    power = np.floor(x * F(1.44269504) + F(0.5))
    x = x - power * F(0.693359375) + power * F(2.12194440e-4)
    y = F(1.9875691500e-4)
    y = y * x + F(1.3981999507e-3)
    y = y * x + F(8.3334519073e-3)
    y = y * x + F(4.1665795894e-2)
    y = y * x + F(1.6666665459e-1)
    y = y * x + F(5.0000001201e-1)
    y = y * x * x + x + F(1)
    return y * np.int32((np.int32(power) + 127) << 23).view(np.float32)


@njit(inline="always", **FAST)
def _tanh(x):
    """tanh x likewise: a series near 0, where the quotient would lose digits (Cephes, `tanhf`)."""
    size, square = abs(x), x * x
    y = F(-5.70498872745e-3)
    y = y * square + F(2.06390887954e-2)
    y = y * square + F(-5.37397155531e-2)
    y = y * square + F(1.33314422036e-1)
    y = y * square + F(-3.33332819422e-1)
    far = F(1) - F(2) / (_exp(size + size) + F(1))
    far = -far if x < F(0) else far
    return y * square * x + x if size < F(0.625) else far


@njit(**FAST)
def _step(t, p, by_state, bias_ih, bias_hh, drive, h, gates):
    M, H = p.shape
    for m in range(M):
        x, u, state, to, now = drive[m, t], by_state[m], p[m], gates[m, t], h[m, t]
        for j in range(2 * H):
            u[j] = F(1) / (F(1) + _exp(-(x[j] + bias_ih[j] + u[j] + bias_hh[j])))
        r, z, s = u[:H], u[H : 2 * H], u[2 * H :]
        own_ih, own_hh, x = bias_ih[2 * H :], bias_hh[2 * H :], x[2 * H :]
        for j in range(H):
            s[j] += own_hh[j]
            n = _tanh(x[j] + own_ih[j] + r[j] * s[j])
            to[2, j] = n
            state[j] = (F(1) - z[j]) * n + z[j] * state[j]
        to[0], to[1], to[3], now[:] = r, z, s, state


@njit(**FAST)
def _step_back(t, leaky, later, error, h, gates, by_input, by_state, found):
    M, T, H = h.shape
    one, start = F(1), np.zeros(H, F)
    for m in range(M):
        size, to_input, to_state = found[m, t], by_input[m, t], by_state[m, t]
        size[:] = error[m, t] + later[m]
        if t + 1 < T:
            size += leaky * gates[m, t + 1, 1] * found[m, t + 1]
        p, own = h[m, t - 1] if t else start, gates[m, t]
        for j in range(H):
            r, z, n, s = own[0, j], own[1, j], own[2, j], own[3, j]
            g_n = size[j] * ((one - z) * (one - n * n))
            g_z = size[j] * ((p[j] - n) * z * (one - z))
            g_r = g_n * s * r * (one - r)
            to_input[j] = to_state[j] = g_r
            to_input[H + j] = to_state[H + j] = g_z
            to_input[2 * H + j] = g_n
            to_state[2 * H + j] = g_n * r
