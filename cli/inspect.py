"""`plasticity inspect`."""

from pathlib import Path

import click
from plasticity.cli.options import (
    COUNT,
    Number,
    Output,
    Place,
    Sections,
    checkpoint_option,
    data_dir_option,
    run_options,
    set_option,
    trust_option,
)

from plasticity.runs.options import OF_RULES, OF_STIMULI


def _whole(option: str, text: str, example: str, given: str) -> tuple[int, ...]:
    """Whole numbers with commas or colons between."""
    parts = text.replace(":", ",").split(",")
    if not all(part.strip().isdigit() for part in parts):
        from plasticity.errors import UserError

        raise UserError(
            f"--{option} {given}: expected whole numbers with commas, such as {example}"
        )
    return tuple(int(part) for part in parts)


def _numbers(ctx: click.Context, param: click.Parameter, text: str | None) -> tuple | None:
    """`3,1,0,2` as numbers."""
    if text is None:
        return None
    return _whole(param.name, text, param.metavar or "3,1,0,2", text)


FRESH = (
    "net", "width", "batch", "seed", "dtype", "data", "modules", "credit", "below_gru",
    "norm", "norm_order",
    *OF_RULES, *OF_STIMULI,
)  # fmt: skip


@click.command(cls=Sections)
@click.argument("run", required=False, type=Place())
@click.option("--layer", help="The layer, by its number from 1 or its name.")
@click.option(
    "--synapse",
    callback=_numbers,
    metavar="POST,PRE,ROW,COL",
    help="A weight: neuron, input neuron, kernel row and column, from 0.",
)
@click.option(
    "--recurrent",
    callback=_numbers,
    metavar="POST,PRE",
    help="A recurrent weight of a GRU: row of its gates r, z, n, and neuron.",
)
@click.option("--bias", callback=_numbers, metavar="POST", help="A neuron's bias.")
@click.option(
    "--prediction",
    callback=_numbers,
    metavar="K,J,I",
    help="An entry of W_pred: prediction step from 1, target neuron, context neuron.",
)
@click.option(
    "--retro",
    callback=_numbers,
    metavar="K,I,J",
    help="An entry of W_retro: prediction step from 1, context neuron, target neuron.",
)
@click.option(
    "--entry",
    metavar="NAME,K,J,I",
    help="An entry of a matrix of the rule's own: its name, prediction step from 1, post, pre.",
)
@click.option(
    "--recorded",
    is_flag=True,
    help="What 'run --record' has recorded, instead of the next step: of the whole run, of a "
    "--layer, or of a --synapse, --prediction, --retro or --entry of it.",
)
@click.option("--step", type=int, help="Insist on this step.  [default: the run's next]")
@checkpoint_option
@click.option(
    "--top", type=COUNT, default=12, show_default=True, help="Rows of each table on the screen."
)
@click.option("--all-events", is_flag=True, help="In files also events that change nothing.")
@click.option("--csv", "csv_path", type=Output(), help="Write the long table.")
@click.option("--json", "json_path", type=Output(), help="Write the summary.")
@click.option("--hdf5", "hdf5_path", type=Output(), help="Write all arrays.")
@click.option("--figure", "figure_path", type=Output(), help="Draw it, as .png, .svg or .pdf.")
@data_dir_option
@click.option("--device", help="auto, cpu, cuda or cuda:N.  [default: as in the run, or cpu]")
@run_options(
    ("rule", *FRESH), "Options of a fresh network, without RUN", width=0.1, batch=8, dtype="float64"
)
@set_option
@click.option(
    "--gain",
    type=Number(0, min_open=True),
    default=2.0,
    show_default=True,
    help="Without RUN: multiplies fresh weights, so that gates are a mix of open and closed.",
)
@trust_option
@click.pass_context
def inspect(
    ctx: click.Context,
    run: Path | None,
    layer: str | None,
    synapse: tuple | None,
    recurrent: tuple | None,
    bias: tuple | None,
    prediction: tuple | None,
    retro: tuple | None,
    entry: str | None,
    recorded: bool,
    step: int | None,
    checkpoint: Path | None,
    top: int,
    all_events: bool,
    csv_path: Path | None,
    json_path: Path | None,
    hdf5_path: Path | None,
    figure_path: Path | None,
    data_dir: str | None,
    device: str | None,
    gain: float,
    trusted: bool,
    **values: object,
) -> None:
    """Take the next step of RUN apart: which factors change its synapses, event by event.

    Batch, crops and draws are those that training takes next; without RUN, those of a fresh
    network. With --synapse, --bias, --prediction or --retro the sum over events is compared with
    the dW of the training step: exit status 1 if they differ by more than rounding. With --layer
    alone: distributions, open gates, silenced neurons, what changed most, dW and optimiser.

    \b
    plasticity inspect RUN --layer 4
    plasticity inspect RUN --layer 4 --synapse 3,1,0,2 --figure kernel.png
    plasticity inspect RUN --recorded --layer 4 --synapse 3,1,0,2 --figure trace.png
    plasticity inspect RUN --recorded --csv long.csv
    plasticity inspect --rule clapp_s --layer conv2 --prediction 1,0,3 --csv events.csv
    """
    from click.core import ParameterSource
    from plasticity.cli.screens import inspect as screen

    from plasticity import figures, inspection, trust
    from plasticity.errors import UserError
    from plasticity.runs.options import RunOptions

    files = screen.Files(csv_path, json_path, hdf5_path, figure_path)
    if figure_path is not None:
        figures.check_suffix(figure_path)
    names = {"weight": synapse, "weight_hh": recurrent, "bias": bias, "W_pred": prediction}
    names["W_retro"] = retro
    if entry is not None:
        own, _, numbers = entry.partition(",")
        names[own] = _whole("entry", numbers, "W,1,0,3", entry)
    chosen = [(name, index) for name, index in names.items() if index is not None]
    if len(chosen) > 1:
        raise UserError(
            "take one of --synapse, --recurrent, --bias, --prediction, --retro and --entry at a "
            "time"
        )
    given = {
        name
        for name in (*FRESH, "set", "gain", "step", "checkpoint")
        if ctx.get_parameter_source(name) == ParameterSource.COMMANDLINE
    }
    if run is not None and (own := given - {"step", "checkpoint"}):
        raise UserError(f"--{min(own)} is for a fresh network: a run has its own options")
    if recorded:
        if run is None or given or bias is not None:
            raise UserError(
                "--recorded reads the recording of a RUN: name its folder, and at most a --layer "
                "and a --synapse, --prediction, --retro or --entry"
            )
        parameter, index = chosen[0] if chosen else ("weight", None)
        screen.recording(inspection.read(run), layer, parameter, index, top, files)
        return
    if layer is None:
        raise UserError("nothing to inspect: name a --layer, by its number from 1 or its name")
    if run is not None:
        named = ctx.get_parameter_source("rule") == ParameterSource.COMMANDLINE
        moved = values["rule"] if named else None
        how = {"data_dir": data_dir, "device": device, "rule": moved, "trusted": trusted}
        state = inspection.open_run(run, checkpoint, **how)
    else:
        if checkpoint is not None:
            raise UserError("--checkpoint is a file of a run: name its folder too")
        options = RunOptions(**values, data_dir=data_dir or "", device=device or "cpu")
        trust.named(options)
        state = inspection.fresh(options, gain)
    seen = inspection.look(state, layer, step)
    if not chosen:
        screen.layer(inspection.inspect_layer(seen, top), files)
        return
    name, index = chosen[0]
    if seen.layer.recurrent:
        name = {"weight": "weight_ih", "bias": "bias_ih"}.get(name, name)
    found = inspection.inspect(seen, name, index)
    screen.synapse(found, top, files, all_events)
    ctx.exit(0 if found.agrees else 1)
