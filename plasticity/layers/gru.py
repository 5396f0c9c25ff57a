"""A gated recurrent unit, with e-prop, BPTT or neither for its credit in time."""

import math
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from plasticity import kernels
from plasticity.arrays import Array, array_module, to_host
from plasticity.errors import UserError
from plasticity.layers.layer import Parameters

PARAMETERS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
TRACED = 2**22  # traces, of synapses at times, that are held at once


@dataclass(frozen=True)
class GruSeen:
    """What a GRU met in a step: see `layers.Seen`.

    A synapse's update is the sum over time of a signal at its neuron and its eligibility trace,
    Eq. (18) to (21): `signal_j(t) e_ji(t)`. Under `eprop` and `none` the signal is the rule's
    drive; under `none` the trace is the immediate post x pre alone. BPTT has no trace that a
    synapse could keep: there the signal is lambda, which comes back from the future, and the trace
    is the immediate part.

    Attributes:
        x: input `(M, T, I)`; h: activity `(M, T, H)`; gates: see `kernels.gru_forward`.
        error: the signal, `(M, T, H)`; carried: lambda, what it comes to with all that comes back
            from later steps.
    """

    layer: "Gru"
    x: Array
    h: Array
    gates: Array
    error: Array
    carried: Array
    changes: dict[str, Array]
    state: dict[str, Array] = field(default_factory=dict)
    read: bool = False

    @property
    def space(self) -> tuple[int, ...]:
        return self.h.shape[1:2]

    @property
    def driven(self) -> tuple[int, ...]:
        return self.h.shape[1:2]

    @property
    def positions(self) -> int:
        return self.h.shape[1]

    def neuron(self, index: tuple[int, ...]) -> int:
        return index[0] % self.layer.outputs

    def through(self, j: int, signal: np.ndarray, inputs: Array | None = None) -> np.ndarray:
        signal = signal.reshape(len(signal), -1).astype(float)
        count = len(self.x) if inputs is None else len(inputs)
        return np.broadcast_to(signal, (count, self.positions))

    def pre(self, parameter: str, index: tuple[int, ...]) -> np.ndarray:
        """The eligibility trace of a synapse at every step `(M, T)`, float64."""
        return self._traces(parameter, np.array([index]), float)[..., 0]

    def now(self, parameter: str, index: tuple[int, ...]) -> np.ndarray:
        """The immediate part of a trace, post x pre, at every step `(M, T)`, float64."""
        at = np.array([index])
        return kernels.eligibility(parameter, at, self.x, self.h, self.gates, False, float)[..., 0]

    def _traces(self, parameter: str, synapses: np.ndarray, dtype: type | None = None) -> Array:
        leaky = self.layer.credit == "eprop"
        return kernels.eligibility(parameter, synapses, self.x, self.h, self.gates, leaky, dtype)

    def around(self, parameter: str, index: tuple[int, ...]) -> list[tuple[int, ...]]:
        return [index]

    def inhibition(self, j: int, weights: dict[str, np.ndarray]) -> dict[str, np.ndarray | None]:
        return {"won": None, "active": None}  # nobody is inhibited

    def windows(self, values: np.ndarray) -> np.ndarray:
        return values[..., None]  # nothing is pooled

    def wins(self, j: int) -> np.ndarray:
        return np.ones((*self.h.shape[:2], 1))

    def activity(self, dtype: type = float) -> Array:
        return array_module(self.h).ones((len(self.h), self.layer.outputs), dtype)

    @property
    def winners(self) -> float:
        return 1.0

    def silenced(self) -> dict[str, float]:
        return {}

    def coactivity(self, synapses: np.ndarray, drive: Array | None = None) -> Array:
        xp, few = array_module(self.x), max(1, TRACED // max(1, self.h[..., 0].size))
        found = xp.empty((len(self.x), len(synapses)), self.x.dtype)
        for start in range(0, len(synapses), few):
            some = slice(start, start + few)
            traces = self._traces(self.layer.main, synapses[some])
            if drive is not None:
                traces *= drive[..., xp.asarray(self.neuron(synapses[some].T))]
            found[:, some] = traces.sum(axis=1)
        return found

    def along(self, change: np.ndarray) -> np.ndarray:
        # The error through the post factors, times the response of `change`, as if it were weights.
        post = kernels.slopes(kernels.before(self.h), self.gates)[:, :, :3]
        carried = (self.carried[:, :, None] * post).reshape(len(self.x), -1)
        response = (self.x.reshape(-1, self.layer.inputs) @ change.T).reshape(carried.shape)
        return (carried * response).sum(axis=1, dtype=float)

    def on_host(self) -> "GruSeen":
        changes = {name: to_host(dW) for name, dW in self.changes.items()}
        names = ("x", "h", "gates", "error", "carried")
        return replace(self, changes=changes, **{n: to_host(getattr(self, n)) for n in names})


@dataclass(frozen=True)
class Gru:
    """A gated recurrent unit in torch's conventions, h_0 = 0 (Illing et al. 2021, appendix B.2).

    Attributes:
        credit: how a signal finds synapses of earlier steps: `eprop`, eligibility traces
            (Eq. 18-21); `bptt`, errors back through time; `none`, not at all.
    """

    name: str
    inputs: int
    outputs: int
    credit: str = "eprop"

    recurrent: ClassVar[bool] = True
    normalised: ClassVar[bool] = False
    dims: ClassVar[int] = 1
    kernel: ClassVar[tuple[int, ...]] = ()
    linear: ClassVar[bool] = False
    main: ClassVar[str] = "weight_ih"  # the matrix that its input meets

    def __post_init__(self) -> None:
        if self.credit not in kernels.CREDITS:
            raise UserError(
                f"unknown --credit '{self.credit}': expected {', '.join(kernels.CREDITS)}"
            )

    @property
    def convolutions(self) -> tuple["Gru", ...]:
        """What has weights in this layer: itself."""
        return (self,)

    @property
    def read(self) -> tuple["Gru", ...]:
        """Itself, if the rule's drive and what a synapse keeps make its update: not under BPTT."""
        return () if self.credit == "bptt" else (self,)

    def branches(self, kept: tuple) -> list[Array]:
        """Nothing that a small step must not change: it is smooth."""
        return []

    @property
    def formula(self) -> str:
        """What it computes, in a line."""
        return f"{self.name}: h = (1 - z) n + z h_before, credit in time by {self.credit}"

    @property
    def torch_modules(self) -> tuple[str, ...]:
        """Nothing: it is no part of a Sequential of torch's."""
        return ()

    def in_torch(self, functional: Any, x: Any, params: dict[str, dict[str, Any]]) -> Any:
        """The same unit in torch's operations, whose gradient by autograd is the credit's.

        For e-prop the gates see the activity before without a gradient, and the leak with it; for
        `none` neither has one.

        Args:
            x: `(M, I, T)`, torch's order.
        """
        own, H = params[self.name], self.outputs
        h, found = x.new_zeros(len(x), H), x.new_empty(len(x), H, x.shape[2])
        for t, x_t in enumerate(x.unbind(2)):
            p = h if self.credit == "bptt" else h.detach()
            leaking = h.detach() if self.credit == "none" else h
            of_input = functional.linear(x_t, own["weight_ih"], own["bias_ih"]).split(H, 1)
            recurrent = functional.linear(p, own["weight_hh"], own["bias_hh"]).split(H, 1)
            r, z = ((a + b).sigmoid() for a, b in zip(of_input[:2], recurrent[:2], strict=True))
            n = (of_input[2] + r * recurrent[2]).tanh()
            h = (1 - z) * n + z * leaking
            found[..., t] = h
        return found

    @property
    def parameters(self) -> int:
        """How many weights and biases it has."""
        return 3 * self.outputs * (self.inputs + self.outputs + 2)

    def space(self, space: tuple[int, ...]) -> tuple[int, ...]:
        """The spatial shape after it: that of its input."""
        return space

    def prepare(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Its parameters, float64, uniform within 1/sqrt(H), as torch's GRU."""
        bound, rows = 1 / math.sqrt(self.outputs), 3 * self.outputs
        shapes = ((rows, self.inputs), (rows, self.outputs), (rows,), (rows,))
        return {
            name: rng.uniform(-bound, bound, shape)
            for name, shape in zip(PARAMETERS, shapes, strict=True)
        }

    def forward(
        self, x: Array, weights: Parameters, learning: bool = True
    ) -> tuple[Array, tuple | None, None]:
        """Activity `(M, T, H)`, and what `learn` needs if it is wanted: see `kernels`."""
        own = weights[self.name]
        h, kept = kernels.gru_forward(x, *(own[name] for name in PARAMETERS))
        return h, (x, h, kept) if learning else None, None

    def unpooled(self, potential: bool = False) -> "Gru":
        """Itself: nobody is inhibited."""
        return self

    def learn(
        self,
        kept: tuple,
        error: Array,
        weights: Parameters,
        below: bool,
        post: Array | None = None,
    ) -> tuple[list[GruSeen], Array | None]:
        """dW by the signals at its activity, and the error at its input: see `kernels.gru_learn`.

        Args:
            error: `(M, T, H)`, or `(M, H)` where all steps share it.
            post: None; the slopes of its gates are in the traces of its synapses.

        Raises:
            UserError: a post factor that the rule names.
        """
        if post is not None:
            raise UserError(
                f"the rule names its post factor, which {self.name} does not have: a GRU's gates "
                "make the post factors of its synapses; leave it out by --layers"
            )
        (x, h, gates), own = kept, weights[self.name]
        if error.ndim == 2:
            error = array_module(h).broadcast_to(error[:, None], h.shape)
        how = own["weight_ih"], own["weight_hh"], self.credit, below
        changes, carried, back = kernels.gru_learn(x, h, gates, error, *how)
        signal = carried if self.credit == "bptt" else error
        return [GruSeen(self, x, h, gates, signal, carried, changes)], back
