"""Several runs as one HTML page: what differs among them, and what came of each."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from plasticity import figures, runs
from plasticity.errors import MissingError, UserError
from plasticity.inspection import similarity
from plasticity.reports import plots
from plasticity.reports.page import Part, Report, Rows, number, page, picture, told
from plasticity.runs import lifecycle, summary
from plasticity.runs.options import RunOptions

ALIKE = ("files", "identity")
"""Options that bind a run to files and images by checksums: nobody chose them."""

READING = {
    "losses": (
        "Losses",
        "Loss of the last module over training, and beside it the fraction of its events whose "
        "gate is open (or the accuracy of a readout): running means.",
    ),
    "probe": (
        "Linear probe",
        "How much of the classes a linear reader finds in the encodings of a layer, in probes of "
        "the same protocol, data and size. Bars: one standard error; dotted: guessing.",
    ),
    "measures": (
        "Activity and weights",
        "Of every layer, in the last step that was measured: mean output; sparsity, 1 - a of "
        "Treves & Rolls (1991); neurons that answered no input in the measured steps of the last "
        "100; the mean norm of the weights onto a neuron; the distance of the weights from their "
        "start, relative to the norm of the start.",
    ),
}


def report(folders: Sequence[Path], *, trusted: bool = False) -> Report:
    """Several runs as one page; what they do not all have is left out with a word.

    Args:
        trusted: let a network file that came with a run be executed.

    Raises:
        UserError: a run that is named twice, no run, a damaged one; Jinja is missing.
    """
    stored, left_out = plots.opened(folders), {}
    places = dict(zip(stored, map(Path, folders), strict=True))
    table, alike = options_beside(stored)
    parts = [Part("runs", "Runs", alike, [("", table)])]
    makers = {
        "losses": lambda: _losses(stored),
        "probe": lambda: _probes(places),
        "measures": lambda: _measures(stored, places, trusted),
    }
    for name, make in makers.items():
        title, text = READING[name]
        try:
            tables, drawn, note = make()
        except UserError as error:
            left_out[title] = str(error)
            continue
        images = [picture(figure, f"{title} of {', '.join(stored)}. {text}") for figure in drawn]
        parts.append(Part(name, title, text, tables, images, note))
    return page(
        title=", ".join(stored),
        lead=f"{len(stored)} runs beside each other.",
        parts=parts,
        left_out=left_out,
        source=f"{', '.join(map(str, folders))}, as they were saved",
    )


def options_beside(stored: Mapping[str, runs.Checkpoint]) -> tuple[Rows, str]:
    """A row for each run with the options that differ, and a sentence on those that do not."""
    usual = RunOptions().as_dict()
    options = {name: usual | of.options for name, of in stored.items()}
    first, *others = options.values()
    differ = [n for n in first if n not in ALIKE and any(o.get(n) != first[n] for o in others)]
    rows: Rows = [
        {
            "run": name,
            **{n: told(options[name][n]) or "–" for n in differ},
            "step": str(of.step),
            "seconds": f"{of.metrics['seconds'].sum():.3g}" if of.step else "–",
        }
        for name, of in stored.items()
    ]
    same = ", ".join(
        f"{n} {told(first[n])}" for n in ("rule", "net", "data", "width", "seed") if n not in differ
    )
    said = f"Options that differ: {', '.join(differ)}." if differ else "All options are the same."
    return rows, said + (f" Of all runs: {same}." if same else "")


Made = tuple[list[tuple[str, Rows]], list[figures.Figure], str]


def _losses(stored: Mapping[str, runs.Checkpoint]) -> Made:
    """The runs that descend a loss; a word on the others.

    Raises:
        MissingError: there is none.
    """
    having = {name: of for name, of in stored.items() if len(of.metrics.get("loss", ()))}
    if not having:
        raise MissingError("none of these runs has a loss: they made no step, or descend none")
    rows: Rows = []
    for name, of in having.items():
        found = summary.ends(of.metrics)
        beside = summary.beside({n.removesuffix("_last"): v for n, v in found.items()})
        last = found.get(f"{beside}_last", [None])
        rows.append({
            "run": name,
            "first loss": number(found["loss_first"][-1], 3),
            "last loss": number(found["loss_last"][-1], 3),
            "open gates (%)": number(last[-1], 1, 100) if beside == "open_gates" else "–",
            "accuracy (%)": number(last[-1], 1, 100) if beside == "accuracy" else "–",
        })  # fmt: skip
    rows = [{n: v for n, v in row.items() if any(r[n] != "–" for r in rows)} for row in rows]
    lacking = [name for name in stored if name not in having]
    note = "Last values are means over 20 steps."
    note += f" Without a loss: {', '.join(lacking)}." if lacking else ""
    return [("", rows)], [plots.losses_together(having)], note


def _probes(places: Mapping[str, Path]) -> Made:
    """Each probe that all runs have had, as a table and a figure.

    Raises:
        MissingError: there is none.
    """
    names = list(places)
    probes, lacking = similarity.probes_of(list(places.values()))
    if not probes:
        why = f"{' and '.join(lacking)} had none" if lacking else "none of the same kind and size"
        raise MissingError(f"no probe is of all runs: {why}; 'plasticity probe RUN' takes one")
    tables, drawn = [], []
    for probe in probes:
        tables.append((f"{probe.what}, percent", probe.rows(names)))
        drawn.append(figures.probes_of_runs(probe, names))
    return (
        tables,
        drawn,
        "± is one standard error; that of a difference is of independent examples.",
    )


def _measures(
    stored: Mapping[str, runs.Checkpoint], places: Mapping[str, Path], trusted: bool
) -> Made:
    """The last measures of every layer, run beside run.

    Raises:
        MissingError: runs that measured nothing, or whose layers differ.
    """
    if lacking := [name for name, of in stored.items() if not len(of.measures.get("step", ()))]:
        raise MissingError(f"{', '.join(lacking)} measured nothing of its layers")
    each = []
    for name, of in stored.items():
        options = lifecycle.options_of(of, places[name], trusted=trusted)
        each.append([layer.name for layer in options.network().layers])
    layers = each[0]
    if any(one != layers for one in each):
        raise MissingError("the runs have different layers")
    found = {
        label: [of.measures[n][-1] * (100 if n == "dead" else 1) for of in stored.values()]
        for n, label in plots.LABELS.items()
    }
    tables = [(label, _by_layer(layers, dict(zip(stored, values, strict=True))))
              for label, values in found.items()]  # fmt: skip
    steps = {int(of.measures["step"][-1]) for of in stored.values()}
    note = f"Measured at step {steps.pop()}." if len(steps) == 1 else ""
    return tables, [figures.measures_of_runs(found, layers, list(stored))], note


def _by_layer(layers: Sequence[str], values: Mapping[str, np.ndarray]) -> Rows:
    return [
        {"layer": layer, **{name: f"{of[i]:.3g}" for name, of in values.items()}}
        for i, layer in enumerate(layers)
    ]
