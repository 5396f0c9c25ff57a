"""A peer: the fastest plain torch for the same losses and gradients as `torch_published`.

What it does otherwise: patches in time-major order and channels_last; small maps by matrix products
(see `convolve`); pooling before ReLU (the same winners, a quarter of the ReLUs); backward and Adam
of a layer right after its forward pass, so no more than one layer's maps are kept; one product for
each prediction step and half, and with a coin one score for each context, samples picked by index;
a fused Adam. One product for all prediction steps was tried and is slower at every width: a step
has fewer contexts than the common product computes.
"""

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from plasticity.networks.vgg6 import LAYERS
from torch_published import STEPS, Half, draw, sizes


def convolve(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """3x3 convolution, padding 1, `(N, C, H, W)` to `(N, O, H, W)`, by what is fastest for it.

    On small maps much of a padded kernel falls on zeros, and torch is slow at it: on one core with
    AVX-512 a 2x2 map is 5 times as fast as one dense product (bfloat16: 4), a 4x4 map 1.3 times
    with its windows copied side by side (bfloat16: not).
    """
    N, C, H, W = x.shape
    if x.is_cuda:  # cuDNN is fast at every size
        return F.conv2d(x, weight, bias, padding=1)
    O = len(weight)  # noqa: E741
    if (H, W) == (2, 2):
        # Every pixel p sees every pixel q: the tap between them is 1 + q - p.
        taps = weight.permute(2, 3, 0, 1)
        seen = [taps[1 - row : 3 - row, 1 - col : 3 - col] for row in (0, 1) for col in (0, 1)]
        matrix = torch.stack(seen).permute(0, 3, 1, 2, 4).reshape(4 * O, 4 * C)
        a = F.linear(x.permute(0, 2, 3, 1).reshape(N, 4 * C), matrix, bias.repeat(4))
    elif H * W <= 16 and x.dtype == torch.float32:
        padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))
        windows = padded.unfold(1, 3, 1).unfold(2, 3, 1).permute(0, 1, 2, 4, 5, 3)
        matrix = weight.permute(0, 2, 3, 1).reshape(O, 9 * C)
        a = F.linear(windows.reshape(N * H * W, 9 * C), matrix, bias)
    else:
        return F.conv2d(x, weight, bias, padding=1)
    return a.reshape(N, H, W, O).permute(0, 3, 1, 2)


class Module:
    """One layer and its prediction matrices `(K, D, D)`."""

    def __init__(self, inputs: int, outputs: int, pool: int, lr: float) -> None:
        self.pool = pool
        bound = (9 * inputs) ** -0.5
        weight = torch.empty(outputs, inputs, 3, 3).uniform_(-bound, bound)
        shape, W_bound = (STEPS, outputs, outputs), outputs**-0.5
        self.weight = weight.to(memory_format=torch.channels_last).requires_grad_()
        self.bias = torch.empty(outputs).uniform_(-bound, bound).requires_grad_()
        self.W_pred = torch.empty(shape).uniform_(-W_bound, W_bound).requires_grad_()
        self.W_retro = torch.empty(shape).uniform_(-W_bound, W_bound).requires_grad_()
        self.optimiser = torch.optim.Adam(
            [self.weight, self.bias, self.W_pred, self.W_retro], lr=lr, fused=True
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps `(N, D, H, W)`."""
        a = convolve(x, self.weight, self.bias)
        return F.relu_(a if self.pool == 1 else F.max_pool2d(a, 2))

    def forward_and_loss(
        self, x: torch.Tensor, halves: tuple[Half, Half], coin: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Maps of patches in time-major order, and their loss."""
        x = self.forward(x)
        z = x.mean((2, 3), dtype=torch.float32).reshape(7, len(halves[0].fixation), 7, -1)
        return x, self.loss(z, halves, coin)

    def loss(self, z: torch.Tensor, halves: tuple[Half, Half], coin: bool) -> torch.Tensor:
        """Both halves of Eq. (14) on encodings `(rows, B, columns, D)`, as `torch_published`."""
        total, rows = z.new_zeros(()), len(z)
        pred, retro = (plan(half, rows, z.shape[2], coin) for half in halves)
        fixed = z.detach()
        for k in range(1, STEPS + 1):
            contexts, futures = slice(rows - k - 1), slice(k + 1, None)
            prediction = fixed[contexts] @ self.W_pred[k - 1].T
            retrodiction = fixed[futures] @ self.W_retro[k - 1].T
            for sign, weight, pick in pred[k - 1]:
                u = (z[futures][:, pick] * prediction).sum(-1)
                total = total + (weight * F.relu(1 - sign * u)).sum()
            for sign, weight, pick in retro[k - 1]:
                u = (z[contexts] * retrodiction[:, pick]).sum(-1)
                total = total + (weight * F.relu(1 - sign * u)).sum()
        return total


def plan(half: Half, rows: int, columns: int, coin: bool) -> list[list[tuple]]:
    """For each prediction step the samples to score: sign, weight `(B, 1)`, image to pick `(B,)`.

    With a coin an image has one sample, so one score for each context does for both signs.
    """
    everyone = torch.arange(len(half.fixation))
    found = []
    for k in range(1, STEPS + 1):
        count = (rows - k - 1) * columns * STEPS
        plus, minus = (
            chosen[:, None] / (count * chosen.sum().clamp(min=1))
            for chosen in (half.fixation, half.saccade)
        )
        other = half.others[k - 1]
        if coin:
            sign = torch.where(half.fixation, 1.0, -1.0)[:, None]
            found.append([(sign, plus + minus, torch.where(half.fixation, everyone, other))])
        else:
            found.append([(1.0, plus, everyone), (-1.0, minus, other)])
    return found


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
            Module(a, b, pool, lr)
            for a, b, (_, pool) in zip(channels, channels[1:], LAYERS, strict=False)
        ]

    def compile(self, mode: str) -> None:
        """Let torch compile each module's forward pass and loss, and so their backward pass."""
        for module in self.modules:
            module.forward_and_loss = torch.compile(module.forward_and_loss, mode=mode)

    @staticmethod
    def patches(images: np.ndarray) -> torch.Tensor:
        """`(7 * B * 7, 1, 16, 16)`: row of patches, image, column."""
        cut = torch.as_tensor(images).unfold(1, 16, 8).unfold(2, 16, 8)
        cut = cut.permute(1, 0, 2, 3, 4).reshape(-1, 1, 16, 16)
        return cut.contiguous(memory_format=torch.channels_last)

    def backward(
        self, images: np.ndarray, draws: list[tuple[Half, Half]]
    ) -> Iterator[tuple[Module, torch.Tensor]]:
        """Module by module, its loss, with gradients in its parameters."""
        x = self.patches(images)
        for module, halves in zip(self.modules, draws, strict=True):
            with self.autocast():
                x, loss = module.forward_and_loss(x.detach(), halves, self.coin)
            loss.backward()
            yield module, loss.detach()

    def step(self, images: np.ndarray) -> list[float]:
        """One step of learning of all modules."""
        losses = []
        for module, loss in self.backward(images, draw(len(images), self.coin, len(self.modules))):
            module.optimiser.step()
            module.optimiser.zero_grad()
            losses.append(loss.clone())  # graphs write the next one into the same memory
        return torch.stack(losses).tolist()  # on a card, the only time that it is waited for

    def encode(self, images: np.ndarray) -> list[torch.Tensor]:
        """The encoding of whole images `(B, D)`, layer by layer."""
        with torch.inference_mode(), self.autocast():
            x, found = self.patches(images), []
            for module in self.modules:
                x = module.forward(x)
                z = x.mean((2, 3), dtype=torch.float32)
                found.append(z.reshape(7, len(images), 7, -1).mean((0, 2)))
            return found

    def autocast(self) -> torch.autocast:
        device = self.modules[0].weight.device.type
        return torch.autocast(device, torch.bfloat16, enabled=self.dtype == torch.bfloat16)
