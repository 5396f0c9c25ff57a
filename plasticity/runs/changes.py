"""What may be changed of a run on its way: `plasticity run --resume RUN --change NAME=VALUE`.

A run is otherwise bound to its options. A change is kept with it, in `RunOptions.changes`, by the
step after which it holds.
"""

from collections.abc import Mapping

import numpy as np

from plasticity import fields, plugins
from plasticity.arrays import to_device
from plasticity.errors import UserError
from plasticity.fields import dashed
from plasticity.learning import NETWORKS_OWN, rule_check
from plasticity.network import Parameters
from plasticity.runs.folder import Checkpoint
from plasticity.runs.options import OF_RULES, RunOptions
from plasticity.runs.run import State
from plasticity.runs.sections import Section

RATES = (
    "lr", "optimiser", "weight_decay", "schedule", "warm_up", "schedule_at", "schedule_factor",
    "schedule_steps",
)  # fmt: skip
OF_LAYER, OF_ONE = "layer.", ("lr", "optimiser", "weight_decay")
"""A change of one layer is `layer.NAME.KEY`, and these are its keys."""
NAMES = ("rule", *RATES, *OF_RULES)


def changed(options: RunOptions, given: Mapping[str, str], step: int) -> RunOptions:
    """The options of a run that is changed after so many steps.

    Another rule has its own usual options, rate and optimiser, but for those that are given.

    Args:
        given: texts by name.

    Raises:
        UserError: what cannot be changed, or a value that is none.
    """
    values: dict[str, object] = {}
    if "rule" in given:
        values |= {flag: one.unset for flag, one in OF_RULES.items()}
        values |= {"set": {}, "lr": 0.0, "optimiser": ""}
    layer = dict(options.layer)
    for name, text in given.items():
        if name.startswith(OF_LAYER):
            layer |= _of_layer(layer, name, text)
            values["layer"] = layer
            continue
        if name not in NAMES:
            raise UserError(
                f"--change {name}={text}: a run on its way can be given another rule, "
                f"{', '.join(RATES)}, options of its rule, and {', '.join(OF_ONE)} of a layer, as "
                "layer.conv1.lr=1e-4; the rest would make another run"
            )
        kind = type(getattr(RunOptions, name))
        values[name] = rule_check.from_text(f"--change {name}={text}", text, kind)
        said = fields.declared(RunOptions)[name]
        if name not in OF_RULES:
            said.check(dashed(name), values[name])
    told = ", ".join(f"{name}={text}" for name, text in given.items())
    before = options.changes.get(str(step))
    told = f"{before}, {told}" if before else told
    return options.changed(**values, changes={**options.changes, str(step): told})


def _of_layer(
    sections: Mapping[str, Section], name: str, text: str
) -> dict[str, dict[str, object]]:
    """The section of a layer after a change such as `layer.conv1.lr`.

    Raises:
        UserError: what a layer cannot be given on its way, or a value that is none.
    """
    layer, _, key = name.removeprefix(OF_LAYER).rpartition(".")
    if not layer or key not in OF_ONE:
        raise UserError(
            f"--change {name}={text}: of a layer {', '.join(OF_ONE)} can be changed, as "
            "layer.conv1.lr=1e-4"
        )
    value = rule_check.from_text(f"--change {name}={text}", text, type(getattr(RunOptions, key)))
    fields.declared(RunOptions)[key].check(name, value)
    return {layer: {**sections.get(layer, {}), key: value}}


def take(state: State, stored: Checkpoint) -> None:
    """Give a run that was changed what its checkpoint holds.

    All weights of the network go on, what the rule keeps as far as the new one keeps it too, by
    name and shape, and moments as far as the optimiser has them. The rest begins as it was drawn.

    Raises:
        UserError: other losses than before, so that they cannot be told in one table.
    """
    for layer, own in state.weights.items():
        for name, w in own.items():
            there = stored.params.get(layer, {}).get(name)
            if there is not None and there.shape == w.shape:
                w[...] = to_device(there.astype(w.dtype), state.device)
            elif name in NETWORKS_OWN and name != "feedback":
                raise UserError(f"the checkpoint does not fit its options: it lacks {layer}.{name}")
    _take(state.optimiser.moments, stored.moments, state.device)
    count = len(state.names)
    for name, values in stored.metrics.items():
        if values.ndim == 2 and len(values) and values.shape[1] != count:
            raise UserError(
                f"the run has told {name} of {values.shape[1]} losses, and under the rule "
                f"{plugins.short(state.options.rule)} it has {count}: start a new run by --init"
            )


def _take(ours: Parameters | dict, theirs: dict, device: str) -> None:
    for name, one in ours.items():
        if isinstance(one, dict):
            _take(one, theirs.get(name, {}), device)
        elif name in theirs and theirs[name].shape == one.shape:
            one[...] = to_device(theirs[name].astype(one.dtype), device)


def told(metrics: dict[str, list], found: dict[str, np.ndarray], done: int) -> None:
    """Add the metrics of a step after `done`; those that another rule had, or has, are NaN."""
    nothing = np.full(max((len(v) for v in found.values()), default=0), np.nan)
    for name in dict.fromkeys([*metrics, *found]):
        if name != "seconds":
            metrics.setdefault(name, [nothing] * done).append(found.get(name, nothing))
