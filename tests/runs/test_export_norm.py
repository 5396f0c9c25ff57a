"""A normalised network in another program: torch takes its weights by their names."""

import numpy as np
import pytest
import torch

from plasticity.layers import Norm, NormConv
from plasticity.network import Network, Pool
from plasticity.runs import export


@pytest.mark.parametrize("order", ["conv relu norm pool", "conv norm relu pool"])
def test_torch_computes_the_same_from_an_exported_network_with_norms(order):
    how = {"norm": Norm(), "order": order}
    net = Network(
        "n",
        (
            NormConv("a", 3, 4, (1, 3, 3), (1, 2, 2), 0, Pool((1, 3, 3), (1, 2, 2)), **how),
            NormConv("b", 4, 2, (2, 3, 3), 1, (0, 1, 1), **how),
        ),
    )
    rng, weights = np.random.default_rng(0), net.prepare(0)
    for own in weights.values():
        for name in ("gain", "shift", "running_mean", "running_var"):
            own[name] = rng.uniform(0.5, 1.5, own[name].shape)
    made = {
        "Conv3d": iter([torch.nn.Conv3d(3, 4, (1, 3, 3), (1, 2, 2)),
                        torch.nn.Conv3d(4, 2, (2, 3, 3), 1, (0, 1, 1))]),
        "BatchNorm3d": iter([torch.nn.BatchNorm3d(4), torch.nn.BatchNorm3d(2)]),
        "ReLU": iter([torch.nn.ReLU(), torch.nn.ReLU()]),
        "MaxPool3d": iter([torch.nn.MaxPool3d((1, 3, 3), (1, 2, 2))]),
    }  # fmt: skip
    there = torch.nn.Sequential(*(next(made[kind]) for kind, _ in export.modules(net))).double()
    arrays = export.named(net, weights)
    state = {n.removeprefix("features."): torch.tensor(w) for n, w in arrays.items()}
    there.load_state_dict(state)
    x = rng.standard_normal((2, 4, 15, 13, 3))
    with torch.no_grad():
        wanted = there.eval()(torch.tensor(np.moveaxis(x, -1, 1).copy())).movedim(1, -1)
    *_, (y, _) = net.maps(x, weights)
    np.testing.assert_allclose(y, wanted, atol=1e-12)
