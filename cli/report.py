"""`plasticity report`."""

from pathlib import Path

import click


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--out", "-o", type=click.Path(path_type=Path), help="The page.  [default: RUN/report.html]"
)
@click.option("--images", default=300, show_default=True, help="Test images encoded, 0: all.")
@click.option("--seed", default=0, show_default=True, help="Of the neurons shown and of t-SNE.")
@click.option("--checkpoint", type=click.Path(path_type=Path), help="Another checkpoint file.")
@click.option("--data-dir", help="Where data sets are.  [default: as in the run]")
@click.option("--device", help="auto, cpu, cuda or cuda:N.  [default: as in the run]")
@click.option("--rule", help="Where the rule file of RUN is now, if it was moved.")
def report(
    run: Path,
    out: Path | None,
    images: int,
    seed: int,
    checkpoint: Path | None,
    data_dir: str | None,
    device: str | None,
    rule: str | None,
) -> None:
    """Write RUN as one HTML page: rule, losses, probes, figures, settings, versions, timing.

    Everything is in the one file, which opens offline in any browser and prints. What the run
    does not have, such as a probe that was never taken, is left out with a word. Wants
    'plasticity[plot]'.
    """
    from plasticity.cli import screen

    from plasticity import plots
    from plasticity import report as reports

    path = out or run / "report.html"
    with screen.bars() as progress:
        look = plots.open_look(
            run,
            checkpoint,
            data_dir=data_dir,
            device=device,
            rule=rule,
            images=images,
            seed=seed,
            report=progress,
        )
        made = reports.report(look)
    plots.make_folder(path.parent)
    reports.write(made, path)
    for name, why in made.left_out.items():
        click.echo(f"Left out, {name}: {why}")
    click.echo(f"Written to {path}")
