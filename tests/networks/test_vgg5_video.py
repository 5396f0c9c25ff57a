"""VGG-5 for video, table 5 of the paper."""

import numpy as np
import pytest

from plasticity import networks
from plasticity.errors import UserError
from plasticity.runs.options import RunOptions


def test_full_width_is_table_5():
    net = networks.get("vgg5_video")
    assert [layer.outputs for layer in net.layers] == [96, 256, 512, 512, 512]
    assert net.layers[0].inputs == 3
    assert net.shapes((54, 128, 128)) == [
        (54, 30, 30, 96),
        (54, 6, 6, 256),
        (54, 6, 6, 512),
        (18, 6, 6, 512),
        (6, 2, 2, 512),
    ]
    assert all(layer.order == "conv relu norm pool" for layer in net.layers)


def test_the_least_clip_that_it_says_has_four_steps_at_the_top():
    net = networks.get("vgg5_video", width=0.1)
    assert net.shapes((36, 72, 72))[-1][:3] == (4, 1, 1)
    assert net.shapes((35, 72, 72))[-1][0] == 3
    with pytest.raises(UserError, match="layer conv5 of vgg5_video cannot be fed"):
        net.shapes((36, 60, 60))


def test_it_starts_as_the_published_code_does():
    own = networks.get("vgg5_video", width=0.25).prepare(seed=1)["conv4"]
    assert own["weight"].shape == (128, 128, 3, 3, 3)
    assert own["weight"].std() == pytest.approx((2 / (128 * 27)) ** 0.5, rel=0.01)
    for name, value in {"bias": 0, "gain": 1, "shift": 0, "running_mean": 0}.items():
        np.testing.assert_array_equal(own[name], np.full(128, value))


def test_modules_are_blocks_and_a_width_is_positive():
    net = networks.get("vgg5_video", width=0.01)
    assert net.modules("5") == net.modules("layers") == [[i] for i in range(5)]
    assert net.modules("1") == [[0, 1, 2, 3, 4]]
    with pytest.raises(UserError, match="--width"):
        networks.get("vgg5_video", width=0)


def test_statistics_and_order_of_its_norms_can_be_chosen_for_a_run():
    net = RunOptions(net="vgg5_video", norm="running", norm_order="norm-relu")._network
    for layer in net.layers:
        assert (layer.norm.statistics, layer.order) == ("running", "conv norm relu pool")
    same = RunOptions(net="vgg5_video", norm_order="relu-norm")._network
    assert same == networks.get("vgg5_video")
    for option in ({"norm": "batch"}, {"norm_order": "relu-norm"}):
        with pytest.raises(UserError, match="no meaning for vgg6: it normalises nothing"):
            RunOptions(**option).network()
