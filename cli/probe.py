"""`plasticity probe`."""

from pathlib import Path

import click
from click.core import ParameterSource
from plasticity.cli.options import COUNT, POSITIVE, Output, Place, opens_run


@click.command()
@click.argument("run", type=Place())
@click.option("--data", help="A data set with labels.  [default: the run's own]")
@click.option(
    "--task",
    default="",
    help="classes of images; clips, the classes of film; of sound phones, by frame, or speakers.  "
    "[default: the first of these]",
)
@click.option(
    "--protocol",
    type=click.Choice(["regularised", "published"]),
    default="regularised",
    show_default=True,
    help="regularised: logistic regression on standardised encodings of centre crops; published: "
    "Adam on raw encodings of random crops and flips; of film behind batch normalisation and "
    "dropout.",
)
@click.option(
    "--train", type=COUNT, default=5000, show_default=True, help="Labelled examples to fit, 0: all."
)
@click.option(
    "--test", type=COUNT, default=2000, show_default=True, help="Labelled examples to test, 0: all."
)
@click.option(
    "--epochs",
    type=POSITIVE,
    default=None,
    help="Of the published protocol's layer.  [default: 300; clips 200, phones 20, speakers 50]",
)
@click.option(
    "--views",
    type=POSITIVE,
    default=4,
    show_default=True,
    help="Random crops and flips of each image that the published protocol cycles through.",
)
@click.option(
    "--kept",
    is_flag=True,
    help="Probe every step that 'run --keep-every' or --keep-weights has kept, draw the curve, and "
    "name the best.",
)
@click.option(
    "--best-by",
    default="mean",
    show_default=True,
    metavar="LAYER|mean|any",
    help="With --kept, the best by: the accuracy of this layer; the mean over layers; that of any.",
)
@click.option("--json", "json_path", type=Output(), help="Write the result here.")
@opens_run
@click.pass_context
def probe(
    ctx: click.Context,
    run: Path,
    data: str | None,
    task: str,
    protocol: str,
    train: int,
    test: int,
    epochs: int | None,
    views: int,
    kept: bool,
    best_by: str,
    json_path: Path | None,
    **how: str | Path | None,
) -> None:
    """Measure by a linear probe what the layers of RUN learned, beside its random start.

    Both protocols encode an image as the mean over its patches, a clip as the mean over time of
    its flattened maps. The result is printed and kept in the run's folder.
    """
    from plasticity.cli.console import console, say
    from plasticity.cli.screens import run as screen

    from plasticity import figures, runs
    from plasticity.errors import UserError
    from plasticity.probes import kept as of_kept
    from plasticity.probes import probe
    from plasticity.reports import plots
    from plasticity.runs import keeping, lifecycle

    asked = {
        "task": task,
        "data_name": data,
        "train_images": train,
        "test_images": test,
        "protocol": protocol,
        "epochs": epochs or 0,
        "views": views,
    }
    if kept:
        if how.pop("checkpoint"):
            raise UserError(
                "--kept probes all checkpoints that the run has kept: leave --checkpoint"
            )
        state = lifecycle.reopen(run, **how)
        keeping.check_by(best_by, [layer.name for layer in state.network.layers])
        with screen.bars() as report:
            over = of_kept.probe_kept(
                run, lambda path: lifecycle.reopen(run, path, **how), report, **asked
            )
        console.print_whole(screen.kept_table(over))
        path, best = json_path or run / of_kept.NAME, over.best_by(best_by)
        runs.write_json(path, {**over.as_dict(), "best_by": vars(best)})
        screen.best(best, over)
        figures.save_both(plots.kept_probes(over, best), path)
        say(f"Written to {path}, with the curves as .png and .svg")
        return
    if ctx.get_parameter_source("best_by") != ParameterSource.DEFAULT:
        raise UserError("--best-by goes with --kept: it chooses among what was kept")
    state = lifecycle.reopen(run, **how)
    probed = screen.probe_with_bar(state, **asked)
    console.print_whole(screen.probe_table(probed))
    path = json_path or probe.probe_path(
        run, protocol, data or state.options.data, probed.task if probed.task != "classes" else ""
    )
    runs.write_json(path, {"step": state.step, **probed.as_dict()})
    say(f"Written to {path}")
