"""Options that several commands share, and their types."""

import math
import os
from collections.abc import Callable
from pathlib import Path

import click

COUNT = click.IntRange(0, 2**31 - 1)
POSITIVE = click.IntRange(1, 2**31 - 1)
SEED = click.IntRange(0, 2**64 - 1)


class Number(click.FloatRange):
    """A number in a range, and neither infinite nor NaN, which compares with nothing."""

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context) -> float:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is no finite number.", param, ctx)
        return number


class Place(click.Path):
    """A path, in which `~` is the user's home although no shell has read it."""

    def __init__(self, **how: object) -> None:
        super().__init__(path_type=Path, **how)

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context) -> Path:
        text = os.fspath(value) if isinstance(value, str | os.PathLike) else str(value)
        if not text:
            self.fail("the path is empty.", param, ctx)
        if "\0" in text:
            self.fail(f"{text!r} holds a null character.", param, ctx)
        return super().convert(os.path.expanduser(text), param, ctx)


def _read_set(
    ctx: click.Context, param: click.Parameter, pairs: tuple[str, ...]
) -> dict[str, object]:
    """`name=value` as a dict; what a config file sets stays, unless it is set here."""
    found = dict(ctx.meta.get("set", {}))
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            from plasticity.errors import UserError

            raise UserError(f"--set {pair}: expected name=value, such as --set tau=100")
        found[name.strip().replace("-", "_")] = value.strip()
    return found


set_option = click.option(
    "--set",
    multiple=True,
    callback=_read_set,
    metavar="NAME=VALUE",
    help="A field of the rule that has no option here; may be repeated.",
)

checkpoint_option = click.option(
    "--checkpoint",
    type=Place(dir_okay=False),
    help="Another checkpoint file.",
)
data_dir_option = click.option(
    "--data-dir",
    help="Where data sets are, or the run's folder of images, if it was moved.  [default: as in "
    "the run]",
)


trust_option = click.option(
    "--trust",
    "trusted",
    is_flag=True,
    help="Let a rule or network file that came with RUN be executed here.",
)


def opens_run(command: Callable) -> Callable:
    """How RUN is opened: `checkpoint`, `data_dir`, `device`, `rule` and `trusted`."""
    for option in (
        trust_option,
        click.option("--rule", help="Where the rule file of RUN is now, if it was moved."),
        click.option("--device", help="auto, cpu, cuda or cuda:N.  [default: as in the run]"),
        data_dir_option,
        checkpoint_option,
    ):
        command = option(command)
    return command


def looks_at_run(command: Callable) -> Callable:
    """As `opens_run`, and what figures of a run look at: `images` and `seed`."""
    for option in (
        click.option(
            "--seed", type=SEED, default=0, show_default=True, help="Of neurons shown and of t-SNE."
        ),
        click.option(
            "--images",
            type=COUNT,
            default=300,
            show_default=True,
            help="Test images encoded, 0: all.",
        ),
        opens_run,
    ):
        command = option(command)
    return command
