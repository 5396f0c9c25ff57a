"""What is recorded of one module in one step: arrays of fixed shapes, from training's factors."""

import numpy as np

from plasticity import kernels
from plasticity.arrays import Array, array_module, to_host
from plasticity.inspection.layer import cosine_by_step
from plasticity.inspection.spec import Wish
from plasticity.learning import Seen, Watched
from plasticity.rule import Role, Rule

ROLES = ("target", "context")
SIGNS = (1, -1)

AXES = {
    "gates": "(time, role: target, context; prediction step; sign: +1, -1), fraction open",
    "alignment": "(time, prediction step), cosine of W_pred and W_retro transposed",
    "synapses/dW": "(time, synapse)",
    "synapses/weight": "(time, synapse), before the step",
    "synapses/share": "(time, synapse, role, prediction step), parts of dW, they sum to it",
    "synapses/dendrite": "as share: sum over events of gate, weight and dendritic signal",
    "synapses/post": "as share: fraction of positions won and active, mean over open gates",
    "synapses/pre": "as share: input neuron's mean over positions, mean over open gates",
    "synapses/error": "(time, synapse), error from above summed over patches and positions",
    "neurons/dW": "(time, neuron, input neuron, *kernel)",
    "neurons/bias": "(time, neuron), dW of the bias",
    "neurons/weight": "(time, neuron, input neuron, *kernel), before the step",
    "neurons/dendrite": "(time, neuron, role, prediction step), as synapses/dendrite",
    "neurons/post": "(time, neuron, role, prediction step), as synapses/post",
    "neurons/pre": "(time, input neuron, role, prediction step), as synapses/pre",
    "neurons/error": "(time, neuron), error from above summed over patches and positions",
}


def prediction_steps(rule: Rule) -> int:
    """K, 1 for a rule that does not predict."""
    return getattr(rule, "steps", 1)


def measure(
    rule: Rule,
    watched: Watched,
    wishes: dict[str, Wish],
    weights: dict[str, dict[str, Array]],
    steps: int,
) -> dict[str, np.ndarray]:
    """The record of one module in one step, by path `LAYER/...`.

    Args:
        wishes: by layer name; weights: before the step; steps: prediction steps K.
    """
    found: dict[str, np.ndarray] = {}
    top = watched.layers[-1]
    name = top.layer.name
    wish = wishes.get(name)
    gates = np.full((len(ROLES), steps, len(SIGNS)), np.nan, np.float32)
    sums = _Sums(top, wish, steps) if wish is not None else None
    for role in rule.roles(watched.z, watched.own, watched.draw, watched.layout):
        if role.name not in ROLES:  # a rule with roles of its own: its dW is recorded all the same
            continue
        at = ROLES.index(role.name), role.events.k - 1
        for s, sign in enumerate(SIGNS):
            here = role.events.label == sign
            if count := int(here.sum()):
                gates[(*at, s)] = float(((role.gamma != 0) & here).sum()) / count
        if sums is not None:
            sums.add(role, at)
    found[f"{name}/gates"] = gates
    if {"W_pred", "W_retro"} <= set(watched.own):
        own = (to_host(watched.own[n]) for n in ("W_pred", "W_retro"))
        found[f"{name}/alignment"] = cosine_by_step(*own).astype(np.float32)
    for seen in watched.layers:
        if (wish := wishes.get(seen.layer.name)) is None:
            continue
        parts = sums.found() if seen is top else _from_above(seen, wish)
        parts |= _changes(seen, wish, weights[seen.layer.name])
        found |= {f"{seen.layer.name}/{path}": array for path, array in parts.items()}
    return found


class _Sums:
    """The factors of chosen synapses and neurons, summed role by role at the top of a module."""

    def __init__(self, top: Seen, wish: Wish, steps: int) -> None:
        layer, xp = top.layer, array_module(top.x)
        self.xp, self.wish, self.patches = xp, wish, len(top.x)
        self.positions = int(np.prod(top.winner.shape[1:-1]))
        spatial = tuple(range(1, top.winner.ndim - 1))
        self.chosen = [
            (kind, xp.asarray(post), xp.asarray(pre))
            for kind, post, pre in (
                ("synapses", wish.synapses[:, 0], wish.synapses[:, 1]),
                ("neurons", wish.neurons, np.arange(layer.inputs)),
            )
            if len(post)
        ]
        self.post = (top.winner != kernels.SILENT).mean(axis=spatial, dtype=np.float32)
        self.pre = top.x.mean(axis=spatial)
        self.activity = None
        if len(wish.synapses):
            self.activity = kernels.coactivity(
                top.x, top.winner, wish.synapses, layer.kernel, layer.pool,
                stride=layer.stride, padding=layer.padding,
            )  # fmt: skip
        self.arrays: dict[str, Array] = {}
        for kind, post, pre in self.chosen:
            names = {"dendrite": len(post), "post": len(post), "pre": len(pre)}
            names |= {"share": len(post)} if kind == "synapses" else {}
            for name, count in names.items():
                shape = (count, len(ROLES), steps)
                self.arrays[f"{kind}/{name}"] = xp.zeros(shape, np.float32)

    def add(self, role: Role, at: tuple[int, int]) -> None:
        xp = self.xp
        size = xp.abs(role.gamma)
        opened = xp.bincount(role.learner, size, minlength=self.patches)
        opened = (opened / max(float(opened.sum()), 1e-30)).astype(self.pre.dtype)
        for kind, post, pre in self.chosen:
            drive = xp.zeros((self.patches, len(post)), role.dendrite.dtype)
            signal = xp.ascontiguousarray(role.dendrite[:, post])
            kernels.add_rows(drive, role.learner, role.gamma, signal, role.source)
            put = {"dendrite": drive.sum(axis=0), "post": (opened @ self.post)[post],
                   "pre": (opened @ self.pre)[pre]}  # fmt: skip
            if kind == "synapses":
                put["share"] = (drive * self.activity).sum(axis=0) / self.positions
            for name, values in put.items():
                self.arrays[f"{kind}/{name}"][:, *at] = values

    def found(self) -> dict[str, np.ndarray]:
        return {path: to_host(array) for path, array in self.arrays.items()}


def _from_above(seen: Seen, wish: Wish) -> dict[str, np.ndarray]:
    """The error of chosen neurons, in layers below the top of a module."""
    total = to_host(seen.error.sum(axis=tuple(range(seen.error.ndim - 1))))
    found = {}
    if len(wish.synapses):
        found["synapses/error"] = total[wish.synapses[:, 0]]
    if len(wish.neurons):
        found["neurons/error"] = total[wish.neurons]
    return found


def _changes(seen: Seen, wish: Wish, own: dict[str, Array]) -> dict[str, np.ndarray]:
    """dW of what was chosen, and the weights themselves if they are wanted."""
    xp, found = array_module(seen.x), {}
    wanted = {"dW": seen.changes["weight"]} | ({"weight": own["weight"]} if wish.weights else {})
    for name, array in wanted.items():
        if len(wish.synapses):
            found[f"synapses/{name}"] = to_host(array[tuple(xp.asarray(wish.synapses.T))])
        if len(wish.neurons):
            found[f"neurons/{name}"] = to_host(array[xp.asarray(wish.neurons)])
    if len(wish.neurons):
        found["neurons/bias"] = to_host(seen.changes["bias"][xp.asarray(wish.neurons)])
    return found
