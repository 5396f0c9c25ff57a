"""A peer: VGG-6 trained layer by layer with torch's autograd, the way one writes it in torch.

Modules of convolution, ReLU and MaxPool on patches in NCHW, gradient-isolated by `detach`; for each
prediction step a 1x1 convolution on the (image, neuron, row, column) encodings and a hinge loss;
one backward pass over the sum of the losses; an Adam for each module.
"""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F  # noqa: N812
from plasticity.networks.vgg6 import LAYERS

STEPS = 5


class Half(NamedTuple):
    """The draw of one half of Eq. (14) in one module.

    `fixation` and `saccade` `(B,)` bool: images that take part with that sign; `others (K, B)`:
    the image that each image takes its negative from, for each prediction step.
    """

    fixation: torch.Tensor
    saccade: torch.Tensor
    others: torch.Tensor


def draw(images: int, coin: bool, modules: int) -> list[tuple[Half, Half]]:
    """For every module its two halves; negatives by a permutation that leaves no image in place."""

    def half() -> Half:
        fixation = torch.rand(images) < 0.5 if coin else torch.ones(images, dtype=torch.bool)
        others = torch.empty(STEPS, images, dtype=torch.long)
        for row in others:
            order = torch.randperm(images)
            row[order] = order.roll(1)
        return Half(fixation, ~fixation if coin else fixation, others)

    return [(half(), half()) for _ in range(modules)]


def sizes(width: float) -> list[int]:
    """Channels from the input up, for this multiple of the full width."""
    return [1, *(max(1, round(n * width)) for n, _ in LAYERS)]


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

    def loss(self, z: torch.Tensor, halves: tuple[Half, Half]) -> torch.Tensor:
        """Both halves of Eq. (14) on encodings `(B, D, rows, columns)`, each with its own draw."""
        total = z.new_zeros(())
        for forwards, half in zip((True, False), halves, strict=True):
            contexts, targets = (z.detach(), z) if forwards else (z, z.detach())
            W = self.pred if forwards else self.retro
            for k in range(1, STEPS + 1):
                c, t = contexts[:, :, : -(k + 1)], targets[:, :, k + 1 :]
                other = t[half.others[k - 1]]
                for sign, chosen, sample in ((1, half.fixation, t), (-1, half.saccade, other)):
                    if not chosen.any():
                        continue
                    a, b = (sample, c) if forwards else (c, sample)
                    u = (a * W[k - 1](b)).sum(1)
                    total = total + F.relu(1 - sign * u)[chosen].mean() / STEPS
        return total


class Peer:
    """Trains and encodes images `(B, 64, 64)`, already normalised.

    Args:
        rule: `clapp` (a coin for each image) or `clapp_s` (both signs), with separate W_retro.
        width: multiplies the number of neurons; lr: the rate of Adam.
        dtype: `torch.bfloat16` runs convolutions and products in it, by autocast.
    """

    def __init__(
        self,
        rule: str = "clapp",
        width: float = 1.0,
        lr: float = 2e-4,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.coin, self.dtype, channels = rule == "clapp", dtype, sizes(width)
        self.modules = [
            Module(a, b, pool)
            for a, b, (_, pool) in zip(channels, channels[1:], LAYERS, strict=False)
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

    def backward(self, images: np.ndarray, draws: list[tuple[Half, Half]]) -> list[float]:
        """The losses of all modules; gradients stay in the parameters."""
        with self.autocast():
            losses = [
                module.loss(z, halves)
                for module, z, halves in zip(self.modules, self.maps(images), draws, strict=True)
            ]
        sum(losses).backward()
        return [loss.item() for loss in losses]

    def step(self, images: np.ndarray) -> list[float]:
        """One step of learning of all modules."""
        losses = self.backward(images, draw(len(images), self.coin, len(self.modules)))
        for optimiser in self.optimisers:
            optimiser.step()
            optimiser.zero_grad()
        return losses

    def encode(self, images: np.ndarray) -> list[torch.Tensor]:
        """The encoding of whole images `(B, D)`, layer by layer."""
        with torch.no_grad(), self.autocast():
            return [z.mean((2, 3)) for z in self.maps(images)]

    def autocast(self) -> torch.autocast:
        device = next(self.modules[0].parameters()).device.type
        return torch.autocast(device, torch.bfloat16, enabled=self.dtype == torch.bfloat16)
