"""What a rule makes of the sums over events, synapse by synapse, and of weights that have moved."""

from collections.abc import Mapping
from dataclasses import replace

from plasticity.arrays import Array
from plasticity.learning.watched import Scored
from plasticity.network import Layer, Parameters, Seen
from plasticity.rule import Change, Rule, Synapses


def state_of(own: Mapping[str, Array], parameter: str) -> dict[str, Array]:
    """What the synapses of a matrix keep, by name: kept beside it as `PARAMETER.NAME`."""
    start = f"{parameter}."
    return {name.removeprefix(start): w for name, w in own.items() if name.startswith(start)}


def kept_by_synapses(weights: Parameters) -> dict[str, int]:
    """What the synapses of all layers keep, by name, in bytes."""
    found: dict[str, int] = {}
    for own in weights.values():
        for name, w in own.items():
            if "." in name:
                what = name.partition(".")[2]
                found[what] = found.get(what, 0) + w.nbytes
    return found


def settles(rule: Rule) -> bool:
    """Whether a rule makes something of the sums over events."""
    return type(rule).synapses is not Rule.synapses


def constrains(rule: Rule) -> bool:
    """Whether a rule bounds weights after the optimiser has moved them."""
    return type(rule).constrain is not Rule.constrain


def settle(
    rule: Rule,
    seen: Seen,
    sums: Mapping[str, Mapping[str, Array]],
    scored: Scored,
    weights: Parameters,
) -> tuple[Seen, dict[str, Change], dict[str, Array]]:
    """The dW of one unit as the rule makes it of its sums, what made it, and what synapses keep.

    Args:
        sums: dW by role and parameter.
    """
    own, changes, made, state = weights[seen.layer.name], {}, {}, {}
    for name in seen.changes:
        given = Synapses(
            name,
            {role: parts[name] for role, parts in sums.items()},
            own[name],
            state_of(own, name),
            scored.z,
            scored.own,
            scored.draw,
            scored.layout,
        )
        made[name] = change = rule.synapses(given)
        parts = [part * change.factor.get(role, 1) for role, part in given.sums.items()]
        changes[name] = sum([*parts[1:], *change.added.values()], parts[0])
        state |= {f"{name}.{kept}": value for kept, value in change.state.items()}
    return replace(seen, changes=changes), made, state


def constrain(rule: Rule, layer: Layer, weights: Parameters) -> None:
    """Bound the weights that a rule reads a layer by, in place; its biases are free."""
    for unit in layer.read:
        own = weights[unit.name]
        own[unit.main][...] = rule.constrain(own[unit.main], state_of(own, unit.main))
