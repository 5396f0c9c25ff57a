"""What a step asks of a card, counted without one: on the stand-in for CuPy that the tests use.

    python benchmarks/launches.py [--rules clapp,clapp_s] [--net vgg5_video] [--batch 32]

Of a training step as a run takes it: launches of our own kernels, cuBLAS's products, CuPy's
operations on arrays (what it computes, copies or fills), sorts among them, and how often the host
waits for the card. The counts do not depend on the width of the network, but for layers whose
tiles take more than 1 GiB, which go by parts. Then the time that Python takes for a step whose
launches compute nothing, and for a batch in the loader's thread, as seconds of each thread. What
the stand-in does for CuPy is among them; by a profile's shares, the part that is this project's
own lines, with the builtins that they call, is told beside it. `replayed` is what the host asks
for in a step that a CUDA graph takes, the copy of the batch not among it, and Python's time.
"""

import argparse
import cProfile
import pstats
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from plasticity import kernels
from plasticity.device import Sent, sent
from plasticity.runs import run, training
from plasticity.runs.options import RunOptions
from plasticity.runs.replay import Replay
from tests import standin

ROOT = Path(__file__).resolve().parent.parent
SORTS = ("argsort", "searchsorted", "bincount", "nonzero")
PRODUCTS = ("gemm", "matmul", "einsum", "vdot")


@dataclass(frozen=True)
class Count:
    """Of one step; milliseconds of Python for it, those of our own lines, and of the loader for a
    batch; and of a step that a CUDA graph takes what the host asks for, and Python's milliseconds.
    """

    launches: int
    products: int
    operations: int
    sorts: int
    waits: int
    step: float
    own: float
    loading: float
    replayed: int
    replay: float

    @property
    def all(self) -> int:
        """Everything that the host gives the device to do."""
        return self.launches + self.products + self.operations + self.sorts


def counted(rule: str, batch: int, repeat: int, **how: object) -> Count:
    """Count a step of a small network, and time it.

    Args:
        repeat: steps that are timed, of which the median counts; how: further options of the run.
    """
    with standin.installed() as machine:
        options = {"rule": rule, "batch": batch, "width": 0.02, "device": "cuda", **how}
        state = run.begin(RunOptions(**options))
        loading: list[float] = []
        graphs = Replay(state, training.learn_batch)

        def batches() -> Iterator[object]:
            for step in range(3 * repeat + 7):
                start = time.thread_time()
                made = state.batch(step)
                loading.append(time.thread_time() - start)
                yield made

        # What computes nothing leaves any numbers.
        quiet = np.errstate(over="ignore", invalid="ignore", divide="ignore")
        with quiet, kernels.own_threads(), closing(sent(batches(), state.device)) as fed:
            for _ in range(2):
                training.learn_batch(state, next(fed).item)
            machine.forget()
            training.learn_batch(state, next(fed).item)
            operations, launches = dict(machine.operations), machine.launches.total()
            # Pinned memory is filled again when the copy from it is long done.
            waits = len(machine.fetched) + machine.waits - 1
            for _ in range(3):  # as ever, rehearsed, and captured
                graphs.step(next(fed))
            machine.forget()
            graphs.step(next(fed))
            if graphs.refused or not graphs.count:
                raise RuntimeError(graphs.refused or f"the draws of {rule} have no common form")
            asked = sum(machine.operations.values()) + machine.launches.total()
            machine.idle = True

            def timed(learn: Callable[[Sent], object]) -> float:
                taken = []
                for _ in range(repeat):
                    before, start = len(loading), time.thread_time()
                    learn(next(fed))
                    taken.append(time.thread_time() - start - sum(loading[before:]))
                return 1e3 * statistics.median(taken)

            step = timed(lambda coming: training.learn_batch(state, coming.item))
            replay = timed(graphs.step)
            profile = cProfile.Profile(time.thread_time)
            for _ in range(repeat):
                given = next(fed).item
                profile.runcall(training.learn_batch, state, given)
    of = [sum(operations.get(name, 0) for name in names) for names in (PRODUCTS, SORTS)]
    others = sum(operations.values()) - sum(of)
    load, own = 1e3 * statistics.median(loading[3:]), step * own_share(profile)
    return Count(launches, of[0], others, of[1], waits, step, own, load, asked, replay)


def own_share(profile: cProfile.Profile) -> float:
    """The part of the time that went to lines of this project, and to builtins that they call."""
    own = total = 0.0
    for (file, *_), (_, _, inside, _, callers) in pstats.Stats(profile).stats.items():
        total += inside
        if file == "~":  # a builtin: of whoever calls it
            own += sum(time for (of, *_), (*_, time, _) in callers.items() if _ours(of))
        elif _ours(file):
            own += inside
    return own / total if total else 0.0


def _ours(file: str) -> bool:
    return Path(file).is_relative_to(ROOT) and not Path(file).is_relative_to(ROOT / "tests")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rules", default="clapp,clapp_s,hinge_cpc,cpc,hebbian")
    parser.add_argument("--net", default="vgg6")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--repeat", type=int, default=20)
    args = parser.parse_args()
    heads = ("launches", "products", "operations", "sorts", "in all", "waits")
    print(
        f"{'rule':10}",
        *(f"{head:>10}" for head in heads),
        f"{'Python, ms':>11} {'ours, ms':>9} {'loader, ms':>11} {'replayed':>9} {'ms':>5}",
    )
    for rule in args.rules.split(","):
        c = counted(rule, args.batch, args.repeat, net=args.net)
        numbers = (c.launches, c.products, c.operations, c.sorts, c.all, c.waits)
        times = f"{c.step:11.2f} {c.own:9.2f} {c.loading:11.2f} {c.replayed:9} {c.replay:5.2f}"
        print(f"{rule:10}", *(f"{n:10}" for n in numbers), times)


if __name__ == "__main__":
    main()
