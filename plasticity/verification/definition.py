"""Is dW what the rule's equation says of one synapse? At sampled ones of every layer it reads."""

from dataclasses import replace

import numpy as np

from plasticity import learning
from plasticity.errors import UserError
from plasticity.layers import Conv, Layer
from plasticity.learning import Scored, Seen, Watched
from plasticity.rule import OneSynapse, Rule
from plasticity.verification.gradient import TOLERANCE, Case, Comparison, chosen, compared


def has_definition(rule: Rule) -> bool:
    """Whether a rule states its equation for one synapse."""
    return getattr(rule, "definition", None) is not None


def compare(made: Case, samples: int = 12, tolerance: float | None = None) -> list[Comparison]:
    """Sampled entries of weights and biases, against `Rule.definition` in float64.

    Half of the samples are the entries that the rule changes most, the others are drawn.

    Args:
        samples: of each parameter; tolerance: on `Comparison.error`, by default that of the dtype.
    """
    state, rng, rows = made.state, np.random.default_rng(made.seed), []
    limit = TOLERANCE[state.options.dtype] if tolerance is None else tolerance
    modules: list[Watched] = []
    updates = list(made.learn(watch=modules.append))
    for update, watched in zip(updates, modules, strict=True):
        if not has_definition(watched.rule):
            continue
        layer = state.network.layers[state.modules[watched.module][-1]]
        (scored, *others) = watched.losses
        if others or scored.loss.crosses:
            continue  # several equations in one dW
        for seen in (seen for seen in watched.layers if seen.read):
            try:
                meets = _Meets(made, layer, seen, scored, watched.rule)
            except UserError:  # a norm stands between pre and post: no equation of one synapse
                continue
            for name in sorted(seen.changes):
                dW = update.changes[seen.layer.name][name]
                if name not in learning.NETWORKS_OWN:
                    continue
                at = chosen(dW, samples, rng)
                entries = [tuple(map(int, np.unravel_index(i, dW.shape))) for i in at]
                wanted = np.array([watched.rule.definition(meets.one(name, i)) for i in entries])
                found = dW.reshape(-1)[at].astype(float)
                how = (seen.layer.name, name, found, wanted, "definition", limit)
                row = compared(made, update, *how)
                rows.append(replace(row, place=entries[row.place[0]]))
    return rows


class _Meets:
    """What the synapses of one layer meet, recomputed in float64 from the layer's input."""

    def __init__(self, made: Case, layer: Layer, seen: Seen, scored: Scored, rule: Rule) -> None:
        self.seen, self.scored = seen, scored
        self.own = {name: w.astype(float) for name, w in scored.own.items()}
        self.kept = made.weights
        self.weights = {
            unit.name: {n: w.astype(float) for n, w in made.weights[unit.name].items()}
            for unit in layer.convolutions
        }
        x = made.met[layer.name].astype(float)
        self.a, self.y = (
            layer.unpooled(potential).forward(x, self.weights, learning=False)[0]
            for potential in (True, False)
        )
        self.window = None
        if isinstance(layer, Conv) and layer.geometry.pools and rule.post == "winner":
            self.window = _most_excited(self.a, layer)
        self.timed = made.state.stimulus.reading.time == "map"

    def one(self, parameter: str, index: tuple[int, ...]) -> OneSynapse:
        """Everything that one synapse meets."""
        j, W = self.seen.neuron(index), self.weights[self.seen.layer.name][parameter]
        kept = learning.state_of(self.kept[self.seen.layer.name], parameter)
        pre = self.seen.pre(parameter, index).reshape(self.a.shape[:-1])
        return OneSynapse(
            pre=self._rows(pre[..., None], j)[..., 0],
            post=self._rows(self.y[..., j : j + 1], j)[..., 0],
            potential=self._rows(self.a[..., j : j + 1], j)[..., 0],
            posts=self._rows(self.y),
            potentials=self._rows(self.a),
            W=float(W[index]),
            weights=W[(slice(None), *index[1:])],
            j=j,
            index=index,
            state={n: float(w[index]) for n, w in kept.items()},
            own=self.own,
            draw=self.scored.draw,
            layout=self.scored.layout,
        )

    def _rows(self, values: np.ndarray, j: int | slice = slice(None)) -> np.ndarray:
        """Values at every place `(M, *places, D)` as rows and their places `(N, P, D)`.

        Behind a pool those of the most excited neuron of every window, j.
        """
        if self.window is not None:
            flat = values.reshape(len(values), -1, values.shape[-1])
            at = self.window[..., j : j + 1] if isinstance(j, int) else self.window
            values = np.take_along_axis(flat, at.reshape(len(flat), -1, at.shape[-1]), axis=1)
            values = values.reshape(*self.window.shape[:-1], -1)
        if self.timed:  # a row is a frame
            values = values.swapaxes(0, 1).reshape(-1, *values.shape[2:])
        return values.reshape(len(values), -1, values.shape[-1])


def _most_excited(a: np.ndarray, layer: Conv) -> np.ndarray:
    """The place of the largest potential in every window, the first of equals `(M, *pooled, D)`."""
    geometry, space = layer.geometry, a.shape[1:-1]
    place = np.arange(np.prod(space)).reshape(space)
    found = np.empty((len(a), *geometry.pooled(space), a.shape[-1]), int)
    for window in np.ndindex(found.shape[1:-1]):
        sizes = zip(window, geometry.pool_stride, geometry.pool, strict=True)
        inside = tuple(slice(w * s, w * s + n) for w, s, n in sizes)
        excited = a[:, *inside].reshape(len(a), -1, a.shape[-1])
        found[:, *window] = place[inside].reshape(-1)[excited.argmax(axis=1)]
    return found
