"""Probes of the checkpoints that a run has kept on its way, and the best of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from plasticity import runs
from plasticity.errors import UserError
from plasticity.probes.probe import probe_run
from plasticity.runs.run import State

NAME = "kept-probes.json"


@dataclass(frozen=True)
class Kept:
    """Accuracy by checkpoint and layer, a fraction.

    Attributes:
        steps: of the checkpoints, rising; trained: for each its layers' accuracies.
        error: one standard error of one accuracy, the largest of all checkpoints.
        about: what was probed, see `Probed`: protocol, data, task, train_images, test_images.
    """

    layers: list[str]
    steps: list[int]
    trained: list[list[float]]
    error: float
    about: dict[str, object]

    @property
    def best(self) -> dict[str, int]:
        """For each layer the step of its highest accuracy, the first of equals."""
        at = np.array(self.trained).argmax(axis=0)
        return {name: self.steps[i] for name, i in zip(self.layers, at, strict=True)}

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {**self.__dict__, "best": self.best}


def probe_kept(
    folder: Path,
    opened: Callable[[Path], State],
    report: Callable[[str, int, int], None] = lambda what, done, total: None,
    **how: object,
) -> Kept:
    """Probe every checkpoint that a run has kept, and its last one.

    Args:
        opened: opens the run at one of its checkpoints; how: as of `probe_run`.

    Raises:
        UserError: a run that has kept none.
    """
    last = runs.checkpoint_of(folder)
    paths: Sequence[Path] = list(runs.kept(folder).values())
    if not paths:
        raise UserError(
            f"{folder} has kept no checkpoints on its way: 'plasticity run --keep-every N' does, "
            "and --keep-weights N weights alone"
        )
    found = {}
    for path in (*paths, last):
        state = opened(path)
        if state.step not in found:
            tell = lambda what, *far, at=state.step: report(f"step {at}, {what}", *far)  # noqa: E731
            found[state.step] = probe_run(state, beside_random=False, report=tell, **how)
    one = found[max(found)]
    names = ("protocol", "data", "task", "train_images", "test_images")
    return Kept(
        one.layers,
        sorted(found),
        [found[step].trained for step in sorted(found)],
        max(probed.error for probed in found.values()),
        {name: getattr(one, name) for name in names},
    )
