"""`plasticity export`."""

from pathlib import Path

import click
from plasticity.cli.options import Output, Place, trust_option


@click.command()
@click.argument("run", type=Place())
@click.option(
    "--format",
    "kind",
    type=click.Choice(["npz", "safetensors", "both"]),
    help="Format of weights.npz or weights.safetensors in the run folder.  [default: both]",
)
@click.option(
    "--output",
    "-o",
    type=Output(),
    multiple=True,
    help="A file in .npz or .safetensors; may be repeated.  [default: as --format says]",
)
@trust_option
def export(run: Path, kind: str | None, output: tuple[Path, ...], trusted: bool) -> None:
    """Write the weights of RUN under torch's names for VGG and ResNet layers.

    `features.N.weight` (output, input, row, column) and `features.N.bias` load into a torch
    Sequential of convolutions, ReLUs and MaxPools; those of resnet50 are `layer1.0.conv1.weight`
    and so on, with `shortcut` for the convolution beside a block. `prediction.LAYER.W_pred` and
    `.W_retro` are the rule's own.
    """
    from plasticity.cli.console import say

    from plasticity.arrays import to_host
    from plasticity.errors import UserError
    from plasticity.runs import lifecycle
    from plasticity.runs.export import FORMATS, check, describe, named, write

    if kind and output:
        raise UserError("take --format or --output: the name of an output says its format")
    wanted = FORMATS if kind in (None, "both") else (kind,)
    paths = output or tuple(run / f"weights.{suffix}" for suffix in wanted)
    for path in paths:
        check(path)
    state = lifecycle.reopen(run, device="cpu", trusted=trusted)
    arrays = {name: to_host(w) for name, w in named(state.network, state.weights).items()}
    metadata = {
        **describe(state.network, *state.assigned.learn),
        "rule": state.rule_name,
        "equation": state.said("equation"),
        "citation": state.said("citation"),
        "step": str(state.step),
    }
    for path in paths:
        write(path, arrays, metadata)
        say(f"Written to {path}: {len(arrays)} arrays")
