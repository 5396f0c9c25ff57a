"""A gated recurrent unit and its plasticity, in plain array operations (Eq. 18 to 21).

Conventions are torch's: gates in the order r, z, n, both biases, h_0 = 0. With p = h_{t-1},

    s = W_hn p + b_hn
    r = sigma(W_ir x + b_ir + W_hr p + b_hr)    z = sigma(W_iz x + b_iz + W_hz p + b_hz)
    n = tanh(W_in x + b_in + r s)               h = (1 - z) n + z p

The slopes of h_j by the drive of each of its gates are the post factors

    g_n = (1 - z)(1 - n^2)      g_z = (p - n) z (1 - z)      g_r = g_n s r (1 - r)

and a synapse's immediate part is post x pre: g x for the input's weights, and g_r p, g_z p and
g_n r p for the recurrent ones.
"""

from plasticity.arrays import Array, array_module

CREDITS = ("eprop", "bptt", "none")
Kept = tuple[Array, Array, Array, Array]
"""r, z, n and s of every step, each `(M, T, H)`."""


def _sigma(a: Array) -> Array:
    return 0.5 * (1 + array_module(a).tanh(0.5 * a))  # large values do not overflow


def gru_forward(
    x: Array, weight_ih: Array, weight_hh: Array, bias_ih: Array, bias_hh: Array
) -> tuple[Array, Kept]:
    """The unit's activity `h (M, T, H)` for inputs `x (M, T, I)`, and what its plasticity needs.

    Args:
        weight_ih: `(3H, I)`; weight_hh: `(3H, H)`; bias_ih, bias_hh: `(3H,)`.
    """
    xp, (M, T, _), H = array_module(x, weight_ih), x.shape, weight_hh.shape[1]
    drive = (x.reshape(M * T, -1) @ weight_ih.T + bias_ih).reshape(M, T, 3 * H)
    h, r, z, n, s = (xp.empty((M, T, H), x.dtype) for _ in range(5))
    p = xp.zeros((M, H), x.dtype)
    for t in range(T):
        recurrent = p @ weight_hh.T + bias_hh
        r[:, t] = _sigma(drive[:, t, :H] + recurrent[:, :H])
        z[:, t] = _sigma(drive[:, t, H : 2 * H] + recurrent[:, H : 2 * H])
        s[:, t] = recurrent[:, 2 * H :]
        n[:, t] = xp.tanh(drive[:, t, 2 * H :] + r[:, t] * s[:, t])
        p = h[:, t] = (1 - z[:, t]) * n[:, t] + z[:, t] * p
    return h, (r, z, n, s)


def before(h: Array) -> Array:
    """p: the activity one step earlier, 0 at first."""
    p = array_module(h).zeros_like(h)
    p[:, 1:] = h[:, :-1]
    return p


def post_factors(h: Array, kept: Kept) -> tuple[Array, Array]:
    """The slopes of h by the drives of its gates, `(M, T, 3H)`: by the input's and the recurrent.

    They differ in the gate n, whose recurrent drive s goes through r.
    """
    (r, z, n, s), p = kept, before(h)
    g_n = (1 - z) * (1 - n * n)
    g_z = (p - n) * z * (1 - z)
    g_r = g_n * s * r * (1 - r)
    xp = array_module(h)
    return xp.concatenate([g_r, g_z, g_n], axis=2), xp.concatenate([g_r, g_z, g_n * r], axis=2)


def gru_learn(
    x: Array,
    h: Array,
    kept: Kept,
    error: Array,
    weight_ih: Array,
    weight_hh: Array,
    credit: str,
    below: bool,
) -> tuple[dict[str, Array], Array, Array | None]:
    """dW of all parameters by the signals L that arrive at h, lambda, and the error at the input.

    Going back in time, `dW = sum over t of (lambda_t post_t) pre_t^T` with

        none:   lambda_t = L_t
        eprop:  lambda_t = L_t + z_{t+1} lambda_{t+1}
        bptt:   besides W_hr^T (lambda g_r)_{t+1} + W_hz^T (lambda g_z)_{t+1} +
                W_hn^T (lambda g_n r)_{t+1}

    e-prop in this form is equal to the sum of L times eligibility traces, see `traces`.

    Args:
        x: `(M, T, I)`; h, kept: of `gru_forward`; error: L `(M, T, H)`; credit: one of `CREDITS`.
        below: whether the error at the input `(M, T, I)` is wanted.
    """
    xp, (M, T, H) = array_module(x, error), h.shape
    of_input, recurrent = post_factors(h, kept)
    z, carried = kept[1], xp.zeros((M, H), h.dtype)
    signal = xp.empty_like(h)
    for t in reversed(range(T)):
        signal[:, t] = error[:, t] + carried
        if credit != "none":
            carried = z[:, t] * signal[:, t]
        if credit == "bptt":
            carried = carried + (xp.tile(signal[:, t], 3) * recurrent[:, t]) @ weight_hh
    posts = [(xp.tile(signal, 3) * g).reshape(M * T, 3 * H) for g in (of_input, recurrent)]
    pres = [a.reshape(M * T, a.shape[2]) for a in (x, before(h))]
    changes = {}
    for name, post, pre in zip(("ih", "hh"), posts, pres, strict=True):
        changes[f"weight_{name}"] = post.T @ pre
        changes[f"bias_{name}"] = post.sum(axis=0)
    return changes, signal, (posts[0] @ weight_ih).reshape(x.shape) if below else None


def traces(post: Array, pre: Array, z: Array | None) -> Array:
    """The eligibility traces of a neuron's synapses, Eq. (18) to (21).

        e_t = z_t e_{t-1} + post_t pre_t,    dW = sum over t of L_t e_t

    Args:
        post: `(M, T)`, one of the slopes of `post_factors`; pre: `(M, T, synapses)`, or `(M, T)` of
            a single one.
        z: the neuron's leak `(M, T)`; None keeps no trace (credit `none`).

    Returns:
        Of the shape of `pre`.
    """
    xp, one = array_module(post, pre), pre.ndim == 2
    now = post * pre if one else post[:, :, None] * pre
    if z is None:
        return now
    e, found = xp.zeros_like(now[:, 0]), xp.empty_like(now)
    for t in range(now.shape[1]):
        e = found[:, t] = (z[:, t] if one else z[:, t, None]) * e + now[:, t]
    return found
