"""Synapses inside residual blocks: their events add up to their dW, as in any layer."""

import numpy as np
import pytest

from plasticity import inspection
from plasticity.errors import UserError
from plasticity.runs import run, training
from plasticity.runs.options import RunOptions
from tests.rounding import adds_up

OPTIONS = RunOptions(
    rule="clapp_s", net="resnet50", width=0.05, modules="3", dtype="float64", device="cpu",
    batch=3, crop=40, prediction_steps=2,
)  # fmt: skip


@pytest.fixture(scope="module")
def state():
    return inspection.fresh(OPTIONS, gain=1.3)


def strongest(step):
    """The synapse that changes most, taken apart."""
    dW = np.abs(step.seen.changes["weight"])
    return inspection.inspect(step, "weight", np.unravel_index(dW.argmax(), dW.shape))


@pytest.mark.parametrize(
    ("layer", "role"),
    [
        ("conv1", "error"),
        ("layer1.0.shortcut", "error"),
        ("layer2.0.conv2", "error"),
        ("layer2.3.conv3", "context"),
    ],
)
def test_events_add_up_to_dW_in_every_place_of_a_block(state, layer, role):
    found = strongest(inspection.look(state, layer))
    assert found.applied != 0 and found.agrees
    assert role in found.columns["role"]


def test_a_shortcut_that_the_rule_reads_has_events_too():
    state = inspection.fresh(OPTIONS.changed(modules="layers"), gain=1.3)
    step = inspection.look(state, "layer2.0.shortcut")
    found = strongest(step)
    assert found.applied != 0 and found.agrees and "target" in found.columns["role"]
    with pytest.raises(UserError, match=r"layer2\.0\.shortcut has no W_pred here"):
        inspection.inspect(step, "W_pred", (1, 0, 0))


def test_predictions_of_encodings_below_zero_agree(state):
    """Without a ReLU encodings have both signs."""
    step = inspection.look(state, "layer3.5.conv3")
    assert (step.losses[0].z < 0).any()
    for parameter in ("W_pred", "W_retro"):
        found = inspection.inspect(step, parameter, (1, 4, 2))
        assert found.applied != 0 and found.agrees and found.scale > 0


def test_a_layers_view_of_a_convolution_without_rho(state):
    view = inspection.inspect_layer(inspection.look(state, "layer1.2.conv3"))
    assert view.silenced["won and active, reached by an update"] == 1
    assert np.allclose(view.arrays["post"], 1)


def test_a_block_is_no_convolution(state):
    with pytest.raises(UserError, match=r"layer2\.1 is a block: name one of its convolutions"):
        inspection.look(state, "layer2.1")


def test_a_recording_of_blocks_sums_to_dW(tmp_path):
    state = run.begin(OPTIONS.changed(steps=2))
    spec = "layer=layer1.2.conv3,random=4;layer=layer1.2.conv2,random=3"
    recorder = inspection.open_recorder(state, tmp_path, spec, 1)
    training.train(state, tmp_path, onlooker=recorder)
    recorder.close()
    found = inspection.read(tmp_path)
    share, dW = (found[f"layer1.2.conv3/synapses/{name}"] for name in ("share", "dW"))
    adds_up(share, dW)
    assert found["layer1.2.conv2/synapses/error"].shape == (2, 3)
    assert found["layer1.2.conv3/gates"].shape == (2, 2, 2, 2)
