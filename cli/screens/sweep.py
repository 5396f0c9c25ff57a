"""What many runs show: which of how many, how long still, and what failed."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

from plasticity.cli.console import progress, say
from rich.progress import BarColumn

from plasticity import sweeps

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
        say(f"All {count} runs are done already, in {folder}")
        return {}, False
    jobs = jobs or sweeps.usual_jobs(experiments)
    side = f", by the workers of {on}" if on else f", {jobs} side by side" if jobs > 1 else ""
    say(f"{count} runs in {folder}{side}{about}")
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


def told(failed: dict[str, str], interrupted: bool) -> int:
    """Say what failed and how to go on; the status to exit with."""
    for name, sentence in failed.items():
        say(f"{name}: {sentence}")
    if interrupted:
        say("Interrupted; the same command goes on from here.")
        return 130
    return 1 if failed else 0
