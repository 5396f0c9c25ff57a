"""Geometry: what numbers mean, shapes, pools that overlap, and the table of forms."""

import numpy as np
import pytest

from plasticity import kernels
from plasticity.errors import UserError
from plasticity.kernels import Geometry, Pool, forms
from plasticity.kernels.definition import convolution


def test_one_number_stands_for_every_dimension():
    found = Geometry.of((1, 3, 3), stride=2, padding=(0, 1, 1), pool=Pool((1, 3, 3), (1, 2, 2)))
    assert found.stride == (2, 2, 2) and found.padding == (0, 1, 1)
    assert found.pool == (1, 3, 3) and found.pool_stride == (1, 2, 2) and found.overlaps
    assert Geometry.of((3, 3), pool=2).pool_stride == (2, 2) and not Geometry.of((3, 3)).overlaps


@pytest.mark.parametrize(
    ("space", "geometry", "wanted"),
    [  # the audio network's conv1 and conv3, the video network's block 1, VGG's pool on odd maps
        ((20480,), Geometry.of((10,), 5, 2), (4095,)),
        ((1023,), Geometry.of((4,), 2, 2), (512,)),
        (
            (54, 128, 128),
            Geometry.of((1, 7, 7), (1, 2, 2), 0, Pool((1, 3, 3), (1, 2, 2))),
            (54, 30, 30),
        ),
        ((7, 9), Geometry.of((3, 3), pool=2), (3, 4)),
        ((1, 1), Geometry.of((3, 3), pool=2), (0, 0)),
    ],
)
def test_shapes_are_those_of_the_papers_tables(space, geometry, wanted):
    assert geometry.space(space) == wanted


@pytest.mark.parametrize(
    ("numbers", "sentence"),
    [
        ({"kernel": ()}, "one to three dimensions"),
        ({"kernel": (1, 1, 1, 1)}, "one to three dimensions"),
        ({"kernel": (3, 0)}, "kernel"),
        ({"kernel": (3, 3), "stride": 0}, "stride 0"),
        ({"kernel": (3, 3), "padding": (1, 1, 1)}, "padding"),
        ({"kernel": (3, 3), "padding": -1}, "padding"),
        ({"kernel": (3, 3), "pool": 1.5}, "pool"),
        ({"kernel": (3, 3), "pool": 16}, "too large"),
        ({"kernel": (3, 3), "pool": 2, "linear": True}, "linear"),
    ],
)
def test_numbers_that_are_no_geometry_are_refused_in_a_sentence(numbers, sentence):
    with pytest.raises(UserError, match=sentence):
        Geometry.of(**numbers)


def test_a_neuron_that_wins_two_windows_gets_both_drives():
    """Windows of 3 that move by 1 over 1 5 2 0: the second neuron wins both."""
    geometry = Geometry.of((1,), padding=0, pool=Pool(3, 1))
    x = np.array([1.0, 5, 2, 0]).reshape(1, 4, 1)
    one = np.ones((1, 1, 1))
    y, winner, mean = convolution.forward(x, one, np.zeros(1), geometry)
    assert y.ravel().tolist() == [5, 5] and winner.ravel().tolist() == [1, 0] and mean == 5
    drive = np.array([10.0, 100]).reshape(1, 2, 1)
    assert convolution.post_factor(winner, drive, geometry, (4,)).ravel().tolist() == [0, 110, 0, 0]
    dW, db = convolution.correlate(x, winner, drive, geometry)
    assert dW.item() == 5 * 110 and db.item() == 110


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_pools_that_overlap_have_the_slope_of_their_activity(dims, dtype):
    """Finite differences in weights and input, through whichever form computes."""
    rng = np.random.default_rng(dims)
    geometry = Geometry.of((3,) * dims, 1, 1, Pool(3, 2))
    x = rng.standard_normal((2, *(7,) * dims, 3)).astype(dtype)
    weight = rng.standard_normal((4, 3, *(3,) * dims)).astype(dtype)
    bias = rng.standard_normal(4).astype(dtype)
    y, winner, _ = kernels.forward(x, weight, bias, geometry)
    drive = rng.standard_normal(y.shape).astype(dtype)
    dW, db = kernels.correlate(x, winner, drive, geometry)
    error = kernels.back(winner, drive, weight, x.shape[1:-1], geometry)
    exact = [a.astype(float) for a in (x, weight, bias)]

    def value(change, step):
        args = [a + step * d for a, d in zip(exact, change, strict=True)]
        return (convolution.forward(*args, geometry)[0] * drive).sum()

    for place, found in enumerate((error, dW, db)):
        change = [np.zeros_like(a) for a in exact]
        change[place] = rng.standard_normal(found.shape)
        slope = (value(change, 1e-6) - value(change, -1e-6)) / 2e-6
        scale = np.abs(found * change[place]).sum()
        assert abs(slope - (found * change[place]).sum()) < 1e-4 * scale


def chosen(operation, *arrays, **how):
    """The file of the form that would compute."""
    return forms.form(operation, forms.call_with(*arrays, **how)).__module__.partition("kernels.")[
        2
    ]


def test_the_first_form_that_takes_a_call_computes_it():
    f, d = np.zeros((1, 4, 4, 8), np.float32), np.zeros((1, 4, 4, 8))
    plain, strided = Geometry.of((3, 3), pool=2), Geometry.of((3, 3), stride=2)
    wide = {"geometry": plain, "channels": 8}
    assert chosen("forward", f, **wide) == "cpu.winograd"
    assert chosen("forward", f, geometry=strided, channels=8) == "cpu.blocked"
    assert chosen("forward", f, geometry=Geometry.of((3, 3)), channels=3) == "cpu.few_channels"
    assert chosen("forward", f, geometry=plain, channels=3) == "cpu.winograd"
    overlapping = Geometry.of((3, 3), pool=Pool(2, 1))
    assert chosen("forward", f, geometry=overlapping, channels=8) == "cpu.blocked"
    assert chosen("forward", d, **wide) == "definition.convolution"
    assert chosen("forward", f, d, **wide) == "definition.convolution"
    assert chosen("add_rows", f) == "cpu.rows" and chosen("add_rows", d) == "definition.rows"
    assert chosen("scores", f[..., ::2]) == "definition.rows"


def test_every_form_of_the_table_is_there_and_a_definition_comes_last():
    for operation, row in forms.FORMS.items():
        places = [place for place, _ in row]
        assert places[-1].startswith("definition.") and row[-1][1] is forms.ALWAYS
        for place in places:
            if not place.startswith("cuda."):
                module = __import__(f"plasticity.kernels.{place}", fromlist=[operation])
                assert callable(getattr(module, operation))


def test_moments_of_another_shape_are_refused_before_anything_is_written():
    w = np.zeros((3, 2), np.float32)
    with pytest.raises(ValueError, match=r"\(3, 2\)"):
        kernels.adam([(w, w.copy(), np.zeros((2, 2), np.float32), w.copy())], 1, 1e-3)
    assert not w.any()
