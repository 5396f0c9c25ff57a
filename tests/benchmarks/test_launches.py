"""What a step asks of a card: counted on the stand-in, and bounded."""

import numpy as np
import pytest

from benchmarks import launches
from tests import standin
from tests.kernels import emulation

pytestmark = pytest.mark.skipif(bool(emulation.MISSING), reason=emulation.MISSING)

MOST = {  # launches, products and operations of a step of six layers, of film of one layer
    "clapp": 146,
    "hebbian": 374,
    "clapp_s, film": 60,
    "gim, film": 60,
}
FILM = {"net": "vgg5_video", "layers": 1, "clip_frames": 4, "side": 32}


@pytest.mark.parametrize("name", MOST)
def test_a_step_asks_little_of_a_card_and_never_waits_for_it(name):
    rule, _, film = name.partition(", ")
    count = launches.counted(rule, 4, 1, **(FILM if film else {}))
    assert count.all <= MOST[name] and count.waits == count.sorts == 0
    assert count.step > count.own > 0 and count.loading > 0
    assert count.replayed == 3 and 0 < count.replay < count.step  # batch, graph, losses


def test_what_computes_copies_or_fills_is_an_operation_and_a_view_is_none():
    with standin.installed() as machine:
        import cupy

        a = cupy.asarray(np.arange(6.0).reshape(2, 3))
        machine.forget()
        a.T, a[:1], a.reshape(3, 2), a.ravel(), a.astype(float, copy=False), cupy.empty(3)
        assert not machine.operations
        a + 1, a[a > 1], a[cupy.arange(2)], a.T.reshape(-1), cupy.zeros(2), a.astype(np.float32)
        a[0] = 1
        wanted = ("add", "greater", "nonzero", "arange", "copy", "fill", "astype", "assign")
        assert machine.operations == dict.fromkeys(wanted, 1) | {"take": 2}


def test_idle_launches_are_counted_and_compute_nothing():
    with standin.installed() as machine:
        import cupy

        from plasticity import kernels

        machine.idle = True
        parts = [[cupy.ones(3, np.float32) for _ in range(4)]]
        kernels.adam(parts, 1, 1e-3)
        assert machine.launches == {"adam": 1} and parts[0][0].get().tolist() == [1, 1, 1]
