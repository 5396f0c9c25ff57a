"""A run's folder: its checkpoint in HDF5, its configuration and its summary.

checkpoint.h5
    /weights/LAYER/NAME       weight (O, C, *kernel), bias (O,), W_pred, W_retro (K, D, D),
                              or W_readout (classes, D), b_readout (classes,)
    /optimiser/LAYER/NAME/m   Adam's moments, m and v
    /metrics/NAME             loss, open_gates and, of a rule that reads labels, accuracy
                              (steps, modules), seconds (steps,)
    /random                   the seed; generators are functions of it
config.toml                   the options, as --config takes them
rule.py, net.py               copies of the files that --rule and --net named
summary.json                  what came of it
"""

import json
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import h5py
import numpy as np

from plasticity.errors import UserError
from plasticity.files import whole

FORMAT = 1
NAME = "checkpoint.h5"

AXES = {
    "weight": "(output neuron j, input neuron i, *kernel offsets)",
    "bias": "(neuron j)",
    "W_pred": "(prediction step, target neuron j, context neuron k)",
    "W_retro": "(prediction step, context neuron k, target neuron j)",
    "W_readout": "(class, neuron j)",
    "b_readout": "(class)",
    "feedback": "(output neuron j, input neuron i, *kernel offsets), fixed",
    "theta": "(neuron j)",
    "expected": "(neuron j)",
}
METRICS = {
    "loss": ("(step, module)", "1", "loss of each module, averaged"),
    "open_gates": ("(step, module)", "1", "fraction of events whose gate is open"),
    "accuracy": ("(step, module)", "1", "fraction of the batch whose label the readout names"),
    "agreement": ("(step, module)", "1", "fraction of events whose gate is as H of Eq. (3)"),
    "seconds": ("(step)", "s", "time of the step"),
}


@dataclass
class Checkpoint:
    """A run as it is saved: everything that its next step depends on, and what it has measured.

    `params[layer][name]`, `moments[layer][name]["m" | "v"]`, `metrics[name]` are arrays.
    """

    step: int
    params: dict[str, dict[str, np.ndarray]]
    moments: dict[str, dict[str, dict[str, np.ndarray]]] = field(default_factory=dict)
    metrics: dict[str, np.ndarray] = field(default_factory=dict)
    options: dict[str, object] = field(default_factory=dict)
    rule: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)


def checkpoint_path(folder: Path) -> Path:
    """Where a run keeps its checkpoint."""
    return Path(folder) / NAME


def checkpoint_of(folder: Path) -> Path:
    """The checkpoint of a run that exists.

    Raises:
        UserError: no such folder, or no checkpoint in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder} is no run folder: expected what 'plasticity run' has made")
    path = checkpoint_path(folder)
    if not path.is_file():
        raise UserError(f"{folder} holds no {NAME}: it is no run, or one that never began")
    return path


def check_finite(params: dict[str, dict[str, np.ndarray]]) -> None:
    """Refuse weights that are not numbers.

    Raises:
        UserError: NaN or infinity, naming layer and parameter.
    """
    for layer, own in params.items():
        for name, w in own.items():
            if not np.isfinite(w).all():
                raise UserError(
                    f"{layer}.{name} holds values that are not finite: take a smaller --lr; "
                    "the last checkpoint stands"
                )


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, whole or not at all.

    Raises:
        UserError: a full disk or a folder that cannot be written to.
    """
    # HDF5 composes it in memory: the process crashes later on if it cannot close its own file.
    content = BytesIO()
    with h5py.File(content, "w") as file:
        file.attrs["format"] = FORMAT
        file.attrs["step"] = checkpoint.step
        file.attrs["options"] = json.dumps(checkpoint.options)
        file.attrs["versions"] = json.dumps(checkpoint.versions)
        for name, value in checkpoint.rule.items():
            file.attrs["rule" if name == "name" else name] = value
        weights = file.create_group("weights")
        for layer, own in checkpoint.params.items():
            for name, w in own.items():
                stored = weights.create_dataset(f"{layer}/{name}", data=w)
                stored.attrs["units"] = "1"
                stored.attrs["axes"] = AXES.get(name, "")
        optimiser = file.create_group("optimiser")
        adam = "Adam (Kingma & Ba 2015): m, v are moments of dW"
        optimiser.attrs["name"] = adam if checkpoint.moments else "plain: W += rate dW"
        for layer, own in checkpoint.moments.items():
            for name, moments in own.items():
                for moment, values in moments.items():
                    optimiser.create_dataset(f"{layer}/{name}/{moment}", data=values)
        metrics = file.create_group("metrics")
        for name, values in checkpoint.metrics.items():
            compressed = {"compression": "gzip", "chunks": True} if values.size else {}
            stored = metrics.create_dataset(name, data=values, **compressed)
            for key, text in zip(("axes", "units", "meaning"), METRICS.get(name, ()), strict=False):
                stored.attrs[key] = text
        random = file.create_group("random")
        random.attrs["seed"] = checkpoint.options.get("seed", 0)
        random.attrs["meaning"] = (
            "every generator is PCG64 of SeedSequence(seed, spawn_key=(purpose, step, ...)): seed, "
            "purpose and step are its whole state; see plasticity/seeds.py"
        )
    with whole(path) as part:
        part.write_bytes(content.getbuffer())


def load(path: Path, *, moments: bool = True) -> Checkpoint:
    """Read a checkpoint, or all of it but the optimiser's moments.

    Raises:
        UserError: a file that is missing, truncated, of another program or of a newer format.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path} is no file: expected a checkpoint of a run")
    try:
        with h5py.File(path, "r") as file:
            if "format" not in file.attrs or "weights" not in file:
                raise UserError(f"{path} is an HDF5 file, but no checkpoint of this program")
            if int(file.attrs["format"]) > FORMAT:
                raise UserError(
                    f"{path} is of format {file.attrs['format']}, this version reads {FORMAT}: "
                    "take a newer plasticity"
                )
            return Checkpoint(
                step=int(file.attrs["step"]),
                params=_read(file["weights"]),
                moments=_read(file["optimiser"]) if moments else {},
                metrics=_read(file["metrics"]),
                options=json.loads(file.attrs["options"]),
                rule={
                    "name": file.attrs["rule"],
                    "equation": file.attrs["equation"],
                    "citation": file.attrs["citation"],
                },
                versions=json.loads(file.attrs["versions"]),
            )
    except (OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise UserError(
            f"{path} cannot be read: it is truncated, damaged or no HDF5 file ({error})"
        ) from error


def _read(group: h5py.Group) -> dict:
    return {
        name: _read(item) if isinstance(item, h5py.Group) else item[()]
        for name, item in group.items()
    }


def write_text(path: Path, text: str | bytes) -> None:
    """Write a text file, whole, as UTF-8."""
    with whole(path) as part:
        part.write_bytes(text.encode() if isinstance(text, str) else text)


def write_json(path: Path, content: dict[str, object]) -> None:
    """Write a JSON file, whole."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def write_summary(folder: Path, summary: dict[str, object]) -> None:
    """Write `summary.json`."""
    write_json(Path(folder) / "summary.json", summary)


def read_summary(folder: Path) -> dict[str, object]:
    """Read `summary.json`.

    Raises:
        UserError: a run without one, or one that is damaged.
    """
    path = Path(folder) / "summary.json"
    if not path.is_file():
        raise UserError(f"{folder} holds no summary.json: it is no run, or one that has not ended")
    return read_json(path)


def read_json(path: Path) -> dict[str, object]:
    """Read a JSON file.

    Raises:
        UserError: a file that is missing or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: expected JSON ({error})") from error


def write_config(folder: Path, options: dict[str, object]) -> None:
    """Write the options as `config.toml`, which `plasticity run --config` takes."""

    def told(value: object) -> str:
        if isinstance(value, dict):
            return f"{{{', '.join(f'{json.dumps(n)} = {told(v)}' for n, v in value.items())}}}"
        return json.dumps(value, ensure_ascii=False)

    # TOML's values are written as JSON's, but it knows no surrogate pairs and no bare DEL.
    text = "".join(f"{name} = {told(value)}\n" for name, value in options.items())
    text = text.replace("\x7f", "\\u007f")
    with whole(Path(folder) / "config.toml") as part:
        # A path that is not UTF-8 must not stop the run, even if TOML cannot tell it.
        part.write_text(text, encoding="utf-8", errors="backslashreplace")
