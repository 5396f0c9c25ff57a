"""Options that several commands share, and their types."""

import math
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import click
from click.core import ParameterSource

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


class Output(Place):
    """A file to be written: one that cannot be is refused before anything is computed for it.

    Args:
        makes: its folder is made; folders: it may be a folder too.
    """

    def __init__(self, *, makes: bool = False, folders: bool = False) -> None:
        self.makes, self.folders = makes, folders
        super().__init__(dir_okay=folders)

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context) -> Path:
        from plasticity.files import check_writable

        path = super().convert(value, param, ctx)
        # A folder is checked by a file in it.
        inside = self.folders and (path.is_dir() or not path.suffix)
        check_writable(path / "file" if inside else path, makes=self.makes)
        return path


def read_set(
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


class Sections(click.Command):
    """A command whose `--help` lists the options of a run by those whose they are."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        found: dict[str, list[tuple[str, str]]] = {"Options": []}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx) if isinstance(param, click.Option) else None
            if record is not None:
                found.setdefault(getattr(param, "section", "Options"), []).append(record)
        for section, records in found.items():
            with formatter.section(section):
                formatter.write_dl(records)


class Declared(click.Option):
    """An option that a field declares; `section` of `--help` is where it is listed."""

    def __init__(self, *names: str, section: str, **how: object) -> None:
        self.section = section
        super().__init__(*names, **how)


def run_options(
    names: Iterable[str] | None = None, where: str = "", **defaults: object
) -> Callable:
    """Options of `RunOptions` as their fields declare them.

    Args:
        names: which, by default all; where: they are all listed in `--help`, by default rules'
            and stimuli's apart; defaults: other ones than those of a run.
    """
    from plasticity.fields import dashed, declared
    from plasticity.runs.options import OF_RULES, OF_STIMULI, RunOptions

    def give(command: Callable) -> Callable:
        for name, said in reversed(declared(RunOptions).items()):
            if names is not None and name not in names:
                continue
            section, default = "Options", defaults.get(name, getattr(RunOptions, name))
            if where:
                section = where
            elif name in OF_RULES:
                section = "Options of rules"
            elif name in OF_STIMULI:
                section = f"Options of {', '.join(kind.name for kind in OF_STIMULI[name].of)}"
            told, text = said.shown, said.help
            if name in OF_RULES and not told and type(default) not in (bool, float):
                told = "the rule's"
            if name in defaults or not (told or default in ("", 0) or isinstance(default, bool)):
                told = str(default)
            on = dashed(name) + (f"/{dashed(said.off)}" if said.off else "")
            flags = (on, *map(dashed, said.also), name)
            text += f"  [default: {told}]" if told else ""
            how = {"is_flag": True} if isinstance(default, bool) else {"type": type(default)}
            option = click.option(
                *flags, cls=Declared, section=section, default=default, help=text, **how
            )
            command = option(command)
        return command

    return give


set_option = click.option(
    "--set",
    multiple=True,
    callback=read_set,
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


def jobs_options(command: Callable) -> Callable:
    """Where many runs are carried out: `jobs` and `on`."""
    for option in (
        click.option(
            "--on",
            default="",
            metavar="ADDRESS",
            help="Let the workers of this Dask scheduler carry them out, such as "
            "tcp://127.0.0.1:8786 (wants the extra 'dask').",
        ),
        click.option(
            "--jobs",
            type=click.IntRange(1, 1024),
            help="Runs side by side, which share the cores.  [default: one for each core if runs "
            "are small, one on a GPU]",
        ),
    ):
        command = option(command)
    return command


NO_KEYS = (
    "config", "resume", "set", "changed_data", "changed", "trusted", "seeds", "files", "leave",
)  # fmt: skip
"""What the command line alone says."""


def read_config(ctx: click.Context, param: click.Parameter, path: Path | None) -> Path | None:
    """Keys of the file become the defaults of the options, so that a flag wins."""
    if path is None:
        return None
    import tomllib

    from plasticity.errors import UserError
    from plasticity.runs.options import check_type

    try:
        keys = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"--config {path} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"--config {path}: not a readable TOML file ({error})") from error
    known = {p.name for p in ctx.command.params if p.name not in NO_KEYS}
    keys = {name.replace("-", "_"): value for name, value in keys.items()}
    if isinstance(fields := keys.pop("set", {}), dict):
        ctx.meta["set"] = fields
    else:
        raise UserError(f"--config {path}: 'set' must be a table of the rule's fields")
    if "layer" in keys:
        from plasticity.runs import sections

        try:
            ctx.meta["layer"] = sections.checked(keys.pop("layer"))
        except UserError as error:
            raise UserError(f"--config {path}: {error}") from error
    for name, value in keys.items():
        if name not in known:
            from difflib import get_close_matches

            near = get_close_matches(name, known, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            raise UserError(f"--config {path}: unknown key '{name}'{hint}")
        try:
            check_type(name, value)
        except UserError as error:
            raise UserError(f"--config {path}: {error}") from error
    ctx.default_map = {**(ctx.default_map or {}), **keys}
    return path


config_option = click.option(
    "--config",
    callback=read_config,
    is_eager=True,
    type=Place(dir_okay=False),
    help="A TOML file whose keys are these options; a flag wins over it.",
)


def check_agreed(ctx: click.Context, values: dict[str, object], trusted: bool) -> None:
    """Refuse a rule's or network's file that a configuration names, and its reader has not."""
    from plasticity import plugins
    from plasticity.runs import sections

    for kind in ("rule", "net"):
        name = str(values[kind])
        if ctx.get_parameter_source(kind) == ParameterSource.DEFAULT_MAP and plugins.is_file(name):
            plugins.check_agreed(name, kind, "--config", trusted)
    for name in sections.files(values["layer"]):
        plugins.check_agreed(name, "rule", "--config", trusted)
