"""`plasticity reproduce`."""

from pathlib import Path

import click
from plasticity.cli.options import Place, jobs_options


@click.command()
@click.argument("tables", nargs=-1, metavar="TABLE...")
@click.option("--list", "listed", is_flag=True, help="Show the tables and their rows.")
@click.option(
    "--budget",
    default="paper",
    show_default=True,
    help="paper: the published settings; small: for two cores, see the docs; or a TOML file with "
    "options of 'plasticity run' and probe_train, probe_test, probe_epochs, probe_views.",
)
@click.option(
    "--seeds", default=3, show_default=True, type=click.IntRange(1), help="How many, from 0."
)
@jobs_options
@click.option("--out", type=Place(file_okay=False), help="[default: reproduce/BUDGET]")
@click.option("--show", is_flag=True, help="Run nothing: write tables of what has been run.")
@click.option("--data-dir", default="", help="Where data sets are; see 'plasticity data'.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.pass_context
def reproduce(
    ctx: click.Context,
    tables: tuple[str, ...],
    listed: bool,
    budget: str,
    seeds: int,
    jobs: int | None,
    on: str,
    out: Path | None,
    show: bool,
    data_dir: str,
    device: str,
) -> None:
    """Run every experiment of a TABLE of the paper (or of `all`), with several seeds, and write
    ours beside the published numbers: text, CSV, LaTeX and a figure.

    Each experiment is a run folder as 'plasticity run' makes it, in --out; tables share those that
    they have in common. The same command goes on where it was interrupted.

    \b
    plasticity reproduce --list
    plasticity reproduce table1 table6 --budget small
    """
    from plasticity.cli.screens import reproduce as screen
    from plasticity.cli.screens import sweep

    from plasticity import reproduce as again

    if listed:
        screen.listing()
        return
    wanted, allowed = again.named(tables), again.budget(budget)
    folder = out or Path("reproduce") / allowed.name
    failed, interrupted = {}, False
    if not show:
        experiments = again.of_tables(wanted, allowed, seeds, data_dir=data_dir, device=device)
        about = f", budget {allowed.name}"
        failed, interrupted = sweep.carry_out(experiments, folder, jobs, on, about)
    for table in wanted:
        screen.show(table, allowed, seeds, folder)
    ctx.exit(sweep.told(failed, interrupted))
