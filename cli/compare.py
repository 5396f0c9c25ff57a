"""`plasticity compare`."""

from pathlib import Path

import click
from plasticity.cli.options import (
    POSITIVE,
    Number,
    Output,
    Place,
    Sections,
    checkpoint_option,
    data_dir_option,
    read_set,
    run_options,
    trust_option,
)

from plasticity.runs.options import OF_RULES, OF_STIMULI

FRESH = (
    "net", "width", "layers", "batch", "seed", "dtype", "modules", "credit", "below_gru",
    "norm", "norm_order",
    *OF_RULES, *OF_STIMULI,
)  # fmt: skip
FILE = Place(dir_okay=False)


def _settings(ctx: click.Context, param: click.Parameter, path: Path | None) -> dict[str, object]:
    """Settings of the second rule, from a TOML file: keys as of --set, and a table `set`."""
    if path is None:
        return {}
    import tomllib

    from plasticity.errors import UserError

    try:
        keys = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"--settings {path} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"--settings {path}: not a readable TOML file ({error})") from error
    fields = keys.pop("set", {})
    if not isinstance(fields, dict):
        raise UserError(f"--settings {path}: 'set' must be a table of the rule's fields")
    return {name.replace("-", "_"): value for name, value in {**keys, **fields}.items()}


def _steps(ctx: click.Context, param: click.Parameter, text: str | None) -> tuple[int, ...]:
    """`0,100` as numbers."""
    if text is None:
        return ()
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        from plasticity.errors import UserError

        raise UserError(f"--steps {text}: expected whole numbers with commas, such as 0,100,300")
    return tuple(map(int, parts))


@click.command(cls=Sections)
@click.argument("runs", metavar="[RUN]...", nargs=-1, type=Place())
@click.option("--with", "other", help="The rule beside that of RUN, or of --rule; as in 'run'.")
@click.option(
    "--set",
    "settings",
    multiple=True,
    callback=read_set,
    metavar="NAME=VALUE",
    help="A setting of the rule beside: an option of rules as in 'run', modules, credit, "
    "below_gru, norm, or a field of the rule; may be repeated.",
)
@click.option(
    "--settings",
    "file_settings",
    type=FILE,
    callback=_settings,
    help="A TOML file of such settings; --set wins over it.",
)
@click.option(
    "--steps", callback=_steps, metavar="N,N,...", help="Of a RUN only these kept checkpoints."
)
@click.option(
    "--batches", type=POSITIVE, default=4, show_default=True, help="Means over so many batches."
)
@click.option(
    "--images",
    type=click.IntRange(0, 5000),
    default=1000,
    show_default=True,
    help="Of several RUNs: test images, utterances or clips, 0: as many as there are, up to 5000.",
)
@click.option("--csv", "csv_path", type=Output(), help="Write all rows.")
@click.option("--json", "json_path", type=Output(), help="Write everything.")
@click.option("--figure", "figure_path", type=Output(), help="Draw it, as .png, .svg or .pdf.")
@click.option(
    "--data",
    help="Without RUN: the data set, as in 'run'; of several RUNs: whose test examples all meet.",
)
@checkpoint_option
@data_dir_option
@click.option("--device", help="auto, cpu, cuda or cuda:N.  [default: as in the run, or cpu]")
@run_options(
    ("rule", *FRESH), "Options of a fresh network, without RUN", width=0.1, batch=8, dtype="float64"
)
@click.option(
    "--rule-set",
    multiple=True,
    callback=read_set,
    metavar="NAME=VALUE",
    help="Without RUN: a field of --rule that has no option here.",
)
@click.option(
    "--gain",
    type=Number(0, min_open=True),
    default=1.0,
    show_default=True,
    help="Without RUN: multiplies fresh weights; with 2 gates are a mix of open and closed.",
)
@trust_option
@click.pass_context
def compare(
    ctx: click.Context,
    runs: tuple[Path, ...],
    other: str | None,
    settings: dict[str, object],
    file_settings: dict[str, object],
    steps: tuple[int, ...],
    batches: int,
    images: int,
    csv_path: Path | None,
    json_path: Path | None,
    figure_path: Path | None,
    data: str | None,
    checkpoint: Path | None,
    data_dir: str | None,
    device: str | None,
    rule_set: dict[str, object],
    gain: float,
    trusted: bool,
    **values: object,
) -> None:
    """Compare rules by their updates, or runs by what their layers have become.

    One RUN and --with: the dW of the run's rule beside those of another one, on the same weights,
    batches and draws, by layer: cosine, relative size, agreement of signs. At all checkpoints that
    'run --keep-every' has kept, the random start and the last one. --set alone takes the run's own
    rule with another setting. Without RUN: the same on fresh weights. Several RUNs: the similarity
    of their layers (linear CKA) and their probes side by side.

    \b
    plasticity compare RUN --with hinge_cpc --batches 8 --figure cosines.png
    plasticity compare RUN --set weights=symmetric
    plasticity compare --rule clapp --with hinge_cpc --net vgg6
    plasticity compare --rule clapp_s --net audio --width 0.1 --set credit=bptt
    plasticity compare RUN1 RUN2 --figure similarity.png
    """
    from click.core import ParameterSource
    from plasticity.cli.screens import compare as screen
    from plasticity.cli.screens.inspect import Files
    from plasticity.cli.screens.run import bars

    from plasticity import figures, inspection, trust
    from plasticity.errors import UserError
    from plasticity.fields import dashed
    from plasticity.inspection import beside, similarity
    from plasticity.runs.options import RunOptions

    def given(*names: str) -> list[str]:
        return [n for n in names if ctx.get_parameter_source(n) == ParameterSource.COMMANDLINE]

    files = Files(csv_path, json_path, None, figure_path)
    if figure_path is not None:
        figures.check_suffix(figure_path)
    settings = {**file_settings, **settings}
    if runs and (own := given(*FRESH, "gain", "rule_set")):
        raise UserError(f"{dashed(own[0])} is for a fresh network: a run has its own options")
    how = {"data_dir": data_dir, "device": device, "trusted": trusted}
    if len(runs) > 1:
        if own := given("other", "settings", "file_settings", "steps", "batches", "checkpoint"):
            flag = {"other": "--with", "settings": "--set", "file_settings": "--settings"}
            name = flag.get(own[0], dashed(own[0]))
            raise UserError(
                f"{name} is for one run and a rule beside its own: {len(runs)} are named"
            )
        if given("rule"):
            raise UserError("--rule is for one run, or for a fresh network")
        with bars() as report:
            found = similarity.compare_runs(
                runs, examples=images, data_name=data, report=report, **how
            )
        screen.runs(found, files)
        return
    if not (other or settings):
        what = f"{runs[0]} alone" if runs else "a fresh network"
        raise UserError(
            f"nothing to compare {what} with: name a rule by --with, a setting by --set, or "
            f"{'a second run' if runs else 'two runs'}"
        )
    if own := given("images"):
        raise UserError("--images is of the similarity of several runs: take --batches here")
    if runs:
        (folder,) = runs
        if data is not None:
            raise UserError("--data is for a fresh network, or for several runs: a run has its own")
        if checkpoint is not None and steps:
            raise UserError("--steps and --checkpoint both say which weights: take one of them")
        how["rule"] = values["rule"] if given("rule") else None
        if checkpoint is not None:
            states = [inspection.open_run(folder, checkpoint, **how)]
            first_step = None
        else:
            there, states = beside.over_training(folder, steps, **how)
            first_step = max(there)
    else:
        if checkpoint is not None or steps:
            raise UserError("--checkpoint and --steps are of a run: name its folder too")
        options = RunOptions(
            **values,
            data=data or "sample",
            data_dir=data_dir or "",
            device=device or "cpu",
            set=rule_set,
        )
        trust.named(options)
        states, first_step = [inspection.fresh(options, gain)], None
    with bars() as report:
        found = beside.compare_rules(
            states, other or "", settings, batches=batches, first_step=first_step, report=report
        )
    screen.rules(found, files)
