"""VGG-6, table 2 of the paper."""

import numpy as np
import pytest

from plasticity import networks
from plasticity.errors import UserError
from plasticity.network import Conv, Network


def test_full_width_is_table_2():
    net = networks.get("vgg6")
    assert [layer.outputs for layer in net.layers] == [128, 256, 256, 512, 1024, 1024]
    assert [layer.inputs for layer in net.layers] == [1, 128, 256, 256, 512, 1024]
    assert net.shapes((16, 16)) == [
        (16, 16, 128),
        (8, 8, 256),
        (8, 8, 256),
        (4, 4, 512),
        (2, 2, 1024),
        (1, 1, 1024),
    ]


def test_a_patch_that_shrinks_to_nothing_names_the_layer():
    with pytest.raises(UserError, match="layer conv6 of vgg6 cannot be fed: a map of 1x1"):
        networks.get("vgg6").shapes((8, 8))
    assert len(networks.get("vgg6").first(5).shapes((8, 8))) == 5


def test_weights_start_as_a_torch_convolution_does():
    own = networks.get("vgg6", width=0.25).prepare(seed=3)["conv3"]
    bound = (64 * 9) ** -0.5
    for w in own.values():
        assert np.abs(w).max() <= bound
    assert own["weight"].shape == (64, 64, 3, 3) and own["bias"].shape == (64,)
    assert own["weight"].std() == pytest.approx(bound / 3**0.5, rel=0.02)


def test_an_unknown_network_or_width_is_said_in_a_sentence():
    with pytest.raises(UserError, match="did you mean 'vgg6'"):
        networks.get("vgg-6")
    with pytest.raises(UserError, match="must be positive"):
        networks.get("vgg6", width=0)
    with pytest.raises(UserError, match="1 to 6 layers"):
        networks.get("vgg6").first(7)


def test_two_layers_of_one_name_are_refused():
    with pytest.raises(UserError, match="several layers named conv1: "):
        Network("twice", (Conv("conv1", 1, 2), Conv("conv1", 2, 2)))
