"""Every form of a convolution's operations on the CPU, over one table of geometries.

The forms of a GPU run over theirs in `cuda/`, since they take the arrays of one.
"""

from importlib import import_module

import numpy as np
import pytest

from plasticity.kernels import Pool, forms
from plasticity.kernels.definition import convolution
from plasticity.kernels.geometry import Geometry
from tests.convolutions import IN_TIME
from tests.rounding import at_winners, close_to_the_largest, sizes_of

THREE = {"kernel": (3, 3)}
# A geometry, the space of its input, and its channels.
CASES = {
    "3x3 without pool": (Geometry.of(**THREE), (8, 8), 8),
    "3x3 with pool": (Geometry.of(**THREE, pool=2), (8, 6), 8),
    "a 2x2 map without pool": (Geometry.of(**THREE), (2, 2), 6),
    "a 2x2 map with pool": (Geometry.of(**THREE, pool=2), (2, 2), 6),
    "odd sides": (Geometry.of(**THREE, pool=2), (5, 7), 5),
    "a first layer, grey": (Geometry.of(**THREE), (6, 6), 1),
    "a first layer, in colour": (Geometry.of(**THREE), (6, 5), 3),
    "a first layer, one row": (Geometry.of(**THREE), (1, 6), 1),
    "a first layer with pool": (Geometry.of(**THREE, pool=2), (6, 6), 1),
    "1x1, linear": (Geometry.of((1, 1), 2, 0, linear=True), (5, 6), 4),
    "5x5, padding 2": (Geometry.of((5, 5), padding=2), (7, 6), 3),
    "stride 2": (Geometry.of((3, 3), 2), (7, 8), 4),
    "pools of two that overlap": (Geometry.of((3, 3), pool=Pool(2, 1)), (7, 7), 4),
    "pools that overlap": (Geometry.of((3, 3), pool=Pool(3, 2)), (7, 7), 4),
    "linear film": (
        Geometry.of((2, 3, 3), (1, 2, 1), (0, 1, 1), linear=True),
        (4, 8, 6),
        3,
    ),
    "linear film, frame by frame": (
        Geometry.of((1, 3, 3), 1, (0, 1, 1), linear=True),
        (3, 6, 5),
        4,
    ),
    "film": (Geometry.of((2, 3, 3), (1, 2, 1), (0, 1, 1), (1, 2, 2)), (4, 8, 6), 3),
    "film, overlapping pools": (
        Geometry.of((1, 5, 5), (1, 2, 2), (0, 1, 1), Pool((1, 3, 3), (1, 2, 2))),
        (3, 16, 15),
        2,
    ),
    **{
        f"in time: {name}": (Geometry.of((k,), s, p), (frames,), channels)
        for name, (k, s, p, frames, channels, _) in IN_TIME.items()
    },
}
OPERATIONS = ("forward", "correlate", "back")
ROWS = [
    (operation, place)
    for operation in OPERATIONS
    for place, _ in forms.FORMS[operation]
    if not place.startswith("cuda.")
]
N, NEURONS = 5, 7


def taken(operation, place, geometry, channels):
    """Whether the table lets a form compute with this geometry."""
    takes = dict(forms.FORMS[operation])[place]
    return takes(forms.Call(True, frozenset("f"), True, geometry, channels))


def made(name):
    """A case in float64, of numbers that float32 holds: input, weights, winners, drives."""
    geometry, space, channels = CASES[name]
    rng = np.random.default_rng(0)

    def draw(*shape):
        return rng.standard_normal(shape).astype(np.float32).astype(float)

    x, bias = draw(N, *space, channels), draw(NEURONS)
    weight = draw(NEURONS, channels, *geometry.kernel) / 4
    weight = weight.astype(np.float32).astype(float)
    y, winner, z = convolution.forward(x, weight, bias, geometry)
    return geometry, x, weight, bias, y, winner, z, draw(N, NEURONS), draw(*y.shape)


def single(*arrays):
    return [a.astype(np.float32) if a is not None and a.dtype == float else a for a in arrays]


@pytest.mark.parametrize("operation, place", ROWS)
def test_a_form_computes_what_the_definition_says_for_every_geometry_that_it_takes(
    operation, place
):
    form = getattr(import_module(f"plasticity.kernels.{place}"), operation)
    met = [name for name, (g, _, c) in CASES.items() if taken(operation, place, g, c)]
    assert len(met) >= 2, "no geometry of the table is this form's"
    for name in met:
        geometry, x, weight, bias, y, winner, z, shared, apart = made(name)
        for drive in (shared, apart):
            activity, *changes, error = sizes_of(x, weight, bias, winner, drive, geometry)
            if operation == "forward":
                found, won, mean = form(*single(x, weight, bias), geometry)
                pairs = [(found, y, activity), (mean, z, activity)]
                if geometry.rectified:
                    a = convolution.convolve(x, weight, bias, geometry)
                    pairs.append((at_winners(won, a, geometry), y, activity))
            elif operation == "correlate":
                wanted = convolution.correlate(x, winner, drive, geometry)
                pairs = zip(form(*single(x, winner, drive), geometry), wanted, changes, strict=True)
            else:
                space = x.shape[1:-1]
                wanted = convolution.back(winner, drive, weight, space, geometry)
                found = form(*single(winner, drive, weight), space, geometry)
                pairs = [(found, wanted, error)]
            for ours, right, size in pairs:
                close_to_the_largest(ours, right, size, 1e-5)


def test_every_geometry_is_some_fast_forms_but_those_that_only_the_definition_takes():
    """The door finds for each the form that its name promises."""
    wanted = {
        "3x3": "cpu.winograd",
        "a 2x2": "cpu.winograd",
        "odd": "cpu.winograd",
        "a first layer, ": "cpu.few_channels",
        "a first layer with": "cpu.winograd",
        "in time": "cpu.windows",
        "linear film": "cpu.volumes",
    }
    for name, (geometry, _, channels) in CASES.items():
        call = forms.Call(True, frozenset("f"), True, geometry, channels)
        first = next(place for place, takes in forms.FORMS["forward"] if takes(call))
        promised = next((form for start, form in wanted.items() if name.startswith(start)), None)
        assert first == (promised or "cpu.blocked"), name


@pytest.mark.parametrize("operation", ["add_rows", "adam", "gru_states", "gru_posts"])
def test_arrays_that_do_not_lie_in_order_are_the_definitions_where_forms_take_them_as_they_lie(
    operation,
):
    for host in (True, False):
        places = []
        for contiguous in (True, False):
            call = forms.Call(host, frozenset("f"), contiguous)
            places.append(next(p for p, takes in forms.FORMS[operation] if takes(call)))
        assert places[0].startswith("cpu." if host else "cuda.")
        assert places[1].startswith("definition.")


def test_a_drive_of_chosen_synapses_is_nothing_that_the_compiled_form_knows():
    geometry, chosen = Geometry.of(**THREE, pool=2), []
    for driven in (False, True):
        call = forms.Call(True, frozenset("f"), True, geometry, driven=driven)
        chosen.append(next(p for p, takes in forms.FORMS["coactivity"] if takes(call)))
    assert chosen == ["cpu.pairs", "definition.pairs"]
