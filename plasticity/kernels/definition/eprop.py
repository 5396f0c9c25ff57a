"""e-prop (Bellec et al. 2020) of a GRU as its synapses do it: forwards in time, by traces.

A trace of each synapse remembers what post and pre had in common, for as long as the neuron itself
remembers (Illing et al. 2021, Eq. 18 to 21):

    e_t,ji = z_t,j e_{t-1,ji} + post_t,j pre_t,i        dW_ji = sum_t L_t,j e_t,ji

with z the leak of neuron j, post the slope of h_t,j by the drive of the synapse's gate, pre the
input x_i, the state p_i or 1, and L_t,j what is wanted of h_t,j. The sums are those of
`gru.gru_posts`, which goes backwards and keeps no traces: training takes that, and inspection
these. Any dtype, NumPy or CuPy.
"""

import numpy as np

from plasticity.arrays import Array, array_module
from plasticity.kernels.definition.gru import before, gru_step, slopes


def every(shape: tuple[int, ...]) -> np.ndarray:
    """All synapses of a parameter of this shape, `(S, dims)`, in the order of their numbers."""
    return np.indices(shape).reshape(len(shape), -1).T


def parts(
    parameter: str,
    synapses: np.ndarray,
    x: Array,
    p: Array,
    gates: Array,
    dtype: type | None = None,
) -> tuple[Array, Array, Array]:
    """Of chosen synapses post, pre and the leak of the neuron, `(..., S)` each.

    Args:
        parameter: `weight_ih`, `weight_hh`, `bias_ih` or `bias_hh`; synapses: their entries in
            it, `(S, dims)`, on the host.
        x, p, gates: input `(..., I)`, state before `(..., H)` and gates `(..., 4, H)`; dtype: of
            the result, by default theirs.
    """
    xp, dtype = array_module(x, p, gates), dtype or p.dtype
    gate, j = np.divmod(synapses[:, 0], p.shape[-1])
    if parameter.endswith("_hh"):
        gate = np.where(gate == 2, 3, gate)  # a synapse of W_hn acts on s
    p_j, gates_j = (a[..., xp.asarray(j)].astype(dtype) for a in (p, gates))
    post = (slopes(p_j, gates_j) * xp.asarray(gate == np.arange(4)[:, None])).sum(axis=-2)
    if parameter.startswith("bias"):
        pre = xp.ones_like(post)
    else:
        met = x if parameter == "weight_ih" else p
        pre = met[..., xp.asarray(synapses[:, 1])].astype(dtype)
    return post, pre, gates_j[..., 1, :]


def eligibility(
    parameter: str,
    synapses: np.ndarray,
    x: Array,
    h: Array,
    gates: Array,
    leaky: bool = True,
    dtype: type | None = None,
) -> Array:
    """The traces e of chosen synapses at every time, `(M, T, S)`: see `parts`.

    Those that are not `leaky` are of synapses that remember nothing: post times pre of now.
    """
    post, pre, leak = parts(parameter, synapses, x, before(h), gates, dtype)
    e = post * pre
    if leaky:
        for t in range(1, e.shape[1]):
            e[:, t] += leak[:, t] * e[:, t - 1]
    return e


def change(error: Array, synapses: np.ndarray, traces: Array) -> Array:
    """dW of chosen synapses `(S,)`: the error `(M, T, H)` at their neurons times their traces."""
    j = array_module(error, traces).asarray(synapses[:, 0] % error.shape[-1])
    return (error[..., j] * traces).sum(axis=(0, 1))


class Online:
    """A GRU that learns as time goes on, in memory that does not grow with it.

    What is wanted of h_t is there at t + k, with the target of step k (k = 1 to K). So a synapse
    keeps its traces of K times beside that of now, in a ring.

    Attributes:
        changes: dW so far, by parameter.
    """

    def __init__(self, weights: dict[str, Array], batch: int, steps: int) -> None:
        """`weights` by parameter; `batch`: sequences side by side, M; `steps`: K."""
        xp, H = array_module(*weights.values()), weights["weight_hh"].shape[1]
        self.weights, self.time = weights, 0
        self.changes = {name: xp.zeros_like(own) for name, own in weights.items()}
        self._synapses = {name: every(own.shape) for name, own in weights.items()}
        self._ring = {
            name: xp.zeros((steps + 1, batch, own.size), own.dtype) for name, own in weights.items()
        }
        self._p = xp.zeros((batch, H), weights["weight_hh"].dtype)

    def step(self, x: Array, arriving: Array) -> Array:
        """One step of time: the state h_t `(M, H)`.

        Args:
            x: `(M, I)`; arriving: for k = 1 to K what is wanted of h_{t-k}, `(K, M, H)`; before
                the first time nothing is.
        """
        own, p = self.weights, self._p
        drive = x @ own["weight_ih"].T
        h, gates = gru_step(drive, p, *(own[n] for n in ("weight_hh", "bias_ih", "bias_hh")))
        for name, ring in self._ring.items():
            synapses = self._synapses[name]
            post, pre, leak = parts(name, synapses, x, p, gates)
            now, before = self.time % len(ring), (self.time - 1) % len(ring)
            ring[now] = leak * ring[before] + post * pre
            for k, error in enumerate(arriving, start=1):
                traces = ring[(self.time - k) % len(ring)]
                dW = change(error[:, None], synapses, traces[:, None])
                self.changes[name] += dW.reshape(own[name].shape)
        self._p, self.time = h, self.time + 1
        return h
