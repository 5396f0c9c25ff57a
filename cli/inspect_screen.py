"""What `plasticity inspect` shows and writes."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

if TYPE_CHECKING:
    from plasticity.inspection import LayerView, Synapse

console = Console(highlight=False)


def table(title: str, rows: Sequence[Mapping[str, object]]) -> None:
    """Rows on the screen; numbers to the right, none of them cut."""
    if not rows:
        console.print(f"{title}: none")
        return
    made = Table(box=None, pad_edge=False)
    for name, value in rows[0].items():
        right = isinstance(value, int | float) and not isinstance(value, bool)
        made.add_column(str(name), justify="right" if right else "left", no_wrap=True)
    for row in rows:
        made.add_row(*(_told(value) for value in row.values()))
    # A terminal that is too narrow wraps a line, but never hides a number.
    console.print(f"\n[bold]{title}[/]", soft_wrap=True)
    needed = Measurement.get(console, console.options.update(max_width=1000), made).maximum
    Console(highlight=False, width=max(needed, console.width)).print(made)


def _told(value: object) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.4g}"
    return str(value)


def _short(row: dict[str, object]) -> dict[str, object]:
    """A row of the long table in fewer columns."""
    made: dict[str, object] = {"role": row["role"]}
    if "score" in row:
        made |= {"k": row["k"], "y": row["sign"]}
    made["patch"] = f"{row['image']} ({row['row']}, {row['column']})"
    if "score" in row:
        made["with"] = f"{row['other_image']} ({row['other_row']}, {row['other_column']})"
    place = [str(row[name]) for name in ("frame", "y", "x") if name in row]
    if place:
        made["at"] = ", ".join(place)
    if "score" in row:
        made |= {"score": row["score"], "gate": row["gate"], "weight": row["weight"]}
    signal = "dendritic" if "score" in row else "error"
    factors = {signal: row["dendrite"], "post": row["post"], "pre": row["pre"]}
    return made | factors | {"product": row["product"], "share": row["share"]}


def synapse(found: "Synapse", top: int) -> None:
    """The events of one synapse, their sum and what training applied."""
    from plasticity.inspection.tables import records

    console.print(f"{found.name}, {found.rule}, step {found.step}", markup=False)
    rows = [_short(row) for row in records(found.largest(top))]
    table(f"The {len(rows)} largest shares of its events", rows)
    if rows:
        console.print(
            "share = gate x weight x dendritic x post x pre"
            + (f" / {found.positions} positions" if found.positions > 1 else "")
            + "; a patch is image (row, column), 'with' the one that it is compared with",
            soft_wrap=True,
        )
    table("By role, prediction step and sign", found.by_role())
    console.print(f"sum over events  {found.total:+.12e}")
    console.print(f"dW of training   {found.applied:+.12e}")
    limit = found.tolerance * found.scale
    console.print(
        f"difference       {found.difference:+.2e}, "
        + ("within" if found.agrees else "MORE THAN")
        + f" rounding ({limit:.1e}: {found.tolerance:g} of the sum of absolute values)",
        soft_wrap=True,
    )
    if found.scale == 0:
        console.print("No event moves this synapse in this step.")


def write_synapse(
    found: "Synapse",
    csv_path: Path | None,
    json_path: Path | None,
    hdf5_path: Path | None,
    all_events: bool,
) -> None:
    """The long table and the summary to files."""
    import json

    from plasticity import runs
    from plasticity.inspection.tables import write_csv, write_hdf5

    if csv_path:
        count = write_csv(csv_path, found.rows(all_events=all_events))
        console.print(f"Written to {csv_path}: {count:,} rows", soft_wrap=True)
    if hdf5_path:
        summary = {"inspection": json.dumps(found.as_dict())}
        count = write_hdf5(hdf5_path, found.rows(all_events=all_events), summary)
        console.print(f"Written to {hdf5_path}: {count:,} rows", soft_wrap=True)
    if json_path:
        runs.write_json(json_path, found.as_dict())
        console.print(f"Written to {json_path}", soft_wrap=True)


def layer(view: "LayerView") -> None:
    """The tables of a layer."""
    console.print(f"{view.layer}, {view.rule}, step {view.step}", markup=False)
    table("Distribution of dW and of its factors", view.distributions)
    if view.gates:
        table("Open gates by role, prediction step and sign (fraction)", view.gates)
    else:
        console.print("Below the top of a module there are no gates: an error comes from above.")
    share = [{"neurons at their positions": n, "fraction": v} for n, v in view.silenced.items()]
    table("Lateral inhibition and rho'", share)
    table("Synapses that change most", view.synapses)
    table("Neurons that change most", view.neurons)
    table("Patches with the largest part in dW (over all patches the parts sum to 1)", view.patches)
    table("dW of the rule, and the step that the optimiser makes of it", view.optimiser)
    if view.alignment:
        table("Alignment of W_pred and W_retro (cosine; at random 0)", view.alignment)


def write_layer(
    view: "LayerView", csv_path: Path | None, json_path: Path | None, hdf5_path: Path | None
) -> None:
    """A layer's tables and arrays to files."""
    from plasticity import runs
    from plasticity.inspection.tables import write_arrays, write_csv

    if csv_path:
        rows = view.long_table()
        columns = {name: [row[name] for row in rows] for name in rows[0]}
        write_csv(csv_path, [columns])
    if json_path:
        runs.write_json(json_path, view.as_dict())
    if hdf5_path:
        write_arrays(hdf5_path, view.arrays, view.as_dict())
    for path in filter(None, (csv_path, json_path, hdf5_path)):
        console.print(f"Written to {path}", soft_wrap=True)
