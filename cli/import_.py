"""`plasticity import`."""

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


@click.command("import", cls=Sections)
@click.argument("files", type=Place(), nargs=-1, required=True)
@click.option("--out", type=click.STRING, help="Folder of the run.  [default: runs/...]")
@click.option(
    "--leave",
    multiple=True,
    metavar="PATTERN",
    help="Leave out arrays of such names, such as 'autoregressor.*'; may be repeated.",
)
@config_option
@trust_option
@set_option
@run_options()
@click.pass_context
def import_(
    ctx: click.Context,
    files: tuple[Path, ...],
    out: str | None,
    leave: tuple[str, ...],
    config: Path | None,
    trusted: bool,
    **values: object,
) -> None:
    """Make a run of weights from elsewhere: of torch, or of `plasticity export`.

    FILES are a state dict of torch (wants the extra 'verify'), .npz, .safetensors, or a
    checkpoint.h5, under the names of the published CLAPP code for images or film, of GIM's for
    images or sound, or of `plasticity export`. Of modules in files of their own name all, from
    below. Width, modules and prediction steps are read off the files unless they are given.

    The run is at its step 0, and is inspected, verified, probed, drawn or trained on (by run
    --resume) as any other.
    """
    from plasticity.cli.console import quoted, say

    from plasticity import trust
    from plasticity.runs import imports, lifecycle
    from plasticity.runs.options import RunOptions

    given = [n for n in values if ctx.get_parameter_source(n) != ParameterSource.DEFAULT]
    values["layer"] = ctx.meta.get("layer", {})
    check_agreed(ctx, values, trusted)
    options = RunOptions(**values)
    trust.named(options)
    with lifecycle.folder_of(options, out) as folder:
        imported = imports.plan(files, options, given, leave)
        imported.write(folder)
    found, state = imported.found, imported.state
    say(f"Imported {len(found.params)} arrays under the names of {found.naming}.")
    say(f"Read off the files: {', '.join(imported.in_words)}.")
    if imported.drawn:
        say(
            f"In none of the files, drawn by --seed {state.options.seed}: "
            f"{', '.join(imported.drawn)}."
        )
    say(f"Written to {folder}")
    say(f"Go on with:  plasticity probe {quoted(folder)}")
