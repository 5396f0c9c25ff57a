"""What the linear probes of all layers cost, beside the encoding of their images.

python benchmarks/probe.py --width 0.25 --images 6000
"""

import os
import time

os.environ.pop("OPENBLAS_CORETYPE", None)  # it slows NumPy's products where it is set

import click
import numpy as np

from plasticity import data
from plasticity.probes import encodings, linear
from plasticity.runs import run
from plasticity.runs.options import RunOptions


@click.command()
@click.option("--width", default=0.25)
@click.option("--images", default=6000, help="Labelled images of the sample, 6000 at most.")
def main(width: float, images: int) -> None:
    """Encode training and test images by random weights, then fit a probe to every layer."""
    options = RunOptions(width=width)
    state = run.begin(options)
    sets = [data.open_set("sample", split) for split in ("train", "test")]
    picks = [np.arange(min(images, len(sets[0]))), np.arange(len(sets[1]))]
    seconds, z = [], []
    for of, pick in zip(sets, picks, strict=True):
        start = time.perf_counter()
        z.append(
            encodings.encode(
                state.network, state.weights, sets.stimulus(options, of), pick, options.batch, "cpu"
            )
        )
        seconds.append(time.perf_counter() - start)
    encoding = seconds[0]
    print(f"encoding {len(picks[0])} images: {encoding:.1f} s")
    labels = [of.labels[pick] for of, pick in zip(sets, picks, strict=True)]
    total = 0.0
    for layer, train, test in zip(state.network.layers, *z, strict=True):
        start = time.perf_counter()
        found = linear.logistic(train, labels[0], test, labels[1], int(labels[0].max()) + 1)
        took = time.perf_counter() - start
        total += took
        print(f"probe of {layer.name}: {took:.2f} s, accuracy {100 * found.accuracy:.1f} %")
    print(f"all probes: {total:.1f} s, {total / encoding:.2f} of the encoding")


if __name__ == "__main__":
    main()
