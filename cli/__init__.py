"""The command line: a file for each command, and no computation."""

import errno
import os
import sys
from importlib import import_module

import click

from plasticity import __version__

# command -> (module, line of help); a command's module is imported when the command is.
COMMANDS = {
    "run": ("run", "Train a network by a rule, probe it, and draw its losses."),
    "sweep": (
        "sweep",
        "Run experiments of your own: grids, variants, seeds, and their comparison.",
    ),
    "probe": ("probe", "Measure what the layers of a run learned by a linear probe."),
    "inspect": ("inspect", "Take an update apart: gate, dendritic signal, post, pre."),
    "compare": ("compare", "Compare rules by their updates, or runs by their layers."),
    "runs": ("runs", "List the runs below a folder."),
    "plot": ("plot", "Draw a run: losses, scores, gates, kernels, patches, encodings."),
    "report": ("report", "Write a run as one HTML page that opens offline."),
    "analyse": ("analyse", "Take the gradient of CPC apart: what a synapse would need for it."),
    "verify": ("verify", "Compare a rule with the gradient of its loss, layer by layer."),
    "reproduce": ("reproduce", "Run a table of the paper, and show ours beside the published."),
    "data": ("data", "List the data sets, say where they go, fetch them."),
    "export": ("export", "Write a run's weights as npz or safetensors."),
    "encode": ("encode", "Write what the layers of a run make of a data set."),
    "import": ("import_", "Make a run of weights from elsewhere, such as torch's."),
}


class Group(click.Group):
    """Commands that are imported late, and errors of the user told in one sentence."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module = COMMANDS[name][0]
        return getattr(import_module(f"plasticity.cli.{module}"), module)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from difflib import get_close_matches

            near = get_close_matches(args[0], COMMANDS, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"expected {', '.join(COMMANDS)}"
            ctx.fail(f"unknown command '{args[0]}': {hint}")
        return super().resolve_command(ctx, args)

    def main(self, *args: object, **kwargs: object) -> object:
        for stream in (sys.stdout, sys.stderr):  # neither is there where it was closed
            lacking = getattr(stream, "errors", None) in ("strict", "surrogateescape")
            if lacking and hasattr(stream, "reconfigure"):
                # Names of files and classes may hold what the encoding of the terminal lacks.
                stream.reconfigure(errors="backslashreplace")
        return super().main(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("Interrupted.", err=True)
            ctx.exit(130)
        except Exception as error:
            text = in_words(error)
            if text is None:
                raise
            failure = click.ClickException(text)
            failure.exit_code = 2
            raise failure from error


def in_words(error: Exception) -> str | None:
    """What has gone wrong, in a sentence, where the user or the machine is the cause."""
    from plasticity.errors import UserError

    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, MemoryError):  # NumPy's and CuPy's say how much was asked for
        return f"not enough memory ({error}): take a smaller --batch or --width"
    if isinstance(error, OSError) and error.errno != errno.EPIPE:  # that is the reader's affair
        names = [n for n in (error.filename, error.filename2) if isinstance(n, str | bytes)]
        places = " and ".join(map(os.fsdecode, names))
        reason = error.strerror or str(error)
        return f"{places} cannot be used: {reason}" if places else reason
    if isinstance(error, UnicodeError):
        return f"a text or a name cannot be read or written ({error})"
    return None


@click.group(
    cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, prog_name="plasticity")
def main() -> None:
    """Deep networks that learn by local rules: gate x dendritic signal x post x pre.

    Start with:  plasticity run --rule clapp --net vgg6
    """
