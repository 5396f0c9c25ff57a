"""`plasticity run`."""

from contextlib import ExitStack
from pathlib import Path

import click
from click.core import ParameterSource
from plasticity.cli.options import (
    Place,
    Sections,
    check_agreed,
    config_option,
    run_options,
    set_option,
    trust_option,
)


def _asked(ctx: click.Context, name: str) -> bool:
    """Whether an option was given, by a flag, a configuration or a preset."""
    return ctx.get_parameter_source(name) != ParameterSource.DEFAULT


def _read_preset(ctx: click.Context, param: click.Parameter, name: str | None) -> str | None:
    """A preset's values become defaults; a config file and flags win over them."""
    if name is not None:
        from plasticity.errors import UserError
        from plasticity.runs.options import PRESETS

        if name not in PRESETS:
            raise UserError(f"unknown preset '{name}': expected {', '.join(PRESETS)}")
        ctx.default_map = {**PRESETS[name], **(ctx.default_map or {})}
    return name


def _pairs(changed: tuple[str, ...]) -> dict[str, str]:
    """What `--change NAME=VALUE` gives, by name."""
    from plasticity.errors import UserError

    found = {}
    for pair in changed:
        name, equals, value = pair.partition("=")
        if not (equals and name.strip() and value.strip()):
            raise UserError(f"--change {pair}: expected NAME=VALUE, such as --change lr=1e-4")
        of, dot, key = name.strip().removeprefix("--").rpartition(".")  # layer.NAME.KEY
        found[of + dot + key.replace("-", "_")] = value.strip()
    return found


def _seeds(values: dict[str, object], count: int, out: Path | None) -> int:
    """Runs that differ by their seeds alone: a sweep of one row."""
    from plasticity.cli.screens import sweep as screen

    from plasticity import plugins, sweeps, trust
    from plasticity.runs import lifecycle
    from plasticity.runs.options import RunOptions

    options = RunOptions(**values)
    sweeps.Experiment("", options).check()
    trust.named(options)
    usual = RunOptions().as_dict()
    keys = {
        "title": f"{plugins.short(options.rule)} on {plugins.short(options.net)}",
        "seeds": list(range(options.seed, options.seed + count)),
        "run": {n: v for n, v in values.items() if v != usual[n] and n != "seed"},
    }
    asked = sweeps.made(keys, "seeds", "--seeds", trusted=True)
    return screen.whole(asked, out or lifecycle.usual_folder(options), None)


@click.command(cls=Sections)
@click.option(
    "--preset",
    callback=_read_preset,
    is_eager=True,
    help="A set of options that is known to work: small, of images; speech; film.",
)
@config_option
@click.option("--out", type=Place(file_okay=False), help="Run folder.  [default: runs/...]")
@click.option(
    "--resume",
    type=Place(file_okay=False),
    help="Go on with this run; --steps or --epochs may reach further.",
)
@click.option(
    "--changed-data",
    is_flag=True,
    help="With --resume: go on although examples were added, removed or replaced.",
)
@click.option(
    "--change",
    "changed",
    multiple=True,
    metavar="NAME=VALUE",
    help="With --resume: go on with another rule, lr, optimiser, weight_decay, schedule or option "
    "of the rule, or of one layer as layer.conv1.lr=1e-4; may be repeated.",
)
@click.option(
    "--seeds",
    type=click.IntRange(1, 10_000),
    help="So many runs, with the seeds from --seed on: their mean and spread, see 'plasticity "
    "sweep'.",
)
@trust_option
@set_option
@run_options()
@click.pass_context
def run(
    ctx: click.Context,
    preset: str | None,
    config: Path | None,
    out: Path | None,
    resume: Path | None,
    changed_data: bool,
    changed: tuple[str, ...],
    seeds: int | None,
    trusted: bool,
    **values: object,
) -> None:
    """Train a network by a rule, layer by layer, probe what it learned, and draw its losses.

    Without options: CLAPP on the full-width VGG-6 and the images shipped with the package, for
    long enough to see learning start. Everything goes to a folder of its own.
    """
    from plasticity.cli.console import console, quoted, say
    from plasticity.cli.screens import run as screen

    from plasticity import claims, runs, trust
    from plasticity.data.decoded import reporting
    from plasticity.errors import UserError
    from plasticity.inspection import recording
    from plasticity.learning import ranks
    from plasticity.runs import lifecycle
    from plasticity.runs.options import RunOptions, free

    look: dict[str, object] = {}  # what a run that is told no length takes instead
    with ranks.together() as several, ExitStack() as held:
        if several:
            console.quiet = several.rank > 0
        if changed_data and resume is None:
            raise UserError(
                "--changed-data goes with --resume: a new run takes the images it finds"
            )
        if changed and resume is None:
            raise UserError("--change goes with --resume: a new run has its options as they are")
        if seeds is not None:
            if several or resume is not None:
                other = "mpiexec" if several else "--resume"
                raise UserError(f"--seeds begins several runs: it does not go with {other}")
            values["layer"] = ctx.meta.get("layer", {})
            check_agreed(ctx, values, trusted)
            ctx.exit(_seeds(values, seeds, out))
        if resume is None:
            values["layer"] = ctx.meta.get("layer", {})
            check_agreed(ctx, values, trusted)
            options = RunOptions(**values)
            look = options.first_look({name for name in values if _asked(ctx, name)})
            trust.named(options)
            folder = held.enter_context(lifecycle.folder_of(options, out, several))
            with screen.bars() as bars, reporting(bars):
                state = lifecycle.plan(options, several)
        else:
            given = {name: value for name, value in values.items() if _asked(ctx, name)}
            if "layer" in ctx.meta:
                given["layer"] = ctx.meta["layer"]
            if out is not None or preset is not None:
                raise UserError("--resume goes on in its own folder, with its own options")
            folder = resume
            runs.checkpoint_of(folder)  # says if there is none, before the folder is written to
            if not several or several.rank == 0:
                held.enter_context(claims.held(folder))
            how = {"changed_data": changed_data, "trusted": trusted, "changed": _pairs(changed)}
            with screen.bars() as bars, reporting(bars):
                state = lifecycle.resume(folder, given, free(), several, **how)

        if resume is not None and _asked(ctx, "record_every") and not values["record"]:
            raise UserError(
                "--record-every goes with --record; a recording keeps its own when resumed"
            )
        recorder = recording.open_recorder(state, folder) if state.writes else None
        if resume is None:
            lifecycle.make(state, folder)
        else:
            lifecycle.complete(state, folder)
        held.enter_context(console.logged(folder / "log.txt"))
        screen.data_set(state)
        try:
            ended = screen.train(state, folder, recorder)
        finally:
            if recorder is not None:
                recorder.close()
        if ended and state.writes:  # of several processes one is enough for what follows
            probing = state.options.changed(**look)
            probed = screen.probe(state, folder, probing) if probing.probe else None
            looked = screen.look_ahead(state) if look and not several else None
            chosen = screen.best_at_end(state, folder)
            screen.summary(state, folder, probed, looked, chosen)
        if not ended:
            say(f"Interrupted after step {state.step}, and saved.")
            say(f"Go on with:  plasticity run --resume {quoted(folder)}")
    if not ended:
        ctx.exit(130)
