"""`plasticity export`."""

from pathlib import Path

import click


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    multiple=True,
    help="A file in .npz or .safetensors; may be repeated.  [default: both, in the run folder]",
)
def export(run: Path, output: tuple[Path, ...]) -> None:
    """Write the weights of RUN under torch's names for VGG layers.

    `features.N.weight` (output, input, row, column) and `features.N.bias` load into a torch
    Sequential of convolutions, ReLUs and MaxPools; `prediction.LAYER.W_pred` and `.W_retro` are
    the rule's own.
    """
    from plasticity import experiment
    from plasticity.arrays import to_host
    from plasticity.export import named, write

    state = experiment.reopen(run, device="cpu")
    arrays = {name: to_host(w) for name, w in named(state.network, state.weights).items()}
    metadata = {
        "network": state.network.name,
        "rule": state.rule.name,
        "equation": state.rule.equation,
        "step": str(state.step),
    }
    for path in output or (run / "weights.npz", run / "weights.safetensors"):
        write(path, arrays, metadata)
        click.echo(f"Written to {path}: {len(arrays)} arrays")
