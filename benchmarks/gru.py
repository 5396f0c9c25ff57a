"""A step of the GRU, forwards and dW with the error at its input, beside torch's autograd.

    python benchmarks/gru.py --repeat 15

torch has its own `torch.nn.GRU`, which is BPTT, and the unit's equations in a loop over time, as
one writes it where the time before is to be cut off; both with their gradients by autograd, on one
thread and on one for each core, for its threads wait for each other at every time. Float32; each
alone for a while, the least and the median of its times.
"""

import statistics
import time
from collections.abc import Callable

import click
import numpy as np
import torch

from plasticity import kernels
from plasticity.kernels.cpu import threads
from plasticity.layers import Gru

SIZES = ((512, 256), (64, 32))  # inputs, neurons
STEPS = 3  # timed together


def ours(layer: Gru, x: np.ndarray, error: np.ndarray, weights: dict) -> Callable[[], object]:
    """A step with the layer's credit."""

    def step() -> None:
        with kernels.own_threads():  # as a step of training does, once for all layers
            for _ in range(STEPS):
                _, kept, _ = layer.forward(x, weights)
                layer.learn(kept, error, weights, True)

    return step


def theirs(
    layer: Gru, x: np.ndarray, error: np.ndarray, weights: dict, loop: bool
) -> Callable[[], object]:
    """torch's own unit, or the layer's `in_torch`, with autograd."""
    unit = torch.nn.GRU(layer.inputs, layer.outputs, batch_first=True)
    own = {n: getattr(unit, f"{n}_l0") for n in weights[layer.name]}
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(torch.tensor(weights[layer.name][name]))
    order = (0, 2, 1) if loop else (0, 1, 2)
    given = torch.tensor(x.transpose(order).copy(), requires_grad=True)
    wanted = torch.tensor(error.transpose(order).copy())

    def step() -> None:
        for _ in range(STEPS):
            unit.zero_grad()
            given.grad = None
            if loop:
                h = layer.in_torch(torch.nn.functional, given, {layer.name: own})
            else:
                h = unit(given)[0]
            h.backward(wanted)

    return step


@click.command(help=__doc__.splitlines()[0])
@click.option("--batch", default=8)
@click.option("--times", default=128)
@click.option("--repeat", default=15)
def main(batch: int, times: int, repeat: int) -> None:
    """Print milliseconds."""
    for inputs, neurons in SIZES:
        rng, F = np.random.default_rng(0), np.float32
        x = rng.standard_normal((batch, times, inputs), F)
        error = rng.standard_normal((batch, times, neurons), F)
        made = Gru("gru", inputs, neurons)
        weights = {"gru": {n: w.astype(F) for n, w in made.prepare(rng).items()}}
        print(f"{inputs} inputs, {neurons} neurons, {batch} sequences of {times} times")
        for credit in kernels.CREDITS:
            layer = Gru("gru", inputs, neurons, credit)
            show(credit, ours(layer, x, error, weights), repeat)
        for count in (1, threads.count()):
            torch.set_num_threads(count)
            unit = theirs(made, x, error, weights, False)
            show(f"torch.nn.GRU, {count} threads", unit, repeat)
            for credit in ("bptt", "eprop"):
                unit = theirs(Gru("gru", inputs, neurons, credit), x, error, weights, True)
                show(f"a loop in torch, {credit}, {count} threads", unit, repeat)


def show(what: str, step: Callable[[], object], repeat: int) -> None:
    """Print the least and the median time of a step, after two that are not counted."""
    spent = []
    for _ in range(repeat + 2):
        start = time.perf_counter()
        step()
        spent.append(1e3 / STEPS * (time.perf_counter() - start))
    print(f"  {what:34}{min(spent[2:]):9.2f}{statistics.median(spent[2:]):9.2f} ms", flush=True)


if __name__ == "__main__":
    main()
