"""A run that begins with another run's weights: `--init RUN`."""

from pathlib import Path

import numpy as np

from plasticity import runs
from plasticity.arrays import to_device
from plasticity.errors import UserError
from plasticity.learning import NETWORKS_OWN
from plasticity.runs.measures import Measures
from plasticity.runs.run import State

NAME = "init.h5"
"""The weights that a warm run began with, in its folder."""


def path_of(folder: Path) -> Path:
    """Where a run that began with another one's weights keeps them."""
    return Path(folder) / NAME


def start(state: State) -> list[str]:
    """Give a run at its start the weights of the run that `--init` names.

    Layers are told apart by their names. What both networks have is taken, and what both rules keep
    of a layer under one name and in one shape, such as W_pred. All else stays as it was drawn:
    layers that the other run lacks, and what the synapses of a rule keep. Moments begin at 0.

    Returns:
        The layers whose weights were taken.

    Raises:
        UserError: no run there, no layer in common, or layers of other shapes.
    """
    named = Path(state.options.init)
    stored = runs.load(
        named if named.is_file() or runs.is_record(named) else runs.checkpoint_of(named),
        moments=False,
    )
    found = [conv.name for conv in state.network.convolutions if conv.name in stored.params]
    if not found:
        names = ", ".join(conv.name for conv in state.network.convolutions)
        raise UserError(
            f"--init {named} has none of the layers of {state.network.name}: {names}; it has "
            f"{', '.join(stored.params)}"
        )
    for layer, own in state.weights.items():
        for name, w in own.items():
            there = stored.params.get(layer, {}).get(name)
            ours = name in NETWORKS_OWN and name != "feedback"
            if layer in found and ours and (there is None or there.shape != w.shape):
                came = "nothing" if there is None else f"shape {there.shape}"
                raise UserError(
                    f"--init {named}: {name} of {layer} has {came} there, and shape {w.shape} "
                    f"here: take the same --net, --width and channels, or leave --init away"
                )
            if there is not None and there.shape == w.shape and "." not in name:
                w[...] = to_device(there.astype(w.dtype), state.device)
    state.measures = Measures.of(state.network, state.weights)
    return found


def resume(state: State, folder: Path) -> None:
    """Let a run that goes on measure its drift from the weights that it began with.

    Raises:
        UserError: the folder lacks them.
    """
    path = path_of(folder)
    if not path.is_file():
        raise UserError(f"{folder} lacks {NAME}, the weights that the run began with: put it back")
    params = runs.load(path, moments=False).params
    weights = {
        la: {n: to_device(np.ascontiguousarray(w), state.device) for n, w in own.items()}
        for la, own in params.items()
    }
    state.measures.start = Measures.of(state.network, weights).start
