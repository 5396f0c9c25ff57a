"""What recording costs: steps of full-width VGG-6 with and without a recorder, in turns.

    python benchmarks/recording.py --batch 8 --turns 10

A turn is a step without and a step with it, whichever comes first by turns; the cost is the median
over turns of their ratio, less one. Writing to disk is timed by itself and shared among the records
of a chunk.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from plasticity import kernels, training
from plasticity.data.loader import learning_batch
from plasticity.inspection import recording
from plasticity.options import RunOptions

SPECS = {
    "1,000 synapses of a layer": "layer=4,random=1000",
    "1,000 synapses over all layers": "layer=1,random=166;layer=2,random=166;layer=3,random=167;"
    "layer=4,random=167;layer=5,random=167;layer=6,random=167",
}


def measured(options: RunOptions, spec: str, turns: int) -> tuple[float, float, float, int]:
    """Seconds of a step without and with a recorder, seconds of writing a record, and its bytes."""
    state, images = training.begin(options), options.learning_set()
    with tempfile.TemporaryDirectory() as folder:
        recorder = recording.open_recorder(state, Path(folder), spec, 1)
        batches = [
            learning_batch(images, options.batch, options.crop, options.seed, n)
            for n in range(2 * turns + 2)
        ]
        took: dict[bool, list[float]] = {True: [], False: []}
        with kernels.own_threads():
            for n, batch in enumerate(batches):
                recorded = (n + n // 2) % 2 == 1  # without, with; with, without
                start = time.perf_counter()
                watch = recorder.watching(state.step + 1) if recorded else None
                training.learn_batch(state, batch, images, watch)
                if recorded:
                    recorder.stepped(state.step)
                if n >= 2:  # the first two warm up
                    took[recorded].append(time.perf_counter() - start)
        kept, start = len(recorder._buffer), time.perf_counter()
        recorder.close()
        written = (time.perf_counter() - start) / kept
    ratio = float(np.median(np.array(took[True]) / took[False]))
    plain = float(np.median(took[False]))
    return plain, plain * ratio, written, recorder.plan.bytes


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    options = RunOptions(batch=args.batch, width=args.width, device=args.device)
    print("                                  step   recorded    written      record     cost")
    for name, spec in SPECS.items():
        plain, recorded, written, size = measured(options, spec, args.turns)
        cost = (recorded + written) / plain - 1
        print(
            f"{name:<32}{plain:6.2f} s{recorded:9.2f} s{1000 * written:8.1f} ms{size:10,} B"
            f"{100 * cost:8.1f}% (every 10 steps: {10 * cost:.1f}%)"
        )


if __name__ == "__main__":
    main()
