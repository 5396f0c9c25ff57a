"""What a run keeps on its way, read: checkpoints, and weights alone.

The weights of `weights.h5`, see `course`, are named as if that file were a folder:
`RUN/weights.h5/100` are those after step 100.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from plasticity import growing, hdf5
from plasticity.errors import UserError
from plasticity.runs import folder as of_folder
from plasticity.runs.folder import FORMAT, Checkpoint

KEPT, NAME = "checkpoints", "weights.h5"
CRITERIA = ("mean", "any")
"""By what the best of what was kept is chosen, besides the name of a layer."""


def kept_path(folder: Path, step: int) -> Path:
    """Where a run keeps its checkpoint of a step for good, see `RunOptions.keep_every`."""
    return Path(folder) / KEPT / f"step-{step:06}.h5"


def kept(folder: Path) -> dict[int, Path]:
    """What a run has kept by their steps, from the first: checkpoints, and elsewhere weights alone.

    Raises:
        UserError: a `weights.h5` that is damaged.
    """
    found = {step: record_path(folder, step) for step in steps_of(folder)}
    for path in (Path(folder) / KEPT).glob("step-*.h5"):
        step = path.stem.removeprefix("step-")
        if step.isdecimal() and path == kept_path(folder, int(step)):
            found[int(step)] = path
    return dict(sorted(found.items()))


def check_by(by: str, layers: Sequence[str]) -> None:
    """See that the best of what was kept can be chosen by this: a layer, `mean` or `any`.

    Raises:
        UserError: no such layer.
    """
    if by not in (*layers, *CRITERIA):
        raise UserError(
            f"--best-by {by}: expected a layer, {', '.join(layers)}, or mean, over all layers, or "
            "any, the best of any layer"
        )


def record_path(folder: Path, step: int) -> Path:
    """How the weights alone after a step are named."""
    return Path(folder) / NAME / str(step)


def is_record(path: Path) -> bool:
    """Whether this names weights in a `weights.h5`."""
    path = Path(path)
    return path.parent.name == NAME and path.name.isdecimal() and path.parent.is_file()


def steps_of(folder: Path) -> list[int]:
    """After which steps a run has kept weights alone, rising.

    Raises:
        UserError: a damaged file.
    """
    path = Path(folder) / NAME
    if not path.is_file():
        return []
    with opened(path) as file:
        return [int(step) for step in file["step"][: growing.length(file)]]


def load(path: Path, *, moments: bool = True) -> Checkpoint:
    """Read a checkpoint, or all of it but the optimiser's moments; or weights alone.

    Raises:
        UserError: see `folder.load`; moments that weights alone do not have; no such step.
    """
    path = Path(path)
    if not is_record(path):
        return of_folder.load(path, moments=moments)
    if moments:
        raise UserError(
            f"{path} holds weights alone, and this wants the optimiser's moments too: take a "
            "checkpoint that 'plasticity run --keep-every N' has kept"
        )
    with opened(path.parent) as file:
        steps = file["step"][: growing.length(file)]
        at = np.flatnonzero(steps == int(path.name))
        if not len(at):
            raise UserError(f"it has no step {path.name}: there are {', '.join(map(str, steps))}")
        params: dict[str, dict[str, np.ndarray]] = {}
        for name, item in hdf5.datasets(file["weights"], 2):
            layer, parameter = name.split("/")[1:]
            w = params.setdefault(layer, {})[parameter] = item[int(at[0])]
            if not np.isfinite(w).all():
                raise UserError(f"{name} holds values that are not finite")
        return Checkpoint(
            step=int(path.name),
            params=params,
            metrics={"seconds": np.zeros(0)},
            options=hdf5.json_of(file.attrs, "options", dict),
            rule={
                "name": hdf5.text(file.attrs, "rule"),
                "equation": hdf5.text(file.attrs, "equation"),
                "citation": hdf5.text(file.attrs, "citation"),
            },
            versions=hdf5.json_of(file.attrs, "versions", dict),
        )


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """A `weights.h5` to read, also while it grows; what is wrong with it is said with its path.

    Raises:
        UserError: it is damaged, or no such file.
    """
    try:
        with growing.opened(path) as file:
            if "format" not in file.attrs or not {"step", "weights"} <= set(file):
                raise UserError("it is an HDF5 file, but no weights of a run")
            if (found := hdf5.whole(file.attrs, "format")) > FORMAT:
                raise UserError(f"it is of format {found}, this version reads {FORMAT}")
            for name, item in hdf5.datasets(file, 3):
                kind = "i" if name == "step" else "f"
                elsewhere = item.is_virtual or item.external
                if elsewhere or item.dtype.kind != kind or not item.shape:
                    raise UserError(f"{name} holds no numbers over time, or they lie elsewhere")
            yield file
    except UserError as error:
        raise UserError(f"{path} cannot be used: {error}") from error
    except Exception as error:  # HDF5 tells of damage by errors of many kinds
        raise UserError(
            f"{path} cannot be read: it is truncated, damaged or no HDF5 file ({error})"
        ) from error
