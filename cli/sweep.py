"""`plasticity sweep`."""

from pathlib import Path

import click
from plasticity.cli.options import Place, jobs_options, trust_option


@click.command()
@click.argument("file", type=Place(), metavar="FILE.toml|FOLDER")
@click.option("--list", "listed", is_flag=True, help="Show the rows, and run nothing.")
@click.option(
    "--seeds", type=click.IntRange(1, 10_000), help="How many.  [default: as the file says, or 1]"
)
@jobs_options
@click.option("--out", type=Place(file_okay=False), help="[default: sweeps/FILE]")
@click.option("--show", is_flag=True, help="Run nothing: write tables of what has been run.")
@click.option("--data-dir", default="", help="Where data sets are; see 'plasticity data'.")
@click.option("--device", default="", help="auto, cpu, cuda or cuda:N.  [default: as in the file]")
@trust_option
@click.pass_context
def sweep(
    ctx: click.Context,
    file: Path,
    listed: bool,
    seeds: int | None,
    jobs: int | None,
    on: str,
    out: Path | None,
    show: bool,
    data_dir: str,
    device: str,
    trusted: bool,
) -> None:
    """Run experiments of your own: every row of FILE.toml with every seed, and their comparison.

    The file has options that all runs share in [run], lists of values in [grid], of which every
    combination is run, and named alternatives in [[variant]]. Each run is a folder as 'plasticity
    run' makes it. Called again, with the file or with its folder, it goes on where it was
    interrupted; what is done is left as it is.

    \b
    plasticity sweep rates.toml --list
    plasticity sweep rates.toml --seeds 5
    """
    from plasticity.cli.screens import sweep as screen

    from plasticity import sweeps
    from plasticity.errors import UserError

    folder = out or Path("sweeps") / file.stem
    if file.is_dir():
        if not (file / sweeps.NAME).is_file():
            raise UserError(f"{file} holds no {sweeps.NAME}: it is no folder of a sweep")
        if out is not None:
            raise UserError("a sweep's folder goes on in its own place: leave --out away")
        folder, file = file, file / sweeps.NAME
    asked = sweeps.read(file, trusted)
    if seeds is not None:
        asked = asked.seeded(seeds)
    if listed:
        screen.listing(asked)
        return
    where = {"data_dir": data_dir, "device": device}
    where = {name: value for name, value in where.items() if value}
    ctx.exit(screen.whole(asked, folder, jobs, on, show, **where))
