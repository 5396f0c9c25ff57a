"""Peak memory of a training step, ours and torch's, each in a process of its own; and over time.

    python benchmarks/memory.py --batch 32 --steps 3
    python benchmarks/memory.py --batch 8 --width 0.125 --steps 1000 --who plasticity

The second shows that memory stays flat: resident memory after 10 steps and at the end.
"""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

os.environ.pop("OPENBLAS_CORETYPE", None)

import click
import numpy as np

WHO = ("plasticity", "torch as published", "torch at its best", "torch, bfloat16")


def resident() -> float:
    """Resident memory of this process now, MiB."""
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def measure(who: str, rule: str, batch: int, width: float, steps: int) -> dict[str, float]:
    """Steps of one peer: MiB before any of it was made, after 10 steps, at the end, at most."""
    import training_step

    start = resident()
    peer = training_step.peers(rule, width, only=who)[who]
    images = np.random.default_rng(0).standard_normal((batch, 64, 64)).astype(np.float32)
    early = 0.0
    for step in range(steps):
        peer.step(images)
        early = resident() if step < 10 else early
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"start": start, "after 10": early, "end": resident(), "peak": peak}


@click.command()
@click.option("--rule", type=click.Choice(["clapp", "clapp_s"]), default="clapp")
@click.option("--batch", default=32)
@click.option("--width", default=1.0)
@click.option("--steps", default=3)
@click.option("--who", multiple=True, default=WHO, type=click.Choice(WHO))
@click.option("--json", "path", type=click.Path(path_type=Path))
@click.option("--one", type=click.Choice(WHO), hidden=True)
def main(
    rule: str,
    batch: int,
    width: float,
    steps: int,
    who: tuple[str, ...],
    path: Path | None,
    one: str,
) -> None:
    """Print a line for each; the process of a peer imports nothing that it does not need."""
    if one:
        print(json.dumps(measure(one, rule, batch, width, steps)))
        return
    print(f"{rule}, batch {batch}, width {width:g}, {steps} steps; MiB")
    every = {}
    for name in who:
        options = [f"--rule={rule}", f"--batch={batch}", f"--width={width}", f"--steps={steps}"]
        done = subprocess.run(
            [sys.executable, __file__, *options, "--one", name],
            capture_output=True,
            text=True,
            check=True,
        )
        every[name] = found = json.loads(done.stdout.splitlines()[-1])
        print(f"  {name:20s}", "  ".join(f"{k} {v:7.0f}" for k, v in found.items()), flush=True)
    if path:
        path.write_text(json.dumps(every, indent=2) + "\n")


if __name__ == "__main__":
    main()
