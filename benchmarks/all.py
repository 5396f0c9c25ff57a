"""What docs/speed.md reports of VGG-6's steps, by one command, into one folder.

    python benchmarks/all.py --out speed
    python benchmarks/all.py --out speed --only kernels --only growth --quick

Each part is a program of its own in this folder and runs in a process of its own, one after the
other. It prints their tables and writes `speed.json`, all figures with the machine they are of, and
`roofline.png`, the kernels under the machine's ceilings.
"""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import click
import numpy as np

PARTS = {
    "kernels": ["kernels.py"],
    "clapp-8": ["training_step.py", "--rule=clapp", "--batch=8"],
    "clapp_s-8": ["training_step.py", "--rule=clapp_s", "--batch=8"],
    "clapp-32": ["training_step.py", "--rule=clapp", "--batch=32"],
    "clapp_s-32": ["training_step.py", "--rule=clapp_s", "--batch=32"],
    "memory": ["memory.py", "--batch=32", "--steps=2"],
    "memory-flat": ["memory.py", "--batch=8", "--width=0.125", "--steps=1000", "--who=plasticity"],
    "overheads": ["overheads.py"],
    "growth": ["growth.py"],
}


def machine() -> dict[str, object]:
    """What the figures depend on."""
    with open("/proc/cpuinfo") as info:
        names = [line.partition(":")[2].strip() for line in info if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("speed"))
@click.option("--only", multiple=True, type=click.Choice(list(PARTS)), help="This part; again.")
@click.option("--repeat", default=3)
@click.option("--quick", is_flag=True, help="One turn of each: minutes, and rough.")
def main(out: Path, only: tuple[str, ...], repeat: int, quick: bool) -> None:
    """Run all parts, half an hour on two cores, or some; figures of other parts stay."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / "speed.json"
    found = json.loads(path.read_text()) if path.exists() else {}
    found["machine"] = machine()
    for name in only or PARTS:
        program, *options = PARTS[name]
        part = out / f"{name}.json"
        options += [f"--json={part}"]
        if program in ("kernels.py", "training_step.py", "growth.py"):
            options += [f"--repeat={1 if quick else repeat}"]
        if program == "kernels.py":
            options += [f"--figure={out / 'roofline.png'}"]
        print("#", program, *options, flush=True)
        done = subprocess.run(
            [sys.executable, str(Path(__file__).parent / program), *options],
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise SystemExit(f"{program} failed:\n{done.stderr}")
        print(done.stdout, flush=True)
        found[name] = json.loads(part.read_text())
        part.unlink()
        path.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
