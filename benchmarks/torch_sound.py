"""CLAPP-s on sound in plain torch, written for the purpose: the peer of `sound_step.py`.

The same losses on the same draws by autograd: convolutions, torch's own `torch.nn.GRU` (so credit
`bptt`), scores of gathered frames, Adam; symmetric W_pred, and conv5 learns from both losses.
"""

import numpy as np
import torch
import torch.nn as nn

KINDS = ((10, 5, 2), (8, 4, 2), (4, 2, 2), (4, 2, 2), (4, 2, 1))
STEPS = 12  # predictions

Events = list[list[tuple[int, np.ndarray]]]
"""Of every loss and prediction step the row of the first context, and the targets of each context
`(contexts, 1 + negatives)`."""


class Peer:
    """The network of `networks/audio.py` with its losses."""

    def __init__(self, width: float, device: str = "cpu") -> None:
        neurons, units = (max(1, round(n * width)) for n in (512, 256))
        inputs = [1] + [neurons] * 4
        self.device = device
        with torch.device(device):
            self.convs = nn.ModuleList(
                nn.Conv1d(C, neurons, k, s, p) for C, (k, s, p) in zip(inputs, KINDS, strict=True)
            )
            self.gru = nn.GRU(neurons, units, batch_first=True)
            sizes = [(neurons, neurons)] * 5 + [(neurons, units)]
            self.W = nn.ParameterList(
                nn.Parameter(torch.randn(STEPS, *s) * s[0] ** -0.5) for s in sizes
            )
        every = [*self.convs.parameters(), *self.gru.parameters(), *self.W]
        self.optimiser = torch.optim.Adam(every, lr=1e-3)

    def given(self, x: np.ndarray, events: Events) -> tuple[torch.Tensor, list]:
        """A batch `(M, T, 1)` as `(M, 1, T)`, and its events, on the device."""
        there = lambda a: torch.from_numpy(np.ascontiguousarray(a)).to(self.device)  # noqa: E731
        moved = [[(first, there(targets)) for first, targets in of] for of in events]
        return there(x).mT.contiguous(), moved

    def maps(self, x: torch.Tensor) -> list[torch.Tensor]:
        """The map of every layer, with the gradient cut at its input: `(T M, D)` rows."""
        found = []
        for conv in self.convs:
            x = torch.relu(conv(x.detach()))
            found.append(x.permute(2, 0, 1).flatten(0, 1))
        h, _ = self.gru(x.detach().transpose(1, 2))
        return [*found, h.transpose(0, 1).flatten(0, 1)]

    def encode(self, x: torch.Tensor) -> None:
        with torch.no_grad():
            self.maps(x)

    def step(self, x: torch.Tensor, events: list) -> torch.Tensor:
        """One step on what is `given`; the sum of all losses, still on the device."""
        maps, total = self.maps(x), x.new_zeros(())
        for i, of in enumerate(events):
            z, c = (maps[i], maps[i]) if i < 5 else (maps[4], maps[5])
            for k, (first, targets) in enumerate(of):
                prediction = c[first : first + len(targets)] @ self.W[i][k].T
                met = z.index_select(0, targets.flatten()).view(*targets.shape, -1)
                u = (met * prediction[:, None]).sum(2)
                loss = (1 - u[:, 0]).clamp_min(0).mean() + (1 + u[:, 1:]).clamp_min(0).mean()
                total = total + loss / STEPS
        self.optimiser.zero_grad()
        total.backward()
        self.optimiser.step()
        return total.detach()


def events(draws: list, layouts: list) -> Events:
    """The events of a step's draws, of `plasticity.rule.Draw` and in layouts of `events.Layout`."""
    found: Events = []
    for draw, layout in zip(draws, layouts, strict=True):
        of = [(event.contexts(layout), event.target) for event in draw.pred]
        found.append([(at.start, t.reshape(at.stop - at.start, -1)) for at, t in of])
    return found
