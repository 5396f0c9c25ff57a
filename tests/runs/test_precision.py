"""`--precision`: what a run makes of it, keeps of it, and where it is refused."""

from contextlib import nullcontext

import numpy as np
import pytest

from plasticity import inspection
from plasticity.errors import UserError
from plasticity.inspection.check import sums
from plasticity.network import Conv, Gru, Network
from plasticity.runs import lifecycle, run, training
from plasticity.runs.options import RunOptions
from plasticity.verification import verify
from tests import standin

LOW = ("tf32", "bfloat16")
SMALL = {"net": "vgg6", "width": 0.03, "layers": 3, "batch": 4}


def options(precision="float32", **more):
    how = {"rule": "clapp_s", "steps": 3, "device": "cpu", "probe": False, "dtype": "float32"}
    return RunOptions(**{**SMALL, **how, **more}, precision=precision)


def trained(precision, folder):
    folder.mkdir()
    state = lifecycle.plan(options(precision))
    lifecycle.make(state, folder)
    assert training.train(state, folder)
    return inspection.open_run(folder)


def flat(state):
    return np.concatenate([w.ravel() for own in state.weights.values() for w in own.values()])


def test_a_run_differs_by_its_precision_and_the_more_the_fewer_bits(tmp_path):
    full, *low = (flat(trained(p, tmp_path / p)) for p in ("float32", *LOW))
    assert full.dtype == low[0].dtype == np.float32
    moved = np.linalg.norm(full - flat(run.begin(options())))
    tf32, bfloat16 = (np.linalg.norm(one - full) / moved for one in low)
    assert 0 < tf32 < bfloat16 < 0.5


def test_float32_is_the_default_and_rounds_nothing():
    assert RunOptions().precision == "float32"
    assert {conv.geometry.precision for conv in RunOptions().network().convolutions} == {"float32"}
    assert not any(conv.geometry.rounds for conv in run.begin(options()).network.convolutions)


@pytest.mark.parametrize("precision", LOW)
def test_a_run_keeps_its_precision_and_goes_on_bit_for_bit(tmp_path, precision):
    whole = trained(precision, tmp_path / "whole")
    (tmp_path / "parts").mkdir()
    state = lifecycle.plan(options(precision, steps=1))
    lifecycle.make(state, tmp_path / "parts")
    assert training.train(state, tmp_path / "parts")
    resumed = lifecycle.resume(tmp_path / "parts", {"steps": 3}, {"steps"})
    assert resumed.options.precision == precision
    assert all(conv.geometry.rounds for conv in resumed.network.convolutions)
    assert training.train(resumed, tmp_path / "parts")
    np.testing.assert_array_equal(flat(inspection.open_run(tmp_path / "parts")), flat(whole))
    with pytest.raises(UserError, match="--precision float32 would make another run"):
        lifecycle.resume(tmp_path / "whole", {"precision": "float32"}, {"steps"})


@pytest.mark.parametrize("rule", ["clapp", "hinge_cpc"])
@pytest.mark.parametrize("precision", LOW)
def test_the_events_of_a_step_add_up_to_its_dW_within_the_rounding_of_operands(precision, rule):
    found = sums(run.begin(options(precision, rule=rule)))
    assert found and all(row.agrees for row in found)


@pytest.mark.parametrize("precision", LOW)
def test_a_rule_is_verified_without_the_rounding_of_its_run(precision):
    pytest.importorskip("torch")
    state = run.begin(options(precision))
    found = verify([state], batch=2)
    assert found.holds
    assert found.in_full == f"checked in float32: the run's is {precision}"
    assert max(row.error for row in found.comparisons) < 1e-4
    assert state.network.convolutions[0].precision == precision
    assert verify([run.begin(options())], batch=2).in_full == ""


def test_precision_beside_float64_is_refused():
    with pytest.raises(UserError, match="--precision tf32 rounds operands of float32, and --dtype"):
        options("tf32", dtype="float64")


def test_a_precision_that_is_none_is_told():
    with pytest.raises(UserError, match="'half': expected float32, tf32 or bfloat16"):
        options("half")
    with pytest.raises(UserError, match="precision 'half': expected float32, tf32, bfloat16"):
        Conv("conv", 1, 1, precision="half")


def test_convolutions_of_blocks_round_and_recurrent_layers_do_not():
    resnet = options("tf32", net="resnet50", layers=2, modules="").network()
    assert {conv.precision for conv in resnet.convolutions} == {"tf32"}
    assert len(resnet.convolutions) > 3
    audio = RunOptions(net="audio", width=0.05, precision="tf32")
    *convolutions, last = audio.network().layers
    assert isinstance(last, Gru)
    assert {conv.precision for conv in convolutions} == {"tf32"}
    assert Network("gru", (last,)).with_precision("tf32") == Network("gru", (last,))


def test_a_network_without_a_convolution_has_nothing_to_round(tmp_path):
    file = tmp_path / "net.py"
    file.write_text(
        "from plasticity.network import Gru, Network\n"
        "def build(width=1.0):\n"
        "    return Network('one', (Gru('gru', 1, 4),))\n"
    )
    RunOptions(net=str(file)).network()
    with pytest.raises(UserError, match="--precision tf32 has no meaning for one: it has no conv"):
        RunOptions(net=str(file), precision="tf32").network()


@pytest.mark.parametrize("capability, refused", [("75", True), ("80", False), ("100", False)])
def test_a_card_without_such_products_is_refused_by_name(capability, refused):
    with standin.installed() as machine:
        machine.capability = capability
        run.begin(options(device="cuda"))
        said = pytest.raises(UserError, match=r"or later, and cuda:0 has 7\.5: take")
        with said if refused else nullcontext():
            run.begin(options("bfloat16", device="cuda"))
