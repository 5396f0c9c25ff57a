"""Running statistics are state: an interrupted run of a normalised network keeps their bits."""

import numpy as np
import pytest

from plasticity import inspection
from plasticity.runs import lifecycle, training
from plasticity.runs.options import RunOptions


@pytest.mark.parametrize("norm", ["batch", "running"])
def test_running_statistics_survive_resumption_bit_for_bit(tmp_path, norm):
    options = RunOptions(
        rule="clapp_s", net="vgg5_video", width=0.03, layers=2, batch=2, steps=3, norm=norm,
        device="cpu", probe=False,
    )  # fmt: skip
    for name, steps in (("whole", 3), ("parts", 1)):
        (tmp_path / name).mkdir()
        state = lifecycle.plan(options.changed(steps=steps))
        lifecycle.make(state, tmp_path / name)
        assert training.train(state, tmp_path / name)
    resumed = lifecycle.resume(tmp_path / "parts", {"steps": 3}, {"steps"})
    begun = {u: own["running_var"].copy() for u, own in resumed.weights.items()}
    assert training.train(resumed, tmp_path / "parts")
    whole, parts = (inspection.open_run(tmp_path / name) for name in ("whole", "parts"))
    for unit, own in whole.weights.items():
        assert not np.array_equal(own["running_var"], begun[unit])
        for name, w in own.items():
            np.testing.assert_array_equal(w, parts.weights[unit][name], err_msg=f"{unit} {name}")
