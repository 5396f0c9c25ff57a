"""Each kernel beside what this machine can do: time, GFLOP/s, GB/s and a roofline.

    python benchmarks/kernels.py --batch 8 --json kernels.json --figure roofline.png

Operations and bytes are counted, not guessed: the products that the algorithm makes (Winograd's 36
for a tile, not the 144 of the definition), and every tensor read or written once. The ceilings are
measured here too: a large matrix product, and a change of sign in place, on all cores.
"""

import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

os.environ.pop("OPENBLAS_CORETYPE", None)

import click
import numpy as np

from plasticity import kernels, networks
from plasticity.kernels.cpu import threads, winograd
from plasticity.kernels.forms import FEW_CHANNELS

F = np.float32


def seconds(work: Callable[[], object], repeat: int) -> float:
    """Median time of `work`, after one call that is not counted."""
    times = []
    for _ in range(repeat + 1):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def ceilings(repeat: int) -> tuple[float, float]:
    """GFLOP/s of a product of large matrices, GB/s of a change in place, a share for each core."""
    n = 2048
    a, b = (np.random.default_rng(i).standard_normal((n, n), F) for i in range(2))
    out, large = np.empty_like(a), np.ones(2**26, F)

    def product(span: tuple[int, int]) -> None:
        np.matmul(a[slice(*span)], b, out=out[slice(*span)])

    def move(span: tuple[int, int]) -> None:
        np.negative(large[slice(*span)], out=large[slice(*span)])  # reads and writes each once

    flops = 2 * n**3 / seconds(lambda: threads.each(product, threads.shares(n)), repeat)
    moved = 2 * large.nbytes / seconds(lambda: threads.each(move, threads.shares(2**26)), repeat)
    return flops / 1e9, moved / 1e9


def convolutions(batch: int, width: float, repeat: int) -> list[dict[str, object]]:
    """Forward, dW and the error at the input of every layer of VGG-6."""
    rng, rows, found = np.random.default_rng(0), 49 * batch, []
    space = (16, 16)
    for layer in networks.get("vgg6", width=width).layers:
        C, O = layer.inputs, layer.outputs  # noqa: E741
        x = np.maximum(rng.standard_normal((rows, *space, C), F), 0)
        w = rng.standard_normal((O, C, 3, 3), F) / F(3 * C**0.5)
        y, winner, z = kernels.forward(x, w, np.zeros(O, F), layer.geometry)
        drive = rng.standard_normal(z.shape, F)
        if C <= FEW_CHANNELS:
            tiles, products = int(np.prod(space)), 9
        else:
            algorithm = winograd._algorithm(*space)
            tiles = algorithm.tiles(space[0]) * algorithm.tiles(space[1])
            products = algorithm.PRODUCTS
        flop = 2 * rows * tiles * products * C * O
        read = x.nbytes + w.nbytes + y.nbytes + winner.nbytes
        calls = {
            "forward": lambda x=x, w=w, O=O, g=layer.geometry: kernels.forward(  # noqa: E741
                x, w, np.zeros(O, F), g
            ),
            "dW": lambda x=x, k=winner, d=drive, g=layer.geometry: kernels.correlate(x, k, d, g),
            "back": lambda k=winner, d=drive, w=w, s=space, g=layer.geometry: kernels.back(
                k, d, w, s, g
            ),
        }
        if C <= FEW_CHANNELS:
            del calls["back"]  # nothing asks for the error at the image
        for what, call in calls.items():
            moved = read if what == "forward" else x.nbytes + winner.nbytes + w.nbytes
            found.append(entry(f"{layer.name} {what}", seconds(call, repeat), flop, moved))
        space = y.shape[1:3]
    return found


def others(batch: int, width: float, repeat: int) -> list[dict[str, object]]:
    """A prediction `W_pred c`, its dW, Adam and the cutting of patches."""
    rng, neurons = np.random.default_rng(0), max(1, round(1024 * width))
    z, W = rng.standard_normal((35 * batch, neurons), F), rng.standard_normal((neurons,) * 2, F)
    flop = 2 * len(z) * neurons**2
    moved = 2 * z.nbytes + W.nbytes
    parameter, dW, m, v = (np.ones(int(9e6 * width**2) + 1, F) for _ in range(4))
    pixels = rng.integers(0, 256, (batch, 64, 64), dtype=np.uint8)
    corner, flip = np.zeros(batch, np.int64), np.zeros(batch, bool)

    def cut() -> None:
        kernels.extract_patches(
            pixels, corner, corner, flip, crop=64, patch=16, mean=0.4, std=0.2, dtype=np.dtype("f4")
        )

    patches = 49 * batch * 256
    return [
        entry("W_pred c", seconds(lambda: kernels.product(z, W.T), repeat), flop, moved),
        entry("dW_pred", seconds(lambda: kernels.product(z.T, z), repeat), flop, moved),
        entry(
            "Adam",
            seconds(lambda: kernels.adam([(parameter, dW, m, v)], 1, 1e-3), repeat),
            11 * parameter.size,
            7 * parameter.nbytes,
        ),
        entry("patches", seconds(cut, repeat), 2 * patches, 5 * patches),
    ]


def entry(name: str, time: float, flop: float, moved: float) -> dict[str, object]:
    """A line of the table: ms, GFLOP/s, GB/s, operations for each byte."""
    return {
        "kernel": name,
        "ms": 1e3 * time,
        "gflops": flop / time / 1e9,
        "gbytes": moved / time / 1e9,
        "intensity": flop / moved,
    }


COLOURS = {"forward": "#0072b2", "dW": "#d55e00", "back": "#009e73", "": "#666666"}


def draw(found: list[dict], peak: float, bandwidth: float, path: Path) -> None:
    """The roofline with the kernels on it, and what each reaches of its ceiling."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (roof, bars) = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
    x = np.logspace(-1, 3, 200)
    roof.loglog(x, np.minimum(peak, bandwidth * x), color="black", lw=1)
    seen = set()
    for place, e in enumerate(found):
        layer, _, kind = str(e["kernel"]).partition(" ")
        kind = kind if layer.startswith("conv") else ""
        colour, share = COLOURS[kind], 100 * float(e["share"])
        label = None if kind in seen else (kind or "others")
        seen.add(kind)
        point = (e["intensity"], e["gflops"])
        roof.scatter(*point, color=colour, s=18, alpha=0.7, label=label)
        if float(e["gflops"]) < peak / 3:  # the others lie close together
            name = layer if kind else e["kernel"]
            roof.annotate(name, point, (4, -9), textcoords="offset points", fontsize=7)
        bars.barh(place, share, color=colour)
        bars.text(share + 1, place, f"{e['ms']:.1f} ms", va="center", fontsize=7, clip_on=True)
    roof.set_xlabel("operations per byte")
    roof.set_ylabel("GFLOP/s")
    roof.set_title(f"ceilings: {peak:.0f} GFLOP/s, {bandwidth:.0f} GB/s", fontsize=9)
    roof.legend(frameon=False)
    bars.set_yticks(range(len(found)), [e["kernel"] for e in found], fontsize=7)
    bars.invert_yaxis()
    bars.set_xlim(0, 125)
    bars.set_xlabel("% of its ceiling")
    for axes in (roof, bars):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


@click.command()
@click.option("--batch", default=8)
@click.option("--width", default=1.0)
@click.option("--repeat", default=5)
@click.option("--json", "path", type=click.Path(path_type=Path))
@click.option("--figure", type=click.Path(path_type=Path))
def main(batch: int, width: float, repeat: int, path: Path | None, figure: Path | None) -> None:
    """Time every kernel and set it beside the ceilings."""
    with kernels.own_threads():
        peak, bandwidth = ceilings(repeat)
        found = convolutions(batch, width, repeat) + others(batch, width, repeat)
    print(f"ceilings: {peak:.0f} GFLOP/s, {bandwidth:.1f} GB/s; batch {batch}, width {width:g}")
    print(f"| {'kernel':14s} |     ms | GFLOP/s |  GB/s | of its ceiling |")
    print("|---|---|---|---|---|")
    for e in found:
        roof = min(peak, bandwidth * float(e["intensity"]))
        e["share"] = float(e["gflops"]) / roof
        print(
            f"| {e['kernel']:14s} | {e['ms']:6.1f} | {e['gflops']:7.1f} | {e['gbytes']:5.1f} "
            f"| {100 * e['share']:3.0f} % |"
        )
    if path:
        result = {"peak_gflops": peak, "bandwidth_gbytes": bandwidth, "kernels": found}
        path.write_text(json.dumps(result, indent=2) + "\n")
    if figure:
        draw(found, peak, bandwidth, figure)


if __name__ == "__main__":
    main()
