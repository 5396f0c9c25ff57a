"""What many runs show: which of how many, how long still, and what failed."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

from plasticity.cli.console import console, progress, quoted, say
from rich.progress import BarColumn
from rich.table import Table

from plasticity import sweeps
from plasticity.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence


def _duration(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def carry_out(
    experiments: "Sequence[sweeps.Experiment]",
    folder: Path,
    jobs: int | None,
    on: str = "",
    about: str = "",
) -> tuple[dict[str, str], bool]:
    """All runs, with a bar for each that is under way. What failed, and whether interrupted.

    Args:
        jobs: by default the usual; on: a Dask scheduler; about: the runs, in words.
    """
    work = sweeps.Work(experiments, folder)
    start, count = time.monotonic(), len(experiments)
    ended = count - len(work.todo)
    if not work.todo:
        done = f"All {count} runs are" if count > 1 else "The run is"
        say(f"{done} done already, in {folder}")
        return {}, False
    jobs = jobs or sweeps.usual_jobs(experiments)
    side = f", by the workers of {on}" if on else f", {jobs} side by side" if jobs > 1 else ""
    say(f"{count} run{'s' * (count > 1)} in {folder}{side}{about}")
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
            if what == sweeps.DONE:
                ended += 1
                if name in tasks:
                    bar.remove_task(tasks.pop(name))
                say(f"run {ended} of {count}: {name}  {left}")
                return
            if name not in tasks:
                tasks[name] = bar.add_task(name, total=of, what=what)
            bar.update(tasks[name], completed=done, total=of, what=f"{what} {done}/{of}")

        try:
            failed = sweeps.carry_out_all(work.todo, folder, jobs, report, on)
        except KeyboardInterrupt:
            return {}, True
    return failed, False


def listing(sweep: sweeps.Sweep) -> None:
    """The rows of a sweep, and how many runs they are."""
    shown = Table(title=sweep.title, title_justify="left")
    for head in ("row", "options"):
        shown.add_column(head)
    for row in sweep.rows:
        options = " ".join(f"{name}={value}" for name, value in row.options.items())
        shown.add_row(row.title, options + (f", {row.longer} times as long" * (row.longer > 1)))
    console.print_whole(shown)
    shared = " ".join(f"{name}={value}" for name, value in sweep.run.items())
    say(f"All of them: {shared or 'the default options'}")
    count = len(sweep.experiments())
    say(f"{count} runs: {len(sweep.rows)} rows, seeds {', '.join(map(str, sweep.seeds))}")


def whole(
    sweep: sweeps.Sweep,
    folder: Path,
    jobs: int | None,
    on: str = "",
    show: bool = False,
    **where: str,
) -> int:
    """Carry out a sweep in its folder and show what came of it; the status to exit with.

    Args:
        show: run nothing; where: `data_dir` and `device`, if not those of its file.
    """
    from plasticity import claims
    from plasticity.files import make_folder
    from plasticity.sweeps import file, results

    failed, interrupted = {}, False
    sweeps.check_folder(sweep, folder)
    experiments = [] if show else sweep.experiments(**where)
    if show and not folder.is_dir():
        raise UserError(f"{folder} is not there: nothing of this sweep has been run")
    make_folder(folder)
    with claims.held(folder):
        if not show:
            file.write(sweep, folder)
            failed, interrupted = carry_out(experiments, folder, jobs, on)
        text, written = results.write(sweep, folder, results.collect(sweep, folder))
    say(text)
    say(f"Written to {folder}: {', '.join(path.name for path in written)}")
    go_on = f"plasticity sweep {quoted(folder)}"
    return told(failed, interrupted, f"Interrupted; go on with:  {go_on}")


GO_ON = "Interrupted; the same command goes on from here."


def told(failed: dict[str, str], interrupted: bool, go_on: str = GO_ON) -> int:
    """Say what failed and how to go on; the status to exit with."""
    for name, sentence in failed.items():
        say(f"{name}: {sentence}")
    if interrupted:
        say(go_on)
        return 130
    return 1 if failed else 0
