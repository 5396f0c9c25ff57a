"""`plasticity probe`."""

from pathlib import Path

import click


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--checkpoint", type=click.Path(path_type=Path), help="Another checkpoint file.")
@click.option("--data", help="A data set with labels.  [default: the run's own]")
@click.option("--data-dir", help="Where data sets are.  [default: as in the run]")
@click.option(
    "--protocol",
    type=click.Choice(["regularised", "published"]),
    default="regularised",
    show_default=True,
    help="regularised: logistic regression on standardised encodings of centre crops; published: "
    "Adam on raw encodings of random crops and flips.",
)
@click.option("--train", default=5000, show_default=True, help="Labelled images to fit, 0: all.")
@click.option("--test", default=2000, show_default=True, help="Labelled images to test, 0: all.")
@click.option("--epochs", default=300, show_default=True, help="Of the published protocol's layer.")
@click.option(
    "--views",
    default=4,
    show_default=True,
    help="Random crops and flips of each image that the published protocol cycles through.",
)
@click.option("--rule", help="Where the rule file of RUN is now, if it was moved.")
@click.option("--device", help="auto, cpu, cuda or cuda:N.  [default: as in the run]")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the result here.")
def probe(
    run: Path,
    checkpoint: Path | None,
    data: str | None,
    data_dir: str | None,
    protocol: str,
    train: int,
    test: int,
    epochs: int,
    views: int,
    rule: str | None,
    device: str | None,
    json_path: Path | None,
) -> None:
    """Measure by a linear probe what the layers of RUN learned, beside its random start.

    Both protocols encode an image as the mean over its patches. The result is printed and kept
    in the run's folder.
    """
    from plasticity.cli import screen

    from plasticity import experiment, runs

    state = experiment.reopen(run, checkpoint, data_dir=data_dir, device=device, rule=rule)
    probed = screen.probe_with_bar(
        state,
        data_name=data,
        train_images=train,
        test_images=test,
        protocol=protocol,
        epochs=epochs,
        views=views,
    )
    screen.console.print(screen.probe_table(probed))
    path = json_path or experiment.probe_path(run, protocol, data or state.options.data)
    runs.write_json(path, {"step": state.step, **probed.as_dict()})
    screen.console.print(f"Written to {path}")
