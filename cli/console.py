"""The console that all commands share: it prints text as it is, to terminals, files and pipes."""

import os
import shlex
import sys
from pathlib import Path

from rich.console import Console
from rich.measure import Measurement
from rich.progress import Progress, ProgressColumn, TextColumn
from rich.table import Table


class Plain(Console):
    """A console without markup: names and paths of users may hold brackets and colons."""

    def __init__(self) -> None:
        super().__init__(highlight=False, markup=False, emoji=False)
        self._width = None  # COLUMNS and the terminal are asked whenever something is printed

    def print_whole(self, table: Table) -> None:
        """Print a table as wide as it needs: a terminal that is too narrow wraps its lines."""
        for column in table.columns:
            column.no_wrap = True
        needed = Measurement.get(self, self.options.update(max_width=1000), table).maximum
        self._width = max(needed, self.width)
        try:
            self.print(table)
        finally:
            self._width = None

    def on_broken_pipe(self) -> None:
        """Go on in silence: who reads has seen enough, as `head` has, and the work is not lost."""
        self.quiet = True
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())


console = Plain()


def say(text: str = "", style: str | None = None) -> None:
    """Print a line that no width breaks, so that paths and commands in it can be copied."""
    console.print(text, style=style, soft_wrap=True)


def quoted(path: Path | str) -> str:
    """A path as a shell takes it, in a command to be copied."""
    text = str(path)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)


def progress(*columns: str | ProgressColumn, transient: bool = False) -> Progress:
    """A bar of progress whose texts are plain, as the console's."""
    shown = (TextColumn(c, markup=False) if isinstance(c, str) else c for c in columns)
    return Progress(*shown, console=console, transient=transient)
