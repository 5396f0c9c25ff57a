"""A training step and encoding, ours and three peers in torch, in turns in one process.

The peers are torch's autograd as one writes it first (`torch_published.py`), and the best plain
torch (`torch_best.py`) in float32 and in bfloat16.

python benchmarks/training_step.py --rule clapp --batch 8 --repeat 5
"""

import json
import os
import platform
import statistics
import time
from pathlib import Path

os.environ.pop("OPENBLAS_CORETYPE", None)  # it slows NumPy's products where it is set

import click
import numpy as np

from plasticity import kernels, learning, networks, rules
from plasticity.events import Layout
from plasticity.rule import Draw


class Ours:
    """The explicit rule, with the interface of the peers."""

    def __init__(
        self, rule: str, width: float, lr: float = 2e-4, seed: int = 0, net: str = "vgg6"
    ) -> None:
        self.network, self.rule = networks.get(net, width=width), rules.get(rule)
        self.modules, self.seed = self.network.modules(self.rule.modules), seed
        weights = learning.prepare(self.network, self.rule, self.modules, seed)
        self.weights = {
            la: {n: w.astype(np.float32) for n, w in own.items()} for la, own in weights.items()
        }
        self.adam, self.count = learning.Optimiser.start(learning.Pace(lr), self.weights), 0

    def patches(self, images: np.ndarray) -> np.ndarray:
        """Normalised float images, cut as the loader's bytes are."""
        windows = np.lib.stride_tricks.sliding_window_view(images, (16, 16), axis=(1, 2))
        return windows[:, ::8, ::8].transpose(1, 0, 2, 3, 4).reshape(-1, 16, 16, 1)

    def draws(self, layout: Layout) -> list[Draw]:
        """Those of the step that comes, which is counted with it."""
        drawn = learning.draws(self.rule, layout, self.modules, self.seed, self.count)
        self.count += 1
        return [draw.on("cpu", np.dtype("float32")) for draw in drawn]

    def step(self, images: np.ndarray) -> list[float]:
        layout, losses = Layout(7, len(images), 7), []
        draws, patches = self.draws(layout), self.patches(images)
        with kernels.own_threads():  # as in training
            for update in learning.updates(
                self.network, self.rule, self.modules, self.weights, patches, layout, draws
            ):
                self.adam.ascend(self.weights, update.changes, self.count)
                losses.append(float(update.loss))
        return losses

    def encode(self, images: np.ndarray) -> list[np.ndarray]:
        z = self.network.encodings(self.patches(images), self.weights)
        return [a.reshape(7, len(images), 7, -1).mean(axis=(0, 2)) for a in z]


def peers(rule: str, width: float, only: str = "") -> dict[str, object]:
    """What is compared, by name; all of them, or one alone."""
    if only == "plasticity":
        return {only: Ours(rule, width)}
    import torch
    import torch_best
    import torch_published

    make = {
        "plasticity": lambda: Ours(rule, width),
        "torch as published": lambda: torch_published.Peer(rule, width),
        "torch at its best": lambda: torch_best.Peer(rule, width),
        "torch, bfloat16": lambda: torch_best.Peer(rule, width, dtype=torch.bfloat16),
    }
    return {name: build() for name, build in make.items() if only in ("", name)}


def in_turns(
    who: dict[str, object], what: str, images: np.ndarray, repeat: int
) -> dict[str, dict[str, float]]:
    """Time the method `what` of all in turns, after one that is not counted, and print.

    Returns:
        For each `images_per_second` and `median_ratio`, that of its time to ours in the same turn.
    """
    seconds: dict[str, list[float]] = {name: [] for name in who}
    for turn in range(repeat + 1):
        for name, peer in who.items():
            start = time.perf_counter()
            getattr(peer, what)(images)
            if turn:
                seconds[name].append(time.perf_counter() - start)
    ours, found = seconds["plasticity"], {}
    print(f"{what}:")
    for name, times in seconds.items():
        ratio = statistics.median(b / a for a, b in zip(ours, times, strict=True))
        speed = len(images) / statistics.median(times)
        found[name] = {"images_per_second": speed, "median_ratio": ratio}
        print(f"  {name:20s} {speed:6.2f} images/s   {ratio:5.2f} times our time")
    return found


@click.command()
@click.option("--rule", type=click.Choice(["clapp", "clapp_s"]), default="clapp")
@click.option("--batch", default=8)
@click.option("--width", default=1.0)
@click.option("--repeat", default=5, help="Turns, after one that is not counted.")
@click.option("--json", "path", type=click.Path(path_type=Path))
def main(rule: str, batch: int, width: float, repeat: int, path: Path | None) -> None:
    """Time all, print images/s and for each peer the median of the ratios of turns."""
    import torch

    images = np.random.default_rng(0).standard_normal((batch, 64, 64)).astype(np.float32)
    who = peers(rule, width)
    result: dict[str, object] = {
        "rule": rule,
        "batch": batch,
        "width": width,
        "machine": platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "numpy": np.__version__,
        "torch": torch.__version__,
    }
    for what in ("step", "encode"):
        result[what] = in_turns(who, what, images, repeat)
    if path:
        path.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
