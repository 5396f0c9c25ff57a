"""Everything that docs/speed.md reports, by one command, into one folder.

    python benchmarks/all.py --out speed

Each part is a program of its own in this folder and runs in a process of its own, one after the
other: their output in `speed.txt`, figures as JSON, and the roofline.
"""

import subprocess
import sys
from pathlib import Path

import click


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("speed"))
@click.option("--repeat", default=3)
def main(out: Path, repeat: int) -> None:
    """Run all parts; half an hour on two cores."""
    out.mkdir(parents=True, exist_ok=True)
    again = f"--repeat={repeat}"
    parts = [
        ["kernels.py", again, f"--json={out / 'kernels.json'}", f"--figure={out / 'roofline.png'}"]
    ]
    for rule in ("clapp", "clapp_s"):
        for batch in (8, 32):
            path = out / f"{rule}-{batch}.json"
            parts.append(
                ["training_step.py", "--rule", rule, "--batch", str(batch), again, f"--json={path}"]
            )
    parts += [
        ["memory.py", "--batch", "32", "--steps", "2"],
        ["memory.py", "--batch=8", "--width=0.125", "--steps=1000", "--who=plasticity"],
        ["overheads.py"],
        ["growth.py", again],
    ]
    with open(out / "speed.txt", "w") as report:
        for part in parts:
            print("#", *part, file=report, flush=True)
            print("#", *part)
            program = Path(__file__).parent / part[0]
            done = subprocess.run(
                [sys.executable, str(program), *part[1:]], capture_output=True, text=True
            )
            print(done.stdout, file=report, flush=True)
            print(done.stdout)
            if done.returncode:
                raise SystemExit(f"{part[0]} failed:\n{done.stderr}")


if __name__ == "__main__":
    main()
