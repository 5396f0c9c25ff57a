"""A convolution whose drives are normalised over the batch, neuron by neuron."""

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from plasticity import kernels
from plasticity.arrays import Array, array_module, to_host
from plasticity.errors import UserError
from plasticity.kernels.geometry import SILENT
from plasticity.layers.conv import Conv, ConvSeen
from plasticity.layers.layer import Parameters, Peers

ORDERS = ("conv relu norm pool", "conv norm relu pool")
PARAMETERS = ("gain", "shift", "running_mean", "running_var")


@dataclass(frozen=True)
class Norm:
    """Batch normalisation (Ioffe & Szegedy 2015): see `kernels.definition.norm`.

    Attributes:
        momentum: the part of a batch in the running mean and variance, which are what stands for
            mean and variance wherever nothing is learned.
        eps: added to the variance.
        statistics: those of `batch` normalise while it learns, and the error goes through them; or
            the `running` ones of the steps before do, as constants, so that what a synapse learns
            from is its own.
    """

    momentum: float = 0.1
    eps: float = 1e-5
    statistics: str = "batch"

    def __post_init__(self) -> None:
        if self.statistics not in ("batch", "running"):
            raise UserError(f"statistics '{self.statistics}': expected batch or running")
        if not (0 < self.momentum <= 1 and self.eps > 0):
            raise UserError(
                f"a norm of momentum {self.momentum} and eps {self.eps}: expected a momentum above "
                "0, up to 1, and a positive eps"
            )


@dataclass(frozen=True)
class NormSeen(ConvSeen):
    """What a normalised convolution met in a step: see `layers.Seen`.

    A drive at the output of the norm comes to a synapse through the means of all inputs too. That
    way is linear and the same there and back, so what a signal is multiplied by can be told place
    by place: `pre` is the input as the norm lets it through,

        pre' = gain / s (rho' pre - mean(rho' pre) - yh mean(yh rho' pre))

    and dW is the sum of signal, post and pre' as of any convolution. `parts` has its three terms;
    where statistics are constants the first is all of it.

    Attributes:
        a: the convolution's drives; mean, var: what has normalised them; gain: before the step.
        inner: the error at a.
    """

    a: Array = None
    mean: Array = None
    var: Array = None
    gain: Array = None
    shift: Array = None
    inner: Array = None

    @property
    def kept(self) -> tuple:
        return self.x, self.a, self.mean, self.var, None, self.winner, None

    def _normal(self, j: int) -> np.ndarray:
        """yh of neuron j at every place, `(M, places)`, float64."""
        y = self.a[..., j].reshape(len(self.a), -1).astype(float)
        y = y.clip(0) if self.layer.relu_first else y
        return (y - float(self.mean[j])) / math.sqrt(float(self.var[j]) + self.layer.norm.eps)

    def pre(self, parameter: str, index: tuple[int, ...]) -> np.ndarray:
        return sum(self.parts(parameter, index).values())

    def parts(self, parameter: str, index: tuple[int, ...]) -> dict[str, np.ndarray]:
        """The terms of `pre`, each `(M, places)`: what reaches a synapse by its own way, and by the
        mean and the variance of its neuron over the batch."""
        j = index[0]
        if parameter == "gain":
            return {"direct": self._normal(j)}
        if parameter == "shift":
            return {"direct": array_module(self.x).ones((len(self.x), math.prod(self.space)))}
        met = super().pre(parameter, index)
        if self.layer.relu_first:
            met = met * (self.a[..., j] > 0).reshape(met.shape)
        met = met * (float(self.gain[j]) / math.sqrt(float(self.var[j]) + self.layer.norm.eps))
        if self.layer.norm.statistics != "batch":
            return {"direct": met}
        yh = self._normal(j)
        return {
            "direct": met,
            "mean": array_module(met).full(met.shape, -met.mean()),
            "variance": -yh * (yh * met).mean(),
        }

    def around(self, parameter: str, index: tuple[int, ...]) -> list[tuple[int, ...]]:
        return super().around(parameter, index) if parameter == "weight" else [index]

    @property
    def reached(self) -> Array:
        """The winners, and SILENT where the one that has won passes nothing on to its synapses."""
        if not self.layer.relu_first:
            return self.winner
        active = kernels.at_winners(self.a > 0, self.winner, self.layer.geometry)
        xp = array_module(active)
        return xp.where(active, self.winner, xp.uint8(SILENT))

    def inhibition(self, j: int, weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        won = self.through(j, np.ones((len(self.x), 1))) != 0
        if self.layer.relu_first:  # the least active one wins where the gain is negative
            return {"won": won, "active": (self.a[..., j] > 0).reshape(won.shape)}
        o = float(self.gain[j]) * self._normal(j) + float(self.shift[j])
        return {"won": won, "active": won | (o > 0)}

    def coactivity(self, synapses: np.ndarray, drive: Array | None = None) -> Array:
        xp = array_module(self.x)
        found = xp.empty((len(self.x), len(synapses)), self.x.dtype)
        for s, index in enumerate(synapses):
            at = tuple(int(i) for i in index)
            j = at[0]
            signal = xp.ones((len(self.x), 1)) if drive is None else drive[..., j : j + 1]
            post = self.through(j, signal)
            found[:, s] = (post * self.pre(self.layer.main, at)).sum(axis=1)
        return found

    def along(self, change: np.ndarray) -> np.ndarray:
        none = np.zeros(len(change), change.dtype)
        response = kernels.convolve(self.x, change, none, self.geometry.linear)
        return (self.inner * response).reshape(len(response), -1).sum(axis=1, dtype=float)

    def on_host(self) -> "NormSeen":
        names = ("a", "mean", "var", "gain", "shift", "inner")
        return replace(super().on_host(), **{n: to_host(getattr(self, n)) for n in names})


@dataclass(frozen=True)
class NormConv(Conv):
    """A convolution with ReLU, batch normalisation and MaxPool.

    It keeps for each neuron a `gain` and a `shift`, which learn as weights do, and a `running_mean`
    and `running_var`, which follow the batches and which no optimiser moves. Winners are taken
    after the norm. Where the norm comes first and takes the batch's own mean away, a bias changes
    nothing, and does not learn.

    Attributes:
        order: `conv relu norm pool`, as the published video code has it, or `conv norm relu pool`.
    """

    norm: Norm = Norm()
    order: str = ORDERS[0]
    normalised: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.order not in ORDERS:
            raise UserError(f"order '{self.order}' of {self.name}: expected {' or '.join(ORDERS)}")
        if self.linear:
            raise UserError(f"{self.name} is normalised, and so it is not linear")

    @property
    def relu_first(self) -> bool:
        """Whether ReLU comes before the norm."""
        return self.order == ORDERS[0]

    @property
    def biased(self) -> bool:
        """Whether its bias means anything while it learns."""
        return self.relu_first or self.norm.statistics != "batch"

    @property
    def running(self) -> "NormConv":
        """The same layer, normalised by its running statistics."""
        return replace(self, norm=replace(self.norm, statistics="running"))

    def branches(self, kept: tuple) -> list[Array]:
        _, a, *_, winner, _ = kept
        return [a > 0, winner] if self.relu_first else [winner]

    def in_torch(self, functional: Any, x: Any, params: dict[str, dict[str, Any]]) -> Any:
        own, norm = params[self.name], self.norm
        batch, constants = norm.statistics == "batch", (None, None)
        if not batch:
            constants = (own["running_mean"].detach(), own["running_var"].detach())
        how = *constants, own["gain"], own["shift"], batch, norm.momentum, norm.eps
        bias = own["bias"] if self.biased else own["bias"].detach()
        y = self._convolved_in_torch(functional, x, {**own, "bias": bias})
        if self.relu_first:
            y = functional.batch_norm(functional.relu(y), *how)
        else:
            y = functional.relu(functional.batch_norm(y, *how))
        return self._pooled_in_torch(functional, y)

    @property
    def torch_modules(self) -> tuple[str, ...]:
        dims = self.geometry.dims
        pair = ("ReLU", f"BatchNorm{dims}d") if self.relu_first else (f"BatchNorm{dims}d", "ReLU")
        pool = (f"MaxPool{dims}d",) if self.geometry.pools else ()
        return (f"Conv{dims}d", *pair, *pool)

    @property
    def parameters(self) -> int:
        return super().parameters + len(PARAMETERS) * self.outputs

    def prepare(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """As `Conv.prepare`, and gain 1, shift 0, running mean 0 and variance 1, each `(O,)`."""
        starts = dict(zip(PARAMETERS, (1.0, 0.0, 0.0, 1.0), strict=True))
        own = {name: np.full(self.outputs, value) for name, value in starts.items()}
        return {**super().prepare(rng), **own}

    def forward(
        self,
        x: Array,
        weights: Parameters,
        learning: bool = True,
        peers: Peers | None = None,
    ) -> tuple[Array, tuple | None, None]:
        """Activity, what `learn` needs if it is wanted, and no mean: see `kernels.definition.norm`.

        Without learning the running statistics normalise.

        Args:
            peers: who has other inputs of the same batch; its statistics are those of all.
        """
        own = weights[self.name]
        a, _, _ = kernels.forward(x, own["weight"], own["bias"], self.geometry.linear, False)
        met = mean, var = own["running_mean"], own["running_var"]
        if learning:
            met = self._statistics(a, peers)
            if self.norm.statistics == "batch":
                mean, var = met
        how = mean, var, self.norm.eps, self.geometry, self.relu_first
        y, winner = kernels.norm_forward(a, own["gain"], own["shift"], *how)
        return y, (x, a, mean, var, met, winner, peers) if learning else None, None

    def _statistics(self, a: Array, peers: Peers | None) -> tuple[Array, Array]:
        """Mean and variance over the batch, of which peers have parts of the same size."""
        mean, var = kernels.norm_statistics(a, self.relu_first)
        if peers is None:
            return mean, var
        whole = peers.mean(mean)
        return whole, peers.mean(var + (mean - whole) ** 2)

    def unpooled(self, potential: bool = False) -> "NormConv":
        """Nothing: rules that read it are of layers without a norm.

        Raises:
            UserError: always.
        """
        raise UserError(_no_places(self.name))

    def learn(
        self,
        kept: tuple,
        error: Array,
        weights: Parameters,
        below: bool,
        post: Array | None = None,
    ) -> tuple[list[NormSeen], Array | None]:
        """dW of all parameters, and the error at the input: see `Conv.learn`.

        Raises:
            UserError: a post factor that the rule names.
        """
        if post is not None:
            raise UserError(_no_places(self.name))
        (x, a, mean, var, met, winner, peers), own = kept, weights[self.name]
        how = self.norm.eps, self.geometry, self.relu_first, self.norm.statistics == "batch"
        how = (*how, None if peers is None else peers.mean)
        inner, dgain, dshift = kernels.norm_back(a, winner, error, own["gain"], mean, var, *how)
        changes, back = self._correlated(x, None, inner, self.geometry.linear, weights, below)
        changes |= {"gain": dgain, "shift": dshift}
        if not self.biased:
            del changes["bias"]
        count = a.size // self.outputs * (1 if peers is None else peers.size)
        state = {} if met is None else self._followed(own, *met, count)
        given = {"a": a, "mean": mean, "var": var, "inner": inner}
        given |= {"gain": own["gain"].copy(), "shift": own["shift"].copy(), "state": state}
        return [NormSeen(self, x, winner, error, changes, self.geometry, **given)], back

    def _followed(
        self, own: dict[str, Array], mean: Array, var: Array, count: int
    ) -> dict[str, Array]:
        """The running statistics after a batch; the variance of `count` places is unbiased."""
        unbiased = var * (count / max(1, count - 1))
        part = self.norm.momentum
        return {
            "running_mean": (1 - part) * own["running_mean"] + part * mean,
            "running_var": (1 - part) * own["running_var"] + part * unbiased,
        }


def _no_places(name: str) -> str:
    return (
        f"the rule names its post factor or reads what lies before the pool, and {name} normalises "
        "there: take a network without norms for it"
    )
