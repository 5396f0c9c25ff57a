"""A convolution of one to three dimensions, with ReLU and MaxPool."""

import math
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from plasticity import kernels
from plasticity.arrays import Array, array_module, to_host
from plasticity.errors import UserError
from plasticity.kernels.geometry import Geometry, Pool, Sizes
from plasticity.layers.layer import Parameters

STARTS = ("uniform", "fan out")


@dataclass(frozen=True)
class ConvSeen:
    """What a convolution met in a step: see `layers.Seen`.

    Attributes:
        winner: see `kernels.forward`, 0 for all where nobody is inhibited.
        geometry: the layer's, or its linear part where the rule names the post factor.
        post: that factor, which broadcasts to `(M, *places, O)`; None where it is the layer's own.
    """

    layer: "Conv"
    x: Array
    winner: Array
    error: Array
    changes: dict[str, Array]
    geometry: Geometry
    post: Array | None = None
    state: dict[str, Array] = field(default_factory=dict)
    read: bool = False

    @property
    def kept(self) -> tuple:
        """What `learn` takes of the layer's forward pass."""
        return self.x, self.winner

    @property
    def reached(self) -> Array:
        """The winners whose synapses a drive reaches, see `kernels.forward`."""
        return self.winner

    @property
    def space(self) -> tuple[int, ...]:
        return self.geometry.output(self.x.shape[1:-1])

    @property
    def driven(self) -> tuple[int, ...]:
        return self.winner.shape[1:-1]

    @property
    def positions(self) -> int:
        return math.prod(self.driven)

    def neuron(self, index: tuple[int, ...]) -> int:
        return index[0]

    def through(self, j: int, signal: np.ndarray, inputs: Array | None = None) -> np.ndarray:
        won = self.winner[..., j : j + 1]
        won = won if inputs is None else won[inputs]
        if self.post is not None:
            post = np.broadcast_to(self.post, self.winner.shape)[..., j : j + 1]
            signal = wide(signal, post) * (post if inputs is None else post[inputs])
        post = kernels.post_factor(won, signal, self.geometry, self.space)
        return post.reshape(len(won), -1).astype(float)

    def pre(self, parameter: str, index: tuple[int, ...]) -> np.ndarray:
        if parameter == "bias":
            return np.ones((len(self.x), math.prod(self.space)))
        _, i, *offset = index
        met = kernels.pre_factor(self.x[..., i : i + 1], tuple(offset), self.geometry)
        return met.reshape(len(self.x), -1).astype(float)

    def around(self, parameter: str, index: tuple[int, ...]) -> list[tuple[int, ...]]:
        if parameter == "bias":
            return [index]
        return [(*index[:2], *offset) for offset in np.ndindex(*self.layer.kernel)]

    def inhibition(self, j: int, weights: dict[str, np.ndarray]) -> dict[str, np.ndarray | None]:
        if self.post is not None:
            return {"won": None, "active": None}
        # Whether a neuron that lost is active changes no update: its activation tells.
        weight, bias = (weights[name][j : j + 1] for name in ("weight", "bias"))
        a = kernels.convolve(self.x, weight, bias, self.geometry)
        won = self.through(j, np.ones((len(self.x), 1))) != 0
        return {"won": won, "active": won | (a > 0).reshape(won.shape)}

    def windows(self, values: np.ndarray) -> np.ndarray:
        axes = tuple(range(1, 1 + self.geometry.dims))
        maps = values.reshape(len(values), *self.space)
        every = np.lib.stride_tricks.sliding_window_view(maps, self.geometry.pool, axes)
        steps = (slice(None, None, by) for by in self.geometry.pool_stride)
        return every[:, *steps].reshape(len(values), self.positions, -1)

    def wins(self, j: int) -> np.ndarray:
        if self.post is not None:
            return self.through(j, np.ones((len(self.x), 1)))[..., None]
        winner = self.winner[..., j].reshape(len(self.x), -1, 1)
        return (winner == np.arange(self.geometry.competitors)).astype(float)

    def activity(self, dtype: type = float) -> Array:
        spatial = tuple(range(1, self.winner.ndim - 1))
        if self.post is not None:
            post = array_module(self.winner).broadcast_to(self.post, self.winner.shape)
            return post.mean(axis=spatial, dtype=dtype)
        return (self.reached != kernels.SILENT).mean(axis=spatial, dtype=dtype)

    @property
    def winners(self) -> float:
        if self.post is not None:
            return float((self.post != 0).mean())
        active = float((self.reached != kernels.SILENT).mean())
        return active / self.geometry.competitors

    def silenced(self) -> dict[str, float]:
        if self.post is not None:
            return {"where the post factor is 0": 1 - self.winners}
        winner, room = self.reached, math.prod(self.space) / self.positions
        silent = winner == kernels.SILENT
        active = (~silent).any(axis=tuple(range(winner.ndim - 1)))
        return {
            "lost their pool to another": float((1 - silent.mean()) * (1 - 1 / room)),
            "in a pool where none is active": float(silent.mean()),
            "won and active, reached by an update": float((1 - silent.mean()) / room),
            "neurons silent in every patch": float(1 - active.mean()),
        }

    def coactivity(self, synapses: np.ndarray, drive: Array | None = None) -> Array:
        if self.post is not None:
            xp, drive = array_module(self.winner), self.post if drive is None else self.post * drive
            drive = xp.ascontiguousarray(xp.broadcast_to(drive, self.winner.shape))
        return kernels.coactivity(self.x, self.winner, synapses, self.geometry, drive)

    def along(self, change: np.ndarray) -> np.ndarray:
        # The post factor times the response of `change`, as if it were weights, to the input.
        none = np.zeros(len(change), change.dtype)
        response = kernels.convolve(self.x, change, none, self.geometry)
        error = through(self.error, self.post)
        post = kernels.post_factor(self.winner, error, self.geometry, self.space)
        return (post * response).reshape(len(post), -1).sum(axis=1, dtype=float)

    def on_host(self) -> "ConvSeen":
        changes = {name: to_host(dW) for name, dW in self.changes.items()}
        arrays = {name: to_host(getattr(self, name)) for name in ("x", "winner", "error")}
        arrays["post"] = None if self.post is None else to_host(self.post)
        return replace(self, changes=changes, **arrays)


@dataclass(frozen=True)
class Conv:
    """A convolution with ReLU and, where `pool` > 1, a MaxPool that acts as lateral inhibition.

    Its spatial dimensions are those of `kernel`: one for sound, two for images, three for video.
    A `linear` one has neither ReLU nor MaxPool.

    Attributes:
        start: how its weights are drawn: `uniform` within 1/sqrt(fan in), biases too, as torch
            does; or `fan out`, normal with variance 2 / (outputs x kernel) (He et al. 2015), and
            biases 0, as the published video code does.
        precision: `float32`, or what the operands of its products are rounded to: see `Geometry`.
    """

    name: str
    inputs: int
    outputs: int
    kernel: tuple[int, ...] = (3, 3)
    stride: Sizes = 1
    padding: Sizes = 1
    pool: Sizes | Pool = 1
    linear: bool = False
    start: str = "uniform"
    precision: str = "float32"
    formula: ClassVar[str] = ""
    recurrent: ClassVar[bool] = False
    normalised: ClassVar[bool] = False
    main: ClassVar[str] = "weight"  # the matrix that its input meets
    geometry: Geometry = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        how = self.stride, self.padding, self.pool, self.linear, self.precision
        made = Geometry.of(self.kernel, *how)
        if self.start not in STARTS:
            raise UserError(f"start '{self.start}' of {self.name}: expected {' or '.join(STARTS)}")
        object.__setattr__(self, "geometry", made)

    @property
    def dims(self) -> int:
        """The spatial dimensions of its maps."""
        return self.geometry.dims

    @property
    def convolutions(self) -> tuple["Conv", ...]:
        """What has weights in this layer, from below: itself."""
        return (self,)

    @property
    def read(self) -> tuple["Conv", ...]:
        """The convolutions whose outputs add up to the layer's, which the rule reads at a top."""
        return (self,)

    def with_precision(self, precision: str) -> "Conv":
        """The same layer, its products of operands of that precision."""
        return replace(self, precision=precision)

    def branches(self, kept: tuple) -> list[Array]:
        """What a small step must not change, for a slope to be a difference: the winners."""
        return [] if kept[1] is None else [kept[1]]

    def in_torch(self, functional: Any, x: Any, params: dict[str, dict[str, Any]]) -> Any:
        """The same layer in torch's operations, for the reference that tests compare with.

        Args:
            functional: `torch.nn.functional`; x: `(M, C, *space)`, torch's order.
        """
        y = self._convolved_in_torch(functional, x, params[self.name])
        return self._pooled_in_torch(functional, functional.relu(y)) if not self.linear else y

    def _convolved_in_torch(self, functional: Any, x: Any, own: dict[str, Any]) -> Any:
        convolve = getattr(functional, f"conv{self.dims}d")
        how = self.geometry.stride, self.geometry.padding
        if "feedback" not in own:
            return convolve(x, own["weight"], own["bias"], *how)
        # The error comes down by these weights, which change nothing else.
        down = convolve(x, own["feedback"].detach(), None, *how)
        return convolve(x.detach(), own["weight"], own["bias"], *how) + down - down.detach()

    def _pooled_in_torch(self, functional: Any, y: Any) -> Any:
        pool = getattr(functional, f"max_pool{self.dims}d")
        geometry = self.geometry
        return pool(y, geometry.pool, geometry.pool_stride) if geometry.pools else y

    @property
    def torch_modules(self) -> tuple[str, ...]:
        """What it is in a Sequential of torch's."""
        pool = (f"MaxPool{self.geometry.dims}d",) if self.geometry.pools else ()
        return (f"Conv{self.geometry.dims}d", *(("ReLU", *pool) if not self.linear else ()))

    @property
    def parameters(self) -> int:
        """How many weights and biases it has."""
        return self.outputs * (self.inputs * math.prod(self.kernel) + 1)

    def space(self, space: tuple[int, ...]) -> tuple[int, ...]:
        """The spatial shape after convolution and pooling."""
        return self.geometry.space(space)

    def prepare(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Weight `(O, C, *kernel)` and bias `(O,)`, float64: see `start`."""
        bound = 1 / math.sqrt(self.inputs * math.prod(self.kernel))
        shape = (self.outputs, self.inputs, *self.kernel)
        if self.start == "fan out":
            std = math.sqrt(2 / (self.outputs * math.prod(self.kernel)))
            return {"weight": rng.normal(0, std, shape), "bias": np.zeros(self.outputs)}
        return {
            "weight": rng.uniform(-bound, bound, shape),
            "bias": rng.uniform(-bound, bound, self.outputs),
        }

    def forward(
        self, x: Array, weights: Parameters, learning: bool = True
    ) -> tuple[Array, tuple | None, Array]:
        """Activity, what `learn` needs (input and winners) if it is wanted, and encoding.

        See `kernels.forward`.
        """
        own = weights[self.name]
        y, winner, z = kernels.forward(x, own["weight"], own["bias"], self.geometry, learning)
        return y, (x, winner) if learning else None, z

    def unpooled(self, potential: bool = False) -> "Conv":
        """The layer whose output is the activity before the pool, or the potential a there."""
        if self.linear or not (potential or self.geometry.pools):
            return self
        return replace(self, pool=1, linear=potential)

    def learn(
        self,
        kept: tuple,
        error: Array,
        weights: Parameters,
        below: bool,
        post: Array | None = None,
    ) -> tuple[list[ConvSeen], Array | None]:
        """dW from what `forward` kept and the error at the output, and the error at the input.

        The latter, for modules of several layers, is None unless `below`. See `kernels.correlate`
        and `kernels.back`.

        Args:
            post: a factor in the place of rho' and of the pool's winner, which broadcasts to
                `(M, *places, O)`; the error is then of the places before the pool too.
        """
        (x, winner), geometry, passed = kept, self.geometry, error
        if post is not None:
            winner, geometry, passed = None, self.geometry.linear, through(error, post)
        changes, back = self._correlated(x, winner, passed, geometry, weights, below)
        if winner is None:
            xp, shape = array_module(x), (len(x), *geometry.space(x.shape[1:-1]), self.outputs)
            winner = xp.broadcast_to(xp.zeros((), xp.uint8), shape)
        return [ConvSeen(self, x, winner, error, changes, geometry, post)], back

    def _correlated(
        self,
        x: Array,
        winner: Array | None,
        error: Array,
        geometry: Geometry,
        weights: Parameters,
        below: bool,
    ) -> tuple[dict[str, Array], Array | None]:
        """dW of weight and bias, and the error at the input."""
        dW, db = kernels.correlate(x, winner, error, geometry)
        changes = {"weight": dW, "bias": db}
        if not below:
            return changes, None
        own, space = weights[self.name], x.shape[1:-1]
        weight = own.get("feedback", own["weight"])  # fixed ones in the transposed ones' place
        return changes, kernels.back(winner, error, weight, space, geometry)


def wide(error: Array, post: Array) -> Array:
    """An error that all positions of an input share, in as many dimensions as the post factor."""
    if error.ndim == post.ndim:
        return error
    return error.reshape(len(error), *(1,) * (post.ndim - 2), error.shape[-1])


def through(error: Array, post: Array | None) -> Array:
    """The error through a post factor that the rule has named."""
    return error if post is None else wide(error, post) * post
