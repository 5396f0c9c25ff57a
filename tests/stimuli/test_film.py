"""Film: clips whose frames are encodings, and what every rule makes of them."""

import numpy as np
import pytest
from click.testing import CliRunner
from plasticity.cli import main

from plasticity import inspection
from plasticity.data.motions import clip
from plasticity.errors import UserError
from plasticity.runs import run, sets
from plasticity.runs.options import RunOptions

NET = """
from plasticity.network import Conv, Network


def build(width=1.0):
    n = max(2, round(32 * width))
    return Network(
        "moving",
        (
            Conv("edges", 3, n, kernel=(1, 7, 7), stride=(1, 4, 4), padding=0),
            Conv("motions", n, n, kernel=(3, 3, 3), padding=(0, 1, 1), pool=(1, 2, 2)),
            Conv("paths", n, n, kernel=(3, 3, 3), padding=(0, 1, 1), pool=(2, 2, 2)),
        ),
    )
"""


@pytest.fixture
def net(tmp_path):
    (tmp_path / "moving.py").write_text(NET)
    return str(tmp_path / "moving.py")


def options(net, **more):
    how = {"net": net, "clip_frames": 12, "side": 32, "width": 0.06, "batch": 3, "device": "cpu"}
    return RunOptions(**{**how, **more})


def test_a_batch_is_frames_of_clips_from_where_it_says(net):
    stimulus = sets.stimulus(options(net, every=3))
    batch = stimulus.batch(2, 5, 3)
    assert batch.pixels.shape == (3, 12, 32, 32, 3)
    for i, start, pixels in zip(batch.index, batch.start, batch.pixels, strict=True):
        wanted = clip("train", int(i), 3 * int(start), 34, 32)[::3]
        np.testing.assert_array_equal(pixels, wanted)
    x = stimulus.inputs(batch, np.float64)
    np.testing.assert_allclose(x, (batch.pixels / 255 - stimulus.source.mean) / stimulus.source.std)
    np.testing.assert_array_equal(batch.labels, batch.index % 10)


def test_a_batch_depends_on_seed_and_step_alone_and_an_epoch_shows_every_clip_once(net):
    stimulus = sets.stimulus(options(net, images=9))
    first = [stimulus.batch(step, 1, 3) for step in range(6)]
    seen = np.concatenate([batch.index for batch in first])
    assert sorted(seen[:9]) == sorted(seen[9:]) == list(range(9))
    again = stimulus.batch(4, 1, 3)
    np.testing.assert_array_equal(first[4].pixels, again.pixels)
    starts = {int(s) for step in range(30) for s in stimulus.batch(step, 1, 3).start}
    assert len(starts) > 30 and min(starts) >= 0 and max(starts) <= 120 - 12


def test_probes_see_the_middle_of_a_clip(net):
    stimulus = sets.stimulus(options(net))
    (batch,) = stimulus.in_order(np.array([4, 1]), 2)
    assert batch.start.tolist() == [54, 54] and batch.index.tolist() == [4, 1]


def test_encodings_are_frames_and_their_rows_go_by_time_first(net):
    state = run.begin(options(net))
    batch, updates = state.next()
    list(updates)
    x = state.stimulus.inputs(batch, np.float32)
    (y, mean), *_ = state.network.maps(x, state.weights)
    z = state.stimulus.reading.read(y, mean)
    layout = state.stimulus.reading.layout(state.stimulus.layout(3), y.shape[1:-1])
    assert layout.time == 12 and z.shape == (36, 2)
    np.testing.assert_allclose(z[3 * 5 + 1], y[1, 5].mean(axis=(0, 1)), rtol=1e-5)
    where = state.stimulus.where(batch, layout, np.array([3 * 5 + 1]))
    assert where == {"clip": batch.index[[1]], "frame": np.array([5])}


def test_what_does_not_fit_is_told_in_a_sentence(net):
    with pytest.raises(UserError, match=r"4000 of the 4000 clips .* fewer than the 200 frames"):
        sets.stimulus(options(net, clip_frames=200))
    with pytest.raises(UserError, match="unknown data set 'mine' of film: expected motions"):
        sets.stimulus(options(net, data="mine"))
    with pytest.raises(UserError, match="--crop is for images, and moving is for film"):
        options(net, crop=32).network()
    with pytest.raises(UserError, match="--clip-frames is for film, and vgg6 is for images"):
        RunOptions(clip_frames=20).network()


@pytest.mark.parametrize(
    "rule", ["clapp", "clapp_s", "hinge_cpc", "gim", "supervised", "oja", "covariance", "stdp"]
)
def test_every_check_of_a_rule_holds_on_film(rule, net):
    """dW is minus the loss's gradient or the definition's, local, and the sum of its events."""
    how = ["--rule", rule, "--net", net, "--width", "0.06", "--clip-frames", "12", "--side", "32"]
    done = CliRunner().invoke(main, ["verify", *how, "--seeds", "1", "--batch", "3"])
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize("rule", ["clapp_s", "bcm", "covariance"])
def test_a_run_trains_records_probes_and_is_looked_at(rule, net, tmp_path):
    how = ["--net", net, "--width", "0.1", "--clip-frames", "12", "--side", "32", "--batch", "4"]
    done = CliRunner().invoke(
        main,
        ["run", "--rule", rule, *how, "--steps", "2", "--dtype", "float64", "--probe-train", "30",
         "--probe-test", "20", "--record", "layer=*,random=4", "--record-every", "1",
         "--out", str(tmp_path / "run")],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "20 test clips, 10 classes" in done.output
    found = inspection.read(tmp_path / "run")
    for layer in ("edges", "motions", "paths"):
        dW, share = (found[f"{layer}/synapses/{name}"] for name in ("dW", "share"))
        np.testing.assert_allclose(share.sum(axis=(2, 3)), dW, atol=1e-5 * np.abs(share).max())
    for command in (["plot", "all"], ["report"], ["inspect", "--layer", "2"],
                    ["inspect", "--layer", "3", "--synapse", "1,1,0,2,1"], ["export"]):  # fmt: skip
        done = CliRunner().invoke(main, [command[0], str(tmp_path / "run"), *command[1:]])
        assert done.exit_code == 0, done.output
