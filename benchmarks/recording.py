"""What recording costs: steps of full-width VGG-6 with a recorder that is timed by itself.

    python benchmarks/recording.py --batch 8 --steps 8

The cost of a record is what the recorder takes of a step, beside the rest of the step. Writing to
disk is shared among the records of a chunk. Told by the clock and in seconds of all cores, which
others on the machine disturb less; medians over steps.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from plasticity import kernels
from plasticity.inspection import recording
from plasticity.learning import Watched
from plasticity.runs import run, training
from plasticity.runs.options import RunOptions

SPECS = {
    "1,000 synapses of a layer": "layer=4,random=1000",
    "1,000 synapses over all layers": "layer=1,random=166;layer=2,random=166;layer=3,random=167;"
    "layer=4,random=167;layer=5,random=167;layer=6,random=167",
}


def now() -> np.ndarray:
    """Seconds by the clock, and of all cores."""
    return np.array([time.perf_counter(), time.process_time()])


def measured(
    options: RunOptions, spec: str, steps: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """By both clocks: a step without its record, recording, and writing it; the record's bytes."""
    state = run.begin(options)
    plain, recorded = [], []
    with tempfile.TemporaryDirectory() as folder, kernels.own_threads():
        recorder = recording.open_recorder(state, Path(folder), spec, 1)
        for n in range(steps + 1):
            batch = state.batch(n)
            watch, spent = recorder.watching(n + 1), np.zeros(2)

            def timed(watched: Watched, watch=watch, spent=spent) -> None:
                start = now()
                watch(watched)
                spent += now() - start

            start = now()
            training.learn_batch(state, batch, timed)
            plain.append(now() - start - spent)
            start = now()
            recorder.stepped(state.step)
            recorded.append(now() - start + spent)
        start = now()
        recorder.close()
        written = (now() - start) / (steps + 1)
    # The first step warms up.
    return (
        np.median(plain[1:], axis=0),
        np.median(recorded[1:], axis=0),
        written,
        recorder.plan.bytes,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    options = RunOptions(batch=args.batch, width=args.width, device=args.device)
    for name, spec in SPECS.items():
        plain, recorded, written, size = measured(options, spec, args.steps)
        print(f"{name}, {size:,} bytes a record")
        for i, clock in enumerate(("clock", "cores")):
            cost = 100 * (recorded[i] + written[i]) / plain[i]
            print(
                f"  {clock}: step {plain[i]:.2f} s, recorded {1000 * recorded[i]:.0f} ms, written "
                f"{1000 * written[i]:.1f} ms: {cost:.1f} %, every 10 steps {cost / 10:.1f} %"
            )


if __name__ == "__main__":
    main()
