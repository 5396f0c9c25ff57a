"""A step of GIM's published audio code (Loewe et al. 2019): its losses and every dW, in float64."""

from pathlib import Path

import numpy as np
import pytest
from plasticity.rules.gim import Gim

from plasticity import events, learning
from plasticity.events import Layout
from plasticity.network import Conv, Gru, Network
from plasticity.rule import Draw
from plasticity.stimuli import Sound
from plasticity.stimuli.sound import normalised

FIXTURE = Path(__file__).parent / "fixtures" / "audio_09_gim6_short.npz"
K, N, WINDOW = 12, 10, 128


@pytest.fixture(scope="module")
def golden():
    with np.load(FIXTURE) as file:
        return {name: file[name] for name in file.files}


def network(golden):
    channels, units = 14, 8
    geometry = ((10, 5, 2), (8, 4, 2), (4, 2, 2), (4, 2, 2), (4, 2, 1))
    layers, inputs = [], 1
    for i, (kernel, stride, padding) in enumerate(geometry):
        layers.append(Conv(f"conv{i + 1}", inputs, channels, (kernel,), stride, padding))
        inputs = channels
    return Network("audio", (*layers, Gru("gru", channels, units, "bptt")))


def weights(golden):
    found = {
        f"conv{i + 1}": {
            "weight": golden[f"module{i}/conv0/weight"],
            "bias": golden[f"module{i}/conv0/bias"],
            "W_pred": golden[f"module{i}/W_pred"],
        }
        for i in range(5)
    }
    own = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    found["gru"] = {name: golden[f"module5/gru/{name}"] for name in own}
    found["gru"]["W_pred"] = golden["module5/W_pred"]
    return found


def drawn(golden, module, layout):
    """The published draw, whose rows count frames in utterances, by ours: utterances in frames."""
    T, B, w = layout.time, layout.samples, layout.within
    start = int(golden.get(f"module{module}/window/W_pred", 0))
    order = golden[f"module{module}/neg_index/W_pred"].astype(int)
    order = order % T * B + order // T
    found, all_ = [], np.ones(B, bool)
    for k in range(1, K + 1):
        who = order[:, T * B - B * (w - k) :].reshape(N, B, w - k).transpose(2, 1, 0).reshape(-1, N)
        found.append(events.events(layout, k, K, all_, all_, who, start, 0))
    return Draw(tuple(found))


@pytest.fixture(scope="module")
def step(golden):
    """What the rule makes of the step: updates by module, and what was watched."""
    net, rule = network(golden), Gim(steps=K, negatives=N, negatives_from="all", epsilon=0.0)
    modules = net.modules("layers")
    losses = learning.losses_of(rule, modules, net)
    x = normalised(golden["samples"], np.dtype(float))
    base = Layout(1, 3, 1, skip=0, window=WINDOW)
    layouts = [Sound.reading.layout(base, shape[:-1]) for shape in net.shapes(x.shape[1:2])]
    draws = [drawn(golden, i, layouts[loss.ends(modules)[0]]) for i, loss in enumerate(losses)]
    seen = []
    updates = learning.updates(
        net, rule, modules, weights(golden), x, base, draws, seen.append,
        losses=losses, reading=Sound.reading,
    )  # fmt: skip
    return list(updates), seen


def test_the_input_is_the_published_one(golden):
    found = normalised(golden["samples"], np.dtype(float))
    np.testing.assert_allclose(found[..., 0], golden["audio"][:, 0], rtol=0, atol=1e-15)


def test_every_encoding_is_the_published_one(golden, step):
    for i, watched in enumerate(step[1][:5]):
        scored = watched.predicted[0]
        z = scored.z.reshape(*scored.layout.shape, -1)[:, :, 0].swapaxes(0, 1)
        np.testing.assert_allclose(z, golden[f"module{i}/encoding"], rtol=0, atol=1e-13)
    scored = step[1][5].predicted[0]
    c = scored.context.reshape(*scored.layout.shape, -1)[:, :, 0].swapaxes(0, 1)
    np.testing.assert_allclose(c, golden["module5/context"], rtol=0, atol=1e-13)


def test_every_loss_is_the_published_one(golden, step):
    for i, update in enumerate(step[0]):
        (report,) = update.reports.values()
        assert float(report.loss) == pytest.approx(float(golden[f"module{i}/loss"]), rel=1e-12)


def test_every_update_is_minus_the_published_gradient(golden, step):
    for i, update in enumerate(step[0]):
        (name,) = update.changes
        where = f"grad/loss{i}/module{i}"
        for parameter, dW in update.changes[name].items():
            unit = "" if parameter == "W_pred" else "gru/" if name == "gru" else "conv0/"
            wanted = -golden[f"{where}/{unit}{parameter}"]
            limit = 1e-12 * np.abs(wanted).max()
            np.testing.assert_allclose(
                dW, wanted, rtol=0, atol=limit, err_msg=f"{name} {parameter}"
            )


def test_the_drive_on_the_gru_is_the_published_one(golden, step):
    drive = step[1][5].predicted[0].learning.context_drive
    found = drive.reshape(32, 3, 8).swapaxes(0, 1)
    np.testing.assert_allclose(found, -golden["module5/drive_context"], rtol=0, atol=1e-13)
