"""What is recorded of one module in one step: arrays of fixed shapes, from training's factors."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from plasticity import kernels
from plasticity.arrays import Array, array_module, to_host
from plasticity.inspection.layer import cosine_by_step
from plasticity.inspection.spec import Wish
from plasticity.learning import Reading, Scored, Seen, Watched
from plasticity.rule import Change, Role

SIGNS = (1, -1)
AXES: dict[str, tuple[tuple[str, ...], str]] = {
    "gates": (("role", "k", "sign"), "fraction of events whose gate is open"),
    "alignment": (("k",), "cosine of W_pred and W_retro transposed"),
    "synapses/dW": (("synapse",), "dW of the rule"),
    "synapses/weight": (("synapse",), "its value before the step"),
    "synapses/share": (("synapse", "role", "k"), "parts of dW, they sum to it"),
    "synapses/dendrite": (("synapse", "role", "k"), "sum of gate, weight and dendritic signal"),
    "synapses/post": (
        ("synapse", "role", "k"),
        "mean of the post factor: fraction won and active",
    ),
    "synapses/pre": (("synapse", "role", "k"), "mean of the input neuron over positions"),
    "synapses/error": (("synapse",), "drive of the neuron, or error from above, summed"),
    "neurons/dW": (("neuron", "pre", "kernel"), "dW of the rule"),
    "neurons/bias": (("neuron",), "dW of the bias"),
    "neurons/weight": (("neuron", "pre", "kernel"), "their values before the step"),
    "neurons/dendrite": (("neuron", "role", "k"), "as synapses/dendrite"),
    "neurons/post": (("neuron", "role", "k"), "as synapses/post"),
    "neurons/pre": (("pre", "role", "k"), "as synapses/pre"),
    "neurons/error": (("neuron",), "as synapses/error"),
}
"""Axes after time, and meaning, of every array that a record can have of a layer.

The role `decay` is what patches take from the weights: its dendrite is the part of them, its share
that part times the weight.

Post and pre are means over the events with an open gate. An error is recorded where a rule has no
events: below the top of a module, or in rules that say nothing of theirs.
"""

ENTRIES: dict[str, tuple[tuple[str, ...], str]] = {
    "dW": (("entry",), "dW of the rule"),
    "weight": (("entry",), "its value before the step"),
    "share": (("entry", "sign"), "parts of dW, they sum to it"),
    "gate": (("entry", "sign"), "sum of gate and weight"),
    "post": (("entry", "sign"), "mean encoding of the neuron that learns"),
    "pre": (("entry", "sign"), "mean encoding of the neuron it predicts from"),
}
"""The same of entries of a rule's own parameters: `NAME/dW`. Those of a value that no optimiser
moves have its change as dW, and only a matrix with a role, see `rule.Parameter`, has factors."""


def axes(quantity: str) -> tuple[tuple[str, ...], str] | None:
    """Axes after time, and meaning, of a quantity of a layer; None for what is no record of one."""
    name, _, factor = quantity.partition("/")
    if name in ("synapses", "neurons") or not factor:
        return AXES.get(quantity)
    return ENTRIES.get(factor)


def kinds(modules: Iterable[Watched]) -> tuple[list[str], list[int]]:
    """The names of the roles of all modules and their prediction steps, in their order."""
    found = []
    for watched in modules:
        found += [(role.name, int(role.events.k)) for role in watched.roles]
        found += [("decay", 0)] if watched.decay is not None else []
        found += [(name, 0) for name in _added(watched)]
    return list(dict.fromkeys(name for name, _ in found)), sorted({k for _, k in found})


def _added(watched: Watched) -> list[str]:
    """The names of what the rule adds to its sums over events."""
    made = (change for unit in watched.settled.values() for change in unit.values())
    return list(dict.fromkeys(name for change in made for name in change.added))


def measure(
    watched: Watched,
    wishes: Mapping[str, Wish],
    weights: Mapping[str, Mapping[str, Array]],
    names: Sequence[str],
    ks: Sequence[int],
) -> dict[str, np.ndarray]:
    """The record of one module in one step, by path `LAYER/...`, see `AXES`.

    Args:
        wishes: by layer name; weights: before the step; names, ks: see `kinds`.
    """
    found: dict[str, np.ndarray] = {}
    name = watched.layers[-1].layer.name
    sums = {
        seen.layer.name: _Sums(
            seen, wishes[seen.layer.name], (len(names), len(ks)), watched.reading
        )
        for seen in watched.layers
        if names and seen.read and seen.layer.name in wishes and wishes[seen.layer.name].synaptic
    }
    gates = np.full((len(names), len(ks), len(SIGNS)), np.nan, np.float32)
    for role in watched.roles:
        at = names.index(role.name), ks.index(int(role.events.k))
        for s, sign in enumerate(SIGNS):
            here = role.events.label == sign
            if count := int(here.sum()):
                gates[(*at, s)] = float(((role.gamma != 0) & here).sum()) / count
        for one in sums.values():
            one.add(role, at)
    if watched.decay is not None:
        for unit, one in sums.items():
            at = names.index("decay"), ks.index(0)
            one.take(watched.decay, weights[unit][one.top.layer.main], at)
    for one in sums.values():
        one.settle(watched.settled.get(one.top.layer.name, {}).get(one.top.layer.main), names, ks)
    if names:
        found[f"{name}/gates"] = gates
    for scored in watched.predicted:
        own, name = weights[scored.name], scored.name
        if name in wishes:
            parts = _entries(scored, wishes[name], own)
            found |= {f"{name}/{path}": array for path, array in parts.items()}
        if {"W_pred", "W_retro"} <= set(scored.own):
            cosines = cosine_by_step(*(scored.own[n] for n in ("W_pred", "W_retro")))
            found[f"{name}/alignment"] = to_host(cosines).astype(np.float32)
    for seen in watched.layers:
        name = seen.layer.name
        if (wish := wishes.get(name)) is None:
            continue
        parts = sums[name].found() if name in sums else _error(seen, wish)
        parts |= _changes(seen, wish, weights[name])
        found |= {f"{name}/{path}": array for path, array in parts.items()}
    return found


class _Sums:
    """The factors of chosen synapses and neurons, summed role by role at the top of a module."""

    def __init__(self, top: Seen, wish: Wish, shape: tuple[int, int], reading: Reading) -> None:
        self.timed, self.reading = reading.time == "map", reading
        layer, xp = top.layer, array_module(top.x)
        self.xp, self.top, self.wish = xp, top, wish
        self.positions = top.positions
        spatial = tuple(range(1, top.x.ndim - 1))
        self.chosen = [
            (kind, xp.asarray(post), xp.asarray(pre))
            for kind, post, pre in (
                ("synapses", top.neuron(wish.synapses.T), wish.synapses[:, 1]),
                ("neurons", wish.neurons, np.arange(layer.inputs)),
            )
            if len(post)
        ]
        self.post = top.activity(np.float32)
        self.pre = top.x.mean(axis=spatial)
        self.activity: Array | None = None  # what post and pre have in common, once it is needed
        self.arrays: dict[str, Array] = {}
        for kind, post, pre in self.chosen:
            counts = {"dendrite": len(post), "post": len(post), "pre": len(pre)}
            counts |= {"share": len(post)} if kind == "synapses" else {}
            for name, count in counts.items():
                self.arrays[f"{kind}/{name}"] = xp.zeros((count, *shape), np.float32)

    def _coactivity(self, drive: Array | None = None) -> Array:
        return self.top.coactivity(self.wish.synapses, drive)

    def add(self, role: Role, at: tuple[int, int]) -> None:
        """A role at its prediction step; its dendritic signals are rows, or maps of them."""
        xp, patches = self.xp, len(self.top.x) * (self.top.driven[0] if self.timed else 1)
        opened = xp.zeros((patches, 1), self.pre.dtype)
        size, same = xp.abs(role.gamma), xp.zeros_like(role.learner)
        kernels.add_rows(opened, role.learner, size, xp.ones((1, 1), opened.dtype), same)
        opened = opened[:, 0] / xp.maximum(opened.sum(), 1e-30)
        if self.timed:  # by input: its frames together
            opened = opened.reshape(self.top.driven[0], -1).sum(axis=0)
        signals = role.signals
        mapped = signals.ndim > 2 or self.timed
        if mapped:
            drive = xp.zeros((patches, *signals.shape[1:]), signals.dtype)
            rows, signal = (a.reshape(len(a), -1) for a in (drive, signals))
            kernels.add_rows(rows, role.learner, role.gamma, signal, role.source)
            if self.timed:
                drive = self.reading.spread(drive, self.top.driven)
            total = drive.sum(axis=tuple(range(drive.ndim - 1)))
        for kind, post, pre in self.chosen:
            put = {"post": (opened @ self.post)[post], "pre": (opened @ self.pre)[pre]}
            if mapped:
                put["dendrite"] = total[post]
                if kind == "synapses":
                    put["share"] = self._coactivity(drive).sum(axis=0)
            else:
                own = xp.zeros((patches, len(post)), signals.dtype)
                signal = xp.ascontiguousarray(signals[:, post])
                kernels.add_rows(own, role.learner, role.gamma, signal, role.source)
                put["dendrite"] = own.sum(axis=0)
                if kind == "synapses":
                    if self.activity is None:
                        self.activity = self._coactivity()
                    put["share"] = (own * self.activity).sum(axis=0) / self.positions
            for name, values in put.items():
                self.arrays[f"{kind}/{name}"][:, *at] = values

    def take(self, decay: Array, weight: Array, at: tuple[int, int]) -> None:
        """What all patches take from the weights, as a role: the part of them, and its share."""
        part = -decay.sum(axis=0)
        for kind, post, _ in self.chosen:
            self.arrays[f"{kind}/dendrite"][:, *at] = part[post]
            if kind == "synapses":
                own = weight[tuple(self.xp.asarray(self.wish.synapses.T))]
                self.arrays["synapses/share"][:, *at] = part[post] * own

    def settle(self, made: Change | None, names: Sequence[str], ks: Sequence[int]) -> None:
        """What the rule has made of the sums: a factor on the share of a role, and terms beside."""
        if made is None or "synapses/share" not in self.arrays:
            return
        share, at = self.arrays["synapses/share"], tuple(self.xp.asarray(self.wish.synapses.T))
        for role, factor in made.factor.items():
            whole = np.ndim(factor) == 0
            share[:, names.index(role)] *= factor if whole else factor[at][:, None]
        for name, value in made.added.items():
            share[:, names.index(name), ks.index(0)] = value[at]

    def found(self) -> dict[str, np.ndarray]:
        return {path: to_host(array) for path, array in self.arrays.items()}


def _entries(scored: Scored, wish: Wish, own: Mapping[str, Array]) -> dict[str, np.ndarray]:
    """Chosen entries of the rule's own parameters, with the factors of their events by sign where
    they learn as Eq. (8) says."""
    xp, z, context = array_module(scored.z), scored.z, scored.context
    found: dict[str, Array] = {}
    for name, entries in wish.entries.items():
        role, at = wish.roles.get(name, ""), tuple(xp.asarray(entries.T))
        at = (at[0] - 1, *at[1:]) if role else at  # prediction steps are counted from 1
        if name in scored.learning.state:
            found[f"{name}/dW"] = scored.learning.state[name][at] - own[name][at]
        else:
            found[f"{name}/dW"] = scored.learning.changes[name][at]
        if wish.weights:
            found[f"{name}/weight"] = own[name][at]
        if not role:
            continue
        _, j, i = at
        post, pre = (z, context) if role == "target" else (context, z)
        sums = {
            factor: xp.zeros((len(entries), len(SIGNS)), np.float32)
            for factor in ("share", "gate", "post", "pre")
        }
        for one in scored.roles:
            here = np.flatnonzero(entries[:, 0] == one.events.k)
            if one.name != role or not len(here):
                continue
            at = xp.asarray(here)
            its_post, its_pre, both = _met(post, pre, one, j[at], i[at])
            for s, sign in enumerate(SIGNS):
                gamma = xp.where(one.events.label == sign, one.gamma, 0)
                opened = xp.abs(gamma) / xp.maximum(xp.abs(gamma).sum(), 1e-30)
                sums["share"][at, s] = gamma @ both
                sums["gate"][at, s] = gamma.sum()
                sums["post"][at, s], sums["pre"][at, s] = opened @ its_post, opened @ its_pre
        found |= {f"{name}/{factor}": values for factor, values in sums.items()}
    return {path: to_host(array) for path, array in found.items()}


def _met(post: Array, pre: Array, role: Role, j: Array, i: Array) -> tuple[Array, Array, Array]:
    """Post and pre of every event at these neurons `(E, entries)`, and their product.

    Of maps they are means over positions, and the product is summed over them.
    """
    if post.ndim == 2:
        mine, others = post[role.learner[:, None], j], pre[role.other[:, None], i]
        return mine, others, mine * others
    mine, others = (a.reshape(len(a), -1, a.shape[-1]) for a in (post, pre))
    mine, others = mine[..., j], others[..., i]
    # One matrix of rows for each entry, since events are many times as many.
    products = array_module(post).einsum("npe,mpe->nme", mine, others)
    both = products[role.learner, role.other]
    return mine.mean(axis=1)[role.learner], others.mean(axis=1)[role.other], both


def _error(seen: Seen, wish: Wish) -> dict[str, np.ndarray]:
    """The error of chosen neurons, summed over patches and positions, where there are no events."""
    total = to_host(seen.error.sum(axis=tuple(range(seen.error.ndim - 1))))
    if seen.error.ndim == 2:  # shared by all positions
        total = total * seen.positions
    found = {}
    if len(wish.synapses):
        found["synapses/error"] = total[seen.neuron(wish.synapses.T)]
    if len(wish.neurons):
        found["neurons/error"] = total[wish.neurons]
    return found


def _changes(seen: Seen, wish: Wish, own: Mapping[str, Array]) -> dict[str, np.ndarray]:
    """dW of what was chosen, and the weights themselves if they are wanted."""
    xp, found = array_module(seen.x), {}
    main = seen.layer.main
    wanted = {"dW": seen.changes[main]} | ({"weight": own[main]} if wish.weights else {})
    for name, array in wanted.items():
        if len(wish.synapses):
            found[f"synapses/{name}"] = to_host(array[tuple(xp.asarray(wish.synapses.T))])
        if len(wish.neurons):
            found[f"neurons/{name}"] = to_host(array[xp.asarray(wish.neurons)])
    if len(wish.neurons) and "bias" in seen.changes:
        found["neurons/bias"] = to_host(seen.changes["bias"][xp.asarray(wish.neurons)])
    return found
