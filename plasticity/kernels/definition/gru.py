"""A gated recurrent unit by explicit rules (Cho et al. 2014, with torch's conventions).

Any dtype, NumPy or CuPy. With p = h_{t-1}, h_0 = 0 and s = W_hn p + b_hn,

    r = sigma(W_ir x + b_ir + W_hr p + b_hr)    z = sigma(W_iz x + b_iz + W_hz p + b_hz)
    n = tanh(W_in x + b_in + r s)               h = (1 - z) n + z p

Rows of weights and biases are those of r, then of z, then of n. What is done for all times at once,
the products with x and the sums over time, is the door's (`kernels.gru_forward`, `gru_learn`); here
is what goes from one time to the next. Sequences are `(M, T, channels)`.
"""

from plasticity.arrays import Array, array_module

CREDITS = ("eprop", "bptt", "none")
"""How the error at a neuron reaches the times before: see `gru_posts`."""


def gru_step(
    drive: Array, p: Array, weight_hh: Array, bias_ih: Array, bias_hh: Array
) -> tuple[Array, Array]:
    """One step of time: the state h `(M, H)` after p, and `gates (M, 4, H)`: r, z, n and s."""
    xp, (M, H) = array_module(drive, p, weight_hh), p.shape
    by_input = (drive + bias_ih).reshape(M, 3, H)
    by_state = (p @ weight_hh.T + bias_hh).reshape(M, 3, H)
    # sigma, written so that it never overflows
    r, z = ((1 + xp.tanh((by_input[:, g] + by_state[:, g]) / 2)) / 2 for g in (0, 1))
    s = by_state[:, 2]
    n = xp.tanh(by_input[:, 2] + r * s)
    return (1 - z) * n + z * p, xp.stack([r, z, n, s], axis=1)


def gru_states(
    drive: Array, weight_hh: Array, bias_ih: Array, bias_hh: Array
) -> tuple[Array, Array]:
    """The states `h (M, T, H)`, and `gates (M, T, 4, H)`.

    Args:
        drive: `W_ih x (M, T, 3H)`; weight_hh: `(3H, H)`; bias_ih, bias_hh: `(3H,)`.
    """
    xp, (M, T, _), H = array_module(drive, weight_hh), drive.shape, weight_hh.shape[1]
    h, gates = xp.empty((M, T, H), drive.dtype), xp.empty((M, T, 4, H), drive.dtype)
    p = xp.zeros((M, H), drive.dtype)
    for t in range(T):
        p, gates[:, t] = gru_step(drive[:, t], p, weight_hh, bias_ih, bias_hh)
        h[:, t] = p
    return h, gates


def before(h: Array) -> Array:
    """p, the state before each time, zero at first: `(M, T, H)`."""
    p = array_module(h).zeros_like(h)
    p[:, 1:] = h[:, :-1]
    return p


def slopes(p: Array, gates: Array) -> Array:
    """The slopes of h by what drives r, z and n, and by s: `(..., 4, H)`, for p `(..., H)`.

        g_n = (1 - z) (1 - n^2)    g_z = (p - n) z (1 - z)    g_r = g_n s r (1 - r)    g_s = g_n r

    They are the post factors of the synapses on a neuron, by gate.
    """
    r, z, n, s = (gates[..., g, :] for g in range(4))
    g_n = (1 - z) * (1 - n * n)
    g_z = (p - n) * z * (1 - z)
    return array_module(p).stack([g_n * s * r * (1 - r), g_z, g_n, g_n * r], axis=-2)


def gru_posts(
    error: Array, h: Array, gates: Array, weight_hh: Array, credit: str
) -> tuple[Array, Array, Array]:
    """The error through the post factors, backwards in time.

        lambda_t = L_t                                  none
                 + z_{t+1} lambda_{t+1}                 e-prop: the leak of the neuron itself
                 + W_hh^T (lambda post)_{t+1}           BPTT: and all other ways

    Args:
        error: L, what is wanted of h by what lies outside, `(M, T, H)`; credit: of `CREDITS`.

    Returns:
        `lambda post` of the synapses from the input and of those from the state, in the order of
        their rows, `(M, T, 3H)` each; and lambda `(M, T, H)`.
    """
    xp, (M, T, H) = array_module(error, h, gates, weight_hh), h.shape
    post, z, found = slopes(before(h), gates), gates[:, :, 1], error.copy()
    by_input, by_state = (xp.empty((M, T, 3 * H), h.dtype) for _ in range(2))
    for t in range(T - 1, -1, -1):
        if t + 1 < T and credit != "none":
            found[:, t] += z[:, t + 1] * found[:, t + 1]
        if t + 1 < T and credit == "bptt":
            found[:, t] += by_state[:, t + 1] @ weight_hh
        to = found[:, t, None] * post[:, t]
        by_input[:, t] = to[:, :3].reshape(M, 3 * H)
        by_state[:, t, : 2 * H], by_state[:, t, 2 * H :] = by_input[:, t, : 2 * H], to[:, 3]
    return by_input, by_state, found
