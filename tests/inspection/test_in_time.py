"""Synapses of convolutions in time, with and without a pool, taken apart frame by frame."""

import numpy as np
import pytest

from plasticity import inspection
from plasticity.kernels.definition import convolution
from plasticity.runs.options import RunOptions
from plasticity.verification import gradient

NETWORK = """from plasticity.network import Conv, Network, Pool

def build(width=1.0):
    return Network("pooled", (
        Conv("plain", 1, 4, (10,), 5, 2),
        Conv("pooled", 4, 5, (8,), 4, 2, pool=2),
        Conv("overlapping", 5, 4, (4,), 2, 2, pool=Pool(3, 2)),
    ))
"""
LAYERS = ("plain", "pooled", "overlapping")


@pytest.fixture
def fresh(tmp_path):
    """A run at its start, in a network of its own."""
    (tmp_path / "pooled.py").write_text(NETWORK)

    def begun(**more):
        small = {"batch": 2, "samples": 2560, "prediction_steps": 2, "negatives": 2}
        how = {"dtype": "float64", "device": "cpu", "rule": "clapp_s", **small, **more}
        return inspection.fresh(RunOptions(net=str(tmp_path / "pooled.py"), **how), 2.0)

    return begun


@pytest.mark.parametrize("rule", ["clapp_s", "clapp", "hinge_cpc"])
@pytest.mark.parametrize("layer", LAYERS)
def test_events_add_up_to_the_gradient_of_torch(fresh, layer, rule, monkeypatch):
    monkeypatch.setattr(gradient, "_compared", lambda made, updates, wanted, *rest: [wanted])
    state = fresh(rule=rule)
    wanted = gradient.compare(gradient.case(state, seed=state.options.seed, batch=2))[0][layer]
    step = inspection.look(state, layer)
    for parameter, index in (("weight", (2, 0, 1)), ("weight", (1, 0, 3)), ("bias", (3,))):
        found = inspection.inspect(step, parameter, index)
        assert found.agrees and found.scale > 0
        assert abs(found.total - wanted[parameter][index]) <= 1e-12 * found.scale
        assert found.table()["share"].sum() == pytest.approx(found.total, abs=1e-10 * found.scale)


@pytest.mark.parametrize("layer", LAYERS)
def test_float32_agrees_to_its_own_rounding(fresh, layer):
    found = inspection.inspect(inspection.look(fresh(dtype="float32"), layer), "weight", (2, 0, 1))
    assert found.agrees and found.scale > 0


@pytest.mark.parametrize("layer", LAYERS[1:])
def test_an_event_goes_to_the_place_that_won_its_frames_pool(fresh, layer):
    """Post and pre of every row by hand: the largest of its pool, and what it meets."""
    state, j = fresh(), 2
    step = inspection.look(state, layer)
    own, its, x = state.weights[layer], step.layer.geometry, step.seen.x
    rows = inspection.inspect(step, "weight", (j, 0, 1)).table()
    a = convolution.convolve(x, own["weight"], own["bias"], its)[..., j]
    padded = np.pad(x[..., 0], [(0, 0), its.padding * 2])
    utterances, frames = list(step.batch.index), its.pooled(a.shape[1:])[0]
    assert len(rows["x"]) and set(rows["x"]) == set(range(*its.pool))
    for utterance, frame, x_, pre in zip(
        rows[state.stimulus.example], rows["frame"], rows["x"], rows["pre"], strict=True
    ):
        n, first = utterances.index(utterance), frame * its.pool_stride[0]
        pool = a[n, first : first + its.pool[0]]
        assert frame < frames and pool[x_] == pool.max() > 0
        assert pre == padded[n, (first + x_) * its.stride[0] + 1]
    assert (rows["post"] == 1).all() and rows["won"].all() and rows["active"].all()
