"""On a card: a training step, each of its kernels against the roofline, and torch beside it.

    python benchmarks/gpu.py --batch 32 --repeat 20

The roofline is measured on the same card, on random numbers (zeros cost less power, and are
faster): the bandwidth of a copy of 1 GiB and the speed of a large matrix product.
Bytes and operations are counted from the arrays of each launch: what a kernel must read and write
once, and the products it takes.
"""

import argparse
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from plasticity import kernels, networks
from plasticity.device import prefetched
from plasticity.kernels.cuda import launch, products
from plasticity.runs import run, training
from plasticity.runs.options import RunOptions
from plasticity.stimuli import Batches

COVER = 4096  # the side of a product that keeps the card busy while the host launches
COPY, PRODUCT = 2**28, 8192  # numbers, side: what the roofline is measured on
FILM = {"net": "vgg5_video"}  # CLAPP-s, as its preset
SOUND = {"net": "audio", "weights": "symmetric", "credit": "eprop"}  # CLAPP-s, as its preset
TIMES = 3  # each launch is repeated so often between two events

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
    if name == "add_rows":  # order, start, segments, base, factor, values, source, rows, D, out
        gathered = len(args[4]) * args[5].shape[1] * args[5].itemsize
        return gathered + sum(sizes) - sizes[5] + sizes[-1]
    return sum(sizes) + sum(sizes[i] for i in TWICE.get(name, ()))


def recurrent(name: str, args: tuple) -> int:
    """The operations of a recurrent unit's products with its state, which its kernels take."""
    if name not in ("gru_states", "gru_posts"):
        return 0
    M, times, H = map(int, args[4:7])
    return 6 * M * times * H * H if name == "gru_states" or args[8] else 0


def by_units(name: str, args: tuple) -> int:
    """The operations of a convolution by matrix units, those on the padding included."""
    pack = 2 if "Bfloat16" in name else 1
    x, w = args[:2]
    if name.startswith("forward"):  # words of x and w, bias, N, H, W, C, O, kernel, ..., y
        H, W, KH, KW, up, left = (int(args[i]) for i in (4, 5, 8, 9, 10, 11))
        return 2 * pack * len(x) * (H + 2 * up - KH + 1) * (W + 2 * left - KW + 1) * w.size
    taps = int(args[7]) * int(args[8])  # words of the post factor and of x by input
    return 2 * pack * x.size * taps * w.shape[-1]


class Clock:
    """Times every launch of `plasticity.kernels.cuda` and every matrix product while it is on.

    A launch is repeated behind a product that is still at work, so that the card never waits for
    the host: what is timed is the kernel. What adds to its output adds several times; only times
    count here.
    """

    def __enter__(self) -> "Clock":

        self.records: list[tuple] = []
        self.run, self.run_blocks, self.gemm = launch.run, launch.run_blocks, products.gemm
        self.cover = random_numbers(COVER, COVER)

        def run(file: str, name: str, columns: int, rows: int, *args: object) -> None:
            short = name.partition("<")[0]
            call = lambda: self.run(file, name, columns, rows, *args)  # noqa: E731
            self.time(short, call, traffic(short, args), recurrent(short, args))

        def run_blocks(file: str, name: str, blocks: int, threads: int, *args: object) -> None:
            call = lambda: self.run_blocks(file, name, blocks, threads, *args)  # noqa: E731
            short, units = name.partition("<")[0], file == "matrix_units"
            operations = by_units(name, args) if units else 0
            self.time(
                f"{short}, matrix units" if units else short, call, traffic(short, args), operations
            )

        def gemm(a: object, b: object, out: object, add: bool, rounded: bool = False) -> None:
            moved = a.nbytes + b.nbytes + out.nbytes
            call = lambda: self.gemm(a, b, out, add, rounded)  # noqa: E731
            self.time("matrix products", call, moved, 2 * out.size * a.shape[-1])

        launch.run, launch.run_blocks, products.gemm = run, run_blocks, gemm
        return self

    def __exit__(self, *_: object) -> None:
        launch.run, launch.run_blocks, products.gemm = self.run, self.run_blocks, self.gemm

    def time(self, name: str, call: Callable, moved: int, operations: int) -> None:
        import cupy

        call()
        start, stop = cupy.cuda.Event(), cupy.cuda.Event()
        cupy.matmul(self.cover, self.cover)
        start.record()
        for _ in range(TIMES):
            call()
        stop.record()
        self.records.append((name, start, stop, moved, operations))

    def timings(self) -> dict[str, Timing]:
        import cupy

        cupy.cuda.Device().synchronize()
        found: dict[str, Timing] = defaultdict(Timing)
        for name, start, stop, moved, operations in self.records:
            timing = found[name]
            timing.launches += 1
            timing.milliseconds += cupy.cuda.get_elapsed_time(start, stop) / TIMES
            timing.bytes += moved
            timing.operations += operations
        return found


def measure(call: Callable, repeat: int = 10, cover: "cupy.ndarray | None" = None) -> float:  # noqa: F821
    """The median seconds of a call, on the card's clock; behind a product with `cover`, if any."""
    import cupy

    call()
    seconds = []
    for _ in range(repeat):
        start, stop = cupy.cuda.Event(), cupy.cuda.Event()
        if cover is not None:
            cupy.matmul(cover, cover)
        start.record()
        call()
        stop.record()
        stop.synchronize()
        seconds.append(cupy.cuda.get_elapsed_time(start, stop) / 1e3)
    return statistics.median(seconds)


def random_numbers(*shape: int) -> "cupy.ndarray":  # noqa: F821
    """Normal float32 numbers on the card, a few million of them again and again."""
    import cupy

    size = int(np.prod(shape))
    few = np.random.default_rng(0).standard_normal(min(size, 2**22), np.float32)
    return cupy.tile(cupy.asarray(few), -(-size // len(few)))[:size].reshape(shape)


def bandwidth(size: int) -> float:
    """Bytes/s of a copy of so many float32 numbers."""
    import cupy

    a, b = random_numbers(size), cupy.empty(size, np.float32)
    return 2 * a.nbytes / measure(lambda: cupy.copyto(b, a))


def speed(side: int, rounded: bool = False) -> float:
    """Operations/s of a square float32 product, or of numbers `rounded` to tf32, by cuBLAS."""
    m = random_numbers(side, side)
    return 2 * side**3 / measure(lambda: products.multiply(m, m, rounded=rounded))


def roofline(rounded: bool = False) -> tuple[float, float]:
    """Bytes/s and operations/s of the card, measured."""
    return bandwidth(COPY), speed(PRODUCT, rounded)


@contextmanager
def training_step(
    rule: str, width: float, batch: int, **how: object
) -> Iterator[Callable[[], None]]:
    """A step on the card as training takes it, of VGG-6 or another net: a batch crosses in one
    copy, while the batch before is learned from, and the host does not wait for the card."""
    options = RunOptions(rule=rule, width=width, batch=batch, device="cuda", **how)
    state = run.begin(options)
    with kernels.own_threads(), Batches(state.batch, 0, 2**20) as loaded:
        fed = prefetched(loaded, state.device)

        def step() -> None:
            training.learn_batch(state, next(fed))

        yield step
        fed.close()


@dataclass(frozen=True)
class Pace:
    """Seconds of a step: until the host has launched it, and until the card is through."""

    host: float
    whole: float


def pace(step: Callable[[], None], wait: Callable[[], None], repeat: int) -> Pace:
    """Of so many steps in a row, between which nobody waits for the card."""
    for _ in range(3):
        step()  # compiled, allocated, chosen
    wait()
    start = time.perf_counter()
    for _ in range(repeat):
        step()
    launched = time.perf_counter()
    wait()
    return Pace((launched - start) / repeat, (time.perf_counter() - start) / repeat)


def synchronize() -> None:
    import cupy

    cupy.cuda.Device().synchronize()


def convolutions(width: float, batch: int, samples: int, ceilings: tuple[float, float]) -> None:
    """Print each convolution of the audio network against the roofline: forwards, and its dW.

    What it must move is the map below, the weights and the map or the drive above, once.
    """
    C, bytes_s, operations_s = 1, *ceilings
    print(f"{'layer':8} {'frames':>7} {'forward, ms':>12} {'of roofline':>12}"
          f" {'dW, ms':>8} {'of roofline':>12}")  # fmt: skip
    for layer in networks.get("audio", width=width).convolutions:
        if layer.recurrent:
            continue
        x, w = random_numbers(batch, samples, C), random_numbers(layer.outputs, C, *layer.kernel)
        geometry, bias = layer.geometry, random_numbers(layer.outputs)
        y, winner, _ = kernels.forward(x, w, bias, geometry)
        calls = (
            lambda: kernels.forward(x, w, bias, geometry),  # noqa: B023
            lambda: kernels.correlate(x, winner, y, geometry),  # noqa: B023
        )
        least = max(
            (x.nbytes + w.nbytes + y.nbytes + winner.nbytes) / bytes_s,
            2 * y.size * w[0].size / operations_s,
        )
        told = "".join(f" {1e3 * s:10.3f} {least / s:12.0%}" for s in map(measure, calls))
        print(f"{layer.name:8} {y.shape[1]:7} {told}", flush=True)
        samples, C = y.shape[1:]


def by_chunks(width: float, patches: int, side: int, mebibytes: Sequence[int]) -> None:
    """Print each convolution of VGG-6 that goes by transforms, forwards and dW, with so many MiB of
    tiles at a time: what fits the card's second cache need not go to its memory and back.

    The launches of a call are queued behind a product, so that the card does not wait for them.
    """
    cover, C = random_numbers(COVER, COVER), 1
    print(f"{'layer':8} {'tiles of':>10} {'forward, ms':>12} {'dW, ms':>8}")
    usual = launch.CHUNK_BYTES
    for layer in networks.get("vgg6", width=width).convolutions:
        x = random_numbers(patches, side, side, C)
        weight, bias = random_numbers(layer.outputs, C, 3, 3), random_numbers(layer.outputs)
        y, winner, _ = kernels.forward(x, weight, bias, layer.geometry)
        drive = random_numbers(patches, layer.outputs)
        calls = (
            lambda: kernels.forward(x, weight, bias, layer.geometry),  # noqa: B023
            lambda: kernels.correlate(x, winner, drive, layer.geometry),  # noqa: B023
        )
        for size in mebibytes if C > 1 else ():
            launch.CHUNK_BYTES = size * 2**20
            told = "".join(f" {1e3 * measure(call, 5, cover):11.3f}" for call in calls)
            print(f"{layer.name:8} {size:6} MiB {told}", flush=True)
        launch.CHUNK_BYTES = usual
        side, C = y.shape[1], layer.outputs


@dataclass(frozen=True)
class Report:
    """Seconds of a step, and its kernels from the slowest on."""

    seconds: float
    slowest: tuple[str, ...]


def report(rule: str, batch: int, width: float, repeat: int, **how: object) -> Report:
    """Print the card, examples/s, memory, and the kernels of a step against the roofline.

    Args:
        how: other options of the run, such as `SOUND`.
    """
    import cupy

    card = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)["name"].decode()
    examples = {"audio": "utterances", "vgg5_video": "clips"}.get(how.get("net", ""), "images")
    with training_step(rule, width, batch, **how) as step:
        found = pace(step, synchronize, repeat)
        taken = cupy.get_default_memory_pool().total_bytes()
        print(
            f"{card}, CuPy {cupy.__version__}, {rule}, batch {batch}, width {width:g}, "
            f"{how.get('precision', 'float32')}: "
            f"{batch / found.whole:.1f} {examples}/s, {found.whole * 1e3:.2f} ms a step, of which "
            f"the host launches for {found.host * 1e3:.2f} ms; {taken / 2**30:.2f} GiB taken",
            flush=True,
        )
        bytes_s, operations_s = roofline(how.get("precision", "float32") != "float32")
        print(f"measured: {bytes_s / 1e9:.0f} GB/s, {operations_s / 1e12:.1f} TFLOP/s", flush=True)
        with Clock() as clock:
            step()
            timings = clock.timings()
    launches = sum(t.launches for t in timings.values())
    print(f"\n{launches} launches of kernels and products in a step:")
    print(f"{'kernel':18} {'launches':>8} {'ms':>8} {'GB':>8} {'GFLOP':>8} {'of roofline':>11}")
    slowest = sorted(timings.items(), key=lambda item: -item[1].milliseconds)
    for name, t in slowest:
        least = max(t.bytes / bytes_s, t.operations / operations_s) * 1e3
        print(
            f"{name:18} {t.launches:8} {t.milliseconds:8.3f} {t.bytes / 1e9:8.3f}"
            f" {t.operations / 1e9:8.1f} {least / t.milliseconds:11.0%}"
        )
    if examples == "utterances":
        print(flush=True)
        convolutions(width, batch, int(how.get("samples", 20480)), (bytes_s, operations_s))
    return Report(found.whole, tuple(name for name, _ in slowest))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rule", choices=["clapp", "clapp_s"], default="clapp")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--repeat", type=int, default=20)
    parser.add_argument("--precision", choices=list(kernels.PRECISIONS), default="float32")
    args = parser.parse_args()
    ours = report(args.rule, args.batch, args.width, args.repeat, precision=args.precision)
    import torch_on_card

    torch_on_card.report(args.rule, args.batch, args.width, args.repeat, ours.seconds)


if __name__ == "__main__":
    main()
