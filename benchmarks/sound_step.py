"""A training step of CLAPP-s on sound beside plain torch, written for the purpose.

python benchmarks/sound_step.py --width 0.125

torch computes the same losses on the same draws by autograd: convolutions, its own `torch.nn.GRU`
(so credit `bptt`), scores of gathered frames, Adam. Its gather of negatives is faster on one thread
than on two on some machines, so that it is timed both ways.
"""

import platform
import statistics
import time

import click
import numpy as np

from plasticity.runs import run, training
from plasticity.runs.options import RunOptions

KINDS = ((10, 5, 2), (8, 4, 2), (4, 2, 2), (4, 2, 2), (4, 2, 1))


class Torch:
    """Reading A, symmetric W_pred, BPTT."""

    def __init__(self, state: run.State, threads: int) -> None:
        import torch
        import torch.nn as nn

        self.state, self.threads = state, threads
        width = state.network.layers[0].outputs
        units = state.network.layers[5].outputs
        convs = [
            nn.Conv1d(1 if i == 0 else width, width, k, s, p) for i, (k, s, p) in enumerate(KINDS)
        ]
        self.convs = nn.ModuleList(convs)
        self.gru = nn.GRU(width, units, batch_first=True)
        sizes = [(width, width)] * 5 + [(width, units)]
        self.W = nn.ParameterList(nn.Parameter(torch.randn(12, *s) * s[0] ** -0.5) for s in sizes)
        every = [*self.convs.parameters(), *self.gru.parameters(), *self.W]
        self.optimiser = torch.optim.Adam(every, lr=1e-3)

    def maps(self, x):
        """The map of every layer, with the gradient cut at its input: `(T B, D)` rows."""
        import torch

        found = []
        for conv in self.convs:
            x = torch.relu(conv(x.detach()))
            found.append(x.permute(2, 0, 1).flatten(0, 1))
        h, _ = self.gru(x.detach().transpose(1, 2))
        return [*found, h.transpose(0, 1).flatten(0, 1)]

    def encode(self, batch) -> None:
        import torch

        torch.set_num_threads(self.threads)
        with torch.no_grad():
            self.maps(self.inputs(batch))

    def inputs(self, batch):
        import torch

        return torch.from_numpy(self.state.stimulus.inputs(batch, np.dtype("f4"))).mT.contiguous()

    def step(self, batch) -> None:
        import torch

        torch.set_num_threads(self.threads)
        maps, total = self.maps(self.inputs(batch)), 0.0
        for i, draw in enumerate(batch.draws):
            z, c = (maps[i], maps[i]) if i < 5 else (maps[4], maps[5])
            for k, event in enumerate(draw.pred):
                first = event.contexts(self.state.layouts[i])
                targets = torch.from_numpy(event.target.reshape(first.stop - first.start, -1))
                prediction = c[first] @ self.W[i][k].T
                met = z.index_select(0, targets.flatten()).view(*targets.shape, -1)
                u = (met * prediction[:, None]).sum(2)
                loss = (1 - u[:, 0]).clamp_min(0).mean() + (1 + u[:, 1:]).clamp_min(0).mean()
                total = total + loss / 12
        self.optimiser.zero_grad()
        total.backward()
        self.optimiser.step()


class Ours:
    """The same run as `plasticity run` makes it."""

    def __init__(self, state: run.State) -> None:
        self.state = state

    def step(self, batch) -> None:
        found = training.learn_batch(self.state, batch)
        [float(loss) for loss in found["loss"]]

    def encode(self, batch) -> None:
        x = self.state.stimulus.inputs(batch, np.dtype("f4"))
        for _ in self.state.network.maps(x, self.state.weights):
            pass


@click.command()
@click.option("--width", default=1.0)
@click.option("--repeat", default=5, help="Turns, after one that is not counted.")
def main(width: float, repeat: int) -> None:
    """Time all in turns; print utterances/s, and of each peer the median ratio to ours."""
    from plasticity import kernels

    print(platform.processor() or platform.machine(), f"width {width:g}, batch 8, float32")
    who: dict[str, object] = {}
    for name in ("plasticity, e-prop", "plasticity, bptt"):
        options = RunOptions(rule="clapp_s", net="audio", width=width, weights="symmetric",
                             credit=name.split(", ")[1].replace("-", ""), device="cpu")  # fmt: skip
        who[name] = Ours(run.begin(options))
    state = who["plasticity, bptt"].state
    who |= {f"torch, {n} threads": Torch(state, n) for n in (1, 2)}
    with kernels.own_threads():
        for what in ("step", "encode"):
            seconds: dict[str, list[float]] = {name: [] for name in who}
            for turn in range(repeat + 1):
                batch = state.batch(turn)
                for name, peer in who.items():
                    start = time.perf_counter()
                    getattr(peer, what)(batch)
                    if turn:
                        seconds[name].append(time.perf_counter() - start)
            print(f"{what}:")
            for name, times in seconds.items():
                ratio = statistics.median(
                    b / a for a, b in zip(seconds["plasticity, bptt"], times, strict=True)
                )
                print(f"  {name:20s} {1e3 * statistics.median(times):9.1f} ms {ratio:6.2f}")


if __name__ == "__main__":
    main()
