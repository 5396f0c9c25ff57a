"""The runs behind a published table: its sweep, with the options and probes of a budget."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from plasticity.errors import UserError
from plasticity.probes.phones import MOST
from plasticity.reproduce.tables import kind
from plasticity.runs.options import RunOptions
from plasticity.sweeps import PROTOCOLS, Experiment, Row, Sweep

CLIPS = 1000, 500  # that a probe of film reads at most, unless it reads all


@dataclass(frozen=True)
class Budget:
    """What the runs of a table may cost, the same for each of its rows.

    Attributes:
        options: of `plasticity run`, those that do not make the difference between rows; sound,
            film: the same for rows on these, by default those of images but for the data.
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
    film: Mapping[str, object] | None = None

    def of(self, row: Row) -> Mapping[str, object]:
        """The options of `plasticity run` for a row."""
        if (of := kind(row)) == "images":
            return self.options
        own = getattr(self, of)
        return {**self.options, "data": "sample"} if own is None else own

    def probes(self, row: Row) -> dict[str, dict[str, object]]:
        """By protocol what `probe.probe_run` is asked for."""
        if kind(row) == "sound":  # all utterances, and epochs as published
            return {protocol: {"protocol": protocol} for protocol in PROTOCOLS}
        if kind(row) == "film":  # epochs and views as published
            clips = {"train_images": min(self.probe_train, CLIPS[0]), "test_images": CLIPS[1]}
            clips = clips if self.probe_train else {"train_images": 0, "test_images": 0}
            return {one: {"protocol": one, **clips} for one in PROTOCOLS}
        images = {"train_images": self.probe_train, "test_images": self.probe_test}
        own = {"published": {"epochs": self.probe_epochs, "views": self.probe_views}}
        return {one: {"protocol": one, **images, **own.get(one, {})} for one in PROTOCOLS}

    def statement(self, row: Row) -> str:
        """In words, for the caption of a table with such a row."""
        own = ", ".join(f"{name} {value}" for name, value in self.of(row).items())
        if kind(row) == "sound":
            return (
                f"budget {self.name} ({own}); probes on all utterances, the regularised one on "
                f"{MOST['train']:,} training and {MOST['test']:,} test frames of them"
            )
        if kind(row) == "film":
            clips = self.probes(row)["regularised"]
            train, test = (f"{clips[n] or 'all'}" for n in ("train_images", "test_images"))
            return f"budget {self.name} ({own}); probes on {train} training and {test} test clips"
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
        film={
            "data": "ucf101",
            "width": 1.0,
            "epochs": 300,
            "batch": 8,
            "lr": 1e-3,
            "weight_decay": 1e-5,
            "clip_frames": 54,
            "side": 128,
            "every": 3,
            "vary_colours": True,
        },
    ),
    "small": Budget(
        "small",
        {"data": "cifar10", "width": 0.0625, "steps": 1000, "batch": 8, "lr": 1e-3},
        probe_train=2500,
        probe_test=2000,
        probe_views=2,
        sound={"data": "sample", "width": 0.0625, "steps": 1000, "batch": 8, "lr": 1e-3},
        film={"data": "sample", "width": 0.125, "steps": 600, "batch": 8, "lr": 1e-3},
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
    own = {f.name for f in fields(Budget)} - {"name", "options", "sound", "film"}
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


def of_row(row: Row, budget: Budget, seed: int, **where: object) -> Experiment:
    """The run of a row: the budget's options, and over them the row's own.

    Args:
        where: `data_dir` and `device`, if not the usual ones.

    Raises:
        UserError: options that do not go together.
    """
    options = RunOptions(**row.over(budget.of(row)) | {"seed": seed, **where})
    own = [f"{name}={value}" for name, value in sorted(row.options.items()) if name != "rule"]
    name = ",".join([options.rule, *own, f"seed={seed}"])
    return Experiment(name, options, budget.probes(row), asker="budget")


def of_tables(
    tables: Iterable[Sweep], budget: Budget, seeds: int, **where: object
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
        wanted.check()
    return list(found.values())
