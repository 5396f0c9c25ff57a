"""A kind of layer that the package does not have, as CONTRIBUTING.md says, and a network of it."""

import math
from dataclasses import dataclass

import numpy as np

from plasticity.network import Conv, Network


@dataclass(frozen=True)
class DenseSeen:
    """What a dense layer met in a step: see `layers.Seen`."""

    layer: "Dense"
    x: np.ndarray
    y: np.ndarray
    error: np.ndarray
    changes: dict
    read: bool = False
    post: np.ndarray | None = None

    @property
    def space(self):
        return self.x.shape[1:-1]

    driven = space

    @property
    def positions(self):
        return math.prod(self.space)

    def neuron(self, index):
        return index[0]

    def _slope(self, j):
        slope = 1 - self.y[..., j] ** 2
        if self.post is not None:
            slope = np.broadcast_to(self.post, self.y.shape)[..., j]
        return slope.reshape(len(slope), -1)

    def through(self, j, signal, inputs=None):
        slope = self._slope(j)
        slope = slope if inputs is None else slope[inputs]
        return slope * signal.reshape(len(signal), -1)

    def pre(self, parameter, index):
        met = np.ones(self.x.shape[:-1]) if parameter == "bias" else self.x[..., index[1]]
        return met.reshape(len(met), -1).astype(float)

    def around(self, parameter, index):
        return [index]

    def inhibition(self, j, weights):
        return {"won": None, "active": None}

    def activity(self, dtype=float):
        return np.ones((len(self.x), self.layer.outputs), dtype)

    @property
    def winners(self):
        return 1.0

    def silenced(self):
        return {}

    def coactivity(self, synapses, drive=None):
        found = np.empty((len(self.x), len(synapses)), self.x.dtype)
        for s, at in enumerate(synapses):
            one = np.ones((len(self.x), 1)) if drive is None else drive[..., at[0]]
            found[:, s] = (self.through(at[0], one) * self.pre("weight", tuple(at))).sum(axis=1)
        return found

    def along(self, change):
        found = np.zeros(len(self.x))
        for j, i in np.ndindex(change.shape):
            driven = self.through(j, self.error[..., j])
            found += change[j, i] * (driven * self.pre("weight", (j, i))).sum(axis=1)
        return found

    def on_host(self):
        return self


@dataclass(frozen=True)
class Dense:
    """y = tanh(W x + b) at every position."""

    name: str
    inputs: int
    outputs: int
    dims: int = 2
    recurrent = linear = False
    kernel = ()
    main = "weight"
    torch_modules = ()

    @property
    def formula(self):
        return f"{self.name}: y = tanh(W x + b)"

    @property
    def convolutions(self):
        return (self,)

    read = convolutions

    @property
    def parameters(self):
        return self.outputs * (self.inputs + 1)

    def prepare(self, rng):
        bound = self.inputs**-0.5
        return {
            "weight": rng.uniform(-bound, bound, (self.outputs, self.inputs)),
            "bias": rng.uniform(-bound, bound, self.outputs),
        }

    def space(self, space):
        return space

    def unpooled(self, potential=False):
        return self

    def branches(self, kept):
        return []

    def forward(self, x, weights, learning=True):
        own = weights[self.name]
        y = np.tanh(x @ own["weight"].T + own["bias"])
        mean = y.mean(axis=tuple(range(1, y.ndim - 1)))
        return y, (x, y) if learning else None, mean

    def learn(self, kept, error, weights, below, post=None):
        (x, y), W = kept, weights[self.name]["weight"]
        if error.ndim == 2:
            error = np.broadcast_to(error[:, None, None], y.shape)
        passed = error * ((1 - y * y) if post is None else post)
        rows = passed.reshape(-1, self.outputs)
        changes = {"weight": rows.T @ x.reshape(-1, self.inputs), "bias": rows.sum(axis=0)}
        seen = DenseSeen(self, x, y, error, changes, post=post)
        return [seen], passed @ W if below else None

    def in_torch(self, functional, x, params):
        own = params[self.name]
        moved = functional.linear(x.movedim(1, -1), own["weight"], own["bias"])
        return moved.tanh().movedim(-1, 1)


def build(width=1.0):
    """A convolution below, and two dense layers."""
    return Network(
        "dense", (Conv("conv1", 1, 4, pool=2), Dense("dense2", 4, 5), Dense("dense3", 5, 3))
    )
