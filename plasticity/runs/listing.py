"""The runs below a folder, in a row each."""

import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from plasticity import plugins, runs
from plasticity.errors import UserError

COLUMNS = (
    "run", "rule", "net", "width", "data", "seed", "step", "steps", "layer", "accuracy", "saved",
)  # fmt: skip
"""What is told of a run, and what runs can be sorted by."""


@dataclass(frozen=True)
class Listed:
    """A run as its folder tells it.

    Attributes:
        run: its folder; rule: with those of layers that have another one.
        step, steps: how far it has come, of how many.
        layer, accuracy: the best layer of its latest probe, percent; empty and NaN without one.
        saved: when its checkpoint was written, in seconds of the epoch.
    """

    run: str
    rule: str
    net: str
    width: float
    data: str
    seed: int
    step: int
    steps: int
    layer: str
    accuracy: float
    saved: float

    @property
    def row(self) -> dict[str, object]:
        """For a table or a file."""
        found = {name: getattr(self, name) for name in COLUMNS}
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.saved))
        return found | {"accuracy": round(self.accuracy, 2), "saved": when}


def listed(folder: Path) -> tuple[list[Listed], dict[str, str]]:
    """All runs below a folder, by their paths; links to folders are not followed.

    Returns:
        The runs, and checkpoints that cannot be read, with the reasons.

    Raises:
        UserError: no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder: expected one with runs in it")
    found, damaged = [], {}
    for place in _places(folder):
        try:
            found.append(_one(place))
        except UserError as error:
            damaged[str(place)] = str(error)
    return found, damaged


def ordered(found: list[Listed], by: str) -> list[Listed]:
    """The same runs by a column, from below; with a `-` before its name from above.

    Runs that lack a value come last.

    Raises:
        UserError: no such column.
    """
    name = by.removeprefix("-")
    if name not in COLUMNS:
        raise UserError(f"--sort {by}: expected one of {', '.join(COLUMNS)}, or -NAME")
    lack = [one for one in found if getattr(one, name) != getattr(one, name)]
    have = [one for one in found if one not in lack]
    have.sort(key=lambda one: getattr(one, name), reverse=by.startswith("-"))
    return have + lack


def _places(folder: Path) -> Iterator[Path]:
    for place, inside, files in os.walk(folder):
        inside[:] = sorted(name for name in inside if not name.startswith("."))
        if runs.NAME in files:
            yield Path(place)


def _one(place: Path) -> Listed:
    path = runs.checkpoint_path(place)
    rule, step, options = runs.head(path)
    layer, accuracy = _best(place)
    try:
        return Listed(
            run=str(place),
            rule=rule,
            net=plugins.short(options["net"]),
            width=float(options["width"]),
            data=options["data"],
            seed=int(options["seed"]),
            step=step,
            steps=int(options["steps"]) or step,
            layer=layer,
            accuracy=accuracy,
            saved=path.stat().st_mtime,
        )
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise UserError(f"{path} cannot be used: its options are damaged ({error})") from error


def _best(place: Path) -> tuple[str, float]:
    """The best layer of the latest probe, and its accuracy in percent."""
    found = list(runs.probes(place))
    if not found:
        return "", math.nan
    path, probe = max(found, key=lambda one: one[0].stat().st_mtime)
    try:
        accuracy, layer = max(zip(probe["trained"], probe["layers"], strict=True))
        return str(layer), 100 * float(accuracy)
    except (TypeError, ValueError) as error:
        raise UserError(f"{path} holds no probe ({error})") from error
