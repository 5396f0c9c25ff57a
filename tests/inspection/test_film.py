"""Updates on film taken apart: whole maps, all pairs, and what goes through a norm."""

import numpy as np
import pytest
from click.testing import CliRunner
from plasticity.cli import main

from plasticity import inspection
from plasticity.inspection.step import fresh, look
from plasticity.inspection.synapse import inspect
from plasticity.runs.options import RunOptions

SMALL = {"net": "vgg5_video", "width": 0.04, "layers": 2, "clip_frames": 6, "side": 72, "batch": 2}


def step(layer, **more):
    return look(fresh(RunOptions(rule="clapp_s", **SMALL | more)), layer)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("order", ["relu-norm", "norm-relu"])
def test_events_of_every_parameter_add_up_to_its_dW(dtype, order):
    found = step("conv2", dtype=dtype, norm_order=order, set={"symmetric": False})
    assert {"weight", "gain", "shift", "W_pred", "W_retro"} <= set(found.seen.changes) | set(
        found.losses[0].learning.changes
    )
    for name, dW in found.seen.changes.items():
        k = int(name.startswith("W_"))
        flat = np.abs(dW).argmax()
        at = tuple(int(i) + k * (d == 0) for d, i in enumerate(np.unravel_index(flat, dW.shape)))
        one = inspect(found, name, at)
        assert one.agrees and one.applied != 0, one.name


@pytest.mark.parametrize(("norm", "ways"), [("batch", 3), ("running", 0)])
def test_the_ways_through_the_norm_add_up_to_what_events_do(norm, ways):
    found = step("conv1", dtype="float64", norm=norm)
    for name, at in (("weight", (1, 2, 0, 3, 4)), ("bias", (2,))):
        one = inspect(found, name, at)
        assert one.agrees and len(one.by_way()) == ways
        if ways:
            assert set(one.by_way()) == {"direct", "mean", "variance"}
            assert sum(one.by_way().values()) == pytest.approx(one.total, rel=1e-9)
            assert one.as_dict()["by_way"] == one.by_way()


def test_the_long_table_has_the_shares_that_are_summed():
    one = inspect(step("conv2", dtype="float64"), "weight", (3, 1, 0, 2, 2))
    table = one.table()
    assert table["share"].sum() == pytest.approx(one.total, rel=1e-9)
    product = table["gate"] * table["dendrite"] * table["post"] * table["pre"] * table["weight"]
    np.testing.assert_allclose(product, table["share"], rtol=1e-12)


def test_a_recording_of_synapses_and_of_W_pred_has_the_shares_of_their_dW(tmp_path):
    how = [f"--{n.replace('_', '-')}={v}" for n, v in SMALL.items()]
    done = CliRunner().invoke(
        main,
        ["run", "--rule", "clapp_s", *how, "--steps", "1", "--dtype", "float64", "--no-probe",
         "--record", "layer=*,random=3,prediction=2:1:0,prediction=3:2:2", "--record-every", "1",
         "--out", str(tmp_path / "run")],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    found = inspection.read(tmp_path / "run")
    for layer in ("conv1", "conv2"):
        for kind, axes in (("W_pred", (2,)), ("synapses", (2, 3))):
            dW, share = (found[f"{layer}/{kind}/{name}"] for name in ("dW", "share"))
            scale = np.abs(share).max()
            assert scale > 0
            np.testing.assert_allclose(share.sum(axis=axes), dW, atol=1e-5 * scale)
