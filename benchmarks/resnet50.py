"""A training step of GIM on ResNet-50 in three modules, ours and torch's autograd, in turns.

The peer is the reference of the tests in float32, with torch's fused Adam, in torch's own order of
maps and in channels_last.

python benchmarks/resnet50.py --width 1 --batch 8 --repeat 3
"""

import os
import statistics
import time

os.environ.pop("OPENBLAS_CORETYPE", None)  # it slows NumPy's products where it is set

import click
import numpy as np

from plasticity import learning, networks, rules
from plasticity.events import Layout


class Ours:
    """The explicit rule."""

    def __init__(self, width: float, batch: int) -> None:
        self.network, self.rule = networks.get("resnet50", width=width), rules.get("gim")
        self.modules = self.network.modules(self.rule.modules)
        weights = learning.prepare(self.network, self.rule, self.modules, seed=0)
        self.weights = {
            la: {n: w.astype(np.float32) for n, w in own.items()} for la, own in weights.items()
        }
        self.layout, self.count = Layout(7, batch, 7), 0
        self.adam = learning.Adam.start(2e-4, self.weights)

    def draws(self) -> list:
        drawn = learning.draws(self.rule, self.layout, self.modules, 0, self.count)
        return [draw.on("cpu", np.dtype("float32")) for draw in drawn]

    def step(self, patches: np.ndarray) -> list[float]:
        """Losses of the modules, after which they have learned."""
        losses, choices = [], self.draws()
        self.count += 1
        for update in learning.updates(
            self.network, self.rule, self.modules, self.weights, patches, self.layout, choices
        ):
            self.adam.ascend(self.weights, update.changes, self.count)
            losses.append(float(update.loss))
        return losses


class Peer(Ours):
    """The same losses of the same draws by autograd."""

    def __init__(self, width: float, batch: int, channels_last: bool) -> None:
        import torch

        super().__init__(width, batch)
        self.format = torch.channels_last if channels_last else torch.contiguous_format

        def tensor(w: np.ndarray) -> torch.Tensor:
            w = torch.from_numpy(w.copy())
            w = w.to(memory_format=self.format) if w.ndim == 4 else w
            return w.requires_grad_()

        self.tensors = {
            la: {n: tensor(w) for n, w in own.items()} for la, own in self.weights.items()
        }
        flat = [w for own in self.tensors.values() for w in own.values()]
        self.optimiser = torch.optim.Adam(flat, lr=2e-4, fused=True)

    def step(self, patches: np.ndarray) -> list[float]:
        import torch

        from plasticity import reference
        from plasticity.verify import in_words_of_the_reference

        x = torch.from_numpy(np.moveaxis(patches, -1, 1)).contiguous(memory_format=self.format)
        found = reference.encodings(self.network, self.modules, self.tensors, x)
        _, draws = in_words_of_the_reference(self.rule, self.draws())
        how = {"symmetric": True, "block_grad": False, "eps": 1e-11}
        losses = []
        for module, z, draw in zip(self.modules, found, draws, strict=True):
            own = self.tensors[self.network.layers[module[-1]].convolutions[-1].name]
            losses.append(reference.info_nce_loss(z, own, draw, **how))
        self.count += 1
        self.optimiser.zero_grad()
        sum(losses).backward()
        self.optimiser.step()
        return [loss.item() for loss in losses]


@click.command()
@click.option("--width", default=1.0)
@click.option("--batch", default=8)
@click.option("--repeat", default=3, help="Turns, after one that is not counted.")
def main(width: float, batch: int, repeat: int) -> None:
    """Time all, print images/s and for each peer the median of the ratios of turns."""
    shape = (49 * batch, 16, 16, 1)
    patches = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    who = {
        "plasticity": Ours(width, batch),
        "torch": Peer(width, batch, channels_last=False),
        "torch, channels_last": Peer(width, batch, channels_last=True),
    }
    seconds: dict[str, list[float]] = {name: [] for name in who}
    for turn in range(repeat + 1):
        for name, peer in who.items():
            start = time.perf_counter()
            losses = peer.step(patches)
            if turn:
                seconds[name].append(time.perf_counter() - start)
            print(f"turn {turn} {name:22s} losses", *(f"{loss:.4f}" for loss in losses))
    ours = seconds["plasticity"]
    for name, times in seconds.items():
        ratio = statistics.median(b / a for a, b in zip(ours, times, strict=True))
        speed = batch / statistics.median(times)
        print(f"{name:22s} {speed:6.2f} images/s   {ratio:5.2f} times our time")


if __name__ == "__main__":
    main()
