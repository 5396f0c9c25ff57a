"""Float32 convolutions of films on the CPU: products over blocks of windows."""

import numpy as np
import pytest

from plasticity.kernels import Geometry
from plasticity.kernels.cpu import volumes
from plasticity.kernels.forms import call_with, form
from tests.convolutions import agrees

# Kernel, stride, padding, space, channels, neurons
FILMS = {
    "block 1 of the published network": ((1, 7, 7), (1, 2, 2), (0, 0, 0), (3, 17, 15), 3, 6),
    "block 2": ((1, 5, 5), (1, 2, 2), (0, 1, 1), (4, 9, 8), 4, 5),
    "block 3": ((1, 3, 3), (1, 1, 1), (0, 1, 1), (5, 6, 6), 5, 7),
    "blocks 4 and 5": ((3, 3, 3), (3, 1, 1), (0, 1, 1), (8, 6, 5), 4, 3),
    "frames fall out": ((2, 2, 2), (3, 3, 3), (0, 0, 0), (7, 8, 9), 2, 3),
    "padding in time": ((3, 1, 2), (1, 2, 1), (1, 0, 2), (4, 5, 3), 3, 4),
    "one tap": ((1, 1, 1), (1, 1, 1), (0, 0, 0), (2, 3, 4), 3, 2),
    "one place": ((2, 3, 3), (1, 1, 1), (0, 0, 0), (2, 3, 3), 2, 2),
    "stride longer than the kernel": ((1, 1, 1), (2, 2, 2), (0, 0, 0), (5, 5, 5), 2, 3),
}


def linear(name):
    kernel, stride, padding, space, C, O = FILMS[name]  # noqa: E741
    geometry = Geometry.of(kernel, stride, padding, linear=True)
    rng = np.random.default_rng(0)
    shapes = (3, *space, C), (O, C, *kernel), (O,)
    return geometry, [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("name", FILMS)
def test_it_is_the_definition(name, shared):
    geometry, arrays = linear(name)
    assert form("forward", call_with(*arrays, geometry=geometry)) is volumes.forward
    agrees(*arrays, geometry, shared)


@pytest.mark.parametrize("most", [1, 7, 40, 400])
@pytest.mark.parametrize("name", FILMS)
def test_blocks_of_any_size_give_the_same(name, most, monkeypatch):
    monkeypatch.setattr(volumes, "FEWEST", most)
    monkeypatch.setattr(volumes, "BLOCK", 1)
    geometry, arrays = linear(name)
    agrees(*arrays, geometry, False)


def test_blocks_hold_every_window_once():
    for space in ((4, 5, 6), (1, 1, 1), (9, 30, 2)):
        for width in (2**9, 2**14, 2**19):
            met = np.zeros((3, *space), int)
            for at in volumes._blocks(3, space, width):
                met[at] += 1
            assert (met == 1).all()


def test_no_input_gives_nothing():
    geometry, (x, weight, bias) = linear("block 3")
    a, _, _ = volumes.forward(x[:0], weight, bias, geometry)
    dW, db = volumes.correlate(x[:0], None, a, geometry)
    assert a.shape[0] == 0 and not dW.any() and not db.any()
    assert volumes.back(None, a, weight, x.shape[1:-1], geometry).shape == (0, *x.shape[1:])
