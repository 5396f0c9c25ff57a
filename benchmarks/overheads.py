"""What is not learning: the start of a command, the loader, the display, checkpoints.

python benchmarks/overheads.py --width 1 --batch 8 --steps 20
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.pop("OPENBLAS_CORETYPE", None)

import click


def plasticity(*words: str) -> None:
    """Run the command; what it prints is not wanted."""
    subprocess.run([sys.executable, "-m", "plasticity", *words], capture_output=True, check=True)


def started(*words: str, repeat: int = 5) -> float:
    """Median seconds of a command from its start to its end."""
    times = []
    for _ in range(repeat + 1):
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "plasticity", *words], capture_output=True, check=True
        )
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def outside(width: float, batch: int, steps: int, folder: Path) -> tuple[float, float, float]:
    """Seconds of a run's steps in all, in learning itself, and waiting for batches."""
    from plasticity.cli.screens import run as screen

    from plasticity.runs import lifecycle, training
    from plasticity.runs.options import RunOptions

    options = RunOptions(width=width, batch=batch, steps=steps, checkpoint_minutes=60)
    state, out = lifecycle.start(options, str(folder / "run"))
    learning, learn = [], training.learn_batch

    def timed(*arguments: object) -> object:
        start = time.perf_counter()
        found = learn(*arguments)
        learning.append(time.perf_counter() - start)
        return found

    training.learn_batch = timed
    screen.train(state, out)
    whole = state.metrics["seconds"][2:]  # the first steps compile
    return sum(whole), sum(learning[2:]), state.waited


@click.command()
@click.option("--width", default=1.0)
@click.option("--batch", default=8)
@click.option("--steps", default=20)
@click.option("--json", "path", type=click.Path(path_type=Path))
def main(width: float, batch: int, steps: int, path: Path | None) -> None:
    """Print start-up times and the share of a step that is not learning."""
    help_seconds = started("--help")
    print(f"plasticity --help           {help_seconds:.2f} s")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        words = ("run", "--rule", "clapp", "--net", "vgg6", "--width", "0.05", "--batch", "2")
        names = iter(range(100))

        def one_step() -> float:
            start = time.perf_counter()
            out = ("--out", str(folder / str(next(names))), "--steps", "1", "--no-probe")
            plasticity(*words, *out)
            return time.perf_counter() - start

        one_step()
        first = statistics.median(one_step() for _ in range(5))
        print(f"plasticity run, one step    {first:.2f} s")
        whole, learning, waited = outside(width, batch, steps, folder)
    share = (whole - learning) / whole
    print(f"loader, metrics and display {100 * share:.2f} % of {steps - 2} steps of {batch} images")
    print(f"of it waiting for batches   {waited:.3f} s of {whole:.1f} s")
    if path:
        found = {"help_seconds": help_seconds, "first_step_seconds": first, "outside": share}
        path.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
