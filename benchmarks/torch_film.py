"""CLAPP-s on film in plain torch: convolutions, norms, pools, scores, autograd, Adam.

    python benchmarks/torch_film.py --steps 600 --seed 0 --out runs/torch
    plasticity probe runs/torch

It trains on the very clips of `plasticity run --rule clapp_s --net vgg5_video --width 0.125
--lr 1e-3`, from the same start, and writes what it has learned as a run, for `plasticity probe`.
"""

import sys
import time
from pathlib import Path

import click
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn


class Peer:
    """The blocks of a network, each with W_pred of its own, and the loss of the video code."""

    def __init__(self, net, steps: int, lr: float, order=torch.contiguous_format) -> None:
        self.layers, self.blocks, self.matrices, self.adams = net.layers, [], [], []
        for layer in net.layers:
            g, D = layer.geometry, layer.outputs
            parts = [nn.Conv3d(layer.inputs, D, g.kernel, g.stride, g.padding), nn.ReLU()]
            parts += [nn.BatchNorm3d(D)]
            parts += [nn.MaxPool3d(g.pool, g.pool_stride)] if g.pools else []
            self.blocks.append(nn.Sequential(*parts).to(memory_format=order))
            self.matrices.append(nn.Parameter(torch.randn(steps, D, D) * (2 / D) ** 0.5))
            both = [*self.blocks[-1].parameters(), self.matrices[-1]]
            self.adams.append(torch.optim.Adam(both, lr))

    def step(self, h: torch.Tensor) -> list[float]:
        """Learn from clips `(B, C, T, Y, X)`; the losses."""
        losses = []
        for block, W, adam in zip(self.blocks, self.matrices, self.adams, strict=True):
            y = block(h)
            h, z, loss = y.detach(), y.permute(0, 2, 3, 4, 1), 0.0
            K = len(W)
            T = z.shape[1] - K
            n = len(z) * T
            itself = torch.eye(n, dtype=torch.bool)
            for k in range(1, K + 1):
                seen = (z[:, :T] @ W[k - 1].T).reshape(n, -1)
                u = seen @ z[:, k : k + T].reshape(n, -1).T
                wrong = F.relu(1 + u).masked_fill(itself, 0).sum() / (n * (n - 1))
                loss = loss + (F.relu(1 - u.diagonal()).mean() + wrong) / (2 * K)
            adam.zero_grad()
            loss.backward()
            adam.step()
            losses.append(float(loss.detach()))
        return losses

    def pairs(self, weights):
        """Every tensor here, with the array of ours that it stands for; axes are the same."""
        for layer, block, W in zip(self.layers, self.blocks, self.matrices, strict=True):
            own, (conv, _, norm) = weights[layer.name], block[:3]
            yield W.data, own["W_pred"]
            yield conv.weight.data, own["weight"]
            yield conv.bias.data, own["bias"]
            yield norm.weight.data, own["gain"]
            yield norm.bias.data, own["shift"]
            yield norm.running_mean, own["running_mean"]
            yield norm.running_var, own["running_var"]


@click.command()
@click.option("--width", default=0.125)
@click.option("--lr", default=1e-3)
@click.option("--steps", default=600)
@click.option("--seed", default=0)
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/torch"))
def main(width: float, lr: float, steps: int, seed: int, out: Path) -> None:
    """Train in torch and write the result as a run."""
    from plasticity.runs import lifecycle, run
    from plasticity.runs.options import RunOptions

    how = {"rule": "clapp_s", "net": "vgg5_video", "width": width, "lr": lr}
    options = RunOptions(**how, steps=steps, seed=seed, probe=False)
    state = run.begin(options)
    peer = Peer(state.network, state.rule.steps, lr)
    for tensor, array in peer.pairs(state.weights):
        tensor.copy_(torch.from_numpy(array))
    losses, seconds = [], []
    for i in range(steps):
        start = time.perf_counter()
        clips = state.stimulus.inputs(state.batch(i), np.dtype(np.float32))
        losses.append(peer.step(torch.tensor(np.moveaxis(clips, -1, 1).copy())))
        seconds.append(time.perf_counter() - start)
        if sys.stdout.isatty() or (i + 1) % 20 == 0:
            print(i + 1, np.round(np.mean(losses[-20:], 0), 3), flush=True)
    for tensor, array in peer.pairs(state.weights):
        array[...] = tensor.numpy()
    state.step, state.metrics = steps, {"seconds": seconds, "loss": losses}
    with lifecycle.folder_of(state.options, out, None):
        lifecycle.make(state, out)
        run.save(state, out)


if __name__ == "__main__":
    main()
