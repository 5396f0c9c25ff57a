"""A run's folder: its checkpoint in HDF5, its configuration and its summary.

checkpoints/step-000100.h5  what --keep-every has kept: checkpoints as they were at their steps
weights.h5                  what --keep-weights has kept: weights alone, see `course`
checkpoint.h5
    /weights/LAYER/NAME       weight (O, C, *kernel), bias (O,), W_pred, W_retro (K, D, D),
                              or W_readout (classes, D), b_readout (classes,)
    /optimiser/LAYER/NAME/m   Adam's moments, m and v
    /metrics/NAME             loss, open_gates and, of a rule that reads labels, accuracy
                              (steps, modules), seconds (steps,)
    /measures/step            the steps that were measured (n,); and for each of them
    /measures/NAME            activity, sparsity, dead, norm, drift (n, layers)
    /answered/LAYER           the last measured step in which a neuron answered (O,), 0 for none
    /random                   the seed; generators are functions of it
    crc32, attributes_crc32   checksums of every array, and of the file's attributes
config.toml                   the options, as --config takes them
rule.py, net.py               copies of the files that --rule and --net named
summary.json                  what came of it
"""

import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from plasticity import hdf5
from plasticity.errors import UserError
from plasticity.files import whole

FORMAT = 1
SEALED = "attributes_crc32"
NAME = "checkpoint.h5"

AXES = {
    "weight": "(output neuron j, input neuron i, *kernel offsets)",
    "bias": "(neuron j)",
    "feedback": "(output neuron j, input neuron i, *kernel offsets), fixed",
    "gain": "(neuron j)",
    "shift": "(neuron j)",
    "running_mean": "(neuron j), of the norm, follows the batches",
    "running_var": "(neuron j), of the norm, follows the batches",
    "weight_ih": "(gates r, z, n of neuron j, input neuron i)",
    "weight_hh": "(gates r, z, n of neuron j, neuron i)",
    "bias_ih": "(gates r, z, n of neuron j)",
    "bias_hh": "(gates r, z, n of neuron j)",
}
"""Of the parameters of layers; a rule says those of its own, see `Rule.parameters`."""

METRICS = {
    "loss": ("(step, module)", "1", "loss of each module, averaged"),
    "open_gates": ("(step, module)", "1", "fraction of events whose gate is open"),
    "accuracy": ("(step, module)", "1", "fraction of the batch whose label the readout names"),
    "agreement": ("(step, module)", "1", "fraction of events whose gate is as H of Eq. (3)"),
    "seconds": ("(step)", "s", "time of the step"),
}

MEASURES = {
    "activity": "mean output of the layer",
    "sparsity": "1 - a of Treves & Rolls 1991 over the neurons of a place, its mean",
    "dead": "fraction of neurons that answered no input in the measured steps of the last 100",
    "norm": "mean over neurons of the norm of the weights onto them",
    "drift": "|W - W_start| / |W_start|",
}
"""Measures of a layer, see `learning.measures`."""

MEASURED = {
    "step": ("(measured step)", "1", "which step, counted from 1"),
    **{name: ("(measured step, layer)", "1", said) for name, said in MEASURES.items()},
}


@dataclass
class Checkpoint:
    """A run as it is saved: everything that its next step depends on, and what it has measured.

    `params[layer][name]`, `moments[layer][name]["m" | "v"]`, `metrics[name]`, `measures[name]`
    and `answered[layer]` are arrays, see above; `axes` are those of the rule's own parameters, in
    words, for whoever reads the file.
    """

    step: int
    params: dict[str, dict[str, np.ndarray]]
    moments: dict[str, dict[str, dict[str, np.ndarray]]] = field(default_factory=dict)
    metrics: dict[str, np.ndarray] = field(default_factory=dict)
    options: dict[str, object] = field(default_factory=dict)
    rule: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    axes: dict[str, str] = field(default_factory=dict)
    measures: dict[str, np.ndarray] = field(default_factory=dict)
    answered: dict[str, np.ndarray] = field(default_factory=dict)


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
    # From 1.10 on HDF5 keeps checksums of all that it says of the arrays; theirs are our own.
    with h5py.File(content, "w", libver=("v110", "v110")) as file:
        file.attrs["format"] = FORMAT
        file.attrs["step"] = checkpoint.step
        file.attrs["options"] = json.dumps(checkpoint.options)
        file.attrs["versions"] = json.dumps(checkpoint.versions)
        for name, value in checkpoint.rule.items():
            file.attrs["rule" if name == "name" else name] = value
        file.attrs[SEALED] = _seal(file.attrs)
        weights = file.create_group("weights")
        for layer, own in checkpoint.params.items():
            for name, w in own.items():
                stored = weights.create_dataset(f"{layer}/{name}", data=w)
                hdf5.seal(stored, w)
                stored.attrs["units"] = "1"
                stored.attrs["axes"] = {**AXES, **checkpoint.axes}.get(name, "")
        optimiser = file.create_group("optimiser")
        adam = "Adam (Kingma & Ba 2015): m, v are moments of dW"
        optimiser.attrs["name"] = adam if checkpoint.moments else "plain: W += rate dW"
        for layer, own in checkpoint.moments.items():
            for name, moments in own.items():
                for moment, values in moments.items():
                    stored = optimiser.create_dataset(f"{layer}/{name}/{moment}", data=values)
                    hdf5.seal(stored, values)
        series = ("metrics", METRICS), ("measures", MEASURED), ("answered", {})
        for kind, said in series:
            group = file.create_group(kind)
            for name, values in getattr(checkpoint, kind).items():
                compressed = {"compression": "gzip", "chunks": True} if values.size else {}
                stored = group.create_dataset(name, data=values, **compressed)
                hdf5.seal(stored, values)
                for key, text in zip(
                    ("axes", "units", "meaning"), said.get(name, ()), strict=False
                ):
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

    Everything is checked before it is read: a checkpoint may be damaged, or somebody else's.

    Raises:
        UserError: a file that is missing, truncated or damaged, of another program or of a newer
            format, or whose values are not those that were written.
    """
    with _opened(path) as (file, step):
        parts = dict(hdf5.members(file))
        metrics = hdf5.tree(parts["metrics"], 1)
        for name, values in metrics.items():
            if values.ndim not in (1, 2) or len(values) != step:
                raise UserError(f"metrics/{name} has shape {values.shape} after {step} steps")
        if SEALED in file.attrs and _seal(file.attrs) != hdf5.whole(file.attrs, SEALED):
            raise UserError("its attributes do not have the checksum they were written with")
        return Checkpoint(
            step=step,
            params=hdf5.tree(parts["weights"], 2, finite=True),
            moments=hdf5.tree(parts["optimiser"], 3, finite=True) if moments else {},
            metrics=metrics,
            measures=_series(parts, "measures"),
            answered=_series(parts, "answered"),
            options=hdf5.json_of(file.attrs, "options", dict),
            rule={
                "name": hdf5.text(file.attrs, "rule"),
                "equation": hdf5.text(file.attrs, "equation"),
                "citation": hdf5.text(file.attrs, "citation"),
            },
            versions=hdf5.json_of(file.attrs, "versions", dict),
        )


def head(path: Path) -> tuple[str, int, dict[str, Any]]:
    """Of a checkpoint the rule, the step and the options, without what takes room.

    Raises:
        UserError: a file that is no checkpoint of this program, or a damaged one.
    """
    with _opened(path) as (file, step):
        return hdf5.text(file.attrs, "rule"), step, hdf5.json_of(file.attrs, "options", dict)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[h5py.File, int]]:
    """A checkpoint to be read, and its step; what is wrong with it is said with its path.

    Raises:
        UserError: as `load`.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path} is no file: expected a checkpoint of a run")
    path.open("rb").close()  # a file without rights is no damaged one
    try:
        with h5py.File(path, "r") as file:
            if "format" not in file.attrs or "weights" not in file:
                raise UserError("it is an HDF5 file, but no checkpoint of this program")
            if (found := hdf5.whole(file.attrs, "format")) > FORMAT:
                raise UserError(
                    f"it is of format {found}, this version reads {FORMAT}: take a newer plasticity"
                )
            yield file, hdf5.whole(file.attrs, "step")
    except UserError as error:
        raise UserError(f"{path} cannot be used: {error}") from error
    except Exception as error:  # HDF5 tells of damage by errors of many kinds
        raise UserError(
            f"{path} cannot be read: it is truncated, damaged or no HDF5 file ({error})"
        ) from error


def _series(parts: dict, name: str) -> dict[str, np.ndarray]:
    """The arrays of a group that an earlier version did not write."""
    return hdf5.tree(parts[name], 1, "fi") if name in parts else {}


def _seal(attributes: h5py.AttributeManager) -> int:
    """The checksum of a checkpoint's attributes."""
    told = [(name, str(attributes[name])) for name in sorted(attributes) if name != SEALED]
    return zlib.crc32(json.dumps(told).encode())


def write_text(path: Path, text: str | bytes) -> None:
    """Write a text file, whole, as UTF-8; of names that are not UTF-8 the codes."""
    with whole(path) as part:
        part.write_bytes(text.encode(errors="backslashreplace") if isinstance(text, str) else text)


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


def probes(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The probes that a run's folder holds, each with its file: that of its end, then others.

    See `probes.Probed.as_dict`.

    Raises:
        UserError: a file that cannot be read, or holds no probe.
    """
    end = Path(folder) / "summary.json"
    for path in [end] * end.is_file() + sorted(Path(folder).glob("probe-*.json")):
        found = read_json(path)
        if path == end:
            found = found.get("probe") if isinstance(found, dict) else None
            if not found:
                continue
        needed = {"protocol", "data", "layers", "trained", "random", "error", "test_images"}
        if not isinstance(found, dict) or not needed <= set(found):
            raise UserError(f"{path} holds no probe: expected {', '.join(sorted(needed))}")
        yield path, found


def write_config(folder: Path, options: dict[str, object]) -> None:
    """Write the options as `config.toml`, which `plasticity run --config` takes."""

    def lines(options: dict[str, object]) -> str:
        return "".join(f"{name} = {toml(value)}\n" for name, value in options.items())

    text = lines({name: value for name, value in options.items() if name != "layer"})
    for name, section in options.get("layer", {}).items():
        text += f"\n[layer.{toml(name)}]\n{lines(section)}"
    with whole(Path(folder) / "config.toml") as part:
        # A path that is not UTF-8 must not stop the run, even if TOML cannot tell it.
        part.write_text(text, encoding="utf-8", errors="backslashreplace")


def toml(value: object) -> str:
    """A value as TOML has it, in one line."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{json.dumps(n)} = {toml(v)}' for n, v in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml, value))}]"
    # Values are written as JSON's, but TOML knows no surrogate pairs and no bare DEL.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
