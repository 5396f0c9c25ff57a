"""`plasticity runs`."""

from pathlib import Path

import click
from plasticity.cli.options import Output, Place


@click.command()
@click.argument("folder", default="runs", type=Place())
@click.option("--sort", default="run", show_default=True, help="A column; -NAME from above.")
@click.option("--csv", "csv_path", type=Output(), help="Write all rows.")
def runs(folder: Path, sort: str, csv_path: Path | None) -> None:
    """List the runs below FOLDER: what they are, how far, and the latest probe's best layer."""
    from plasticity.cli.console import say
    from plasticity.cli.screens.inspect import Files, table

    from plasticity.runs import listing

    found, damaged = listing.listed(folder)
    rows = [one.row for one in listing.ordered(found, sort)]
    table(f"Runs below {folder}", [_shown(row) for row in rows])
    for path, reason in damaged.items():
        say(f"Left out, {path}: {reason}")
    if rows:
        files = Files(csv_path, None, None, None)
        files.write_csv([{name: [row[name] for row in rows] for name in rows[0]}])
    elif csv_path is not None:
        say(f"Nothing to write to {csv_path}.")


def _shown(row: dict[str, object]) -> dict[str, object]:
    """A row on the screen: steps as one column, and no accuracy where there is none."""
    accuracy = row["accuracy"]
    probed = f"{accuracy:.1f} ({row['layer']})" if accuracy == accuracy else ""
    kept = {n: v for n, v in row.items() if n not in ("step", "steps", "layer", "accuracy")}
    saved = kept.pop("saved")
    return kept | {"step": f"{row['step']}/{row['steps']}", "accuracy": probed, "saved": saved}
