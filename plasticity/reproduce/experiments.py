"""The runs behind a table: ordinary run folders, each made once and resumed where it was."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from plasticity import claims, runs
from plasticity.errors import UserError
from plasticity.files import make_folder
from plasticity.probes import probe
from plasticity.probes.phones import MOST
from plasticity.reports.plots import draw_end
from plasticity.reproduce.tables import Row, Table
from plasticity.rule import learns
from plasticity.runs import lifecycle, sets, summary, training
from plasticity.runs.options import RunOptions

PROTOCOLS = ("published", "regularised")
FREE = {"data_dir", "device", "checkpoint_minutes"}
"""Options that say where and how a run is made, not what it computes."""

STAGES = {"training": "training"} | {protocol: f"{protocol} probe" for protocol in PROTOCOLS}

Report = Callable[[str, int, int], None]
"""Told what is going on, how far it is, of how much."""


@dataclass(frozen=True)
class Budget:
    """What the runs of a table may cost, the same for each of its rows.

    Attributes:
        options: of `plasticity run`, those that do not make the difference between rows; sound: the
            same for rows on sound, by default those of images but for the data.
        probe_train, probe_test: labelled images, 0 for all; probe_epochs, probe_views: of the
            published protocol, see `probe.probe_run`.
    """

    name: str
    options: Mapping[str, object]
    probe_train: int = 0
    probe_test: int = 0
    probe_epochs: int = 300
    probe_views: int = 20
    sound: Mapping[str, object] | None = None

    def of(self, row: Row) -> Mapping[str, object]:
        """The options of `plasticity run` for a row."""
        if not row.spoken:
            return self.options
        return {**self.options, "data": "sample"} if self.sound is None else self.sound

    def statement(self, row: Row) -> str:
        """In words, for the caption of a table with such a row."""
        own = ", ".join(f"{name} {value}" for name, value in self.of(row).items())
        if row.spoken:
            return (
                f"budget {self.name} ({own}); probes on all utterances, the regularised one on "
                f"{MOST['train']:,} training and {MOST['test']:,} test frames of them"
            )
        train, test = (f"{n or 'all'}" for n in (self.probe_train, self.probe_test))
        return (
            f"budget {self.name} ({own}; CLAPP twice as long); probes on {train} training and "
            f"{test} test images, the published one over {self.probe_epochs} epochs and "
            f"{self.probe_views} random views of each image"
        )


BUDGETS = {
    "paper": Budget(
        "paper",
        {"data": "stl10", "width": 1.0, "epochs": 300, "batch": 32},
        sound={"data": "librispeech", "width": 1.0, "epochs": 300, "batch": 8},
    ),
    "small": Budget(
        "small",
        {"data": "cifar10", "width": 0.0625, "steps": 1000, "batch": 8, "lr": 1e-3},
        probe_train=2500,
        probe_test=2000,
        probe_views=2,
        sound={"data": "sample", "width": 0.0625, "steps": 1000, "batch": 8, "lr": 1e-3},
    ),
}


def budget(name: str) -> Budget:
    """A budget by its name, or from a TOML file whose keys are options of a run or `probe_...`.

    Raises:
        UserError: an unknown name, a file that cannot be read, or a key that no budget has.
    """
    if name in BUDGETS:
        return BUDGETS[name]
    path = Path(name)
    if path.suffix != ".toml":
        raise UserError(f"unknown budget '{name}': expected {', '.join(BUDGETS)} or a .toml file")
    import tomllib

    try:
        keys = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"--budget {path}: not a readable TOML file ({error})") from error
    own = {f.name for f in fields(Budget)} - {"name", "options", "sound"}
    known = {f.name for f in fields(RunOptions)} - {"rule", "seed"}
    for key, value in keys.items():
        if key not in own | known:
            raise UserError(
                f"--budget {path}: unknown key '{key}', expected an option of 'plasticity run' "
                f"that rows share, or {', '.join(sorted(own))}"
            )
        if not isinstance(value, int | float | str):
            raise UserError(f"--budget {path}: '{key}' must be one value, got {value}")
    options = {key: value for key, value in keys.items() if key in known}
    return Budget(path.stem, options, **{key: v for key, v in keys.items() if key in own})


@dataclass(frozen=True)
class Experiment:
    """One run: its options, and the folder that all rows with these options share."""

    name: str
    options: RunOptions

    def steps(self) -> int:
        """How long it trains, in batches."""
        images = len(sets.learning_set(self.options))
        return self.options.total_steps(images) if learns(self.options.rule_class()) else 0


def of_row(row: Row, budget: Budget, seed: int, **where: object) -> Experiment:
    """The run of a row: the budget's options, and over them the row's own.

    Args:
        where: `data_dir` and `device`, if not the usual ones.

    Raises:
        UserError: options that do not go together.
    """
    shared = budget.of(row)
    length = {n: row.longer * v for n, v in shared.items() if n in ("epochs", "steps")}
    options = RunOptions(**{**shared, **row.options, **length, "seed": seed, **where})
    own = [f"{name}={value}" for name, value in sorted(row.options.items()) if name != "rule"]
    return Experiment(",".join([options.rule, *own, f"seed={seed}"]), options)


def of_tables(
    tables: Iterable[Table], budget: Budget, seeds: int, **where: object
) -> list[Experiment]:
    """The runs of some tables, each once: those of all rows with one seed before the next seed.

    Raises:
        UserError: options that do not go together, or data that are missing.
    """
    rows = [row for table in tables for row in table.rows]
    found = {}
    for seed in range(seeds):
        for row in rows:
            wanted = of_row(row, budget, seed, **where)
            found.setdefault(wanted.name, wanted)
    for wanted in list(found.values())[: len(found) // seeds]:  # what is wrong is said at once
        options = wanted.options
        network = options.network()
        network.modules(options.split_of(options.rule_object(), network))
        wanted.steps()
    return list(found.values())


def _same(place: Path, stored: Mapping[str, object], options: RunOptions) -> None:
    """Refuse a folder whose run is another one."""
    made, free = RunOptions.from_dict(dict(stored)).resolved(0).as_dict(), {*FREE, "identity"}
    if options.epochs:  # the steps follow from them
        free.add("steps")
    for name, value in options.resolved(0).as_dict().items():
        was = made[name]
        if name not in free and was != value:
            raise UserError(
                f"{place} was made with {name} {was or 'its default'}, this budget asks for "
                f"{value}: name another --out, or the budget that it was made with"
            )


def trained(place: Path, options: RunOptions) -> bool:
    """Whether this run has come to its end.

    Raises:
        UserError: a run that was made with other options.
    """
    if not (place / "summary.json").is_file():
        return False
    _same(place, runs.read_summary(place)["options"], options)
    return True


def measured(place: Path, options: RunOptions, budget: Budget, protocol: str) -> list[float] | None:
    """Accuracy of every layer, as fractions, if this probe has been made of the finished run."""
    path = probe.probe_path(place, protocol, options.data)
    if not path.is_file() or not trained(place, options):
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        asked = found["asked"] == _asked(options, budget, protocol)
        return found["trained"] if asked and found["step"] == _steps(place) else None
    except (OSError, ValueError, KeyError):
        return None  # of another version, or damaged: it is made again


def complete(wanted: Experiment, folder: Path, budget: Budget) -> bool:
    """Whether this run has been trained and probed."""
    place = folder / wanted.name
    return all(measured(place, wanted.options, budget, p) is not None for p in PROTOCOLS)


def _steps(place: Path) -> object:
    return runs.read_summary(place)["steps"]


def _asked(options: RunOptions, budget: Budget, protocol: str) -> dict[str, object]:
    """What `probe.probe_run` is asked for."""
    if options.unfed.name == "sound":  # all utterances, and epochs as published
        return {"protocol": protocol}
    asked = {"train_images": budget.probe_train, "test_images": budget.probe_test}
    if protocol == "published":
        asked |= {"epochs": budget.probe_epochs, "views": budget.probe_views}
    return {"protocol": protocol, **asked}


def carry_out(wanted: Experiment, folder: Path, budget: Budget, report: Report) -> bool:
    """Train and probe, from where it was; what is done already is left as it is.

    Returns:
        Whether it came to its end, or was interrupted and saved.

    Raises:
        UserError: a run with other options in its folder, data that are missing, losses that are
            not finite.
    """
    place = folder / wanted.name
    make_folder(place)
    with claims.held(place):
        return _carry_out(place, wanted.options, budget, report)


def _carry_out(place: Path, options: RunOptions, budget: Budget, report: Report) -> bool:
    if not trained(place, options):
        if runs.checkpoint_path(place).is_file():
            _same(place, runs.load(runs.checkpoint_path(place), moments=False).options, options)
            state = lifecycle.resume(place, {n: getattr(options, n) for n in FREE}, FREE)
        else:
            state, _ = lifecycle.start(options, str(place))

        def tell(progress: training.Progress) -> None:
            report(STAGES["training"], progress.step, progress.steps)

        if learns(state.rule) and not training.train(state, place, tell):
            return False
        summary.finish(state, place)
        draw_end(state, place, None)
    for protocol in PROTOCOLS:
        if measured(place, options, budget, protocol) is None:
            state = lifecycle.reopen(place, data_dir=options.data_dir, device=options.device)
            asked = _asked(options, budget, protocol)
            probed = probe.probe_run(
                state,
                beside_random=False,
                report=lambda what, done, total: report(STAGES[protocol], done, total),  # noqa: B023
                **asked,
            )
            found = {"step": state.step, "asked": asked, **probed.as_dict()}
            runs.write_json(probe.probe_path(place, protocol, options.data), found)
    return True
