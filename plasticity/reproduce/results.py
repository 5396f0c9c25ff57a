"""What came of a table's runs, beside what was published: as text, CSV and LaTeX."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from plasticity import runs
from plasticity.files import whole
from plasticity.reproduce.experiments import Budget, of_row
from plasticity.sweeps import PROTOCOLS, Measure, Row, Sweep, tables

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Result:
    """A row, and ours by probe protocol."""

    row: Row
    ours: dict[str, Measure]

    @property
    def main(self) -> Measure:
        """By the protocol of the published number."""
        return self.ours[PROTOCOLS[0]]


def collect(table: Sweep, budget: Budget, seeds: int, folder: Path) -> list[Result]:
    """What has been measured so far of every row.

    Raises:
        UserError: runs in the folder that were made with other options.
    """
    found = []
    for row in table.rows:
        wanted = [of_row(row, budget, seed) for seed in range(seeds)]
        ours = {}
        for protocol in PROTOCOLS:
            layers = [e.measured(folder / e.name, protocol) for e in wanted]
            at = row.layer - 1 if row.layer else -1
            ours[protocol] = Measure(tuple(a and 100 * a[at] for a in layers))
        found.append(Result(row, ours))
    return found


def ranks(values: Sequence[float | None]) -> list[int | None]:
    """Places from the best, 1, among those that are there; equals share the better place."""
    there = [value for value in values if value is not None]
    return [None if v is None else 1 + sum(other > v for other in there) for v in values]


def agreement(results: Sequence[Result]) -> tuple[float, int] | None:
    """Kendall's tau between the published order and ours, and over how many rows; from three on."""
    from scipy.stats import kendalltau

    pairs = [
        (r.row.published, r.main.mean)
        for r in results
        if r.row.published is not None and r.main.mean is not None
    ]
    if len(pairs) < 3:
        return None
    tau = float(kendalltau(*zip(*pairs, strict=True)).statistic)
    return None if np.isnan(tau) else (tau, len(pairs))


HEADS = ("", "published", "place", "ours", "place", "regularised probe", "seeds")


def _cells(results: Sequence[Result]) -> list[list[str]]:
    """The table's body. Places are among the rows that have both a published number and ours."""
    both = [r.row.published is not None and r.main.mean is not None for r in results]
    theirs, ours = (
        ranks([value(r) if there else None for r, there in zip(results, both, strict=True)])
        for value in (lambda r: r.row.published, lambda r: r.main.mean)
    )
    return [
        [
            r.row.title,
            "-" if r.row.published is None else f"{r.row.published:.1f}",
            str(their or "-"),
            r.main.text(),
            str(our or "-"),
            r.ours["regularised"].text(),
            str(len(r.main.values)),
        ]
        for r, their, our in zip(results, theirs, ours, strict=True)
    ]


def caption(table: Sweep, budget: Budget, results: Sequence[Result]) -> str:
    """What the table shows, how it was made, and how well the orders agree."""
    tau = agreement(results)
    order = ""
    if tau is not None:
        order = (
            f" Kendall's tau between the published order and ours: {tau[0]:+.2f}, {tau[1]} rows."
        )
    return (
        f"{table.title}: accuracy of a linear probe in percent, mean and standard deviation over "
        f"seeds. Published: Illing et al. 2021, {table.source}; on {table.data}. Ours: "
        f"{budget.statement(table.rows[0])}.{order}"
    )


def markdown(table: Sweep, budget: Budget, results: Sequence[Result]) -> str:
    """The table as text, in columns, which Markdown reads as a table."""
    return f"{tables.markdown(HEADS, _cells(results))}\n{caption(table, budget, results)}\n"


def table_csv(table: Sweep, results: Sequence[Result], seeds: int) -> str:
    """A line for each row: its options, the published number, ours by protocol and seed."""
    own = ("mean", "spread", "seeds", *(f"seed{seed}" for seed in range(seeds)))
    columns = [f"{protocol}_probe_{name}" for protocol in PROTOCOLS for name in own]
    heads = ["table", "row", "options", "layer", "published", *columns]
    body = []
    for r in results:
        options = ";".join(f"{name}={value}" for name, value in r.row.options.items())
        cells = [table.name, r.row.label, options, r.row.layer or "last", r.row.published]
        for protocol in PROTOCOLS:
            m = r.ours[protocol]
            cells += [m.mean, m.spread, len(m.values), *m.by_seed]
        body.append(cells)
    return tables.comma_separated(heads, body)


def latex(table: Sweep, budget: Budget, results: Sequence[Result]) -> str:
    """A `table` environment; it wants `\\usepackage{booktabs}`."""
    return tables.latex(table.name, caption(table, budget, results), HEADS, _cells(results))


def _figure(table: Sweep, budget: Budget, results: Sequence[Result], folder: Path) -> "Figure":
    """What the table shows, drawn."""
    from plasticity import figures

    labels = [r.row.label for r in results]
    if table.figure == "losses":
        losses = {}
        for row in table.rows:
            wanted = of_row(row, budget, 0)
            place = folder / wanted.name
            if wanted.trained(place):
                stored = runs.load(runs.checkpoint_path(place), moments=False)
                losses[row.label] = stored.metrics["loss"]
        return figures.losses_of_splits(losses, table.title)
    ours = {p: [r.ours[p].values for r in results] for p in PROTOCOLS}
    first = [of_row(row, budget, 0) for row in table.rows]
    classes = {e.classes(folder / e.name, PROTOCOLS[0]) for e in first} - {0}
    names = ", ".join(dict.fromkeys(str(e.options.data) for e in first))
    title, known = f"{table.title}; ours: {names}", classes.pop() if len(classes) == 1 else 0
    if table.figure == "layers":
        layers = [r.row.layer for r in results]
        return figures.over_layers(labels, layers, ours[PROTOCOLS[0]], title, known)
    named = {f"ours, {protocol} probe": values for protocol, values in ours.items()}
    published = [r.row.published for r in results]
    return figures.beside_published(labels, published, named, title, known)


def write(
    table: Sweep, budget: Budget, results: Sequence[Result], seeds: int, folder: Path
) -> list[Path]:
    """Write `TABLE.md`, `.csv`, `.tex`, `.png` and `.svg`, each whole.

    Raises:
        UserError: a full disk or a folder that cannot be written to.
    """
    from plasticity.figures import save_both

    for suffix, text in (
        (".md", markdown(table, budget, results)),
        (".csv", table_csv(table, results, seeds)),
        (".tex", latex(table, budget, results)),
    ):
        with whole(folder / f"{table.name}{suffix}") as part:
            part.write_text(text, encoding="utf-8")
    figure = _figure(table, budget, results, folder)
    save_both(figure, folder / table.name)
    return [folder / f"{table.name}{suffix}" for suffix in (".md", ".csv", ".tex", ".png", ".svg")]
