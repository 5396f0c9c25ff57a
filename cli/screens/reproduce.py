"""What `plasticity reproduce` shows: which run of how many, how long still, and tables."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

from plasticity.cli.console import console, progress, say
from rich.progress import BarColumn
from rich.table import Table

from plasticity import reproduce

if TYPE_CHECKING:
    from collections.abc import Sequence


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


def _duration(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def carry_out(
    experiments: "Sequence[reproduce.Experiment]",
    folder: Path,
    budget: "reproduce.Budget",
    jobs: int,
) -> tuple[dict[str, str], bool]:
    """All runs, with a bar for each that is under way. What failed, and whether interrupted."""
    work = reproduce.Work(experiments, folder, budget)
    start, count = time.monotonic(), len(experiments)
    ended = count - len(work.todo)
    if not work.todo:
        say(f"All {count} runs are done already, in {folder}")
        return {}, False
    side = f", {jobs} side by side" if jobs > 1 else ""
    say(f"{count} runs in {folder}{side}, budget {budget.name}")
    columns = ("{task.description}", BarColumn(), "{task.fields[what]}")
    with progress(*columns, transient=True) as bar:
        total = bar.add_task("all runs", total=work.total, completed=work.done, what="")
        tasks = {}

        def report(name: str, what: str, done: int, of: int) -> None:
            nonlocal ended
            work.report(name, what, done, of)
            remaining = work.remaining(time.monotonic() - start)
            left = "" if remaining is None else f"about {_duration(remaining)} left"
            bar.update(total, completed=work.done, what=left)
            if what == reproduce.DONE:
                ended += 1
                if name in tasks:
                    bar.remove_task(tasks.pop(name))
                    say(f"run {ended} of {count}: {name}  {left}")
                return
            if name not in tasks:
                tasks[name] = bar.add_task(name, total=of, what=what)
            bar.update(tasks[name], completed=done, total=of, what=f"{what} {done}/{of}")

        try:
            failed = reproduce.carry_out_all(work.todo, folder, budget, jobs, report)
        except KeyboardInterrupt:
            return {}, True
    return failed, False


def show(table: "reproduce.Table", budget: "reproduce.Budget", seeds: int, folder: Path) -> None:
    """Print a table as it stands, and write its files."""
    results = reproduce.collect(table, budget, seeds, folder)
    say(f"{table.name}\n", style="bold")
    say(reproduce.markdown(table, budget, results))
    folder.mkdir(parents=True, exist_ok=True)
    written = reproduce.write(table, budget, results, seeds, folder)
    say(f"Written to {folder}: {', '.join(path.name for path in written)}\n")
