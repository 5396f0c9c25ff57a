"""`plasticity plot`."""

from pathlib import Path

import click
from plasticity.cli.options import Output, Place, looks_at_run

FORMATS = ("png", "svg", "pdf")


@click.command()
@click.argument("run", type=Place())
@click.argument("what", nargs=-1)
@click.option(
    "--out",
    "-o",
    type=Output(makes=True, folders=True),
    help="A folder, or a file in .png, .svg or .pdf for a single plot.  [default: RUN/figures]",
)
@click.option(
    "--format",
    "formats",
    type=click.Choice(FORMATS),
    multiple=True,
    help="May be repeated.  [default: png]",
)
@click.option(
    "--with",
    "others",
    type=Place(),
    multiple=True,
    help="Another run, in the figure of losses; may be repeated. See also 'plasticity compare'.",
)
@click.option("--layer", help="Only this one, by its number from 1 or its name.")
@looks_at_run
def plot(
    run: Path,
    what: tuple[str, ...],
    out: Path | None,
    formats: tuple[str, ...],
    others: tuple[Path, ...],
    layer: str | None,
    **how: object,
) -> None:
    """Draw figures of RUN: WHAT is one or more of these, or all.

    \b
    losses       loss and open gates of every module over training
    measures     activity, sparsity, dead neurons, norm and drift of W of every layer
    hinge        scores of positive and negative samples against the hinge
    gates        open gates by prediction step, sign and role
    history      gates and alignment over training, where 'run --record' kept them
    predictions  norm, alignment and spectrum of W_pred and W_retro
    kernels      the first layer's kernels
    patches      the patches that excite neurons most, boxed in their images
    spectrum     eigenvalues of the encodings by layer, and their participation ratio
    tsne         t-SNE of the encodings by layer (wants the extra 'plot')

    kernels, patches, spectrum and tsne stand beside those of the run's random start.

    \b
    plasticity plot RUN losses hinge
    plasticity plot RUN losses --with OTHER --with ANOTHER
    plasticity plot RUN patches --layer 4 --out patches.pdf
    """
    from plasticity.cli.console import say
    from plasticity.cli.screens import run as screen

    from plasticity.errors import UserError
    from plasticity.reports import plots

    names = plots.chosen(what)
    if others and names != ["losses"]:
        raise UserError("--with is for the losses of several runs: plasticity plot RUN losses")
    paths = plots.paths(names, out or run / "figures", formats or ("png",))
    if others:
        figure = plots.losses_together(plots.opened([run, *others]))
        for path in plots.write(figure, paths["losses"]):
            say(f"Written to {path}")
        return
    with screen.bars() as report:
        look = plots.open_look(run, layer=layer, report=report, **how)
        written, left_out = plots.draw(look, paths, skip="all" in what)
    for path in written:
        say(f"Written to {path}")
    for name, why in left_out.items():
        say(f"Left out, {name}: {why}")
