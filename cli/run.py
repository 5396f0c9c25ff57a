"""`plasticity run`."""

from contextlib import ExitStack
from pathlib import Path

import click
from click.core import ParameterSource
from plasticity.cli.options import Place, set_option, trust_option

# What may differ between a run and its resumption: how long, where, how often, what after.
FREE = {
    "epochs", "steps", "data_dir", "device", "checkpoint_minutes", "skip_damaged",
    "probe", "probe_train", "probe_test", "record", "record_every",
}  # fmt: skip


def _read_config(ctx: click.Context, param: click.Parameter, path: Path | None) -> Path | None:
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
    known = {
        p.name
        for p in ctx.command.params
        if p.name not in ("config", "resume", "set", "changed_data", "trusted")
    }
    keys = {name.replace("-", "_"): value for name, value in keys.items()}
    if isinstance(fields := keys.pop("set", {}), dict):
        ctx.meta["set"] = fields
    else:
        raise UserError(f"--config {path}: 'set' must be a table of the rule's fields")
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


def _read_preset(ctx: click.Context, param: click.Parameter, name: str | None) -> str | None:
    """A preset's values become defaults; a config file and flags win over them."""
    if name is not None:
        from plasticity.errors import UserError
        from plasticity.runs.options import PRESETS

        if name not in PRESETS:
            raise UserError(f"unknown preset '{name}': expected {', '.join(PRESETS)}")
        ctx.default_map = {**PRESETS[name], **(ctx.default_map or {})}
    return name


def _agreed(ctx: click.Context, values: dict[str, object], trusted: bool) -> None:
    """Refuse a rule's or network's file that a configuration names, and its reader has not."""
    from plasticity import plugins, trust
    from plasticity.errors import UserError

    for kind in ("rule", "net"):
        name = str(values[kind])
        if ctx.get_parameter_source(kind) == ParameterSource.DEFAULT_MAP and plugins.is_file(name):
            digest = plugins.digest(plugins.absolute(name))
            if not (trusted or trust.agreed(digest)):
                raise UserError(
                    f"--config names the code {name}, which is not known here (SHA-256 {digest}): "
                    f"read it, and if it may run, name it by --{kind}, or call again with --trust"
                )


@click.command()
@click.option(
    "--rule",
    default="clapp",
    show_default=True,
    help="clapp, clapp_s, hinge_cpc, cpc, gim, supervised, greedy_supervised, oja, bcm, "
    "hebbian, feedback_alignment, random, one of an installed package, or a file such as "
    "./my_rule.py.",
)
@click.option(
    "--net",
    default="vgg6",
    show_default=True,
    help="vgg6, resnet50, audio, one of an installed package, or a file such as ./my_network.py.",
)
@click.option(
    "--preset",
    callback=_read_preset,
    is_eager=True,
    help="A set of options that is known to work: small, of images; speech.",
)
@click.option(
    "--config",
    callback=_read_config,
    is_eager=True,
    type=Place(dir_okay=False),
    help="A TOML file whose keys are these options; a flag wins over it.",
)
@click.option(
    "--data",
    default="sample",
    show_default=True,
    help="sample, stl10, cifar10 or a folder of images; for sound sample, librispeech, flite or a "
    "folder of audio; see 'plasticity data'.",
)
@click.option("--data-dir", default="", help="Where data sets are; see 'plasticity data'.")
@click.option(
    "--images",
    "--utterances",
    "images",
    default=0,
    help="Learn from only so many, drawn by --seed.  [default: all]",
)
@click.option("--skip-damaged", is_flag=True, help="Leave out images that cannot be decoded.")
@click.option(
    "--changed-data",
    is_flag=True,
    help="With --resume: go on although images were added, removed or replaced.",
)
@click.option("--epochs", default=0, help="How long to train, in passes over the data.")
@click.option("--steps", default=0, help="How long, in batches; wins over --epochs.  [default: 24]")
@click.option(
    "--batch",
    default=0,
    help="Images or utterances in a batch.  [default: 32 images, 8 utterances]",
)
@click.option("--width", default=1.0, show_default=True, help="Multiplies every layer's neurons.")
@click.option("--layers", default=0, help="Only the first so many layers.  [default: all]")
@click.option(
    "--prediction-steps",
    default=0,
    help="How far to predict, K.  [default: the rule's, mostly 5; for sound 12]",
)
@click.option("--lr", default=0.0, help="Learning rate.  [default: the rule's, 2e-4 with Adam]")
@click.option("--optimiser", default="", help="adam or plain, W += lr dW.  [default: the rule's]")
@click.option(
    "--modules",
    default="",
    help="layers, 1, a split of the network (vgg6: 2, 3, 4-lower, 4-upper, 6; resnet50: 3, 13; "
    "audio: 5, 6), or layers for each such as 3+1+1+1.  [default: the rule's]",
)
@click.option("--negatives", default=0, help="Negatives for each context.  [default: the rule's]")
@click.option(
    "--negatives-from",
    default="",
    help="patch: other images, same position; batch: any target of the batch; all: any encoding of "
    "the batch.  [default: the rule's, for sound all]",
)
@click.option(
    "--weights",
    default="",
    help="retro: W_pred and W_retro apart; symmetric: one of them.  [default: the rule's]",
)
@click.option(
    "--gate",
    default="",
    help="own: a gate for each half; shared: one, by W_pred; circuit: as own, from bursts "
    "(appendix C); off: gamma = y.  [default: the rule's]",
)
@click.option(
    "--circuit-noise",
    default=0.0,
    show_default=True,
    help="--gate circuit: noise of the summed ON and OFF bursts, in units of the threshold.",
)
@click.option(
    "--burst-probability",
    default=1.0,
    show_default=True,
    help="--gate circuit: how often a neuron whose prediction meets its activity bursts.",
)
@click.option("--coin", is_flag=True, help="hinge_cpc with one sign for each image, by a coin.")
@click.option("--block-grad", is_flag=True, help="The target role alone (Eq. 13).")
@click.option("--dendrites/--no-dendrites", default=True, help="Dendritic signals, or 1 for all.")
@click.option(
    "--learn-prediction/--freeze-prediction", default=True, help="Let W_pred and W_retro learn."
)
@click.option(
    "--context",
    default="",
    help="What predicts a layer: same, the layer itself; above, the layer above it.  [default: the "
    "rule's]",
)
@set_option
@click.option("--crop", default=64, show_default=True, help="Side of the crop, pixels.")
@click.option("--patch", default=16, show_default=True, help="Side of a patch, pixels.")
@click.option(
    "--samples", default=20480, show_default=True, help="Sound: length of a crop at 16 kHz."
)
@click.option(
    "--frames",
    default=128,
    show_default=True,
    help="Sound: contexts come from so many consecutive frames of a map; 0: from all.",
)
@click.option(
    "--alignment",
    default=2,
    show_default=True,
    help="Sound: label j is read at frame j + N of the highest map; 2 is that of GIM's code.",
)
@click.option(
    "--credit",
    default="",
    help="How a GRU's signals find earlier steps: eprop, bptt or none.  [default: eprop]",
)
@click.option(
    "--below-gru",
    default="",
    help="What the layer below a GRU learns from: both, its own loss and the GRU's; gru, the "
    "latter alone.  [default: both]",
)
@click.option("--seed", default=0, show_default=True, help="Same seed, same machine, same numbers.")
@click.option("--dtype", default="float32", show_default=True, help="float32 or float64.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option(
    "--checkpoint-minutes", default=5.0, show_default=True, help="Save the run every so often."
)
@click.option("--out", type=Place(file_okay=False), help="Run folder.  [default: runs/...]")
@click.option(
    "--resume",
    type=Place(file_okay=False),
    help="Go on with this run; --steps or --epochs may reach further.",
)
@click.option(
    "--record",
    default="",
    metavar="SPEC",
    help="Record updates and their factors into record.h5 of the run folder: for each layer "
    "layer=NUMBER or *, then synapse=POST:PRE:ROW:COL, random=COUNT, neurons=FIRST:LAST, all, "
    "prediction=K:J:I and retro=K:I:J (entries of W_pred and W_retro), weights; for example "
    "'layer=4,synapse=3:1:0:2;layer=1,neurons=0:8'. Open gates and the alignment of W_pred and "
    "W_retro come with it.",
)
@click.option("--record-every", default=10, show_default=True, help="Record one step of so many.")
@click.option("--probe/--no-probe", default=True, help="Measure the layers at the end.")
@click.option(
    "--probe-train",
    default=600,
    show_default=True,
    help="Labelled images or utterances to fit the probe.",
)
@click.option(
    "--probe-test", default=400, show_default=True, help="Labelled images or utterances to test it."
)
@trust_option
@click.pass_context
def run(
    ctx: click.Context,
    preset: str | None,
    config: Path | None,
    out: Path | None,
    resume: Path | None,
    changed_data: bool,
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
    from plasticity.errors import UserError
    from plasticity.inspection import recording
    from plasticity.learning import ranks
    from plasticity.runs import lifecycle
    from plasticity.runs.options import RunOptions

    with ranks.together() as several, ExitStack() as held:
        if several:
            console.quiet = several.rank > 0
        if several and values["record"]:
            raise UserError("--record is for one process: start the run without mpiexec")
        if changed_data and resume is None:
            raise UserError(
                "--changed-data goes with --resume: a new run takes the images it finds"
            )
        if resume is None:
            _agreed(ctx, values, trusted)
            options = RunOptions(**values)
            trust.named(options)
            folder = held.enter_context(lifecycle.folder_of(options, out, several))
            state = lifecycle.plan(options, several)
        else:
            given = {
                name: value
                for name, value in values.items()
                if ctx.get_parameter_source(name) != ParameterSource.DEFAULT
            }
            if out is not None or preset is not None:
                raise UserError("--resume goes on in its own folder, with its own options")
            folder = resume
            runs.checkpoint_of(folder)  # says if there is none, before the folder is written to
            if not several or several.rank == 0:
                held.enter_context(claims.held(folder))
            how = {"changed_data": changed_data, "trusted": trusted}
            state = lifecycle.resume(folder, given, FREE, several, **how)

        every_given = ctx.get_parameter_source("record_every") != ParameterSource.DEFAULT
        if resume is not None and every_given and not values["record"]:
            raise UserError(
                "--record-every goes with --record; a recording keeps its own when resumed"
            )
        recorder = recording.open_recorder(state, folder)
        if several and recorder is not None:
            raise UserError(f"{folder} is being recorded, by one process: resume without mpiexec")
        if resume is None:
            lifecycle.make(state, folder)
        else:
            lifecycle.complete(state, folder)
        screen.data_set(state)
        try:
            ended = screen.train(state, folder, recorder)
        finally:
            if recorder is not None:
                recorder.close()
        if ended and state.writes:  # of several processes one is enough for what follows
            probed = screen.probe(state, folder) if state.options.probe else None
            screen.summary(state, folder, probed)
    if not ended:
        say(f"Interrupted after step {state.step}, and saved.")
        say(f"Go on with:  plasticity run --resume {quoted(folder)}")
        ctx.exit(130)
