"""`plasticity data`."""

from functools import partial
from typing import TYPE_CHECKING

import click
from plasticity.cli.options import SEED, Number

from plasticity.data.fetch import ARCHIVES

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.table import Table

WHERE = {
    "stl10": "unlabeled_X.bin, train_X.bin, train_y.bin, test_X.bin, test_y.bin",
    "cifar10": "data_batch_1.bin to data_batch_5.bin, test_batch.bin",
}


class Sets(click.Group):
    """A name that is no command is that of a data set, to be checked."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple:
        if args and args[0] not in self.commands:
            args = ["check", *args]
        return super().resolve_command(ctx, args)


@click.group(
    cls=Sets, invoke_without_command=True, subcommand_metavar="[NAME | FOLDER | fetch | make]"
)
@click.option("--data-dir", help="Where data sets are.  [default: PLASTICITY_DATA, or your own]")
@click.pass_context
def data(ctx: click.Context, data_dir: str | None) -> None:
    """List the data sets that are found, or check one.

    Without NAME or FOLDER: the sets that are found, and where the files of others go. A set is
    checked by its name or path: its classes, its images by split (or speakers, phones and
    utterances), whatever is passed over, and every file that cannot be decoded; the exit status is
    1 if there are such.
    """
    ctx.obj = data_dir
    if ctx.invoked_subcommand is not None:
        return
    from plasticity.cli.console import console, say
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
    console.print(table)
    console.print(_speech_table(data_dir))
    console.print(_film_table(data_dir))
    for name, reason in missing.items():
        say(f"{name}: {reason}. Its files: {WHERE[name]}.")
    say(
        "A folder of images, recordings or films is a data set too: --data FOLDER, with a "
        "subfolder for each class if there are labels. Check it by 'plasticity data FOLDER'.",
    )


def _speech_table(data_dir: str | None) -> "Table":
    """Which sets of speech are there; nothing is decoded for it."""
    from plasticity.data import speech

    places = {name: partial(speech.place_of, name, data_dir) for name in speech.SETS}
    return _where("Speech", places)


def _film_table(data_dir: str | None) -> "Table":
    """Which sets of film are there; nothing is decoded for it."""
    from plasticity.data import films

    made = "made as they are needed"
    return _where("Film", {"motions": lambda: made, "ucf101": partial(films.place_of, data_dir)})


def _where(title: str, places: dict[str, "Callable[[], object]"]) -> "Table":
    """Where each set is, or why it is not found."""
    from rich.table import Table

    from plasticity.errors import UserError

    table = Table(title=title, title_justify="left")
    table.add_column("name")
    table.add_column("file or folder", overflow="fold")
    for name, place in places.items():
        try:
            table.add_row(name, str(place()))
        except UserError as error:
            table.add_row(name, f"not found: {error}")
    return table


@data.command(hidden=True)
@click.argument("name")
@click.pass_obj
def check(data_dir: str | None, name: str) -> None:
    """Say what a data set holds, and decode every image, recording or film."""
    from plasticity.cli.console import say
    from plasticity.cli.screens import run as screen

    from plasticity.data import damaged, described, films, speech

    if speech.is_speech(name):
        with screen.bars() as report:
            found = speech.open_speech(name, data_dir, report=report)
        for line in speech.described(found):
            say(line)
        raise SystemExit(1 if found.damaged else 0)
    if films.are_films(name):
        with screen.bars() as report:
            lines, found = films.checked(name, data_dir, report)
        for line in (*lines, *(f"{path}: {reason}" for path, reason in found.items())):
            say(line)
        if found:
            say(f"Films that cannot be decoded: {len(found)}. A run leaves them out, and says so.")
        raise SystemExit(1 if found else 0)
    for line in described(name, data_dir):
        say(line)
    with screen.bars() as report:
        found = damaged(name, lambda done, total: report("decoding", done, total))
    for path, reason in found.items():
        say(f"{path}: {reason}")
    if found:
        say(
            f"Images that cannot be used: {len(found)}. A run stops at them, or leaves them out "
            "with --skip-damaged.",
        )
        raise SystemExit(1)
    say("Every image can be decoded.")


@data.command()
@click.argument("name", type=click.Choice(sorted(ARCHIVES)))
@click.option(
    "--url", multiple=True, help="Another address of the same archive; once for each of several."
)
@click.option("--md5", multiple=True, hidden=True, help="Checksum of the archive at --url.")
@click.pass_obj
def fetch(data_dir: str | None, name: str, url: tuple[str, ...], md5: tuple[str, ...]) -> None:
    """Download a data set from its official address.

    Goes on where a broken download stopped, checks each archive, and unpacks it.
    """
    from dataclasses import replace

    from plasticity.cli.console import progress, say
    from rich.progress import BarColumn, DownloadColumn, TimeRemainingColumn

    from plasticity.data import data_folder
    from plasticity.data.fetch import fetch
    from plasticity.errors import UserError

    archives = ARCHIVES[name]
    for option, given in (("--url", url), ("--md5", md5)):
        if given and len(given) != len(archives):
            raise UserError(f"{option}: {len(given)} given, {name} has {len(archives)} archive(s)")
    if url:
        archives = tuple(replace(a, url=u) for a, u in zip(archives, url, strict=True))
    if md5:
        archives = tuple(replace(a, digest=f"md5:{d}") for a, d in zip(archives, md5, strict=True))
    columns = ("{task.description}", BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with progress(*columns) as bar:
        tasks: dict[str, int] = {}

        def report(what: str, done: int, total: int) -> None:
            if not (done or total):
                return say(what)
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total or None)
            bar.update(tasks[what], completed=done, total=total or None)

        try:
            goals = fetch(data_folder(data_dir), archives, report)
        except KeyboardInterrupt:
            bar.stop()
            say("Interrupted; the same command goes on from what has arrived.")
            raise SystemExit(130) from None
    say(f"{name} is in {', '.join(map(str, goals))}")


@data.group()
def make() -> None:
    """Make a data set."""


@make.command()
@click.option(
    "--hours",
    type=Number(0, min_open=True),
    default=1.5,
    show_default=True,
    help="How much, in hours.",
)
@click.option("--seed", type=SEED, default=0, show_default=True, help="The same makes the same.")
@click.option("--words", help="A text file whose words are spoken.  [default: a list that ships]")
@click.option("--out", help="A new folder for it.  [default: flite, in the data folder]")
@click.option("--processes", type=int, help="Of flite at a time.  [default: one for each core]")
@click.pass_obj
def speech(
    data_dir: str | None,
    hours: float,
    seed: int,
    words: str | None,
    out: str | None,
    processes: int | None,
) -> None:
    """Let flite speak random words, with the times of phones."""
    import os
    from pathlib import Path

    from plasticity.cli.console import progress, say
    from rich.progress import BarColumn, MofNCompleteColumn, TimeRemainingColumn

    from plasticity.data import data_folder
    from plasticity.data.speech import MADE
    from plasticity.data.synthesis import make_speech

    place = Path(out).expanduser() if out else data_folder(data_dir) / MADE
    vocabulary = Path(words).expanduser() if words else None
    columns = ("speaking, in seconds", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with progress(*columns) as bar:
        task = bar.add_task("", total=round(hours * 3600) if hours > 0 else None)
        try:
            make_speech(
                place,
                hours,
                seed,
                vocabulary,
                (os.cpu_count() or 1) if processes is None else processes,
                lambda _, done, total: bar.update(task, completed=done, total=total),
            )
        except KeyboardInterrupt:
            bar.stop()
            say("Interrupted; nothing is left of it.")
            raise SystemExit(130) from None
    say(f"The speech is in {place}")
