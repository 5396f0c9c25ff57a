"""The stand-in for CuPy: it offers what CuPy offers and no more, and refuses what CuPy refuses."""

import importlib.util
import json

import numpy as np
import pytest

from plasticity.arrays import array_module, to_device, to_host
from tests import standin
from tests.kernels import emulation
from tests.standin import names

LISTED = json.loads(names.LIST.read_text())


@pytest.fixture
def machine():
    with standin.installed(devices=2) as made:
        yield made


def test_every_name_and_parameter_is_one_of_cupys():
    offered = names.names(standin.cupy(), standin.cupyx())
    assert set(offered) == set(LISTED["names"])
    for name, value in offered.items():
        theirs = LISTED["names"][name]
        if theirs is None:
            continue
        known = {parameter: (kind, default) for parameter, kind, default in theirs}
        places = [parameter for parameter, kind, _ in theirs if kind == ""]
        for place, (parameter, kind, default) in enumerate(names.parameters(value)):
            if kind in ("*", "**"):
                continue
            assert parameter in known, f"{name} has no {parameter} in CuPy"
            assert default == known[parameter][1], f"{name}({parameter}={default})"
            # By keyword alone is less than CuPy offers; by place it must be the same place.
            assert kind == "keyword" or places[place] == parameter, f"{name}({parameter})"


@pytest.mark.skipif(
    importlib.util.find_spec("cupy") is None,
    reason="CuPy is not installed (pip install cupy-cuda12x); its list of names is checked instead",
)
def test_the_list_of_names_is_that_of_the_wheel_that_is_installed():
    import cupy

    if cupy.__version__.split(".")[0] != standin.VERSION:
        pytest.skip(f"the list is of CuPy {standin.VERSION}, installed is {cupy.__version__}")
    assert names.read(LISTED["names"]) == LISTED["names"]


def test_arrays_of_the_host_and_of_the_device_refuse_to_meet(machine):
    import cupy

    host = np.arange(3.0)
    device = cupy.asarray(host)
    for mix in (
        lambda: host + device,
        lambda: device + host,
        lambda: device @ host,
        lambda: np.add(host, device),
        lambda: np.asarray(device),
        lambda: np.sum(device),
        lambda: np.float64(1) * host * device,
        lambda: cupy.maximum(host, 0),
        lambda: cupy.where(device > 0, host, 0),
        lambda: device[np.array([0])],
        lambda: host[device],
        lambda: device.__setitem__(slice(None), host),
        lambda: array_module(host, device),
    ):
        with pytest.raises((TypeError, IndexError)):
            mix()
    assert len(machine.sent) == 1 and not machine.fetched
    np.testing.assert_array_equal(to_host(np.float64(2) * device + 1), 2 * host + 1)


CAPTURED = {
    "a number is fetched": (lambda a: float(a[0]), "D2H"),
    "an array comes from the host": (lambda a: to_device(np.ones(3), "cuda:0"), "H2D"),
    "the host waits": (lambda a: cuda().get_current_stream().synchronize(), "synchronous"),
    "numbers are chosen": (lambda a: a[a > 1], "synchronous"),
    "many arrays are put together": (lambda a: array_module(a).stack([a] * 9), "H2D"),
    "CuPy calls cuBLAS": (lambda a: array_module(a).matmul(a, a), "cuBLAS"),
}


def cuda():
    import cupy

    return cupy.cuda


@pytest.fixture
def captured(machine):
    """A stream that is captured, with memory of its own."""
    stream, pool = cuda().Stream(non_blocking=True), cuda().MemoryPool()
    with cuda().using_allocator(pool.malloc), stream:
        stream.begin_capture()
        yield stream, pool


@pytest.fixture
def before(machine):
    import cupy

    return cupy.asarray(np.arange(3.0))


@pytest.mark.parametrize("what", CAPTURED)
def test_while_a_stream_is_captured_nothing_crosses_and_nobody_waits(before, captured, what):
    do, why = CAPTURED[what]
    with pytest.raises((RuntimeError, NotImplementedError), match=why):
        do(before)


def test_what_is_captured_happens_when_the_graph_is_launched_and_in_the_same_places(
    before, captured
):
    doubled = before * 2
    before += 1
    graph = captured[0].end_capture()
    np.testing.assert_array_equal(before.get(), [0, 1, 2])
    assert not np.array_equal(doubled.get(), [0, 2, 4])
    for _ in range(2):
        graph.launch()
    np.testing.assert_array_equal(before.get(), [2, 3, 4])
    np.testing.assert_array_equal(doubled.get(), [2, 4, 6])
    moved = before.copy()
    graph.launch()
    np.testing.assert_array_equal(moved.get(), [2, 3, 4])


def test_memory_of_a_graph_is_of_a_pool_of_its_own_that_lives_as_long(before):
    stream, pool = cuda().Stream(non_blocking=True), cuda().MemoryPool()
    with stream:
        stream.begin_capture()
        with pytest.raises(RuntimeError, match="default pool"):
            before * 2
        with cuda().using_allocator(pool.malloc):
            twice = before * 2
        assert pool.used_bytes() == pool.total_bytes() == 512
        graph = stream.end_capture()
    del twice
    assert pool.used_bytes() == 0
    graph.launch()
    del pool
    with pytest.raises(RuntimeError, match="with its pool"):
        graph.launch()


def test_the_legacy_stream_and_one_that_it_waits_for_cannot_be_captured(machine):
    with pytest.raises(RuntimeError, match="default"):
        cuda().get_current_stream().begin_capture()
    with pytest.raises(RuntimeError, match="Implicit"):
        cuda().Stream().begin_capture()


def test_arrays_of_two_devices_refuse_to_meet(machine):
    import cupy

    first, second = (to_device(np.ones(2), f"cuda:{n}") for n in (0, 1))
    with pytest.raises(ValueError, match="array device = 1 while current = 0"):
        first + second
    with cupy.cuda.Device(1):
        assert float((second + second).sum()) == 4


def test_what_crosses_is_counted(machine):
    import cupy

    device = cupy.asarray(np.ones((2, 3), np.float32))
    assert machine.sent == [(24, False)] and not machine.fetched
    bool(device.sum() > 5), float(device[0, 0]), device.get(), device[device > 0]
    assert machine.fetched == [1, 4, 24, 8]
    assert cupy.asarray(device) is not None and len(machine.sent) == 1


def test_what_lies_column_by_column_stays_so_unless_it_is_told_otherwise(machine):
    import cupy

    host = np.arange(6.0).reshape(2, 3).T
    assert not cupy.asarray(host).flags.c_contiguous
    device = to_device(host, "cuda:0")
    assert device.flags.c_contiguous
    np.testing.assert_array_equal(device.get(), host)


def test_memory_is_held_while_arrays_live(machine):
    import cupy

    pool = cupy.get_default_memory_pool()
    a = cupy.zeros(1000)
    view = a[10:]
    del a
    assert pool.used_bytes() == 8192
    del view
    assert (pool.used_bytes(), pool.total_bytes()) == (0, 8192)


@pytest.mark.skipif(bool(emulation.MISSING), reason=emulation.MISSING)
def test_kernels_run_and_are_counted(machine):
    import cupy

    code = "template <typename T> __global__ void twice(T* a) { a[threadIdx.x] *= 2; }"
    module = cupy.RawModule(code=code, options=(), name_expressions=["twice<float>"])
    a = cupy.asarray(np.arange(32, dtype=np.float32))
    module.get_function("twice<float>")((1,), (32,), (a,))
    np.testing.assert_array_equal(a.get(), 2 * np.arange(32))
    assert machine.launches == {"twice": 1}
    with pytest.raises(TypeError, match="Unsupported type"):
        module.get_function("twice<float>")((1,), (32,), (np.zeros(32, np.float32),))


class Crossing:
    """A copy from pinned memory on a stream of its own."""

    def __init__(self):
        import cupy

        self.stream, self.copied = cupy.cuda.Stream(non_blocking=True), cupy.cuda.Event()
        memory = cupy.cuda.alloc_pinned_memory(4)
        self.pinned = np.frombuffer(memory, np.uint8, 4)
        self.device = cupy.empty(4, np.uint8)

    def send(self, value, wait=True):
        import cupy

        self.pinned[:] = value
        if wait:
            done = cupy.cuda.Event()
            done.record()
            self.stream.wait_event(done)
        self.device.set(self.pinned, stream=self.stream)
        self.copied.record(self.stream)

    def arrived(self):
        import cupy

        cupy.cuda.get_current_stream().wait_event(self.copied)
        return self.device.get().tolist()


def test_a_copy_on_its_own_stream_arrives_when_it_is_waited_for(machine):
    crossing = Crossing()
    crossing.send(7)
    assert crossing.device.get().tolist() != [7] * 4  # too early
    assert crossing.arrived() == [7] * 4
    assert machine.sent == [(4, True)]


def test_pinned_memory_that_is_changed_too_early_spoils_the_copy(machine):
    crossing = Crossing()
    crossing.send(7)
    crossing.pinned[:] = 8
    assert crossing.arrived() == [8] * 4


def test_pinned_memory_that_is_filled_again_before_the_host_has_waited_is_an_error(machine):
    """That the device waits for a copy says nothing of when the copy reads."""
    crossing = Crossing()
    crossing.send(7)
    crossing.arrived()
    with pytest.raises(RuntimeError, match="pinned memory was changed"):
        crossing.send(8)


def test_a_copy_into_memory_that_is_still_read_is_an_error(machine):
    crossing = Crossing()
    crossing.send(7)
    crossing.arrived()
    crossing.copied.synchronize()
    crossing.send(8)
    crossing.arrived()
    crossing.copied.synchronize()
    with pytest.raises(RuntimeError, match="may still read or write"):
        crossing.send(9, wait=False)
    with pytest.raises(RuntimeError, match="not pinned"):
        crossing.device.set(np.zeros(4, np.uint8), stream=crossing.stream)
