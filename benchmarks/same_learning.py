"""Does a float32 run learn what plain torch learns? Probe accuracy of both, over seeds.

    python benchmarks/same_learning.py --rule clapp_s --width 0.125 --steps 500 --seeds 3

Both train on the shipped images from weights of their own and draws of their own; the figures
should agree within the spread of seeds, not digit by digit.
"""

import click
import numpy as np
import torch

from plasticity import data
from plasticity.probes import linear
from plasticity.stimuli import Images


def normalised(images: data.ImageSet, batch: data.Batch) -> np.ndarray:
    """The crops of a batch, flipped and normalised, float32 `(B, 64, 64)`."""
    pixels = np.where(batch.flip[:, None, None], batch.pixels[:, :, ::-1], batch.pixels)
    return ((pixels / 255 - images.mean[0]) / images.std[0]).astype(np.float32)


@click.command()
@click.option("--rule", type=click.Choice(["clapp", "clapp_s"]), default="clapp_s")
@click.option("--width", default=0.125)
@click.option("--batch", default=8)
@click.option("--steps", default=500)
@click.option("--lr", default=1e-3)
@click.option("--seeds", default=3)
def main(rule: str, width: float, batch: int, steps: int, lr: float, seeds: int) -> None:
    """Train both and print accuracy by layer, mean and standard deviation over seeds."""
    import torch_published
    from training_step import Ours

    sets = {split: data.open_set("sample", split) for split in ("unlabelled", "train", "test")}
    pick = {"train": np.arange(0, 6000, 6), "test": np.arange(1000)}
    accuracy: dict[str, list[list[float]]] = {"plasticity": [], "torch": []}
    for seed in range(seeds):
        torch.manual_seed(seed)
        peers = {
            "plasticity": Ours(rule, width, lr, seed),
            "torch": torch_published.Peer(rule, width, lr),
        }
        for name, peer in peers.items():
            for step in range(steps):
                made = Images(sets["unlabelled"]).batch(step, seed, batch)
                peer.step(normalised(sets["unlabelled"], made))
            z = {}
            for split, index in pick.items():
                parts = [
                    [np.asarray(a) for a in peer.encode(normalised(sets[split], b))]
                    for b in Images(sets[split]).in_order(index, 50)
                ]
                z[split] = [np.concatenate(layer) for layer in zip(*parts, strict=True)]
            labels = {split: sets[split].labels[index] for split, index in pick.items()}
            accuracy[name].append(
                [
                    100 * linear.logistic(a, labels["train"], b, labels["test"], 10).accuracy
                    for a, b in zip(z["train"], z["test"], strict=True)
                ]
            )
            print(name, seed, np.round(accuracy[name][-1], 1), flush=True)
    for name, values in accuracy.items():
        cells = zip(np.mean(values, axis=0), np.std(values, axis=0, ddof=1), strict=True)
        print(f"| {name} | {' | '.join(f'{m:.1f} ± {s:.1f}' for m, s in cells)} |")


if __name__ == "__main__":
    main()
