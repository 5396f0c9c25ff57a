"""On a card: each kernel's time against its roofline, a training step, and torch beside it.

    python benchmarks/gpu.py --batch 32 --repeat 10

The roofline is measured on the same card: the bandwidth of a copy of 1 GiB and the speed of a
large matrix product. Bytes and operations are counted from the arrays of each launch: what a
kernel must read and write once, and the products it takes.
"""

import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import click
import numpy as np

from plasticity import kernels, learning, networks, rules
from plasticity.events import Layout
from plasticity.kernels.cuda import launch

# Arguments that are read and written; of adam, a parameter and its moments, four times.
TWICE = {"adam": (0, 2, 3, 4, 6, 7, 8, 10, 11, 12, 14, 15), "add_rows": (-1,)}


@dataclass
class Timing:
    """All launches of a kernel in one step: milliseconds, bytes and operations."""

    launches: int = 0
    milliseconds: float = 0
    bytes: int = 0
    operations: int = 0


def traffic(name: str, args: tuple) -> int:
    """The bytes that a launch must move: each array once, gathered rows for each event."""
    sizes = [getattr(a, "nbytes", 0) if getattr(a, "ndim", 0) else 0 for a in args]
    if name == "scores":  # a, b, in_a, in_b, events, D, out
        gathered = 2 * len(args[2]) * args[0].shape[1] * args[0].itemsize
        return gathered + sum(sizes[2:])
    if name == "add_rows":  # order, start, factor, values, source, rows, D, out
        gathered = len(args[0]) * args[3].shape[1] * args[3].itemsize
        return gathered + sum(sizes) - sizes[3] + sizes[-1]
    return sum(sizes) + sum(sizes[i] for i in TWICE.get(name, ()))


class Clock:
    """Times every launch of `plasticity.kernels.cuda` and every matrix product while it is on."""

    def __enter__(self) -> "Clock":
        import cupy

        self.records: list[tuple] = []
        self.run, self.matmul = launch.run, cupy.matmul

        def run(file: str, name: str, columns: int, rows: int, *args: object) -> None:
            short = name.partition("<")[0]
            call = lambda: self.run(file, name, columns, rows, *args)  # noqa: E731
            self.time(short, call, traffic(short, args), 0)

        def matmul(a: object, b: object, out: object = None) -> object:
            m, k, n = a.shape[-2], a.shape[-1], b.shape[-1]
            batch = int(np.prod(a.shape[:-2]))
            moved = batch * (m * k + k * n + m * n) * a.itemsize
            call = lambda: self.matmul(a, b, out=out)  # noqa: E731
            return self.time("matrix products", call, moved, 2 * batch * m * k * n)

        launch.run, cupy.matmul = run, matmul
        return self

    def __exit__(self, *_: object) -> None:
        import cupy

        launch.run, cupy.matmul = self.run, self.matmul

    def time(self, name: str, call: Callable, moved: int, operations: int) -> object:
        import cupy

        start, stop = cupy.cuda.Event(), cupy.cuda.Event()
        start.record()
        found = call()
        stop.record()
        self.records.append((name, start, stop, moved, operations))
        return found

    def timings(self) -> dict[str, Timing]:
        import cupy

        cupy.cuda.Device().synchronize()
        found: dict[str, Timing] = defaultdict(Timing)
        for name, start, stop, moved, operations in self.records:
            timing = found[name]
            timing.launches += 1
            timing.milliseconds += cupy.cuda.get_elapsed_time(start, stop)
            timing.bytes += moved
            timing.operations += operations
        return found


def measure(call: Callable, repeat: int = 10) -> float:
    """The median seconds of a call, on the card's clock."""
    import cupy

    call()
    seconds = []
    for _ in range(repeat):
        start, stop = cupy.cuda.Event(), cupy.cuda.Event()
        start.record()
        call()
        stop.record()
        stop.synchronize()
        seconds.append(cupy.cuda.get_elapsed_time(start, stop) / 1e3)
    return statistics.median(seconds)


def bandwidth(size: int) -> float:
    """Bytes/s of a copy of so many float32 numbers."""
    import cupy

    a, b = cupy.zeros(size, np.float32), cupy.empty(size, np.float32)
    return 2 * a.nbytes / measure(lambda: cupy.copyto(b, a))


def speed(side: int) -> float:
    """Operations/s of a square float32 product."""
    import cupy

    m = cupy.ones((side, side), np.float32)
    return 2 * side**3 / measure(lambda: cupy.matmul(m, m))


def roofline() -> tuple[float, float]:
    """Bytes/s and operations/s of the card, measured."""
    return bandwidth(2**28), speed(8192)


class Ours:
    """A training step of full VGG-6 on the card."""

    def __init__(self, rule: str, width: float, batch: int) -> None:
        import cupy

        self.network, self.rule = networks.get("vgg6", width=width), rules.get(rule)
        self.modules, self.count = learning.layerwise(self.network), 0
        weights = learning.prepare(self.network, self.rule, self.modules, 0)
        self.weights = {
            layer: {name: cupy.asarray(w, np.float32) for name, w in own.items()}
            for layer, own in weights.items()
        }
        self.adam = learning.Adam.start(2e-4, self.weights)
        rng = np.random.default_rng(0)
        self.pixels = rng.integers(0, 256, (batch, 96, 96), np.uint8)
        self.layout = Layout(7, batch, 7)

    def step(self) -> None:
        import cupy

        batch = len(self.pixels)
        place, flip = cupy.full(batch, 16), cupy.zeros(batch, bool)
        patches = kernels.extract_patches(
            cupy.asarray(self.pixels),
            place,
            place,
            flip,
            crop=64,
            patch=16,
            mean=0.45,
            std=0.25,
            dtype=np.float32,
        )
        drawn = learning.draws(self.rule, self.layout, self.modules, 0, self.count)
        device = f"cuda:{cupy.cuda.Device().id}"
        choices = [draw.on(device, np.dtype("float32")) for draw in drawn]
        self.count += 1
        for update in learning.updates(
            self.network, self.rule, self.modules, self.weights, patches, self.layout, choices
        ):
            self.adam.ascend(self.weights, update.changes, self.count)
        cupy.cuda.Device().synchronize()


def peers(rule: str, width: float, batch: int) -> dict[str, Callable]:
    """A step of each torch peer on the card, where torch has one; TF32 off, as ours."""
    try:
        import torch
        import torch_best
        import torch_published
    except ImportError:
        return {}
    if not torch.cuda.is_available():
        return {}
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    images = np.random.default_rng(0).standard_normal((batch, 64, 64)).astype(np.float32)

    def step_of(module: object) -> Callable:
        with torch.device("cuda"):
            peer = module.Peer(rule, width)

        def step() -> None:
            with torch.device("cuda"):  # what a step creates lies on the card too
                peer.step(images)
            torch.cuda.synchronize()

        return step

    return {
        "torch as published": step_of(torch_published),
        "torch at its best": step_of(torch_best),
    }


@click.command()
@click.option("--rule", type=click.Choice(["clapp", "clapp_s"]), default="clapp")
@click.option("--batch", default=32)
@click.option("--width", default=1.0)
@click.option("--repeat", default=10)
def main(rule: str, batch: int, width: float, repeat: int) -> None:
    """Print the card, the kernels of a step against the roofline, and images/s."""
    try:
        import cupy

        card = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)["name"].decode()
    except Exception as error:
        raise click.ClickException(f"needs CuPy and a GPU ({error})") from None
    bytes_s, operations_s = roofline()
    print(
        f"{card}, CuPy {cupy.__version__}: {bytes_s / 1e9:.0f} GB/s, "
        f"{operations_s / 1e12:.1f} TFLOP/s"
    )

    who = {"plasticity": Ours(rule, width, batch).step, **peers(rule, width, batch)}
    for step in who.values():
        step()
        step()  # compiled, allocated, chosen
    with Clock() as clock:
        who["plasticity"]()
        timings = clock.timings()
    print(f"\n{'kernel':18} {'launches':>8} {'ms':>8} {'GB':>8} {'GFLOP':>8} {'of roofline':>11}")
    for name, t in sorted(timings.items(), key=lambda item: -item[1].milliseconds):
        least = max(t.bytes / bytes_s, t.operations / operations_s) * 1e3
        print(
            f"{name:18} {t.launches:8} {t.milliseconds:8.3f} {t.bytes / 1e9:8.3f}"
            f" {t.operations / 1e9:8.1f} {least / t.milliseconds:11.0%}"
        )

    seconds: dict[str, list[float]] = {name: [] for name in who}
    for _ in range(repeat):
        for name, step in who.items():
            start = time.perf_counter()
            step()
            seconds[name].append(time.perf_counter() - start)
    print("\ntraining:")
    for name, times in seconds.items():
        ratio = statistics.median(b / a for a, b in zip(seconds["plasticity"], times, strict=True))
        rate = batch / statistics.median(times)
        print(f"  {name:20s} {rate:8.1f} images/s   {ratio:5.2f} times our time")


if __name__ == "__main__":
    main()
