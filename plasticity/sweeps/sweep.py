"""What a sweep is: rows that are each run with every seed, their probes, and their comparison."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256

from plasticity.errors import UserError
from plasticity.runs.options import RunOptions
from plasticity.sweeps.experiments import Experiment

TESTS = ("paired", "welch")
FIGURES = ("rows", "layers", "losses")
LENGTH = ("epochs", "steps")

Options = Mapping[str, object]


@dataclass(frozen=True)
class Row:
    """One line of a table: a way to learn.

    Attributes:
        options: of `plasticity run`, those that are this row's own.
        published: accuracy in percent that somebody else has found, or None.
        longer: multiplies the training that all rows have.
        layer: which layer is probed, counted from 1; 0 is the last.
    """

    label: str
    options: Options
    published: float | None = None
    longer: int = 1
    layer: int = 0

    @property
    def title(self) -> str:
        """The label, and which layer is probed."""
        return f"{self.label}, layer {self.layer}" if self.layer else self.label

    def over(self, run: Options) -> dict[str, object]:
        """The options that all rows share, and over them this row's own."""
        found = {**run, **self.options}
        sets = {**dict(run.get("set", {})), **dict(self.options.get("set", {}))}
        length = {n: self.longer * found[n] for n in LENGTH if n in found}
        return found | length | ({"set": sets} if sets else {})


@dataclass(frozen=True)
class Probe:
    """The probes that every run ends with, as `plasticity probe` takes them.

    Attributes:
        protocol: none, one or several of `PROTOCOLS`.
        train, test: labelled examples, 0 for all; by default those of the run's options.
        epochs, views: of the published protocol, 0: as published, and 4.
        task, data: by default the first of the stimulus's, and the run's own.
        layer: which one the table shows, counted from 1; 0 is the last.
    """

    protocol: tuple[str, ...] = ("regularised",)
    train: int | None = None
    test: int | None = None
    epochs: int = 0
    views: int = 4
    task: str = ""
    data: str = ""
    layer: int = 0

    def of(self, options: RunOptions) -> dict[str, dict[str, object]]:
        """By protocol what `probes.probe.probe_run` is asked for."""
        asked: dict[str, object] = {
            "train_images": options.probe_train if self.train is None else self.train,
            "test_images": options.probe_test if self.test is None else self.test,
        }
        asked |= {"task": self.task} if self.task else {}
        asked |= {"data_name": self.data} if self.data else {}
        published = {"epochs": self.epochs, "views": self.views}
        return {
            one: {"protocol": one, **asked, **(published if one == "published" else {})}
            for one in (self.protocol if options.probe else ())
        }


@dataclass(frozen=True)
class Compare:
    """How rows are compared.

    Attributes:
        baseline: the label of the row that all others are compared with; empty: the first.
        test: `paired`, t over the differences of runs with one seed; `welch`, Welch's t.
    """

    baseline: str = ""
    test: str = "paired"


@dataclass(frozen=True)
class Sweep:
    """Rows of a table, each to be run with every seed.

    Attributes:
        name: that of its file; source, data: where the published numbers stand, and what they were
            measured on.
        rows: the lines of the table; varied: the keys of the grid with their values.
        run: options that all rows share; figure: what is drawn, see `FIGURES`.
        where: the file, for what is said of it; keys: what it says, paths absolute.
    """

    name: str
    title: str
    source: str
    rows: tuple[Row, ...]
    figure: str = "rows"
    data: str = ""
    run: Options = field(default_factory=dict)
    probe: Probe = field(default_factory=Probe)
    compare: Compare = field(default_factory=Compare)
    seeds: tuple[int, ...] = (0,)
    varied: Mapping[str, tuple] = field(default_factory=dict)
    where: str = ""
    keys: Options = field(default_factory=dict)

    def experiment(self, row: Row, seed: int, **where: object) -> Experiment:
        """The run of a row with a seed.

        Args:
            where: `data_dir` and `device`, if not those of the file.

        Raises:
            UserError: options that do not go together.
        """
        try:
            options = RunOptions(**row.over(self.run) | {"seed": seed, **where})
        except UserError as error:
            raise UserError(f"{self.where}: {row.label}: {error}") from error
        return Experiment(f"{folder_of(row.label)},seed={seed}", options, self.probe.of(options))

    def experiments(self, **where: object) -> list[Experiment]:
        """The runs, each once: those of all rows with one seed before the next seed.

        Raises:
            UserError: options that do not go together, data that are missing, or a layer that a
                network has not.
        """
        found: dict[str, Experiment] = {}
        for seed in self.seeds:
            for row in self.rows:
                wanted = self.experiment(row, seed, **where)
                if wanted.name not in found and seed == self.seeds[0]:
                    self._check(row, wanted)
                found.setdefault(wanted.name, wanted)
        return list(found.values())

    def seeded(self, count: int) -> "Sweep":
        """The same with so many seeds, from its first."""
        seeds = tuple(range(self.seeds[0], self.seeds[0] + count))
        return replace(self, seeds=seeds, keys={**self.keys, "seeds": list(seeds)})

    def _check(self, row: Row, wanted: Experiment) -> None:
        """What is wrong is said at once."""
        try:
            wanted.check()
            layers = len(wanted.options.network().layers)
            if row.layer > layers:
                raise UserError(f"layer {row.layer} is probed, and the network has {layers}")
        except UserError as error:
            raise UserError(f"{self.where}: {row.label}: {error}") from error


def folder_of(label: str) -> str:
    """The name of a row's folder: its label without what a file's name cannot hold."""
    name = re.sub(r"[^\w.,=+() -]+", "_", label.replace(", ", ",")).strip(" .")
    if len(name.encode()) > 120:  # file systems know 255 bytes, with the seed and suffixes
        name = f"{name.encode()[:100].decode(errors='ignore')}-{_digest(label)}"
    return name or _digest(label)


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:8]
