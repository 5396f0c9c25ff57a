"""A run's weights for other programs, under the names that torch gives VGG layers."""

from pathlib import Path

import numpy as np

from plasticity.errors import UserError
from plasticity.files import whole
from plasticity.network import Network, Parameters


def named(network: Network, weights: Parameters) -> dict[str, np.ndarray]:
    """Arrays by name: `features.N.weight` (OIHW) and `.bias`, as torch counts a VGG's modules.

    The modules of `features` are, for each layer, the convolution, its ReLU and its MaxPool if it
    has one. What the rule keeps (`W_pred`, `W_retro`) is `prediction.LAYER.NAME`.
    """
    found, at = {}, 0
    for layer in network.layers:
        for name, w in weights[layer.name].items():
            place = f"features.{at}" if name in ("weight", "bias") else f"prediction.{layer.name}"
            found[f"{place}.{name}"] = np.ascontiguousarray(w)
        at += 2 if layer.pool == 1 else 3
    return found


def write(path: Path, arrays: dict[str, np.ndarray], metadata: dict[str, str]) -> None:
    """Write the arrays to a `.npz` or `.safetensors` file, whole.

    Raises:
        UserError: another suffix.
    """
    if path.suffix == ".npz":
        with whole(path) as part, open(part, "wb") as file:
            np.savez(file, **arrays)
    elif path.suffix == ".safetensors":
        from safetensors.numpy import save_file

        with whole(path) as part:
            save_file(arrays, part, metadata=metadata)
    else:
        raise UserError(f"cannot export to {path}: expected a name in .npz or .safetensors")
