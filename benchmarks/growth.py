"""How the time of a step grows with batch, width, patches and prediction steps.

    python benchmarks/growth.py --repeat 3

Each line changes one of them and leaves the others: batch 8, width 0.5, crops of 64 pixels (49
patches), 5 prediction steps.
"""

import json
import os
from pathlib import Path

os.environ.pop("OPENBLAS_CORETYPE", None)

import click
import numpy as np
from kernels import seconds

from plasticity import kernels, learning, networks, rules
from plasticity.events import Layout


def step_seconds(batch: int, width: float, side: int, steps: int, repeat: int) -> float:
    """Median time of one step of CLAPP: forward, rule, dW and Adam."""
    network, rule, layout = (
        networks.get("vgg6", width=width),
        rules.get("clapp", steps=steps),
        Layout(side, batch, side),
    )
    modules, dtype = learning.layerwise(network), np.dtype("float32")
    weights = {
        layer: {name: w.astype(dtype) for name, w in own.items()}
        for layer, own in learning.prepare(network, rule, modules, 0).items()
    }
    adam = learning.Optimiser.start(learning.Pace(2e-4), weights)
    patches = np.random.default_rng(0).standard_normal((layout.rows, 16, 16, 1), dtype)
    draws = [d.on("cpu", dtype) for d in learning.draws(rule, layout, modules, 0, 0)]

    def step() -> None:
        for update in learning.updates(network, rule, modules, weights, patches, layout, draws):
            adam.ascend(weights, update.changes, 1)

    with kernels.own_threads():
        return seconds(step, repeat)


@click.command()
@click.option("--repeat", default=3)
@click.option("--json", "path", type=click.Path(path_type=Path))
def main(repeat: int, path: Path | None) -> None:
    """Print milliseconds for each image."""
    found: list[dict[str, float | str]] = []
    usual = {"batch": 8, "width": 0.5, "side": 7, "steps": 5}
    print("| changed | value | ms/step | ms/image |")
    print("|---|---|---|---|")
    for name, values in {
        "batch": (2, 8, 32),
        "width": (0.125, 0.25, 0.5, 1.0),
        "side": (7, 11, 15),
        "steps": (1, 3, 5),
    }.items():
        for value in values:
            case = usual | {name: value}
            time = 1e3 * step_seconds(**case, repeat=repeat)
            label = {"side": "patches", "steps": "prediction steps"}.get(name, name)
            shown = value**2 if name == "side" else value
            print(f"| {label} | {shown:g} | {time:.1f} | {time / case['batch']:.2f} |", flush=True)
            found.append({"changed": label, "value": shown, "ms": time, **case})
    if path:
        path.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
