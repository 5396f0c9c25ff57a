"""A peer: VGG-6 trained layer by layer with torch's autograd, the way one writes it in torch.

Modules of convolution, ReLU and MaxPool on patches in NCHW, gradient-isolated by `detach`; for each
prediction step a 1x1 convolution on the (image, neuron, row, column) encodings and a hinge loss;
one backward pass over the sum of the losses; an Adam for each module.
"""

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F  # noqa: N812
from plasticity.networks.vgg6 import LAYERS

STEPS = 5


class Module(nn.Module):
    """One layer and its prediction matrices."""

    def __init__(self, inputs: int, outputs: int, pool: int) -> None:
        super().__init__()
        layers = [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
        self.model = nn.Sequential(*layers, *([nn.MaxPool2d(2)] if pool == 2 else []))
        self.pred, self.retro = (
            nn.ModuleList(nn.Conv2d(outputs, outputs, 1, bias=False) for _ in range(STEPS))
            for _ in range(2)
        )

    def loss(self, z: torch.Tensor, coin: bool) -> torch.Tensor:
        """Both halves of Eq. (14) on encodings `(B, D, rows, columns)`, each with its own draw."""
        halves = ((self.pred, z.detach(), z, True), (self.retro, z, z.detach(), False))
        total = z.new_zeros(())
        for W, contexts, targets, forwards in halves:
            B = len(z)
            fixation = torch.rand(B) < 0.5 if coin else torch.ones(B, dtype=torch.bool)
            saccade = ~fixation if coin else fixation
            for k in range(1, STEPS + 1):
                c, t = contexts[:, :, : -(k + 1)], targets[:, :, k + 1 :]
                other = t[(torch.arange(B) + torch.randint(1, B, (B,))) % B]
                for sign, chosen, sample in ((1, fixation, t), (-1, saccade, other)):
                    if not chosen.any():
                        continue
                    a, b = (sample, c) if forwards else (c, sample)
                    u = (a * W[k - 1](b)).sum(1)
                    total = total + F.relu(1 - sign * u)[chosen].mean() / STEPS
        return total


class Peer:
    """Trains and encodes images `(B, 64, 64)`, already normalised."""

    def __init__(self, rule: str = "clapp", width: float = 1.0, lr: float = 2e-4) -> None:
        self.coin = rule == "clapp"
        sizes = [1, *(max(1, round(n * width)) for n, _ in LAYERS)]
        self.modules = [
            Module(a, b, pool) for a, b, (_, pool) in zip(sizes, sizes[1:], LAYERS, strict=False)
        ]
        self.optimisers = [torch.optim.Adam(m.parameters(), lr=lr) for m in self.modules]

    @staticmethod
    def patches(images: np.ndarray) -> torch.Tensor:
        """`(B * 49, 1, 16, 16)`."""
        cut = torch.as_tensor(images).unfold(1, 16, 8).unfold(2, 16, 8)
        return cut.reshape(-1, 1, 16, 16)

    def maps(self, images: np.ndarray) -> list[torch.Tensor]:
        """Encodings `(B, D, 7, 7)` of every module."""
        x, found = self.patches(images), []
        for module in self.modules:
            x = module.model(x.detach())
            found.append(x.mean((2, 3)).reshape(len(images), 7, 7, -1).permute(0, 3, 1, 2))
        return found

    def step(self, images: np.ndarray) -> list[float]:
        """One step of learning of all modules."""
        losses = [
            m.loss(z, self.coin) for m, z in zip(self.modules, self.maps(images), strict=True)
        ]
        sum(losses).backward()
        for optimiser in self.optimisers:
            optimiser.step()
            optimiser.zero_grad()
        return [loss.item() for loss in losses]

    def encode(self, images: np.ndarray) -> list[torch.Tensor]:
        """The encoding of whole images, layer by layer."""
        with torch.no_grad():
            return [z.mean((2, 3)) for z in self.maps(images)]
