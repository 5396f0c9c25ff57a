"""The runs behind a table: ordinary run folders, each made once and resumed where it was."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from plasticity import claims, runs
from plasticity.errors import UserError
from plasticity.files import make_folder
from plasticity.inspection import recording
from plasticity.probes import probe
from plasticity.reports.plots import draw_end
from plasticity.rule import learns
from plasticity.runs import lifecycle, sets, summary, training
from plasticity.runs.options import RunOptions, free

PROTOCOLS = ("published", "regularised")
FREE = free() - {"steps", "epochs"}
"""Options that say where and how a run is made, not what it computes."""

TRAINING = "training"

Report = Callable[[str, int, int], None]
"""Told what is going on, how far it is, of how much."""


def stage(protocol: str) -> str:
    """What is going on while a probe is taken."""
    return f"{protocol} probe"


@dataclass(frozen=True)
class Experiment:
    """One run: its options, and the folder that all rows with these options share.

    Attributes:
        probes: by protocol what `probe.probe_run` is asked for when the run has ended.
        asker: who asks for these options, for the sentence that refuses another run's folder.
    """

    name: str
    options: RunOptions
    probes: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    asker: str = "sweep"

    def steps(self) -> int:
        """How long it trains, in batches."""
        images = len(sets.learning_set(self.options))
        return self.options.total_steps(images) if learns(self.options.rule_class()) else 0

    def check(self) -> None:
        """Refuse options that do not go together, and data that are missing.

        Raises:
            UserError: what is wrong.
        """
        options = self.options
        network = options.network()
        network.modules(options.split_of(options.rule_object(), network))
        self.steps()

    def fits(self, place: Path) -> None:
        """Refuse a folder that holds another run.

        Raises:
            UserError: which option is another one; a checkpoint that cannot be read.
        """
        if (place / "summary.json").is_file():
            self._same(place, runs.read_summary(place)["options"])
        elif runs.checkpoint_path(place).is_file():
            self._same(place, runs.load(runs.checkpoint_path(place), moments=False).options)

    def _same(self, place: Path, stored: Mapping[str, object]) -> None:
        made, may = RunOptions.from_dict(dict(stored)).resolved(0).as_dict(), {*FREE, "identity"}
        if self.options.epochs:  # the steps follow from them
            may.add("steps")
        for name, value in self.options.resolved(0).as_dict().items():
            was = made[name]
            if name not in may and was != value:
                raise UserError(
                    f"{place} was made with {name} {was or 'its default'}, this {self.asker} asks "
                    f"for {value or 'the default'}: name another --out, or the {self.asker} that "
                    "it was made with"
                )

    def trained(self, place: Path) -> bool:
        """Whether this run has come to its end.

        Raises:
            UserError: a run that was made with other options.
        """
        ended = (place / "summary.json").is_file()
        if ended:
            self.fits(place)
        return ended

    def measured(self, place: Path, protocol: str) -> list[float] | None:
        """Accuracy of every layer, as fractions, if this probe has been made of the finished run.

        Raises:
            UserError: a run that was made with other options.
        """
        path = self.probe_path(place, protocol)
        if not path.is_file() or not self.trained(place):
            return None
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            asked = found["asked"] == self.probes[protocol]
            return found["trained"] if asked and found["step"] == _steps(place) else None
        except (OSError, ValueError, KeyError):
            return None  # of another version, or damaged: it is made again

    def classes(self, place: Path, protocol: str) -> int:
        """How many classes this probe was to tell apart; 0 where it has not been made."""
        if self.measured(place, protocol) is None:
            return 0
        return int(runs.read_json(self.probe_path(place, protocol)).get("classes", 0))

    def probe_path(self, place: Path, protocol: str) -> Path:
        """Where the result of a probe is kept."""
        asked = self.probes[protocol]
        data = str(asked.get("data_name", self.options.data))
        return probe.probe_path(place, protocol, data, str(asked.get("task", "")))

    def complete(self, folder: Path) -> bool:
        """Whether this run has been trained and probed, in its place in `folder`."""
        place = folder / self.name
        probed = all(self.measured(place, protocol) is not None for protocol in self.probes)
        return probed and self.trained(place)


def _steps(place: Path) -> object:
    return runs.read_summary(place)["steps"]


def carry_out(
    wanted: Experiment,
    folder: Path,
    report: Report,
    stopped: Callable[[], bool] = lambda: False,
) -> bool:
    """Train and probe, from where it was; what is done already is left as it is.

    Args:
        stopped: asked as it goes on whether to save and stop.

    Returns:
        Whether it came to its end, or was interrupted and saved.

    Raises:
        UserError: a run with other options in its folder, data that are missing, losses that are
            not finite.
    """
    place = folder / wanted.name
    make_folder(place)
    with claims.held(place):
        try:
            return _train(wanted, place, report, stopped) and _probe(wanted, place, report, stopped)
        except _StoppedError:
            return False


class _StoppedError(Exception):
    """A probe is left as soon as somebody asks for it; it is taken again."""


def _train(wanted: Experiment, place: Path, report: Report, stopped: Callable[[], bool]) -> bool:
    if wanted.trained(place):
        return True
    options = wanted.options
    if runs.checkpoint_path(place).is_file():
        wanted.fits(place)
        state = lifecycle.resume(place, {n: getattr(options, n) for n in FREE}, FREE)
    else:
        state = lifecycle.plan(options)
        lifecycle.make(state, place)

    def tell(progress: training.Progress) -> None:
        report(TRAINING, progress.step, progress.steps)

    recorder = recording.open_recorder(state, place)
    try:
        if learns(state.rule) and not training.train(state, place, tell, recorder, stopped):
            return False
    finally:
        if recorder is not None:
            recorder.close()
    summary.finish(state, place)
    draw_end(state, place, None)
    return True


def _probe(wanted: Experiment, place: Path, report: Report, stopped: Callable[[], bool]) -> bool:
    options = wanted.options
    for protocol, asked in wanted.probes.items():
        if wanted.measured(place, protocol) is not None:
            continue

        def tell(what: str, done: int, total: int, protocol: str = protocol) -> None:
            report(stage(protocol), done, total)
            if stopped():
                raise _StoppedError

        state = lifecycle.reopen(place, data_dir=options.data_dir, device=options.device)
        probed = probe.probe_run(state, beside_random=False, report=tell, **asked)
        found = {"step": state.step, "asked": dict(asked), **probed.as_dict()}
        runs.write_json(wanted.probe_path(place, protocol), found)
    return True
