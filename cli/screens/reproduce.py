"""What `plasticity reproduce` shows beside its runs: tables."""

from pathlib import Path
from typing import TYPE_CHECKING

from plasticity.cli.console import console, say
from rich.table import Table

from plasticity import reproduce

if TYPE_CHECKING:
    from plasticity.sweeps import Sweep


def listing() -> None:
    """Every table and its rows."""
    for table in reproduce.TABLES.values():
        shown = Table(title=f"{table.name}: {table.title} ({table.source})", title_justify="left")
        for head in ("row", "published", "layer", "options"):
            shown.add_column(head, justify="right" if head == "published" else "left")
        for row in table.rows:
            options = " ".join(f"{name}={value}" for name, value in row.options.items())
            longer = f", {row.longer} times as long" if row.longer > 1 else ""
            published = "-" if row.published is None else f"{row.published:.1f}"
            shown.add_row(row.label, published, str(row.layer or "last"), options + longer)
        console.print_whole(shown)


def show(table: "Sweep", budget: "reproduce.Budget", seeds: int, folder: Path) -> None:
    """Print a table as it stands, and write its files."""
    results = reproduce.collect(table, budget, seeds, folder)
    say(f"{table.name}\n", style="bold")
    say(reproduce.markdown(table, budget, results))
    folder.mkdir(parents=True, exist_ok=True)
    written = reproduce.write(table, budget, results, seeds, folder)
    say(f"Written to {folder}: {', '.join(path.name for path in written)}\n")
