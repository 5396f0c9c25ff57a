"""`plasticity data`."""

from pathlib import Path

import click

WHERE = {
    "stl10": "unlabeled_X.bin, train_X.bin, train_y.bin, test_X.bin, test_y.bin",
    "cifar10": "data_batch_1.bin to data_batch_5.bin, test_batch.bin",
}


@click.group(invoke_without_command=True)
@click.option("--data-dir", help="Where data sets are.  [default: PLASTICITY_DATA, or your own]")
@click.pass_context
def data(ctx: click.Context, data_dir: str | None) -> None:
    """List the data sets that are found, and say where the others go."""
    ctx.obj = data_dir
    if ctx.invoked_subcommand is not None:
        return
    from rich.console import Console
    from rich.table import Table

    from plasticity.data import data_folder, open_set
    from plasticity.errors import UserError

    table = Table(title=f"Data sets, looked for in {data_folder(data_dir)}", title_justify="left")
    for head in ("name", "split", "images", "size", "labels", "file"):
        table.add_column(head, justify="right" if head == "images" else "left", overflow="fold")
    missing = {}
    for name in ("sample", *WHERE):
        for split in ("unlabelled", "train", "test"):
            try:
                found = open_set(name, split, data_dir)
            except UserError as error:
                missing.setdefault(name, str(error))
                table.add_row(name, split, "-", "", "", "not found")
                continue
            labels = f"{len(found.classes)} classes" if found.labels is not None else "none"
            size = f"{found.side}x{found.side}"
            table.add_row(name, split, str(len(found)), size, labels, str(found.place))
    console = Console(highlight=False)
    console.print(table)
    for name, reason in missing.items():
        console.print(f"{name}: {reason}. Its files: {WHERE[name]}.", soft_wrap=True)
    console.print(
        "A folder of images is a data set too: --data FOLDER, with a subfolder for each class if "
        "there are labels.",
        soft_wrap=True,
    )


@data.command()
@click.argument("name", type=click.Choice(sorted(WHERE)))
@click.option("--url", help="Another address of the same archive.")
@click.option("--md5", hidden=True, help="Checksum of the archive at --url.")
@click.pass_obj
def fetch(data_dir: str | None, name: str, url: str | None, md5: str | None) -> None:
    """Download a data set from its official address.

    Goes on where a broken download stopped, checks the archive, and unpacks it.
    """
    from dataclasses import replace

    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    from plasticity.data import data_folder
    from plasticity.data import fetch as fetching

    archive = fetching.ARCHIVES[name]
    archive = replace(archive, url=url or archive.url, md5=md5 or archive.md5)
    where: Path = data_folder(data_dir)
    with Progress(
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn()
    ) as bar:
        tasks: dict[str, int] = {}

        def report(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total or None)
            bar.update(tasks[what], completed=done)

        try:
            goal = fetching.fetch(name, where, archive, report)
        except KeyboardInterrupt:
            bar.stop()
            click.echo("Interrupted; the same command goes on from what has arrived.")
            raise SystemExit(130) from None
    click.echo(f"{name} is in {goal}")
