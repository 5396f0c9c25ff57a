"""The published probe of film, beside torch."""

import numpy as np
import pytest
import torch

from plasticity import seeds
from plasticity.errors import UserError
from plasticity.probes import encodings, normalised
from plasticity.runs import run
from plasticity.runs.options import RunOptions
from tests.stimuli.test_film import NET

C, D = 3, 5


def data(n=43, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, C, n)
    return 3 + np.eye(C, D)[y] + 0.7 * rng.standard_normal((n, D)), y


def test_slopes_are_those_of_torch():
    rng, (x, y) = np.random.default_rng(1), data(8)
    shapes = {"gain": D, "shift": D, "weight": (D, C), "bias": C}
    own = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    kept, hot = 2.0 * (rng.random(x.shape) < 0.5), np.eye(C)[y]
    found, mean, variance = normalised.slopes(own, x, hot, kept)
    t = {name: torch.tensor(w, requires_grad=True) for name, w in own.items()}
    running = torch.zeros(D, dtype=float), torch.ones(D, dtype=float)
    normed = torch.nn.functional.batch_norm(
        torch.tensor(x), *running, t["gain"], t["shift"], training=True
    )
    scores = (torch.tensor(kept) * normed) @ t["weight"] + t["bias"]
    torch.nn.functional.cross_entropy(scores, torch.tensor(y)).backward()
    for name, w in t.items():
        np.testing.assert_allclose(found[name], w.grad, rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(0.1 * mean, running[0], rtol=1e-12)
    np.testing.assert_allclose(0.9 + 0.1 * variance * 8 / 7, running[1], rtol=1e-12)


def test_training_is_that_of_torch_with_its_schedule_decay_and_running_statistics():
    x, y = data()
    test_x, test_y = data(400, seed=1)
    how = {"epochs": 20, "batch": 8, "lr": 0.1, "decay": 0.03, "dropout": 0.0, "seed": 4}
    found = normalised.fit(x, y, test_x, test_y, C, **how)
    rng, bound = seeds.generator(4, seeds.PROBE, 1), D**-0.5
    net = torch.nn.Sequential(torch.nn.BatchNorm1d(D), torch.nn.Linear(D, C)).double()
    net[1].weight.data = torch.tensor(rng.uniform(-bound, bound, (D, C)).T.copy())
    net[1].bias.data = torch.tensor(rng.uniform(-bound, bound, C))
    adam = torch.optim.Adam(net.parameters(), lr=0.1, weight_decay=0.03)
    falls = torch.optim.lr_scheduler.MultiStepLR(adam, [6, 8])  # of 20, as 60 and 80 of 200
    for _ in range(20):
        order = rng.permutation(43)
        for at in range(0, 40, 8):  # three of 43 fill no batch
            pick = order[at : at + 8]
            rng.random((8, D), dtype=np.float32)  # the dropout's, of which there is none
            adam.zero_grad()
            out = net(torch.tensor(x[pick]))
            torch.nn.functional.cross_entropy(out, torch.tensor(y[pick])).backward()
            adam.step()
        falls.step()
    net.eval()
    wanted = net(torch.tensor(test_x)).argmax(dim=1).numpy()
    np.testing.assert_array_equal(found.told, wanted)
    assert found.accuracy == (wanted == test_y).mean() > 0.6 and found.iterations == 100


def test_half_of_the_neurons_are_silenced_in_a_step_and_the_others_doubled(monkeypatch):
    met, slopes = [], normalised.slopes

    def watched(own, x, hot, kept):
        met.append(kept)
        return slopes(own, x, hot, kept)

    monkeypatch.setattr(normalised, "slopes", watched)
    x, y = data(64)
    normalised.fit(x.astype(np.float32), y, x[:9].astype(np.float32), y[:9], C, epochs=10)
    assert len(met) == 20 and {m.dtype for m in met} == {np.dtype(np.float32)}
    assert set(np.unique(met)) == {0.0, 2.0}
    share = np.mean(met) / 2  # of 3,200 coins
    assert abs(share - 0.5) < 5 * 0.5 / 3200**0.5


def test_labels_that_do_not_fit_are_refused():
    x, y = data()
    with pytest.raises(UserError, match="a label for each encoding"):
        normalised.fit(x, y[1:], x, y, C)


def test_a_probe_reads_the_mean_over_time_of_flattened_maps_of_film(tmp_path):
    (tmp_path / "moving.py").write_text(NET)
    state = run.begin(
        RunOptions(
            net=str(tmp_path / "moving.py"), clip_frames=12, side=32, width=0.06, device="cpu"
        )
    )
    indices = np.array([3, 8, 5])
    how = state.network, state.weights, state.stimulus, indices
    found = encodings.encode(*how, 2, "cpu")
    for at, i in enumerate(indices):
        (batch,) = state.stimulus.in_order(np.array([i]), 1)
        x = state.stimulus.inputs(batch, np.float32)
        for z, (y, _) in zip(found, state.network.maps(x, state.weights), strict=True):
            wanted = y[0].astype(float).mean(axis=0).ravel()
            np.testing.assert_allclose(z[at], wanted, rtol=1e-5, atol=1e-6)
