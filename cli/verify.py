"""`plasticity verify`."""

from pathlib import Path

import click
from plasticity.cli.options import set_option


@click.command()
@click.argument("run", required=False, type=click.Path(path_type=Path))
@click.option(
    "--rule",
    default="clapp",
    show_default=True,
    help="As in 'plasticity run'; with RUN, where its rule file is now.",
)
@click.option("--net", default="vgg6", show_default=True, help="As in 'plasticity run'.")
@click.option("--width", default=0.1, show_default=True, help="Multiplies every layer's neurons.")
@click.option("--modules", default="", help="How the network is split.  [default: the rule's]")
@click.option("--weights", default="", help="retro or symmetric.  [default: the rule's]")
@click.option("--gate", default="", help="own, shared, circuit or off.  [default: the rule's]")
@click.option("--block-grad", is_flag=True, help="The target role alone (Eq. 13).")
@click.option("--dendrites/--no-dendrites", default=True, help="Dendritic signals, or 1 for all.")
@click.option("--context", default="", help="same or above.  [default: the rule's]")
@set_option
@click.option("--dtype", default="float64", show_default=True, help="float64 or float32.")
@click.option("--batch", default=4, show_default=True, help="Images.")
@click.option("--seeds", default=2, show_default=True, help="How many seeds, from 0.")
@click.option(
    "--gain",
    default=2.0,
    show_default=True,
    help="Multiplies fresh weights, so that gates are a mix of open and closed.",
)
@click.option("--tolerance", type=float, help="[default: 1e-10 in float64, 1e-4 in float32]")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the table here.")
@click.pass_context
def verify(
    ctx: click.Context,
    run: Path | None,
    batch: int,
    seeds: int,
    gain: float,
    tolerance: float | None,
    json_path: Path | None,
    **values: object,
) -> None:
    """Compare a rule's dW with minus the gradient of its loss, by torch's autograd.

    On fresh weights, or on those of RUN (with its own options). Exit status 1 if any parameter of
    any layer differs, or if all gates of a layer are closed, which proves nothing.
    """
    from dataclasses import asdict

    from click.core import ParameterSource
    from rich.console import Console
    from rich.table import Table

    from plasticity import experiment, runs, training
    from plasticity.options import RunOptions
    from plasticity.verify import compare

    rows = []
    for seed in range(seeds):
        if run is not None:
            named = ctx.get_parameter_source("rule") == ParameterSource.COMMANDLINE
            moved = values["rule"] if named else None
            state, by = experiment.reopen(run, device="cpu", rule=moved), 1.0
        else:
            options = RunOptions(seed=seed, batch=batch, device="cpu", **values)
            state, by = training.begin(options), gain
        rows += compare(state, seed=seed, batch=batch, gain=by, tolerance=tolerance)

    table = Table(title=f"{state.rule.name} on {state.network.name}", title_justify="left")
    for head in ("seed", "layer", "parameter", "relative error", "cosine", "open gates", "verdict"):
        justify = "left" if head in ("layer", "parameter") else "right"
        table.add_column(head, justify=justify, overflow="fold")
    for row in rows:
        numbers = (f"{row.error:.1e}", f"{row.cosine:.6f}", f"{row.open_gates:.2f}")
        table.add_row(str(row.seed), row.layer, row.parameter, *numbers, row.verdict)
    console = Console(highlight=False)
    console.print(table)
    worst = max(rows, key=lambda row: row.error)
    console.print(
        f"Largest relative error {worst.error:.1e}: {worst.layer}.{worst.parameter} at "
        f"{worst.place}, {worst.difference:.1e} apart; tolerance {worst.tolerance:g}.",
        soft_wrap=True,
    )
    if json_path:
        table_of = [{**asdict(row), "verdict": row.verdict} for row in rows]
        runs.write_json(json_path, {"rule": state.rule.name, "rows": table_of})
    failed = sum(row.verdict != "ok" for row in rows)
    console.print(f"{len(rows) - failed} of {len(rows)} comparisons hold.")
    ctx.exit(1 if failed else 0)
