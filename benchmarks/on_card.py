"""All that a card can tell, from a plain checkout, in eight minutes.

    python benchmarks/on_card.py --out FOLDER [--rehearse]

Each stage is a process of its own with a time limit: one that fails or hangs does not stop the
others, and what it has printed until then stays. FOLDER gets `NAME.txt` for each stage and
`summary.json`, written anew as each ends. Nothing has to be installed: NumPy, SciPy, Numba, h5py,
matplotlib, pytest and CuPy do, and torch for its own stage.

`--rehearse` runs the same on the stand-in for CuPy that the tests use, on small shapes.
"""

import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
PATIENCE = 5  # with the stand-in, which has a compiler's work to do and no card
FEW_FRAMES = {"samples": 640, "prediction_steps": 1}
SMALL_FILM = {"layers": 1, "clip_frames": 4, "side": 32, "prediction_steps": 1}
OUT, SLOWEST = "PLASTICITY_ON_CARD", "slowest.json"  # the folder, for stages that read another's
PATHS = f"import sys; sys.path[:0] = [{str(HERE)!r}, {str(ROOT)!r}]"
SMALL_KERNELS = f"{PATHS}; import on_card; on_card.kernels(True)"
ONE_STEP = f"""{PATHS}
import gpu
with gpu.training_step("clapp_s", 1.0, 32) as step:
    step(), step(), gpu.synchronize()
"""
LIMITS = {"float32": 1e-4, "float64": 1e-11}  # of a kernel's error, over the largest number


def card(small: bool) -> None:
    """Versions, the card, and the tools beside it."""
    import cupy
    import numpy as np

    from plasticity.runs import run

    print(f"{platform.platform()}, {os.cpu_count()} cores, Python {sys.version.split()[0]}")
    print(json.dumps(run.versions("cuda:0")))
    of = cupy.cuda.runtime.getDeviceProperties(0)
    print({k: v.decode() if isinstance(v, bytes) else v for k, v in sorted(of.items())}["name"])
    print("NVRTC", cupy.cuda.nvrtc.getVersion())
    assert float((cupy.asarray(np.arange(4.0)) ** 2).sum()) == 14
    for tool in ("nvidia-smi", "nvcc", "ncu", "compute-sanitizer", "nvdisasm"):
        print(f"{tool}: {shutil.which(tool) or 'not there'}")
    if shutil.which("nvidia-smi"):
        print(subprocess.run(["nvidia-smi"], capture_output=True, text=True, timeout=20).stdout)


def kernels(small: bool) -> None:
    """The convolutions of full-width VGG-6, sound and film against their definitions in float64."""
    width, patches = (0.02, 2) if small else (1.0, 49)
    print(f"{'layer':8} {'map':>14} {'dtype':8} {'error, over the largest number':>30}")
    worst = compared("vgg6", width, (patches, 16, 16, 1))
    worst = max(worst, compared("audio", width, (2, 2560, 1)))
    worst = max(worst, compared("vgg5_video", width, (1, 9, 72, 72, 3)))
    if worst > 1:
        sys.exit(f"an error is {worst:.1f} times its limit of {LIMITS}")


def compared(name: str, width: float, shape: tuple[int, ...]) -> float:
    """Print the errors of a network's convolutions; the largest, over its limit."""
    import cupy
    import numpy as np

    from plasticity import kernels, networks
    from plasticity.kernels.definition import convolution

    worst, rng = 0.0, np.random.default_rng(0)
    for layer in networks.get(name, width=width).convolutions:
        if layer.recurrent:
            continue
        *space, C = shape[1:]
        geometry, outputs = layer.geometry, layer.outputs
        x = rng.standard_normal(shape)
        weight = rng.standard_normal((outputs, C, *layer.kernel)) / np.sqrt(C * 9)
        bias = rng.standard_normal(outputs)
        y, winner, z = convolution.forward(x, weight, bias, geometry)
        drive = rng.standard_normal(y.shape)
        dW, db = convolution.correlate(x, winner, drive, geometry)
        error = convolution.back(winner, drive, weight, tuple(space), geometry)
        wanted = {"y": y, "z": z, "dW": dW, "db": db, "error": error}
        for dtype in (np.float32, np.float64):
            cx, cw, cb, cd = (cupy.asarray(a.astype(dtype)) for a in (x, weight, bias, drive))
            won = cupy.asarray(winner)
            found = kernels.forward(cx, cw, cb, geometry)
            got = (found[0], found[2], *kernels.correlate(cx, won, cd, geometry))
            got = (*got, kernels.back(won, cd, cw, tuple(space), geometry))
            errors = {
                name: np.abs(a.get() - exact).max() / np.abs(exact).max()
                for a, (name, exact) in zip(got, wanted.items(), strict=True)
            }
            told = " ".join(f"{name} {e:.1e}" for name, e in errors.items())
            size = "x".join(map(str, shape[1:]))
            print(f"{layer.name:8} {size}->{outputs:4} {np.dtype(dtype).name:8} {told}", flush=True)
            worst = max(worst, *(e / LIMITS[np.dtype(dtype).name] for e in errors.values()))
        shape = y.shape
    return worst


def step(small: bool) -> None:
    """A training step, of images, sound and film: its time, launches, kernels and memory; and the
    convolutions of images with less of their tiles at a time."""
    import gpu

    if small:
        gpu.COVER, gpu.COPY, gpu.PRODUCT = 8, 2**10, 64
        _slowest(gpu.report("clapp", 2, 0.02, 1))
        gpu.report("clapp", 2, 0.02, 1, precision="bfloat16", layers=1)
        gpu.report("clapp_s", 2, 0.02, 1, **FEW_FRAMES, **gpu.SOUND)
        gpu.report("clapp_s", 2, 0.02, 1, **SMALL_FILM, **gpu.FILM)
        gpu.by_chunks(0.02, 2, 8, (1,))
        return
    for rule in ("clapp", "clapp_s"):
        found = gpu.report(rule, 32, 1.0, 20)
        print(flush=True)
    _slowest(found)
    for precision in ("tf32", "bfloat16"):
        gpu.report("clapp", 32, 1.0, 20, precision=precision)
        print(flush=True)
    gpu.report("clapp_s", 8, 1.0, 20, **gpu.SOUND)
    print(flush=True)
    gpu.report("clapp_s", 8, 1.0, 5, **gpu.FILM)
    print(flush=True)
    gpu.by_chunks(1.0, 32 * 49, 16, (1024, 128, 32))


def _slowest(found: "gpu.Report") -> None:  # noqa: F821
    """Leave the names of the two slowest kernels of our own to the stage that profiles them."""
    own = [name for name in found.slowest if "products" not in name]
    names = [name.partition(",")[0] for name in own[:2]]
    if OUT in os.environ:
        (Path(os.environ[OUT]) / SLOWEST).write_text(json.dumps(names))


def repeat(small: bool) -> None:
    """The same steps twice, bit for bit: in every precision, on images, sound and film."""
    import gpu
    import numpy as np

    from plasticity.arrays import to_host
    from plasticity.device import prefetched
    from plasticity.runs import run, training
    from plasticity.runs.options import RunOptions

    width, few = (0.02, {"layers": 1}) if small else (1.0, {})
    sound, film = (FEW_FRAMES, SMALL_FILM) if small else ({}, {})
    cases = {
        "images": {"batch": 2 if small else 32, **few},
        "images, tf32": {"batch": 2 if small else 32, "precision": "tf32", **few},
        "images, bfloat16": {"batch": 2 if small else 32, "precision": "bfloat16", **few},
        "sound": {"rule": "clapp_s", "batch": 2 if small else 8, **sound, **gpu.SOUND},
        "film": {"rule": "clapp_s", "batch": 2 if small else 8, **film, **gpu.FILM},
    }
    differ = []
    for name, how in cases.items():
        runs = []
        for _ in range(2):
            state = run.begin(RunOptions(device="cuda", width=width, **how))
            for batch in prefetched((state.batch(step) for step in range(2)), state.device):
                training.learn_batch(state, batch)
            runs.append([to_host(w) for own in state.weights.values() for w in own.values()])
        same = all(np.array_equal(a, b) for a, b in zip(*runs, strict=True))
        print(f"{name}: two runs of two steps have {'the same bits' if same else 'OTHER BITS'}")
        sys.stdout.flush()
        differ += [] if same else [name]
    if differ:
        sys.exit(f"these do not repeat: {', '.join(differ)}")


def graph(small: bool) -> None:
    """Steps as ever and by a CUDA graph: the time of each, and whether their bits are the same."""
    import cupy
    import gpu

    from plasticity.arrays import to_host
    from plasticity.device import sent
    from plasticity.runs import run, training
    from plasticity.runs.options import RunOptions
    from plasticity.runs.replay import Replay

    width, few, most = (0.02, {"layers": 1}, 2) if small else (1.0, {}, 32)
    cases = {
        "clapp": {"rule": "clapp", "batch": most, **few},
        "clapp, bfloat16": {"rule": "clapp", "batch": most, "precision": "bfloat16", **few},
        "hinge_cpc": {"rule": "hinge_cpc", "batch": most, **few},
        "clapp_s, film": {
            "rule": "clapp_s",
            "batch": 2,
            **(SMALL_FILM if small else {}),
            **gpu.FILM,
        },
    }
    begin, count, failed = 4, 2 if small else 20, []
    for name, how in cases.items():
        times, ends, graphs = {}, {}, None
        for kind in ("as ever", "by a graph"):
            state = run.begin(RunOptions(device="cuda", width=width, **how))
            graphs = Replay(state, training.learn_batch)
            made = [state.batch(step) for step in range(begin + count)]
            for number, coming in enumerate(sent(made, state.device)):
                if number == begin:
                    cupy.cuda.Device().synchronize()
                    start = time.perf_counter()
                if kind == "as ever":
                    training.learn_batch(state, coming.item)
                else:
                    graphs.step(coming)
            cupy.cuda.Device().synchronize()
            times[kind] = 1e3 * (time.perf_counter() - start) / count
            ends[kind] = [to_host(w) for own in state.weights.values() for w in own.values()]
        same = all(a.tobytes() == b.tobytes() for a, b in zip(*ends.values(), strict=True))
        told = ", ".join(f"{kind} {ms:.2f} ms" for kind, ms in times.items())
        bits = "the same bits" if same else "OTHER BITS"
        print(f"{name}: {told}; {bits}; {graphs.count} steps replayed {graphs.refused}", flush=True)
        failed += [] if same and graphs.count == count + 1 else [name]
    if failed:
        sys.exit(f"these were not replayed, or differ: {', '.join(failed)}")


def sanitizer(small: bool) -> None:
    """compute-sanitizer over every kernel, on small shapes: memory, and races in shared memory."""
    tool = shutil.which("compute-sanitizer")
    if tool is None:
        return print("compute-sanitizer: not there")
    for kind in ("memcheck", "racecheck"):
        command = [tool, "--tool", kind, "--error-exitcode", "9", sys.executable]
        command += ["-c", SMALL_KERNELS]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        print(f"{kind}: {'clean' if done.returncode == 0 else f'ended with {done.returncode}'}")
        print("\n".join((done.stdout + done.stderr).splitlines()[-25:]), flush=True)
        if done.returncode == 9:
            sys.exit(f"{kind} has found errors")


def profile(small: bool) -> None:
    """ncu over one launch of each of the two slowest kernels of a step of CLAPP-s."""
    tool, told = shutil.which("ncu"), Path(os.environ.get(OUT, "")) / SLOWEST
    if tool is None:
        return print("ncu: not there")
    if not told.is_file():
        return print("the stage `step` has named no kernel")
    for name in json.loads(told.read_text()):
        command = [tool, "--kernel-name", f"regex:^{name}", "--launch-skip", "2"]
        command += ["--launch-count", "1", "--section", "SpeedOfLight", "--section", "Occupancy"]
        command += ["--section", "MemoryWorkloadAnalysis", "--section", "WarpStateStats"]
        done = subprocess.run(
            [*command, sys.executable, "-c", ONE_STEP], cwd=ROOT, capture_output=True, text=True
        )
        print(f"{name}: ncu ended with {done.returncode}")  # a machine may forbid its counters
        print("\n".join((done.stdout + done.stderr).splitlines()[-60:]), flush=True)


def tests(small: bool) -> None:
    """`pytest -m gpu`."""
    import pytest

    marked = [p for p in sorted(ROOT.glob("tests/**/test_*.py")) if "mark.gpu" in p.read_text()]
    names = [str(p.relative_to(ROOT)) for p in marked]
    options = ["-o", "addopts=", "--import-mode=importlib", "-p", "no:cacheprovider"]
    few = ["-k", "adam or (events and float32) or items_of_any_size"] if small else []
    told = ["-v", "--tb=short", "--durations=10", "-m", "gpu"]
    sys.exit(pytest.main([*options, *told, *few, *names]))


def torch(small: bool) -> None:
    """Torch's training step on the same card."""
    import torch_on_card

    if small:
        torch_on_card.WAYS = {k: v for k, v in torch_on_card.WAYS.items() if not v[-1]}
        torch_on_card.report_sound(2, 0.02, 1, device="cpu", **FEW_FRAMES)
        torch_on_card.report("clapp", 2, 0.02, 1, device="cpu")
    else:
        torch_on_card.report_sound(8, 1.0, 20)
        torch_on_card.report("clapp", 32, 1.0, 20)


def train(small: bool) -> None:
    """A short training, and the probe of what it learned beside the random start."""
    from plasticity.device import peak_bytes
    from plasticity.probes.probe import probe_run
    from plasticity.runs import lifecycle, training
    from plasticity.runs.options import RunOptions

    size = {"width": 0.02, "batch": 2, "steps": 3} if small else {"steps": 400}
    size |= {} if small else photographs()
    how_many = (20, 10) if small else (2000, 1000)
    for rule in ("clapp",) if small else ("clapp", "clapp_s"):
        with tempfile.TemporaryDirectory() as scratch:
            options = RunOptions(rule=rule, device="cuda", **size)
            state, folder = lifecycle.start(options, f"{scratch}/run")
            start = time.perf_counter()
            training.train(state, folder)
            seconds = time.perf_counter() - start
            loss = state.metrics["loss"]
            print(f"{rule} on {options.data}: {len(loss)} steps in {seconds:.1f} s,"
                  f" {peak_bytes(state.device)} bytes taken")  # fmt: skip
            print("losses:", *(f"{a:.4f}" for a in loss[0]), "->", *(f"{a:.4f}" for a in loss[-1]))
            sys.stdout.flush()
            found = probe_run(state, train_images=how_many[0], test_images=how_many[1])
            columns = found.layers, found.trained, found.random
            for name, learned, random in zip(*columns, strict=True):
                print(f"{name}: {learned:.1%}, random weights {random:.1%}", flush=True)


def photographs() -> dict[str, str]:
    """CIFAR-10 where it lies in `shared/data`; the images that ship where it does not."""
    for folder in (ROOT / "shared" / "data", ROOT.parent / "shared" / "data"):
        if (folder / "cifar-10-batches-bin").is_dir():
            return {"data": "cifar10", "data_dir": str(folder)}
    return {}


@dataclass(frozen=True)
class Stage:
    run: Callable[[bool], None]
    seconds: int  # how long it may take


# The most telling first.
STAGES = {
    "card": Stage(card, 20),
    "kernels": Stage(kernels, 60),
    "step": Stage(step, 105),
    "torch": Stage(torch, 75),
    "graph": Stage(graph, 30),
    "repeat": Stage(repeat, 35),
    "tests": Stage(tests, 60),
    "train": Stage(train, 45),
    "sanitizer": Stage(sanitizer, 30),
    "profile": Stage(profile, 20),
}


def watched(command: list[str], output: Path, seconds: float) -> dict[str, object]:
    """Run a stage's process with its output in a file, and end it with all its children."""
    start = time.monotonic()
    with output.open("w") as file:
        process = subprocess.Popen(
            command,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )
        try:
            code = process.wait(seconds)
            how = "ended" if code == 0 else f"failed with {code}"
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            how = f"stopped after {seconds:g} s"
    return {"how": how, "seconds": round(time.monotonic() - start, 1), "output": output.name}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="the folder for what is found")
    parser.add_argument("--rehearse", action="store_true", help="on the stand-in, small")
    parser.add_argument("--only", help="these stages, with commas between")
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.stage:
        sys.path[:0] = [str(HERE), str(ROOT)]
        os.chdir(ROOT)
        with stand_in() if args.rehearse else nullcontext():
            STAGES[args.stage].run(args.rehearse)
        return
    if args.out is None:
        parser.error("--out FOLDER is missing")
    args.out.mkdir(parents=True, exist_ok=True)
    os.environ[OUT] = str(args.out.resolve())
    names = args.only.split(",") if args.only else list(STAGES)
    if unknown := set(names) - set(STAGES):
        parser.error(f"unknown stages {', '.join(sorted(unknown))}: expected {', '.join(STAGES)}")
    found, patience = {}, PATIENCE if args.rehearse else 1
    for name in names:
        command = [sys.executable, *sys.orig_argv[1:], "--stage", name]  # started alike
        output = args.out.resolve() / f"{name}.txt"
        found[name] = watched(command, output, STAGES[name].seconds * patience)
        (args.out / "summary.json").write_text(json.dumps(found, indent=2) + "\n")
        print(f"== {name}: {found[name]['how']}, {found[name]['seconds']} s")
        print(output.read_text(errors="replace")[-3000:], flush=True)
    sys.exit(any(stage["how"] != "ended" for stage in found.values()))


def stand_in() -> AbstractContextManager:
    from tests import standin

    return standin.installed()


if __name__ == "__main__":
    main()
