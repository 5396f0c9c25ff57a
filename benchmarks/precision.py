"""What `--precision` costs: dW beside float64, and what a training comes to. Needs no card.

python benchmarks/precision.py updates    # full-width VGG-6, half a minute
python benchmarks/precision.py training   # 500 steps at an eighth of it, three seeds: minutes
"""

from collections.abc import Callable

import click
import numpy as np

from plasticity.kernels import PRECISIONS
from plasticity.network import Parameters
from plasticity.probes.probe import probe_run
from plasticity.runs import run, training
from plasticity.runs.options import RunOptions

HOW = {"rule": "clapp_s", "device": "cpu"}


def met(state: run.State) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """dW of every layer's weights in the next step, and who has won, or that nobody has."""
    winners: dict[str, np.ndarray] = {}
    watch = lambda watched: winners.update({s.layer.name: s.winner for s in watched.layers})  # noqa: E731
    changes = {
        name: np.asarray(own["weight"], float)
        for update in state.next(watch)[1]
        for name, own in update.changes.items()
        if "weight" in own
    }
    return changes, winners


@click.group()
def main() -> None:
    """Tables of what precision costs."""


@main.command()
@click.option("--width", default=1.0)
@click.option("--batch", default=4)
def updates(width: float, batch: int) -> None:
    """The distance of dW from float64's, over its length, with the same weights and draws; and of
    winners, the silent ones included, how many are others."""
    states = {p: _begun(width, batch, precision=p) for p in PRECISIONS}
    exact = _begun(width, batch, dtype="float64")
    exact.weights = _mapped(states["float32"].weights, lambda w: w.astype(float))
    wanted, won = met(exact)
    heads = [f"dW, {p}" for p in states] + [f"other winners, {p}" for p in states]
    print(f"| layer | {' | '.join(heads)} |\n|---{'|---' * len(heads)}|")
    found = [met(state) for state in states.values()]
    for name, dW in wanted.items():
        cells = [f"{np.linalg.norm(own[name] - dW) / np.linalg.norm(dW):.1e}" for own, _ in found]
        cells += [f"{100 * (own[name] != won[name]).mean():.2g} %" for _, own in found]
        print(f"| {name} | {' | '.join(cells)} |")


@main.command("training")
@click.option("--width", default=0.125)
@click.option("--batch", default=4)
@click.option("--steps", default=500)
@click.option("--lr", default=1e-3)
@click.option("--seeds", default=3)
def trained(width: float, batch: int, steps: int, lr: float, seeds: int) -> None:
    """Losses over the last 50 steps and probes, mean and spread over seeds, and the mean distance
    from float32 with the same seed."""
    losses, accuracy = ({p: [] for p in PRECISIONS} for _ in range(2))
    for seed in range(seeds):
        for precision in PRECISIONS:
            state = _begun(width, batch, precision=precision, seed=seed, lr=lr, steps=steps)
            told = [training.learn_batch(state, state.batch(s))["loss"] for s in range(steps)]
            losses[precision].append(np.mean(np.array(told, float)[-50:], axis=0))
            probed = probe_run(state, train_images=1000, test_images=1000, beside_random=False)
            accuracy[precision].append(100 * np.array(probed.trained))
    names = [layer.name for layer in state.network.layers]
    for what, of, digits in (("loss", losses, 3), ("accuracy, %", accuracy, 1)):
        print(f"\n| {what} | {' | '.join(names)} |\n|---{'|---' * len(names)}|")
        full = np.array(of["float32"])
        for precision in PRECISIONS:
            every = np.array(of[precision])
            cells = (
                f"{m:.{digits}f} ± {s:.{digits}f}"
                for m, s in zip(every.mean(axis=0), every.std(axis=0, ddof=1), strict=True)
            )
            print(f"| {precision} | {' | '.join(cells)} |")
        for precision in list(PRECISIONS)[1:]:
            apart = np.abs(np.array(of[precision]) - full).mean(axis=0)
            cells = (f"{a:.{digits}f}" for a in apart)
            print(f"| {precision}, from float32 of the same seed | {' | '.join(cells)} |")


def _begun(width: float, batch: int, **more: object) -> run.State:
    return run.begin(RunOptions(**HOW, width=width, batch=batch, **more))


def _mapped(weights: Parameters, change: Callable[[np.ndarray], np.ndarray]) -> Parameters:
    return {la: {n: change(w) for n, w in own.items()} for la, own in weights.items()}


if __name__ == "__main__":
    main()
