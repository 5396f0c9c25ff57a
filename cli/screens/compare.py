"""What `plasticity compare` shows and writes."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

from plasticity.cli.console import quoted, say
from plasticity.cli.screens.inspect import Files, table

if TYPE_CHECKING:
    from plasticity.inspection.beside import Beside, Pair
    from plasticity.inspection.similarity import RunsBeside

QUANTITIES = {
    "cosine": "Cosine of the two dW",
    "ratio": "Norm of the second dW over that of the first",
    "signs": "Signs: of the synapses that both move, the fraction that they move the same way",
}


def _value(pair: "Pair", quantity: str) -> str:
    value, error = getattr(pair, quantity), getattr(pair, f"{quantity}_error")
    if math.isnan(value):
        return ""
    form = ".2e" if value and abs(value) < 0.01 and quantity == "ratio" else ".3f"
    return f"{value:{form}}" + ("" if math.isnan(error) else f" ± {error:{form}}")


def rules(found: "Beside", files: Files) -> None:
    """Two rules: by layer, and over training where there are several steps."""
    from plasticity import figures

    one = found.example
    say(found.title, style="bold")
    say(
        f"{found.batches} batch{'es' if found.batches > 1 else ''} of {found.size} {one}s of "
        f"{found.data}; dW of the rules, before any optimiser; the same weights, {one}s and draws."
    )
    if found.differ and found.first != found.second:
        told = (
            f"{name} {b}" if a is None else f"{name} {a} and {b}"
            for name, (a, b) in found.differ.items()
        )
        say(f"Settings that differ: {'; '.join(told)}.")
    if found.drawn:
        say(
            f"Drawn by the seed, since {found.first} keeps none: {', '.join(found.drawn)} of "
            f"{found.second}."
        )
    if found.labelled:
        say(f"Both learn from the labelled {one}s here, since one of the rules reads labels.")
    shown = [pair for pair in found.pairs if "bias" not in pair.parameter]
    if len(found.steps) == 1:
        rows = []
        for pair in shown:
            row = {"layer": pair.layer, "parameter": pair.parameter}
            row |= {quantity: _value(pair, quantity) for quantity in QUANTITIES}
            if found.batches > 1:
                row["cosine of means"] = pair.of_means
            rows.append(row)
        table(f"Updates of step {found.steps[0] + 1}", rows)
    else:
        for quantity, title in QUANTITIES.items():
            rows = {}
            for pair in shown:
                row = {"layer": pair.layer, "parameter": pair.parameter}
                rows.setdefault((pair.layer, pair.parameter), row)
                rows[pair.layer, pair.parameter][f"step {pair.step}"] = _value(pair, quantity)
            table(title, list(rows.values()))
    if found.batches > 1:
        say("\n± is one standard error over batches; 'cosine of means' is of dW summed over them.")
    if files.csv or files.json:
        say("Biases are in the files.")
    files.write_csv([_columns([vars(pair) for pair in found.pairs])])
    files.write_json(found.as_dict())
    if files.figure:
        files.draw(figures.updates_beside(found))


def _columns(rows: list[dict[str, object]]) -> dict[str, list]:
    return {name: [row[name] for row in rows] for name in rows[0]}


def runs(found: "RunsBeside", files: Files) -> None:
    """Several runs: similarity of their layers, probes side by side."""
    from plasticity import figures

    names = short(found)
    for name, rule, step in zip(names, found.rules, found.steps, strict=True):
        say(f"{name}: {rule}, {step} steps")
    table(
        f"Linear CKA of the same layer, {found.examples} test {found.example}s of {found.data}",
        _similar(found, names),
    )
    say("± is one standard error over examples; 'start' is the CKA of a run with its own start.")
    for probe in found.probes:
        table(f"Linear probe in percent: {probe.what}", probe.rows(names))
    if not found.probes:
        lacking = " and ".join(found.unprobed)
        why = f"{lacking} had none" if lacking else "they had none of the same kind and size"
        say(f"\nNo probes side by side: {why}; 'plasticity probe RUN' takes one.")
    rows = [{**vars(s), "first": names[s.first], "second": names[s.second]} for s in found.similar]
    files.write_csv([_columns(rows)])
    files.write_json(found.as_dict())
    if files.figure:
        files.draw(figures.runs_beside(found, names))


def short(found: "RunsBeside") -> list[str]:
    """The last names of the folders, or where two are alike the whole paths."""
    names = [Path(run).absolute().name for run in found.runs]
    return names if len(set(names)) == len(names) else [quoted(run) for run in found.runs]


def _similar(found: "RunsBeside", names: list[str]) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = [{"layer": layer} for layer in found.layers]
    for a in range(len(names)):
        for b in range(a + 1, len(names)):
            for row, one in zip(rows, found.same_layer(a, b), strict=True):
                row[f"{names[a]}, {names[b]}"] = f"{one.cka:.3f} ± {one.error:.3f}"
    for name, start in zip(names, found.to_start, strict=True):
        for row, value in zip(rows, start, strict=True):
            row[f"{name}, start"] = f"{value:.3f}"
    return rows
