"""What `plasticity verify` shows: three tables, the worst seed of each row, and a verdict."""

from typing import TYPE_CHECKING

from plasticity.cli.console import console, say
from rich.table import Table

if TYPE_CHECKING:
    from plasticity.verification import Verified

BAD = ("proves nothing", "differs", "depends")


def _table(title: str, *heads: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for head in heads:
        left = head in ("layer", "parameter", "changed", "synapse", "at")
        table.add_column(head, justify="left" if left else "right")
    return table


def _worst(rows: list, key) -> list:
    """Of rows that differ in their seed alone the one with the worst verdict, then error."""
    found: dict = {}
    for row in rows:
        rank = (BAD.index(row.verdict) if row.verdict in BAD else -1, getattr(row, "error", 0))
        if key(row) not in found or rank > found[key(row)][0]:
            found[key(row)] = rank, row
    return [row for _, row in found.values()]


def show(found: "Verified") -> None:
    """Print what was found."""
    if found.in_full:
        say(f"The rule is {found.in_full}.")
    if found.no_loss:
        say(f"{found.no_loss}.")
    for method in dict.fromkeys(row.method for row in found.comparisons):
        _comparisons(found, [row for row in found.comparisons if row.method == method])
    _dependences(found)
    _sums(found)
    bad = [row for row in found.rows if row.verdict != "ok"]
    nothing = sum(row.verdict == "proves nothing" for row in bad)
    end = f"{len(found.rows) - len(bad)} of {len(found.rows)} checks hold"
    if nothing:
        end += f"; {nothing} prove nothing: gates are closed, nobody wins, or dW is 0"
    if not found.compared:
        end += (
            ", and there is nothing independent to compare dW with: a factor that the rule states "
            "wrongly would pass; let it have an objective or a definition (docs/own_rule.md)"
        )
    say(f"{end}.")


def _comparisons(found: "Verified", rows: list) -> None:
    method = rows[0].method
    beside = {
        "torch": "minus the gradient of its loss (torch, float64)",
        "finite-difference": "minus central differences of its loss, at sampled weights",
        "definition": "its equation for one synapse, at sampled synapses",
    }.get(method, f"dW on {method}")
    heads = ["layer", "parameter", "relative error", "largest difference", "at", "cosine"]
    heads += ["crossed"] if method == "finite-difference" else []
    table = _table(
        f"{found.rule} on {found.network}: dW beside {beside}",
        *heads, "open gates", "winners", "verdict",
    )  # fmt: skip
    for row in _worst(rows, lambda row: (row.layer, row.parameter)):
        cells = [row.layer, row.parameter, f"{row.error:.1e}", f"{row.difference:.1e}"]
        cells += [",".join(map(str, row.place)), f"{row.cosine:.6f}"]
        cells += [f"{row.crossed} of {row.samples}"] if method == "finite-difference" else []
        table.add_row(*cells, f"{row.open_gates:.2f}", f"{row.winners:.2f}", row.verdict)
    console.print_whole(table)
    worst = max(rows, key=lambda row: row.error)
    say(
        f"Largest relative error {worst.error:.1e}: {worst.layer}.{worst.parameter} at "
        f"{worst.place}, {worst.difference:.1e} apart; tolerance {worst.tolerance:g}.",
    )
    if found.hint and rows[-1] is found.comparisons[-1]:
        say(f"{found.hint}.")


def _dependences(found: "Verified") -> None:
    if found.locality == "global":
        say(f"{found.rule} states locality global: nothing is excluded.")
        return
    if not found.dependences:
        say(f"Locality: {found.locality}; here nothing lies outside.")
        return
    table = _table(f"Locality: {found.locality}", "layer", "changed", "dW", "verdict")
    for row in _worst(found.dependences, lambda row: (row.layer, row.changed)):
        dW = "0" if row.zero else "another" if row.changes else "the same"
        table.add_row(row.layer, row.changed, dW, row.verdict)
    console.print_whole(table)


def _sums(found: "Verified") -> None:
    if found.no_events:
        say(f"{found.no_events}.")
        return
    agree = sum(row.agrees for row in found.sums)
    say(f"Events add up to dW at {agree} of {len(found.sums)} synapses and biases.")
    for row in found.sums:
        if not row.agrees:
            say(
                f"  {row.layer}.{row.parameter}{list(row.index)}: sum {row.total:.9g}, dW "
                f"{row.applied:.9g}",
            )
