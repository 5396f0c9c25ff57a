"""A run's weights for other programs, under the names that torch gives VGG and ResNet layers."""

import json
from io import BytesIO
from pathlib import Path

import numpy as np

from plasticity.errors import UserError
from plasticity.files import whole
from plasticity.network import Network, Parameters
from plasticity.rule import Rule
from plasticity.runs.folder import AXES

FORMATS = ("npz", "safetensors")

# What torch calls a norm's parameters; they are those of a module of its own.
OF_A_NORM = {
    "gain": "weight",
    "shift": "bias",
    "running_mean": "running_mean",
    "running_var": "running_var",
}


def modules(network: Network) -> list[tuple[str, str]]:
    """What torch's Sequential `features` consists of: the kind of each module, and its layer.

    They are, for each layer, the convolution, its ReLU, and its norm and its MaxPool if it has
    them. A network of residual blocks is no Sequential, and has none.
    """
    if not all(layer.torch_modules for layer in network.layers):
        return []
    return [(kind, layer.name) for layer in network.layers for kind in layer.torch_modules]


def named(network: Network, weights: Parameters) -> dict[str, np.ndarray]:
    """Arrays by name: `features.N.weight` (OIHW) and `.bias`, as torch counts a VGG's `modules`.

    A norm is a module of its own there, with `running_mean` and `running_var` besides; where torch
    has no module for a layer its parameters are `LAYER.norm.NAME`.

    With residual blocks the names are the layers' own, as torch names a ResNet's:
    `layer1.0.conv1.weight`. What the rule keeps (`W_pred`, `W_retro`) is `prediction.LAYER.NAME`.
    """
    found = {}
    for layer, own in weights.items():
        for name, w in own.items():
            found[_name(network, layer, name)] = np.ascontiguousarray(w)
    return found


def _places(network: Network, what: str) -> dict[str, str]:
    """For each layer the module of `features` that is of this kind."""
    found = enumerate(modules(network))
    return {layer: f"features.{at}" for at, (kind, layer) in found if kind.startswith(what)}


def _name(network: Network, layer: str, name: str) -> str:
    """The name of a parameter of a layer, see `named`."""
    if name in OF_A_NORM:
        norms = _places(network, "BatchNorm")
        return f"{norms.get(layer, f'{layer}.norm')}.{OF_A_NORM[name]}"
    if name not in ("weight", "bias"):
        return f"prediction.{layer}.{name}"
    return f"{_places(network, 'Conv').get(layer, layer)}.{name}"


def place(network: Network, name: str) -> tuple[str, str] | None:
    """The layer and the parameter that a name of `named` is, None if it is none.

    `LAYER.NAME`, as a checkpoint of a run has them, is a name too.
    """
    where, _, parameter = name.rpartition(".")
    own = {conv.name for conv in network.convolutions}
    norms = {there: layer for layer, there in _places(network, "BatchNorm").items()}
    norms |= {f"{layer}.norm": layer for layer in own}
    if where in norms:
        ours = {theirs: ours for ours, theirs in OF_A_NORM.items()}
        return (norms[where], ours[parameter]) if parameter in ours else None
    layer = {there: layer for layer, there in _places(network, "Conv").items()}.get(where, where)
    layer = layer.removeprefix("prediction.")
    known = all(end in own for end in layer.split("<"))  # `conv5<gru` is a loss of two ends
    return (layer, parameter) if known and parameter else None


def describe(network: Network, *rules: Rule) -> dict[str, str]:
    """In words, for the file: which layer each module of `features` is, and the arrays' axes."""
    features = "; ".join(
        f"{at} {kind} ({layer})" for at, (kind, layer) in enumerate(modules(network))
    )
    blocks = "; ".join(layer.formula for layer in network.layers if layer.formula)
    told = {"features": features} if features else {"blocks": blocks}
    said = [getattr(rule, "parameters", {}) for rule in rules]
    own = {name: one.axes for parameters in said for name, one in parameters.items()}
    axes = "; ".join(f"{name} {text}" for name, text in {**AXES, **own}.items())
    return {"network": network.name, **told, "axes": axes}


def check(path: Path) -> None:
    """Refuse the name of a file that is of no known format.

    Raises:
        UserError: another suffix than `.npz` and `.safetensors`.
    """
    if path.suffix[1:] not in FORMATS:
        raise UserError(f"cannot export to {path}: expected a name in .npz or .safetensors")


def write(path: Path, arrays: dict[str, np.ndarray], metadata: dict[str, str]) -> None:
    """Write the arrays to a `.npz` or `.safetensors` file, whole.

    In safetensors the metadata are its own; in npz they are the array `metadata`, JSON as text.

    Raises:
        UserError: another suffix, a full disk or a folder that cannot be written to.
    """
    check(path)
    content = BytesIO()
    if path.suffix == ".npz":
        np.savez(content, metadata=np.array(json.dumps(metadata)), **arrays)
    else:
        from safetensors.numpy import save

        content.write(save(arrays, metadata=metadata))
    with whole(path) as part:
        part.write_bytes(content.getbuffer())
