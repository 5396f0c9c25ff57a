"""`plasticity report`."""

from pathlib import Path

import click
from click.core import ParameterSource
from plasticity.cli.options import Output, Place, looks_at_run

OF_ONE = ("checkpoint", "data_dir", "device", "rule", "images", "seed")


@click.command()
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=Place())
@click.option(
    "--out",
    "-o",
    type=Output(makes=True),
    help="The page.  [default: RUN/report.html; of several runs ./report.html]",
)
@looks_at_run
@click.pass_context
def report(ctx: click.Context, runs: tuple[Path, ...], out: Path | None, **how: object) -> None:
    """Write RUN as one HTML page: rule, losses, probes, figures, settings, versions, timing.

    Everything is in the one file, which opens offline in any browser and prints. What the run
    does not have, such as a probe that was never taken, is left out with a word. Of several runs:
    what differs among their options, their losses in one figure, probes with errors and measures
    of their layers side by side. Wants the extra 'plot'.

    \b
    plasticity report RUN
    plasticity report RUN1 RUN2 RUN3 --out together.html
    """
    from plasticity.cli.console import say
    from plasticity.cli.screens import run as screen

    from plasticity.errors import UserError
    from plasticity.fields import dashed
    from plasticity.files import check_writable, make_folder
    from plasticity.reports import page, plots, together

    several = len(runs) > 1
    path = out or (Path("report.html") if several else runs[0] / "report.html")
    check_writable(path, makes=True)
    if several:
        for name in OF_ONE:
            if ctx.get_parameter_source(name) != ParameterSource.DEFAULT:
                raise UserError(f"{dashed(name)} is for the page of one run: {len(runs)} are named")
        made = together.report(runs, trusted=bool(how["trusted"]))
    else:
        with screen.bars() as progress:
            look = plots.open_look(runs[0], report=progress, **how)
            made = page.report(look)
    make_folder(path.parent)
    page.write(made, path)
    for name, why in made.left_out.items():
        say(f"Left out, {name}: {why}")
    say(f"Written to {path}")
