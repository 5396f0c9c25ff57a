"""`plasticity encode`."""

from pathlib import Path

import click
from plasticity.cli.options import COUNT, Output, Place, opens_run


@click.command()
@click.argument("run", type=Place())
@click.option("--out", "-o", type=Output(), help="An HDF5 file.  [default: RUN/encodings.h5]")
@click.option("--data", help="Another data set than the run's own.")
@click.option("--split", default="test", show_default=True, help="Which split of it.")
@click.option("--images", "most", type=COUNT, default=0, show_default=True, help="So many, 0: all.")
@opens_run
def encode(
    run: Path,
    out: Path | None,
    data: str | None,
    split: str,
    most: int,
    **how: str | Path | None,
) -> None:
    """Write what every layer of RUN makes of a data set, with labels, as HDF5.

    `encodings/LAYER` holds a row for each example, as a probe reads it: the mean over the patches
    of an image, over time of an utterance or a clip. `labels` are its classes (of sound its
    speakers), `index` its number in the set.
    """
    from plasticity.cli.console import say
    from plasticity.cli.screens.run import bars

    from plasticity.errors import UserError
    from plasticity.probes import given
    from plasticity.runs import lifecycle

    path = out or run / "encodings.h5"
    if path.suffix not in (".h5", ".hdf5"):
        raise UserError(f"cannot write encodings to {path}: expected a name in .h5")
    state = lifecycle.reopen(run, **how)
    with bars() as report:
        told = lambda done, total: report(f"{split} examples", done, total)  # noqa: E731
        sizes = given.write_split(state, path, split, data, most, told)
    neurons = ", ".join(f"{layer} {size}" for layer, size in sizes.items())
    say(f"Neurons by layer: {neurons}")
    say(f"Written to {path}")
