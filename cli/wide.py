"""Tables that never hide a number."""

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table


def print_whole(console: Console, table: Table) -> None:
    """Print a table as wide as it needs: a terminal that is too narrow wraps its lines."""
    for column in table.columns:
        column.no_wrap = True
    needed = Measurement.get(console, console.options.update(max_width=1000), table).maximum
    width = console.width
    console.width = max(needed, width)
    try:
        console.print(table)
    finally:
        console.width = width
