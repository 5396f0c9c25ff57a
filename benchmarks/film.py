"""A training step of CLAPP-s on film, beside plain torch with autograd, in turns.

    python benchmarks/film.py [--width 0.25] [--batch 4] [--frames 36] [--side 96] [--turns 5]

Each is a process of its own, so that its memory is its own; the least of its steps is told, by the
clock and by the processor, since others may work on the same cores. torch is run with channels
last and as it lays tensors out by itself.
"""

import argparse
import os
import resource
import subprocess
import sys
import time

import numpy as np
from plasticity.rules import get

from plasticity import learning, networks
from plasticity.events import Layout
from plasticity.learning import Optimiser, Pace
from plasticity.stimuli import Film

KINDS = ("plasticity", "torch, channels last", "torch")
STEPS, K = 3, 3


def ours(net, x):
    """A step, as a function of its number."""
    modules, layout = net.modules("layers"), Layout(1, len(x), 1, skip=0)
    rule = get("clapp_s", steps=K, symmetric=True, reads="map", negatives_from="others")
    started = learning.prepare(net, rule, modules, 0)
    weights = {u: {n: w.astype(np.float32) for n, w in o.items()} for u, o in started.items()}
    adam, reading = Optimiser.start(Pace(1e-3), weights), Film.reading
    layouts = [reading.layout(layout, shape[:-1]) for shape in net.shapes(x.shape[1:-1])]

    def step(i):
        draws = learning.draws(rule, layouts, modules, 0, i)
        draws = [draw.on("cpu", np.dtype(np.float32)) for draw in draws]
        how = net, rule, modules, weights, x, layout, draws
        for update in learning.updates(*how, reading=reading):
            adam.ascend(weights, update.changes, i + 1)
            for unit, own in update.state.items():
                weights[unit] |= own

    return step


def theirs(net, x, last):
    """The same in torch."""
    import torch
    from torch_film import Peer

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    order = torch.channels_last_3d if last else torch.contiguous_format
    peer = Peer(net, K, 1e-3, order)
    inputs = torch.tensor(np.moveaxis(x, -1, 1).copy()).contiguous(memory_format=order)
    return lambda i: peer.step(inputs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=float, default=0.25)
    for name, default in (("batch", 4), ("frames", 36), ("side", 96), ("turns", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--kind", choices=KINDS)
    given = parser.parse_args()
    if given.kind is None:
        for _ in range(given.turns):
            for kind in KINDS:
                subprocess.run([sys.executable, *sys.argv, "--kind", kind], check=True)
        return
    net = networks.get("vgg5_video", width=given.width)
    shape = (given.batch, given.frames, given.side, given.side, 3)
    x = np.random.default_rng(0).standard_normal(shape, np.float32)
    mine = given.kind == "plasticity"
    step = ours(net, x) if mine else theirs(net, x, given.kind.endswith("last"))
    seconds, busy = [], []
    for i in range(1 + STEPS):
        start, used = time.perf_counter(), time.process_time()
        step(i)
        seconds.append(time.perf_counter() - start)
        busy.append(time.process_time() - used)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    told = f"{min(seconds[1:]):6.2f} s a step, {min(busy[1:]):6.2f} s of processors"
    print(f"{given.kind:<22} {told}, {memory:6.0f} MB", flush=True)


if __name__ == "__main__":
    main()
