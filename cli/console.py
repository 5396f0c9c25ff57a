"""The console that all commands share: it prints text as it is, to terminals, files and pipes."""

import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.measure import Measurement
from rich.progress import Progress, ProgressColumn, TextColumn
from rich.table import Table


class Plain(Console):
    """A console without markup: names and paths of users may hold brackets and colons."""

    def __init__(self) -> None:
        super().__init__(highlight=False, markup=False, emoji=False)
        self.log: TextIO | None = None
        self._width = None  # COLUMNS and the terminal are asked whenever something is printed

    def print_whole(self, table: Table) -> None:
        """Print a table as wide as it needs: a terminal that is too narrow wraps its lines."""
        for column in table.columns:
            column.no_wrap = True
        needed = Measurement.get(self, self.options.update(max_width=1000), table).maximum
        self._width = max(needed, self.width)
        try:
            self.print(table)
            if self.log is not None:
                whole = Console(file=self.log, width=self._width, color_system=None)
                _written(lambda: whole.print(table))
        finally:
            self._width = None

    @contextmanager
    def logged(self, path: Path) -> Iterator[None]:
        """Append what is said to a file, too, with the time of every line, and how it ended.

        A log that cannot be written stops no work.
        """
        with ExitStack() as stack:
            if not self.quiet:
                with suppress(OSError):
                    how = {"encoding": "utf-8", "errors": "backslashreplace", "buffering": 1}
                    self.log = stack.enter_context(open(path, "a", **how))
            note(f"$ {shlex.join(['plasticity', *sys.argv[1:]])}")
            try:
                yield
            except Exception as error:
                note(f"Error: {error or type(error).__name__}")
                raise
            except KeyboardInterrupt:
                note("Interrupted.")
                raise
            finally:
                self.log = None

    def on_broken_pipe(self) -> None:
        """Go on in silence: who reads has seen enough, as `head` has, and the work is not lost."""
        self.quiet = True
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())


console = Plain()


def say(text: str = "", style: str | None = None) -> None:
    """Print a line that no width breaks, so that paths and commands in it can be copied."""
    console.print(text, style=style, soft_wrap=True)
    note(text)


def note(text: object) -> None:
    """A line for the log alone, if there is one."""
    if console.log is not None:
        _written(lambda: console.log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {text}\n"))


def _written(write: Callable[[], object]) -> None:
    """Write to the log, or give it up."""
    try:
        write()
    except OSError:
        console.log = None


def quoted(path: Path | str) -> str:
    """A path as a shell takes it, in a command to be copied."""
    text = str(path)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)


def progress(
    *columns: str | ProgressColumn, transient: bool = False, disable: bool = False
) -> Progress:
    """A bar of progress whose texts are plain, as the console's."""
    shown = (TextColumn(c, markup=False) if isinstance(c, str) else c for c in columns)
    return Progress(*shown, console=console, transient=transient, disable=disable)
