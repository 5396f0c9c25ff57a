"""What a run measures, told as it comes: `metrics.csv`, and TensorBoard's files if asked for.

A row of `metrics.csv` is a layer in a step: what its module's rule reports, and the measures of the
layer in the steps that are measured. Cells are empty where a layer has no number. The checkpoint
has all of it: where a run is resumed the file is written anew from there, so that it tells every
step once, whenever the run was killed.
"""

import csv
import io
import os
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from plasticity.errors import UserError, installs
from plasticity.files import FULL, whole
from plasticity.runs.folder import MEASURES
from plasticity.runs.run import State

NAME, BOARD = "metrics.csv", "tensorboard"
Row = tuple[int, str, dict[str, float]]


def rows(state: State, after: int) -> Iterator[Row]:
    """The rows of all steps after this one: step, layer, and its numbers by name."""
    metrics, measures = state.metrics, state.measures
    first = bisect_right(measures.steps, after)
    measured = dict(zip(measures.steps[first:], count(first), strict=False))
    for step in range(after + 1, len(metrics["seconds"]) + 1):
        found = {name: dict[str, float]() for name in state.names}
        for metric, values in metrics.items():
            if metric != "seconds":
                for name, value in zip(state.names, values[step - 1], strict=True):
                    if value == value:  # NaN where the module's rule has no such measure
                        found[name][metric] = float(value)
        if step in measured:
            for measure, values in measures.values.items():
                of_layers = zip(measures.start, values[measured[step]], strict=True)
                for name, value in of_layers:
                    found.setdefault(name, {})[measure] = float(value)
        for name, own in found.items():
            yield step, name, {**own, "seconds": float(metrics["seconds"][step - 1])}


def columns(state: State) -> list[str]:
    """The names of a row's cells."""
    reported = (name for name in state.metrics if name != "seconds")
    return ["step", "layer", *reported, *MEASURES, "seconds"]


def as_text(told: Iterable[Row], names: list[str]) -> str:
    """Rows as lines of a CSV file, numbers with six digits."""
    out = io.StringIO()
    lines = csv.writer(out, lineterminator="\n")
    for step, layer, own in told:
        cells = (f"{own[name]:.6g}" if name in own else "" for name in names[2:])
        lines.writerow([step, layer, *cells])
    return out.getvalue()


@dataclass
class Journal:
    """Tells a run's numbers of every step, once; `told` is the last step that was.

    Attributes:
        writes: whether this process is the one that does; board: a `tensorboardX.SummaryWriter`,
            or None; names: of the columns.
    """

    folder: Path
    writes: bool = True
    told: int = 0
    board: Any = field(default=None, repr=False)
    names: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, state: State, folder: Path) -> "Journal":
        """Begin where the run is now: what was told of later steps goes.

        Raises:
            UserError: `metrics.csv` cannot be written, or tensorboardX is missing.
        """
        found, step = cls(Path(folder), state.writes), len(state.metrics["seconds"])
        if not state.writes:
            return found
        if step:
            found._anew(state)
        else:
            found.path.unlink(missing_ok=True)
        found.told = step
        if state.options.tensorboard:
            place, goes_on = found.folder / BOARD, (found.folder / BOARD).is_dir()
            # Two files that are begun in one second would otherwise have one name.
            how = {"filename_suffix": f".{step}.{os.getpid()}", "flush_secs": 10}
            how |= {"purge_step": step + 1} if goes_on else {}
            found.board = board()(str(place), **how)
            if not goes_on:
                found._show(rows(state, 0))
        return found

    @property
    def path(self) -> Path:
        """Where the rows go."""
        return self.folder / NAME

    def tell(self, state: State) -> None:
        """Append what is new; a header before the first row.

        Raises:
            UserError: the file cannot be written; it ends with a whole line.
        """
        if not self.writes:
            return
        new, names = list(rows(state, self.told)), columns(state)
        if self.told and names != self.names:  # another rule than before reports other numbers
            self._anew(state)
        else:
            head = "" if self.told else ",".join(names) + "\n"
            self._append((head + as_text(new, names)).encode())
            self.names = names
        self.told = len(state.metrics["seconds"])
        self._show(new)

    def _anew(self, state: State) -> None:
        """Write the rows of all steps."""
        self.names = columns(state)
        with whole(self.path) as part, open(part, "w", encoding="utf-8") as file:
            file.write(",".join(self.names) + "\n")
            for row in rows(state, 0):
                file.write(as_text([row], self.names))

    def _show(self, told: Iterable[Row]) -> None:
        """On TensorBoard, if it is asked for."""
        if self.board is not None:
            for step, layer, own in told:
                for name, value in own.items():
                    self.board.add_scalar(f"{name}/{layer}", value, step)

    def _append(self, text: bytes) -> None:
        """One write, so that whoever ends the process finds it done or not begun."""
        try:
            file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            try:
                before = os.fstat(file).st_size
                try:
                    if os.write(file, text) != len(text):
                        raise OSError(FULL[0], os.strerror(FULL[0]))
                except OSError:
                    os.ftruncate(file, before)
                    raise
            finally:
                os.close(file)
        except OSError as error:
            reason = "the disk is full" if error.errno in FULL else error.strerror
            raise UserError(
                f"{self.path} could not be written: {reason}; the last checkpoint stands, go on "
                "with it by --resume"
            ) from error

    def flush(self) -> None:
        """Let TensorBoard's files have what was told: the run is about to be saved."""
        if self.board is not None:
            self.board.flush()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *how: object) -> None:
        if self.board is not None:
            self.board.close()


def board() -> type:
    """TensorBoard's writer.

    Raises:
        UserError: tensorboardX is missing.
    """
    try:
        from tensorboardX import SummaryWriter
    except ImportError as error:
        raise UserError(f"--tensorboard needs tensorboardX: {installs('tensorboard')}") from error
    return SummaryWriter
