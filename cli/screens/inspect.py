"""What `plasticity inspect` shows and writes."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from plasticity.cli.console import console, say
from rich.table import Table

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

    from plasticity.inspection import LayerView, Recording, Synapse


@dataclass(frozen=True)
class Files:
    """Where results are written, besides the screen."""

    csv: Path | None
    json: Path | None
    hdf5: Path | None
    figure: Path | None

    def write_csv(self, parts: "Iterable[Mapping[str, np.ndarray]]") -> None:
        """A long table, part by part."""
        from plasticity.inspection.tables import write_csv

        if self.csv:
            _told_of(self.csv, f": {write_csv(self.csv, parts):,} rows")

    def write_json(self, summary: dict[str, object]) -> None:
        """A summary."""
        from plasticity import runs

        if self.json:
            runs.write_json(self.json, summary)
            _told_of(self.json)

    def draw(self, figure: "Figure") -> None:
        """A figure, drawn already."""
        from plasticity import figures

        if self.figure:
            figures.save(figure, self.figure)
            _told_of(self.figure)


def _told_of(path: Path, what: str = "") -> None:
    say(f"Written to {path}{what}")


def table(title: str, rows: Sequence[Mapping[str, object]]) -> None:
    """Rows on the screen; numbers to the right, none of them cut."""
    if not rows:
        say(f"{title}: none")
        return
    made = Table(box=None, pad_edge=False)
    for name, value in rows[0].items():
        right = isinstance(value, int | float) and not isinstance(value, bool)
        made.add_column(str(name), justify="right" if right else "left", no_wrap=True)
    for row in rows:
        made.add_row(*(_told(value) for value in row.values()))
    say(f"\n{title}", style="bold")
    console.print_whole(made)


def _told(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.4g}"
    return str(value)


PLACES = ("image", "row", "column", "utterance", "clip", "frame")


def _place(row: dict[str, object], which: str, of: str, within: Sequence[str]) -> str:
    """The place of an encoding: its example, and where in it."""
    inner = ", ".join(str(row[which + name]) for name in within)
    return f"{row[which + of]} ({inner})" if inner else str(row[which + of])


def _short(row: dict[str, object], post: bool = True) -> dict[str, object]:
    """A row of the long table in fewer columns; post where something stands for it."""
    made: dict[str, object] = {"role": row["role"]}
    if "score" in row:
        made |= {"k": row["k"], "y": row["sign"]}
    of, *within = [name for name in PLACES if name in row]
    made["patch" if of == "image" else "frame"] = _place(row, "", of, within)
    if "score" in row:
        made["with"] = _place(row, "other_", of, within)
    place = [str(row[name]) for name in ("y", "x") if name in row]
    if place:
        made["at"] = ", ".join(place)
    if "score" in row:
        made |= {"score": row["score"], "gate": row["gate"], "weight": row["weight"]}
    signal = "dendritic" if "score" in row else "error"
    factors = {signal: row["dendrite"], "post": row["post"], "pre": row["pre"]}
    if not post:
        del factors["post"]
    if "synapse" in row:
        factors["synapse"] = row["synapse"]
    return made | factors | {"product": row["product"], "share": row["share"]}


def synapse(found: "Synapse", top: int, files: Files, all_events: bool) -> None:
    """The events of one synapse, their sum and what training applied."""
    from plasticity import figures
    from plasticity.inspection.tables import records, write_hdf5

    say(f"{found.name}, {found.rule}, step {found.step}")
    post = found.factor != "none"
    largest = list(records(found.largest(top)))
    rows = [_short(row, post) for row in largest]
    of = "clip" if largest and "clip" in largest[0] else "utterance"
    table(f"The {len(rows)} largest shares of its events", rows)
    if rows:
        say(
            f"share = gate x weight x dendritic x {'post x ' if post else ''}pre"
            + (" x synapse" if "synapse" in rows[0] else "")
            + (f" / {found.positions} positions" if found.positions > 1 else "")
            + ("; a patch is image (row, column)" if "patch" in rows[0] else "")
            + (f"; a frame is {of} (frame of the map)" if "frame" in rows[0] else "")
            + ", 'with' the one that it is compared with",
        )
    table("By role, prediction step and sign", found.by_role())
    if ways := found.by_way():
        table("By way through the norm", [{"way": n, "share": v} for n, v in ways.items()])
    if post := found.inhibition():
        fractions = [{"post, over patches and positions": n, "of all": v} for n, v in post.items()]
        table("Inhibition and rho'", fractions)
    for name, value in found.added.items():
        say(f"\nadded, {name:<9} {value:+.12e}")
    said = "sum over events " if not found.added else "events and added"
    say(f"\n{said} {found.total:+.12e}")
    say(f"dW of training   {found.applied:+.12e}")
    limit = found.tolerance * found.scale
    say(
        f"difference       {found.difference:+.2e}, "
        + ("within" if found.agrees else "MORE THAN")
        + f" rounding ({limit:.1e}: {found.tolerance:g} of the sum of absolute values)",
    )
    if found.constraint is not None:
        say(f"constraint       {found.constraint:+.12e}, after the optimiser")
    if found.scale == 0:
        say("No event moves this synapse in this step.")
    files.write_csv(found.rows(all_events=all_events))
    files.write_json(found.as_dict())
    if files.hdf5:
        summary = {"inspection": json.dumps(found.as_dict())}
        count = write_hdf5(files.hdf5, found.rows(all_events=all_events), summary)
        _told_of(files.hdf5, f": {count:,} rows")
    if files.figure:
        title = f"{found.name}, {found.rule}, step {found.step}"
        files.draw(figures.kernel(*found.map(), shares=found.by_role(), title=title))


def layer(view: "LayerView", files: Files) -> None:
    """The tables of a layer."""
    from plasticity import figures
    from plasticity.inspection.tables import write_arrays

    say(f"{view.layer}, {view.rule}, step {view.step}")
    table("Distribution of dW and of its factors", view.distributions)
    if view.gates:
        table("Open gates by role, prediction step and sign (fraction)", view.gates)
    else:
        say("There are no gates here: the drive comes without events, or from above.")
    share = [{"neurons at their positions": n, "fraction": v} for n, v in view.silenced.items()]
    table("Lateral inhibition and rho'", share)
    table("Synapses that change most", view.synapses)
    table("Neurons that change most", view.neurons)
    table("Patches with the largest part in dW (over all patches the parts sum to 1)", view.patches)
    table("dW of the rule, and the step that the optimiser makes of it", view.optimiser)
    if view.alignment:
        table("Alignment of W_pred and W_retro (cosine; at random 0)", view.alignment)
    files.write_csv([view.long_table()])
    files.write_json(view.as_dict())
    if files.hdf5:
        write_arrays(files.hdf5, view.arrays, view.as_dict())
        _told_of(files.hdf5)
    if files.figure:
        a, names = view.arrays, [f"{row['role']}, k = {row['k']}" for row in view.roles]
        factors = (a[name] for name in ("dW_weight", "drive", "post", "pre", "gate"))
        title = f"{view.layer}, {view.rule}, step {view.step}"
        files.draw(figures.layer_update(*factors, names, title))


def recording(
    found: "Recording",
    layer: str | None,
    parameter: str,
    synapse: tuple | None,
    top: int,
    files: Files,
) -> None:
    """What was recorded: of the run, of a layer, or of an entry of a parameter of it."""
    from plasticity import figures
    from plasticity.errors import UserError

    if layer is not None and layer.isdigit():
        layer = found.name_of(int(layer))
    if layer is None and (synapse is not None or files.figure):
        what = "--figure" if synapse is None else "--synapse"
        raise UserError(f"{what} of a recording wants a --layer too")
    if files.hdf5:
        raise UserError(f"--hdf5 would copy the recording, which is HDF5 already: {found.path}")
    steps = found.steps
    span = f"steps {steps[0]} to {steps[-1]}" if len(steps) else "no step yet"
    say(f"{found.path}, {found.rule}: {len(steps)} records, {span}")
    summary = found.as_dict()
    if layer is None:
        table("What was recorded of each layer", found.overview())
    elif synapse is None:
        gates, alignment = found.gates(layer), found.alignment(layer)
        table("Open gates over training (fraction of a step's events)", gates)
        table("Alignment of W_pred and W_retro over training (cosine)", alignment)
        summary |= {"layer": layer, "gates": gates, "alignment": alignment}
    else:
        rows = found.trace_rows(layer, synapse, parameter)
        name = f"{layer}.{parameter}[{', '.join(map(str, synapse))}]"
        table(f"{name}: its last {min(top, len(rows))} records", rows[-top:])
        what = {"layer": layer, "parameter": parameter, "synapse": list(synapse)}
        summary |= {**what, "records": rows}
    files.write_csv(found.rows(layer, synapse, parameter))
    files.write_json(summary)
    if files.figure and synapse is None:
        cosines = found.get(f"{layer}/alignment")
        gates = found.get(f"{layer}/gates")
        if gates is None:
            raise UserError(f"--figure: {found.path} holds no gates of {layer}")
        title = f"{layer}, {found.rule}"
        files.draw(figures.gate_history(steps, gates, found.roles, found.ks, cosines, title))
    elif files.figure:
        trace, roles = found.trace(layer, synapse, parameter), found.roles
        if parameter != "weight":
            roles = [f"y = {sign}" for sign in ("+1", "−1")]
            trace = {n: v if v.ndim == 1 else v[..., None] for n, v in trace.items()}
        files.draw(figures.trace(steps, trace, roles, f"{name}, {found.rule}"))
