"""What came of a sweep's runs: means and spreads over seeds, differences and their tests."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from plasticity import plugins, runs
from plasticity.files import whole
from plasticity.sweeps import tables
from plasticity.sweeps.sweep import Row, Sweep
from plasticity.sweeps.tables import Measure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOSS = "loss"
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Result:
    """A row and what was measured of it.

    Attributes:
        measures: by name; probes in percent, of the layer that the row shows, and the loss of the
            last module, the mean over the last 20 steps.
        layers: by probe the accuracies in percent, `(seeds that were run, layers)`.
    """

    row: Row
    measures: Mapping[str, Measure]
    layers: Mapping[str, np.ndarray]


def collect(sweep: Sweep, folder: Path) -> list[Result]:
    """What has been measured so far of every row.

    Raises:
        UserError: runs in the folder that were made with other options.
    """
    found = []
    for row in sweep.rows:
        wanted = [sweep.experiment(row, seed) for seed in sweep.seeds]
        measures, layers = {}, {}
        for protocol in wanted[0].probes:
            by_seed = [e.measured(folder / e.name, protocol) for e in wanted]
            at = row.layer - 1 if row.layer else -1
            measures[f"{protocol} probe"] = Measure(tuple(a and 100 * a[at] for a in by_seed))
            layers[f"{protocol} probe"] = 100 * np.array([a for a in by_seed if a is not None])
        losses = []
        for e in wanted:
            done = runs.read_summary(folder / e.name) if e.trained(folder / e.name) else {}
            losses.append(done.get("loss_last", [None])[-1])
        if any(loss is not None for loss in losses):
            measures[LOSS] = Measure(tuple(losses), digits=3)
        found.append(Result(row, measures, layers))
    return found


@dataclass(frozen=True)
class Difference:
    """A row beside the baseline, by one measure.

    Attributes:
        mean: of the row's values minus the baseline's; low, high: its confidence interval.
        p: of a difference of 0; corrected: by Holm, for all differences of this measure.
        pairs: seeds that both have.
    """

    row: str
    measure: str
    mean: float
    low: float
    high: float
    p: float
    pairs: int
    corrected: float = float("nan")


def difference(ours: Measure, baseline: Measure, test: str) -> tuple[float, ...] | None:
    """Mean, confidence interval and p of the difference of two rows; None where it has no spread.

    Args:
        test: `paired`, Student's t of the differences between runs with one seed; `welch`, Welch's
            t of the means, whatever the seeds.
    """
    from scipy.stats import ttest_ind, ttest_rel

    both = [
        (a, b)
        for a, b in zip(ours.by_seed, baseline.by_seed, strict=True)
        if a is not None and b is not None
    ]
    if test == "paired":
        values = [np.array(of) for of in zip(*both, strict=True)]
        spread = [values[0] - values[1]] if both else []
    else:
        values = spread = [np.array(ours.values), np.array(baseline.values)]
    if not spread or min(map(len, values)) < 2 or not max(np.ptp(of) for of in spread) > 1e-9:
        return None
    found = ttest_rel(*values) if test == "paired" else ttest_ind(*values, equal_var=False)
    low, high = found.confidence_interval(CONFIDENCE)
    mean = float(values[0].mean() - values[1].mean())
    return mean, float(low), float(high), float(found.pvalue)


def holm(p: Sequence[float]) -> list[float]:
    """P values corrected for their number (Holm 1979): the smallest times all of them, the next
    times one less, and none smaller than the one before.
    """
    corrected, highest = [0.0] * len(p), 0.0
    for rank, i in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        highest = max(highest, min(1.0, (len(p) - rank) * p[i]))
        corrected[i] = highest
    return corrected


def differences(sweep: Sweep, results: Sequence[Result]) -> list[Difference]:
    """Every row beside the baseline, by every measure that both have for two seeds."""
    found = []
    baseline = next(r for r in results if r.row.title == sweep.compare.baseline)
    for name in dict.fromkeys(name for r in results for name in r.measures):
        if name == LOSS and any("probe" in other for other in baseline.measures):
            continue  # losses of several rules do not compare
        own = []
        for r in results:
            if r is baseline or not {name} <= r.measures.keys() & baseline.measures.keys():
                continue
            ours, theirs = r.measures[name], baseline.measures[name]
            told = difference(ours, theirs, sweep.compare.test)
            if told is not None:
                pairs = [a is not None and b is not None
                         for a, b in zip(ours.by_seed, theirs.by_seed, strict=True)]  # fmt: skip
                own.append(Difference(r.row.title, name, *told, sum(pairs)))
        corrected = holm([d.p for d in own])
        found += [replace(d, corrected=c) for d, c in zip(own, corrected, strict=True)]
    return found


def _names(results: Sequence[Result]) -> list[str]:
    return list(dict.fromkeys(name for r in results for name in r.measures))


def _published(results: Sequence[Result]) -> bool:
    return any(r.row.published is not None for r in results)


def _table(results: Sequence[Result]) -> tuple[list[str], list[list[str]]]:
    """Heads and cells of the table of means."""
    names = _names(results)
    published = ["published"] if _published(results) else []
    body = []
    for r in results:
        theirs = "-" if r.row.published is None else f"{r.row.published:.1f}"
        measures = [r.measures.get(name, Measure(())) for name in names]
        seeds = max((len(m.values) for m in measures), default=0)
        told = [m.text() for m in measures]
        body.append([r.row.title, *([theirs] if published else []), *told, str(seeds)])
    return ["", *published, *names, "seeds"], body


DIFFERENCES = ("", "measure", "difference", "95 % confidence", "p", "p (Holm)")


def _compared(found: Sequence[Difference]) -> list[list[str]]:
    """Cells of the table of differences."""
    body = []
    for d in found:
        digits = ".3f" if d.measure == LOSS else ".1f"
        mean, low, high = (f"{value:+{digits}}" for value in (d.mean, d.low, d.high))
        body.append([d.row, d.measure, mean, f"{low} to {high}", _p(d.p), _p(d.corrected)])
    return body


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def caption(sweep: Sweep, results: Sequence[Result]) -> str:
    """What the table shows, and how it was made."""
    shared = ", ".join(f"{name} {value}" for name, value in sweep.run.items())
    parts = [f"{sweep.title}: mean and standard deviation over seeds"]
    if any("probe" in name for name in _names(results)):
        parts.append("probes: accuracy of a linear reader in percent")
    if LOSS in _names(results):
        parts.append("loss: of the last module, the mean over its last 20 steps")
    if _published(results):
        source = ", ".join(filter(None, [sweep.source, sweep.data and f"on {sweep.data}"]))
        parts.append(f"published: {source or 'as the file says'}")
    parts.append(f"all runs: {shared or 'the default options'}")
    return "; ".join(parts) + "."


def compared(sweep: Sweep, found: Sequence[Difference]) -> str:
    """How rows were compared, in words."""
    if not found:
        return "No differences are tested: that needs two rows, and two seeds that vary."
    of = "the same seeds" if sweep.compare.test == "paired" else "seeds"
    test = "Student's t, paired by seed" if sweep.compare.test == "paired" else "Welch's t"
    most = max(Counter(d.measure for d in found).values())
    corrected = f"; Holm's correction for {most} comparisons by each measure" if most > 1 else ""
    fewest = min(d.pairs for d in found)
    few = f" {fewest} seeds can tell only large differences." if fewest < 5 else ""
    return (
        f"Differences from '{sweep.compare.baseline}' over {of}: {test}, two-sided{corrected}.{few}"
    )


def markdown(sweep: Sweep, results: Sequence[Result], found: Sequence[Difference]) -> str:
    """Both tables as text, which Markdown reads."""
    parts = [tables.markdown(*_table(results)), caption(sweep, results) + "\n"]
    parts += [tables.markdown(DIFFERENCES, _compared(found))] if found else []
    parts += [compared(sweep, found) + "\n"] if len(results) > 1 else []
    return "\n".join(parts)


def latex(sweep: Sweep, results: Sequence[Result], found: Sequence[Difference]) -> str:
    """Both as `table` environments."""
    text = tables.latex(sweep.name, caption(sweep, results), *_table(results))
    if not found:
        return text
    name = f"{sweep.name}-differences"
    return text + "\n" + tables.latex(name, compared(sweep, found), DIFFERENCES, _compared(found))


def results_csv(sweep: Sweep, results: Sequence[Result]) -> str:
    """A line for each row: its options, and every measure by seed."""
    names = _names(results)
    own = ("mean", "spread", "seeds", *(f"seed{seed}" for seed in sweep.seeds))
    heads = ["row", "options", "layer", "published"]
    heads += [f"{name.replace(' ', '_')}_{one}" for name in names for one in own]
    body = []
    for r in results:
        options = ";".join(f"{name}={value}" for name, value in r.row.options.items())
        cells = [r.row.label, options, r.row.layer or "last", r.row.published]
        for name in names:
            m = r.measures.get(name, Measure((None,) * len(sweep.seeds)))
            cells += [m.mean, m.spread, len(m.values), *m.by_seed]
        body.append(cells)
    return tables.comma_separated(heads, body)


def differences_csv(sweep: Sweep, found: Sequence[Difference]) -> str:
    """A line for each difference."""
    heads = ("row", "baseline", "measure", "difference", "low", "high", "test", "p", "p_holm",
             "pairs")  # fmt: skip
    body = [
        (d.row, sweep.compare.baseline, d.measure, d.mean, d.low, d.high, sweep.compare.test, d.p,
         d.corrected, d.pairs)
        for d in found
    ]  # fmt: skip
    return tables.comma_separated(heads, body)


def drawn(sweep: Sweep, results: Sequence[Result], folder: Path) -> dict[str, "Figure"]:
    """Figures by name: `table`, `layers` and `losses`, those whose runs are there."""
    from plasticity import figures

    found = {}
    probes = [name for name in _names(results) if name != LOSS]
    there = {r.row.title: r for r in results if any(m.values for m in r.measures.values())}
    if not there:
        return found
    main = probes[:1] or [LOSS]
    unit = "accuracy of a linear probe (%)" if probes else "loss of the last module"
    data, classes = _probed(sweep, folder, probes[0]) if probes else ("", 0)
    title = f"{sweep.title}, {data}" if data and data not in sweep.title else sweep.title
    if (key := _axis(sweep)) is not None:
        lines: dict[str, list[tuple[float, list[float]]]] = {}
        for r in there.values():
            if main[0] in r.measures:
                point = _value(r.row, key), r.measures[main[0]].values
                lines.setdefault(_line(r.row, key), []).append(point)
        name = key.removeprefix("set.")
        found["table"] = figures.over_values(lines, name, unit, title, classes)
    else:
        values = {n: [r.measures[n].values if n in r.measures else [] for r in there.values()]
                  for n in probes or [LOSS]}  # fmt: skip
        theirs = [r.row.published for r in there.values()]
        found["table"] = figures.beside_published(
            list(there), theirs, values, title, unit=unit, classes=classes
        )
    if probes:
        labels, layers, values = [], [], []
        for r in there.values():
            accuracy = r.layers[probes[0]]
            for layer in range(accuracy.shape[1] if accuracy.size else 0):
                labels.append(r.row.label)
                layers.append(layer + 1)
                values.append(accuracy[:, layer])
        if labels and len(set(labels)) <= MANY:
            found["layers"] = figures.over_layers(labels, layers, values, title, classes)
    curves = {}
    for r in there.values():
        own = [_metrics(folder / sweep.experiment(r.row, s).name) for s in sweep.seeds]
        own = [of for of in own if of]
        if own and r.row.label not in curves:
            curves[r.row.label] = {n: np.mean([of[n] for of in own], axis=0) for n in own[0]}
    if curves and len(curves) <= MANY:
        found["losses"] = figures.losses_of_runs(curves, sweep.title)
    return found


def _probed(sweep: Sweep, folder: Path, name: str) -> tuple[str, int]:
    """The data set of a probe and how many classes it has, where they are the same for all runs."""
    protocol, found = name.removesuffix(" probe"), set()
    for row in sweep.rows:
        for wanted in (sweep.experiment(row, seed) for seed in sweep.seeds):
            if protocol in wanted.probes and (
                count := wanted.classes(folder / wanted.name, protocol)
            ):
                data = wanted.probes[protocol].get("data_name", wanted.options.data)
                found.add((plugins.short(str(data)), count))
    datas, counts = ({one[i] for one in found} for i in (0, 1))
    return datas.pop() if len(datas) == 1 else "", counts.pop() if len(counts) == 1 else 0


MANY = 24  # curves that one figure can tell apart


def _metrics(place: Path) -> dict[str, np.ndarray]:
    """Of the last module, of a run that has ended and has a loss; `(steps,)`."""
    if not (place / "summary.json").is_file():
        return {}
    found = runs.load(runs.checkpoint_path(place), moments=False).metrics
    if "loss" not in found or not len(found["loss"]):
        return {}
    return {n: of[:, -1] for n, of in found.items() if n in ("loss", "open_gates", "accuracy")}


def _axis(sweep: Sweep) -> str | None:
    """The one key of the grid whose values are numbers, if there is one."""
    numbers = [
        key
        for key, values in sweep.varied.items()
        if key != "probed"
        and len(values) > 2
        and all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    ]
    return numbers[0] if len(numbers) == 1 else None


def _value(row: Row, key: str) -> float:
    own = row.options["set"] if key.startswith("set.") else row.options
    return own[key.removeprefix("set.")]


def _line(row: Row, key: str) -> str:
    """A row's label without the value on the axis."""
    parts = [part for part in row.title.split(", ") if not part.startswith(f"{key}=")]
    return ", ".join(parts)


def write(sweep: Sweep, folder: Path, results: Sequence[Result]) -> tuple[str, list[Path]]:
    """Write `table.md`, `.csv`, `.tex`, `differences.csv`, and figures, each whole.

    Returns:
        The text of `table.md`, and the files.

    Raises:
        UserError: a full disk or a folder that cannot be written to.
    """
    from plasticity.figures import save_both

    found = differences(sweep, results)
    text = markdown(sweep, results, found)
    files = {
        "table.md": text,
        "table.csv": results_csv(sweep, results),
        "table.tex": latex(sweep, results, found),
        "differences.csv": differences_csv(sweep, found),
    }
    for name, content in files.items():
        with whole(folder / name) as part:
            part.write_text(content, encoding="utf-8")
    names = list(files)
    for name, figure in drawn(sweep, results, folder).items():
        save_both(figure, folder / name)
        names += [f"{name}.png", f"{name}.svg"]
    return text, [folder / name for name in names]
