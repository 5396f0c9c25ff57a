"""`plasticity report`."""

from pathlib import Path

import click
from plasticity.cli.options import Place, looks_at_run


@click.command()
@click.argument("run", type=Place())
@click.option("--out", "-o", type=Place(), help="The page.  [default: RUN/report.html]")
@looks_at_run
def report(run: Path, out: Path | None, **how: object) -> None:
    """Write RUN as one HTML page: rule, losses, probes, figures, settings, versions, timing.

    Everything is in the one file, which opens offline in any browser and prints. What the run
    does not have, such as a probe that was never taken, is left out with a word. Wants
    the extra 'plot'.
    """
    from plasticity.cli.console import say
    from plasticity.cli.screens import run as screen

    from plasticity.files import make_folder
    from plasticity.reports import page as reports
    from plasticity.reports import plots

    path = out or run / "report.html"
    with screen.bars() as progress:
        look = plots.open_look(run, report=progress, **how)
        made = reports.report(look)
    make_folder(path.parent)
    reports.write(made, path)
    for name, why in made.left_out.items():
        say(f"Left out, {name}: {why}")
    say(f"Written to {path}")
