"""`plasticity analyse`."""

from pathlib import Path

import click
from plasticity.cli.options import (
    Number,
    Output,
    Place,
    checkpoint_option,
    data_dir_option,
    trust_option,
)

# Options of a fresh network, which a run has already.
FRESH = ("net", "width", "layers", "modules", "negatives", "batch", "seed", "dtype", "data", "gain")


@click.group()
def analyse() -> None:
    """Take a rule apart, on a fresh network or on a run."""


@analyse.command("cpc-gradient")
@click.argument("run", required=False, type=Place())
@checkpoint_option
@click.option("--tolerance", type=Number(0), help="[default: 1e-10 in float64, 1e-4 in float32]")
@click.option("--json", "json_path", type=Output(), help="Write all tables.")
@click.option("--csv", "csv_path", type=Output(), help="Write a long table.")
@click.option("--figure", "figure_path", type=Output(), help="Draw it: .png, .svg or .pdf.")
@data_dir_option
@click.option("--device", help="auto, cpu, cuda or cuda:N.  [default: as in the run, or cpu]")
@click.option("--net", default="vgg6", show_default=True, help="Without RUN: as in 'run'.")
@click.option("--width", default=0.1, show_default=True, help="Without RUN.")
@click.option("--layers", default=0, help="Without RUN.  [default: all]")
@click.option("--modules", default="layers", show_default=True, help="Without RUN: as in 'run'.")
@click.option("--negatives", default=16, show_default=True, help="Without RUN.")
@click.option("--batch", default=8, show_default=True, help="Without RUN.")
@click.option("--seed", default=0, show_default=True, help="Without RUN.")
@click.option("--dtype", default="float64", show_default=True, help="Without RUN.")
@click.option("--data", default="sample", show_default=True, help="Without RUN.")
@click.option(
    "--gain",
    type=Number(0, min_open=True),
    default=2.0,
    show_default=True,
    help="Without RUN: multiplies fresh weights; with 1 scores are so small that all samples "
    "count the same.",
)
@trust_option
@click.pass_context
def cpc_gradient(
    ctx: click.Context,
    run: Path | None,
    checkpoint: Path | None,
    tolerance: float | None,
    json_path: Path | None,
    csv_path: Path | None,
    figure_path: Path | None,
    data_dir: str | None,
    device: str | None,
    gain: float,
    trusted: bool,
    **values: object,
) -> None:
    """The terms of CPC's gradient, Eq. (9) to (12), and what a synapse would need for each.

    For the next step of RUN, or of a fresh network, layer by layer: that the terms add up to the
    dW of the rule 'cpc' (exit status 1 if they do not), how large they are, and how far from dW a
    rule would go that cannot have them, as CLAPP cannot. Of a run by another rule with predictions
    W_pred it is what 'cpc' would do.

    \b
    plasticity analyse cpc-gradient
    plasticity analyse cpc-gradient RUN --figure terms.png --csv terms.csv
    """
    from click.core import ParameterSource
    from plasticity.cli.screens import analyse as screen

    from plasticity import figures, inspection
    from plasticity.errors import UserError
    from plasticity.inspection import cpc_gradient
    from plasticity.runs.options import RunOptions

    if figure_path:
        figures.check_suffix(figure_path)
    if run is not None:
        for name in FRESH:
            if ctx.get_parameter_source(name) == ParameterSource.COMMANDLINE:
                raise UserError(f"--{name} is for a fresh network: a run has its own options")
        how = {"data_dir": data_dir, "device": device, "trusted": trusted}
        state = inspection.open_run(run, checkpoint, **how)
    else:
        if checkpoint is not None:
            raise UserError("--checkpoint is a file of a run: name its folder too")
        options = RunOptions(**values, rule="cpc", data_dir=data_dir or "", device=device or "cpu")
        state = inspection.fresh(options, gain)
    found = cpc_gradient.cpc_gradient(state, tolerance)
    screen.show(found)
    screen.write(found, json_path, csv_path, figure_path)
    ctx.exit(0 if found.agrees else 1)
