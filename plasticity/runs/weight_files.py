"""Files of weights, whoever wrote them: arrays by name. No code in them is run."""

import re
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from plasticity import runs
from plasticity.errors import UserError, installs
from plasticity.runs.published import ONE_MODULE

NESTED = ("state_dict", "model_state_dict", "model", "net", "network", "encoder", "weights")
"""Where a state dict lies in a file that holds more."""

WRAPPED = "module."  # what torch's DataParallel puts before every name

Arrays = dict[str, np.ndarray]


def read(paths: Sequence[Path]) -> Arrays:
    """The arrays of one or several files, by name, numbers of any kind.

    Files of single modules, as the published vision codes write them, are taken in the order that
    is in their names, `model_MODULE_EPOCH.ckpt`, or else as they are given; their names get
    `encoder.MODULE.` in front.

    Raises:
        UserError: a file that is none of weights, or a name that two of them have.
    """
    if not paths:
        raise UserError("expected at least one file of weights")
    found: Arrays = {}
    for module, path in enumerate(_in_order(paths)):
        for name, array in _read(path).items():
            name = f"encoder.{module}.{name}" if ONE_MODULE.match(name) else name
            if name in found:
                raise UserError(f"{path} holds {name}, and so does another of the files")
            found[name] = array
    if not found:
        raise UserError(f"{paths[0]} holds no arrays")
    return found


def _in_order(paths: Sequence[Path]) -> list[Path]:
    numbers = [re.fullmatch(r"model_(\d+)_\d+", path.stem) for path in paths]
    if not all(numbers):
        return list(paths)
    return [path for _, path in sorted(zip((int(n[1]) for n in numbers), paths, strict=True))]


def _read(path: Path) -> Arrays:
    if not path.is_file():
        what = "a folder: name the files in it" if path.is_dir() else "no file"
        raise UserError(f"{path} is {what}; expected weights in .pt, .npz, .safetensors or .h5")
    path.open("rb").close()  # a file without rights is no damaged one
    readers = {".npz": _npz, ".safetensors": _safetensors, ".h5": _checkpoint}
    found = readers.get(path.suffix, _torch)(path)
    if found and all(name.startswith(WRAPPED) for name in found):
        found = {name.removeprefix(WRAPPED): array for name, array in found.items()}
    return found


def _npz(path: Path) -> Arrays:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files if name != "metadata"}
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} cannot be read as .npz: {_line(error)}") from error


def _safetensors(path: Path) -> Arrays:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except (
        SafetensorError,
        KeyError,
        ValueError,
        TypeError,
    ) as error:
        raise UserError(f"{path} cannot be read as safetensors: {_line(error)}") from error


def _checkpoint(path: Path) -> Arrays:
    """The weights of a run's checkpoint, as `LAYER.NAME`."""
    params = runs.load(path, moments=False).params
    return {f"{layer}.{name}": w for layer, own in params.items() for name, w in own.items()}


def _torch(path: Path) -> Arrays:
    try:
        import torch
    except ImportError as error:
        raise UserError(
            f"{path}: torch's files need torch, which is not installed: {installs('verify')}"
        ) from error
    from pickle import UnpicklingError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is old or odd is refused below
            stored = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        if code := re.search(r"Unsupported (?:global|class)\W+(?:GLOBAL )?([\w.]+)", str(error)):
            raise UserError(
                f"{path} holds Python objects besides tensors ({code[1]}), which could run code, "
                "and is not opened: save a state dict alone, by torch.save(model.state_dict(), ...)"
            ) from error
        raise UserError(f"{path} is no state dict of torch, or it is damaged") from error
    except Exception as error:  # of damage torch tells by errors of many kinds
        raise UserError(f"{path} is no state dict of torch, or it is damaged") from error
    return _arrays(path, _state_dict(path, stored))


def _state_dict(path: Path, stored: Any) -> Mapping[str, Any]:
    """The state dict of what was stored: itself, or what lies in it under a usual name."""
    from torch import Tensor

    here = stored
    while isinstance(here, Mapping):
        if any(isinstance(value, Tensor) for value in here.values()):
            return here
        here = next((here[name] for name in NESTED if isinstance(here.get(name), Mapping)), None)
    held = f"{type(stored).__name__}"
    if isinstance(stored, Mapping):
        held = f"a dict of {some(map(str, stored))}" if stored else "an empty dict"
    raise UserError(
        f"{path} holds {held}, expected a state dict (names and tensors), alone or under "
        f"{', '.join(NESTED[:3])}"
    )


def _arrays(path: Path, state: Mapping[str, Any]) -> Arrays:
    import torch

    found = {}
    for name, value in state.items():
        if not isinstance(value, torch.Tensor):
            continue
        if value.layout != torch.strided or value.is_quantized:
            raise UserError(f"{path}: {name} is sparse or quantised, expected a dense tensor")
        value = value.detach()
        exact = value.float() if value.dtype in (torch.bfloat16, torch.float16) else value
        found[str(name)] = exact.resolve_conj().resolve_neg().numpy()
    return found


def some(names: Any, most: int = 3) -> str:
    """The first of some names, for a sentence."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
