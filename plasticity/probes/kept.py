"""Probes of the checkpoints that a run has kept on its way, and the best of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np

from plasticity import runs
from plasticity.errors import UserError
from plasticity.probes.probe import probe_run
from plasticity.runs import keeping, lifecycle
from plasticity.runs.run import State

NAME = "kept-probes.json"


@dataclass(frozen=True)
class Best:
    """The best of the checkpoints: by which layer or criterion, which step, how good, its file."""

    by: str
    step: int
    layer: str
    accuracy: float
    checkpoint: str


@dataclass(frozen=True)
class Kept:
    """Accuracy by checkpoint and layer, a fraction.

    Attributes:
        steps: of the checkpoints, rising; trained: for each its layers' accuracies.
        error: one standard error of one accuracy, the largest of all checkpoints.
        about: what was probed, see `Probed`: protocol, data, task, train_images, test_images,
            classes.
        places: the checkpoint of every step.
    """

    layers: list[str]
    steps: list[int]
    trained: list[list[float]]
    error: float
    about: dict[str, object]
    places: list[str] = field(default_factory=list)

    def best_by(self, by: str) -> Best:
        """The best checkpoint, the first of equals.

        Args:
            by: the accuracy of this layer; `mean`, over layers; or `any`, the best of any layer.

        Raises:
            UserError: no such layer.
        """
        keeping.check_by(by, self.layers)
        of = np.array(self.trained)
        judged = {"mean": of.mean(axis=1), "any": of.max(axis=1)}
        value = judged[by] if by in judged else of[:, self.layers.index(by)]
        at = int(value.argmax())
        layer = by if by in self.layers else "" if by == "mean" else self.layers[of[at].argmax()]
        return Best(by, self.steps[at], layer, float(value[at]), self.places[at])

    @property
    def best(self) -> dict[str, int]:
        """For each layer the step of its highest accuracy, the first of equals."""
        at = np.array(self.trained).argmax(axis=0)
        return {name: self.steps[i] for name, i in zip(self.layers, at, strict=True)}

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {**self.__dict__, "best": self.best}

    @classmethod
    def read(cls, folder: Path) -> "Kept | None":
        """What was written into a run's folder, None before.

        Raises:
            UserError: a damaged file.
        """
        path = Path(folder) / NAME
        if not path.is_file():
            return None
        found = runs.read_json(path)
        names = {one.name for one in fields(cls)}
        try:
            kept = cls(**{name: value for name, value in found.items() if name in names})
            shapes = np.array(kept.trained, float).shape, (len(kept.steps), len(kept.layers))
            if shapes[0] != shapes[1] or not kept.steps:
                raise ValueError(f"accuracies of shape {shapes[0]}, expected {shapes[1]}")
            return kept
        except (TypeError, ValueError, AttributeError) as error:
            raise UserError(f"{path} holds no probes of kept checkpoints ({error})") from error


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
    found, places = {}, {}
    for path in (*paths, last):
        state = opened(path)
        if state.step not in found:
            places[state.step] = str(path)
            tell = lambda what, *far, at=state.step: report(f"step {at}, {what}", *far)  # noqa: E731
            found[state.step] = probe_run(state, beside_random=False, report=tell, **how)
    one = found[max(found)]
    names = ("protocol", "data", "task", "train_images", "test_images", "classes")
    return Kept(
        one.layers,
        sorted(found),
        [found[step].trained for step in sorted(found)],
        max(probed.error for probed in found.values()),
        {name: getattr(one, name) for name in names},
        [places[step] for step in sorted(found)],
    )


def at_end(
    state: State, folder: Path, report: Callable[[str, int, int], None] = lambda *_: None
) -> tuple[Kept, Best] | None:
    """What a run ends with that was asked for the best of what it kept, written to its folder."""
    options = state.options
    if not options.best_by:
        return None
    where = {"device": state.device, "data_dir": options.data_dir or None}
    over = probe_kept(
        folder,
        lambda path: lifecycle.reopen(folder, path, **where),
        report,
        train_images=options.probe_train,
        test_images=options.probe_test,
    )
    runs.write_json(Path(folder) / NAME, over.as_dict())
    return over, over.best_by(options.best_by)
