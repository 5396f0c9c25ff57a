"""A training step of CLAPP-s on sound beside plain torch, written for the purpose.

    python benchmarks/sound_step.py --width 0.125            # times
    python benchmarks/sound_step.py --width 0.125 --memory   # peak memory, a process for each

torch's gather of negatives is faster on one thread than on two on some machines, so that it is
timed both ways. Times of a machine that others use too are best compared by the processor's time,
in which torch's threads count how long they wait for each other.
"""

import json
import pickle
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import numpy as np

OURS = ("plasticity, bptt", "plasticity, e-prop")
PEERS = (*OURS, "torch, 1 thread", "torch, 2 threads")
PAUSE = 0.5  # seconds, in which the threads of the one before stop waiting for work
Plain = tuple[np.ndarray, list[list[tuple[int, np.ndarray]]]]


def begun(width: float, credit: str = "bptt", device: str = "cpu") -> "State":  # noqa: F821
    """The run that `plasticity run` would begin."""
    from plasticity.runs import run
    from plasticity.runs.options import RunOptions

    how = {"rule": "clapp_s", "net": "audio", "weights": "symmetric", "credit": credit}
    return run.begin(RunOptions(width=width, device=device, **how))


def plain(state: "State", batch: "Batch") -> Plain:  # noqa: F821
    """Inputs and draws of a batch as `torch_sound.Peer.given` takes them."""
    from torch_sound import events

    return state.stimulus.inputs(batch, np.dtype("f4")), events(batch.draws, state.layouts)


class Ours:
    """The same run as `plasticity run` makes it."""

    def __init__(self, width: float, credit: str, turns: int) -> None:
        self.state = begun(width, credit)
        self.batches = [self.state.batch(turn) for turn in range(turns)]

    def step(self, turn: int) -> None:
        from plasticity.runs import training

        found = training.learn_batch(self.state, self.batches[turn])
        [float(loss) for loss in found["loss"]]

    def encode(self, turn: int) -> None:
        x = self.state.stimulus.inputs(self.batches[turn], np.dtype("f4"))
        for _ in self.state.network.maps(x, self.state.weights):
            pass


class Torch:
    def __init__(self, width: float, threads: int, given: list[Plain]) -> None:
        import torch_sound

        self.peer, self.threads = torch_sound.Peer(width), threads
        self.given = [self.peer.given(*one) for one in given]

    def step(self, turn: int) -> None:
        self._with_its_threads()
        float(self.peer.step(*self.given[turn]))

    def encode(self, turn: int) -> None:
        self._with_its_threads()
        self.peer.encode(self.given[turn][0])

    def _with_its_threads(self) -> None:
        import torch

        torch.set_num_threads(self.threads)


def peer(name: str, width: float, given: list[Plain]) -> Ours | Torch:
    library, how = name.split(", ")
    if library == "torch":
        return Torch(width, int(how.split()[0]), given)
    return Ours(width, how.replace("-", ""), len(given))


def times(width: float, repeat: int, who: tuple[str, ...]) -> None:
    """All in turns; milliseconds, and the median ratio to the first of them, by both clocks."""
    from plasticity import kernels

    state = begun(width)
    given = [plain(state, state.batch(turn)) for turn in range(repeat + 1)]
    peers = {name: peer(name, width, given) for name in who}
    clocks = time.perf_counter, time.process_time
    with kernels.own_threads():
        for what in ("step", "encode"):
            spent: dict[str, list[list[float]]] = {name: [] for name in peers}
            for turn in range(repeat + 1):
                for name, one in peers.items():
                    time.sleep(PAUSE)
                    start = [clock() for clock in clocks]
                    getattr(one, what)(turn)
                    if turn:
                        at = zip(clocks, start, strict=True)
                        spent[name].append([clock() - then for clock, then in at])
            print(f"{what}: {'wall':>24} {'ratio':>7} {'processor':>13} {'ratio':>7}")
            for name, found in spent.items():
                line = f"  {name:20}"
                for clock in range(len(clocks)):
                    own = [turn[clock] for turn in found]
                    base = [turn[clock] for turn in spent[who[0]]]
                    ratio = statistics.median(a / b for a, b in zip(own, base, strict=True))
                    line += f" {1e3 * statistics.median(own):9.1f} ms {ratio:7.2f}"
                print(line, flush=True)


def memory(width: float, repeat: int, who: tuple[str, ...]) -> None:
    """Peak resident memory of some steps, in MiB, each peer in a process of its own."""
    state = begun(width)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "batches"
        path.write_bytes(pickle.dumps([plain(state, state.batch(t)) for t in range(repeat)]))
        peaks: dict[str, float] = {}
        for name in who:
            command = [sys.executable, __file__, "--width", str(width), "--one", name, str(path)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found = json.loads(done.stdout.splitlines()[-1])
            peaks[name] = found["peak"]
            ratio = f"   the first is {peaks[who[0]] / found['peak']:.2f} of it"
            print(f"  {name:20} imported {found['start']:6.0f}  peak {found['peak']:6.0f}{ratio}")


def one(name: str, width: float, path: str) -> None:
    """The memory of this process after some steps of one peer."""
    if name not in OURS:
        import torch  # noqa: F401
    from memory import resident

    from plasticity import kernels

    highest = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # noqa: E731
    start, given = resident(), pickle.loads(Path(path).read_bytes())
    made = peer(name, width, given)
    with kernels.own_threads():
        for turn in range(len(given)):
            made.step(turn)
    print(json.dumps({"start": start, "peak": highest()}))


@click.command()
@click.option("--width", default=1.0)
@click.option("--repeat", default=5, help="Turns, after one that is not counted.")
@click.option("--memory", "what", flag_value="memory", help="Peak memory in place of times.")
@click.option("--who", multiple=True, default=PEERS, type=click.Choice(PEERS))
@click.option("--one", nargs=2, hidden=True)
def main(
    width: float,
    repeat: int,
    what: str | None,
    who: tuple[str, ...],
    **hidden: tuple[str, str] | None,
) -> None:
    """Time ours and torch's in turns, or see how much memory each takes."""
    if hidden["one"]:
        name, path = hidden["one"]
        one(name, width, path)
        return
    print(platform.processor() or platform.machine(), f"width {width:g}, batch 8, float32")
    (memory if what else times)(width, min(repeat, 3) if what else repeat, who)


if __name__ == "__main__":
    main()
