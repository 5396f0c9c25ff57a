"""Does an update depend on what its rule says, and nothing else? By changing everything else."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from plasticity import learning
from plasticity.network import Parameters
from plasticity.rule import Draw, Rule
from plasticity.runs.run import State
from plasticity.verification.gradient import Case, layouts_of

SPREAD = 0.5  # of the random factors that weights are multiplied by


@dataclass(frozen=True)
class Dependence:
    """Whether the update of one layer stays the same, bit for bit, when something else changes.

    Attributes:
        locality: what the rule states; changed: what was changed in the test.
        changes: whether the update depends on it; zero: whether it is 0 everywhere.
    """

    seed: int
    layer: str
    locality: str
    changed: str
    changes: bool
    zero: bool

    @property
    def verdict(self) -> str:
        """`ok`, `depends` on what it should not, or `proves nothing` of an update that is 0."""
        if self.changes:
            return "depends"
        return "proves nothing" if self.zero else "ok"


def check(made: Case) -> list[Dependence]:
    """Every layer's update, twice: with all that lies above it changed, and with nothing below it.

    A rule of locality `layer` is to be the same when the weights, the rule's parameters and the
    draws of all layers above change (no weight is transported, no error comes down), and when the
    layer is fed its input directly, as if there were nothing below. For `module` both hold for the
    module as a whole, for `neighbours` beyond the modules next to it. A rule of locality `global`
    states nothing.
    """
    state, rows = made.state, []
    top, names = len(state.network.layers) - 1, [layer.name for layer in state.network.layers]
    last = len(state.modules) - 1
    for number, (module, rule) in enumerate(zip(state.modules, state.rules, strict=True)):
        if rule is None or (locality := stated(state, rule)) == "global":
            continue
        reach = int(locality == "neighbours")
        for group in [[i] for i in module] if locality == "layer" else [module]:
            first, end = group[0], group[-1]
            below, above = max(0, number - reach), min(last, number + reach)
            if reach:
                first, end = state.modules[below][0], state.modules[above][-1]
            if end < top:
                what = f"everything above {names[end]}"
                rows += _rows(made, locality, group, what, _above(made, (below, above), end))
            if first > 0:
                what = f"nothing below {names[first]} but its input"
                rows += _rows(made, locality, group, what, _alone(made, below, first))
    return rows


def stated(state: State, rule: Rule) -> str:
    """The locality that a rule of the run states.

    Where it says `layer` and is asked for larger modules than its own, it is `module`.
    """
    locality, split = rule.locality, state.options.modules
    # A recurrent layer's loss teaches the layer below it.
    own = [m for m, its in enumerate(state.rules) if its == rule]
    crossing = any(loss.keeper is not None and loss.kept in own for loss in state.losses)
    if crossing and locality in ("layer", "module"):
        return "neighbours"
    several = any(len(state.modules[m]) > 1 for m in own)
    return "module" if locality == "layer" and several and split != "" else locality


def in_words(state: State) -> str:
    """The locality that the rule states; of several rules, each with its own."""
    if len(state.assigned.learn) == 1:
        return stated(state, state.assigned.learn[0])
    return ", ".join(f"{rule.name} {stated(state, rule)}" for rule in state.assigned.learn)


def _rows(
    made: Case, locality: str, group: Sequence[int], what: str, found: Parameters
) -> list[Dependence]:
    rows, before = [], _changes(made.updates)
    layers = (made.state.network.layers[i] for i in group)
    for layer in [conv.name for one in layers for conv in one.convolutions]:
        same = before[layer].keys() == found[layer].keys() and all(
            np.array_equal(dW, found[layer][name]) for name, dW in before[layer].items()
        )
        zero = not any(dW.any() for dW in before[layer].values())
        rows.append(Dependence(made.seed, layer, locality, what, not same, zero))
    return rows


def _changes(updates: Sequence[learning.Update]) -> Parameters:
    return {layer: own for update in updates for layer, own in update.changes.items()}


def _above(made: Case, kept: tuple[int, int], end: int) -> Parameters:
    """Updates where the layers above `end` have other weights.

    All modules but those from the first to the last of `kept` have other draws.
    """
    state, rng = made.state, np.random.default_rng(made.seed + 1)
    weights = {layer: dict(own) for layer, own in made.weights.items()}
    for layer in state.network.layers[end + 1 :]:
        for own in (weights[conv.name] for conv in layer.convolutions):
            for name, w in own.items():
                changed = w * (1 + SPREAD * rng.standard_normal(w.shape))
                changed = np.abs(changed) if name == "running_var" else changed
                own[name] = changed.astype(w.dtype)
    draws: list[Draw] = [
        draw
        if kept[0] <= loss.target <= kept[1]
        else replace(state.rules[loss.kept].draw(layout, rng), labels=draw.labels)
        for loss, layout, draw in zip(
            state.losses, layouts_of(state, made.layout), made.draws, strict=True
        )
    ]
    return _changes(list(made.learn(weights=weights, draws=draws)))


def _alone(made: Case, number: int, first: int) -> Parameters:
    """Updates of what is left when `first`, of module `number`, is the bottom, fed its input."""
    state = made.state
    network = replace(state.network, layers=state.network.layers[first:])
    modules = [[i - first for i in state.modules[number] if i >= first]]
    modules += [[i - first for i in module] for module in state.modules[number + 1 :]]
    losses, draws = [], []
    for loss, draw in zip(state.losses, made.draws, strict=True):
        if min(loss.target, loss.context) >= number:
            draws.append(draw)
            losses.append(
                replace(
                    loss,
                    target=loss.target - number,
                    context=loss.context - number,
                    layer=None if loss.layer is None else loss.layer - first,
                    keeper=None if loss.keeper is None else loss.keeper - number,
                )
            )
    parts = {"network": network, "modules": modules, "losses": losses, "draws": draws}
    parts |= {"rules": state.rules[number:]}
    inputs = made.met[state.network.layers[first].name]
    return _changes(list(made.learn(**parts, inputs=inputs)))
