"""A training step of GIM on ResNet-50 in three modules, ours and torch's autograd, in turns.

The peer is the reference of the tests in float32, with torch's fused Adam, in torch's own order of
maps and in channels_last.

python benchmarks/resnet50.py --width 1 --batch 8 --repeat 3
"""

import click
import numpy as np
from training_step import Ours, in_turns

from plasticity.events import Layout


class Peer(Ours):
    """The same losses of the same draws by autograd."""

    def __init__(self, width: float, channels_last: bool) -> None:
        import torch

        super().__init__("gim", width, net="resnet50")
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

    def step(self, images: np.ndarray) -> list[float]:
        import torch

        from plasticity.verification import autograd
        from plasticity.verification.gradient import in_words_of_the_reference

        patches = np.moveaxis(self.patches(images), -1, 1)
        x = torch.from_numpy(patches).contiguous(memory_format=self.format)
        found = autograd.encodings(self.network, self.modules, self.tensors, x)
        _, draws = in_words_of_the_reference(self.rule, self.draws(Layout(7, len(images), 7)))
        how = {"symmetric": True, "block_grad": False, "eps": 1e-11}
        losses = []
        for module, z, draw in zip(self.modules, found.values(), draws, strict=True):
            own = self.tensors[self.network.layers[module[-1]].convolutions[-1].name]
            losses.append(autograd.info_nce_loss(z, own, draw, **how))
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
    images = np.random.default_rng(0).standard_normal((batch, 64, 64)).astype(np.float32)
    who = {
        "plasticity": Ours("gim", width, net="resnet50"),
        "torch": Peer(width, channels_last=False),
        "torch, channels_last": Peer(width, channels_last=True),
    }
    for name, peer in who.items():
        print(f"losses, {name:22s}", *(f"{loss:.4f}" for loss in peer.step(images)))
    in_turns(who, "step", images, repeat)


if __name__ == "__main__":
    main()
