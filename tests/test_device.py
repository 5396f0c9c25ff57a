"""Training, probing and inspecting on a GPU: the same numbers as on the CPU.

On the stand-in for CuPy in every test run, and on a card with `pytest -m gpu`.
"""

import json

import numpy as np
import pytest

from plasticity import inspection, rules, runs
from plasticity.arrays import to_host
from plasticity.device import prefetched
from plasticity.errors import UserError
from plasticity.inspection import cpc_gradient
from plasticity.kernels import roundoff
from plasticity.probes import given
from plasticity.runs import run, training
from plasticity.runs.options import RunOptions
from tests import standin
from tests.kernels import emulation
from tests.kernels.cuda.test_gpu import MISSING

SMALL = {"width": 0.03, "batch": 4, "crop": 40, "dtype": "float64"}
MODULES = {"hinge_cpc": "2", "cpc": "1+2+3"}  # of several layers, not all of one size


@pytest.fixture(
    params=[
        pytest.param(
            "stand-in",
            marks=pytest.mark.skipif(bool(emulation.MISSING), reason=emulation.MISSING),
        ),
        pytest.param(
            "card", marks=[pytest.mark.gpu, pytest.mark.skipif(bool(MISSING), reason=MISSING)]
        ),
    ]
)
def gpu(request):
    """The machine of the stand-in, or None on a card."""
    if request.param == "card":
        yield None
    else:
        with standin.installed() as machine:
            yield machine
        # They add by atomics, in another order each time.
        assert not {"add.at", "bincount"} & set(machine.operations)


def begun(rule="clapp", device="cuda", **more):
    options = {**SMALL, "modules": MODULES.get(rule, ""), **more}
    if hasattr(rules.find(rule), "steps"):
        options["prediction_steps"] = 2
    return run.begin(RunOptions(rule=rule, device=device, **options))


def steps(state, count):
    """Train for so many steps; the losses."""
    losses = []
    for step in range(state.step, state.step + count):
        (batch,) = prefetched([state.batch(step)], state.device)
        found = training.learn_batch(state, batch)
        losses.append([float(loss) for loss in found.get("loss", [])])
    return np.array(losses)


def weights(state):
    return {(la, n): to_host(w) for la, own in state.weights.items() for n, w in own.items()}


def assert_same(found, wanted, limit=1e-10):
    assert found.keys() == wanted.keys()
    for key, w in wanted.items():
        assert found[key].dtype == w.dtype
        scale = np.nanmax(np.abs(w), initial=0)
        np.testing.assert_allclose(found[key], w, rtol=0, atol=limit * scale, err_msg=str(key))


def first_updates(state):
    """The dW of a run's first step, by module, layer and parameter."""
    return {
        (update.module, layer, name): to_host(dW)
        for update in state.next()[1]
        for layer, own in update.changes.items()
        for name, dW in own.items()
    }


def test_arrays_are_encoded_on_the_card_as_on_the_host_and_stay_where_they_lie(gpu):
    import cupy

    rng = np.random.default_rng(0)
    here, there = begun(device="cpu"), begun()
    for examples in (rng.integers(0, 256, (5, 96, 96), np.uint8), rng.random((6, 16, 16, 1))):
        wanted = given.encode_arrays(here, examples)
        host, card = (given.encode_arrays(there, x) for x in (examples, cupy.asarray(examples)))
        for layer, z in wanted.items():
            assert isinstance(host[layer], np.ndarray) and isinstance(card[layer], cupy.ndarray)
            np.testing.assert_allclose(host[layer], z, rtol=1e-9, atol=1e-12)
            np.testing.assert_array_equal(to_host(card[layer]), host[layer])
        with pytest.raises(UserError, match='open the run with device="cuda:0"'):
            given.encode_arrays(here, cupy.asarray(examples))


@pytest.mark.parametrize("rule", rules.RULES)
def test_every_rule_learns_the_same_on_a_gpu(gpu, rule):
    found, wanted = begun(rule), begun(rule, "cpu")
    assert found.device == "cuda:0"
    np.testing.assert_allclose(steps(found, 2), steps(wanted, 2), rtol=1e-10)
    assert_same(weights(found), weights(wanted))


@pytest.mark.parametrize(
    "how",
    [
        {"context": "above"},
        {"net": "resnet50", "layers": 3},
        {"net": "resnet50", "layers": 3, "rule": "gim", "modules": "1+2"},
    ],
    ids=["context-above", "resnet50", "resnet50-modules"],
)
def test_variants_learn_the_same_on_a_gpu(gpu, how):
    found, wanted = begun(**how), begun(device="cpu", **how)
    np.testing.assert_allclose(steps(found, 2), steps(wanted, 2), rtol=1e-9)
    assert_same(weights(found), weights(wanted), limit=1e-9)


@pytest.mark.parametrize("rule, precision", [("clapp_s", "tf32"), ("hinge_cpc", "bfloat16")])
def test_a_step_by_matrix_units_is_the_one_that_the_cpu_emulates(gpu, rule, precision):
    """To the rounding of sums, and of what it makes of the operands of the next layer."""
    how = {"rule": rule, "dtype": "float32", "layers": 3, "batch": 2, "width": 0.05}
    how |= {"patch": 8, "crop": 20}
    if rule == "hinge_cpc":
        how["modules"] = "1"
    found = first_updates(begun(precision=precision, **how))
    if gpu is not None:  # the image itself has few channels, and two errors go down in a module
        assert gpu.launches["forward"] == (2 if rule == "clapp_s" else 4)
        assert gpu.launches["correlate"] == 2 and not gpu.launches["activities"]
    emulated, exact = (
        first_updates(begun(device="cpu", precision=p, **how)) for p in (precision, "float32")
    )
    for key, dW in found.items():
        scale = np.linalg.norm(exact[key])
        assert np.linalg.norm(dW - emulated[key]) < roundoff(precision) * scale / 4, key
        if key[2] == "weight":  # where float32 is far
            assert np.linalg.norm(dW - exact[key]) > roundoff(precision) * scale / 4, key


@pytest.mark.parametrize("credit", ["eprop", "bptt"])
def test_a_recurrent_unit_learns_the_same_on_a_gpu(gpu, credit):
    how = {"net": "audio", "width": 0.02, "batch": 2, "crop": 64}
    how |= {"samples": 2560, "credit": credit}
    found, wanted = begun(**how), begun(device="cpu", **how)
    np.testing.assert_allclose(steps(found, 2), steps(wanted, 2), rtol=1e-10)
    assert_same(weights(found), weights(wanted))
    if gpu is not None:  # in one launch for all times
        assert gpu.launches["gru_states"] == gpu.launches["gru_posts"] == 2
        # Each of five convolutions forwards and for its dW; none has an error to hand down.
        assert gpu.launches["windows"] == 2 * 2 * 5 and "errors" not in gpu.launches


@pytest.mark.parametrize("rule, layers", [("clapp_s", 4), ("gim", 2)])
def test_film_is_learned_the_same_on_a_gpu(gpu, rule, layers):
    """Kernels over several frames, norms and pools that overlap, which take no array operations,
    and all pairs of all prediction steps at once."""
    how = {"net": "vgg5_video", "rule": rule, "width": 0.02, "batch": 2}
    how |= {"layers": layers, "clip_frames": 9 if layers == 4 else 6, "side": 48, "crop": 64}
    how |= {"optimiser": "plain", "lr": 1e-4}  # Adam would make steps of sums that cancel
    found, wanted = begun(**how), begun(device="cpu", **how)
    np.testing.assert_allclose(steps(found, 2), steps(wanted, 2), rtol=1e-10)
    assert_same(weights(found), weights(wanted))
    if gpu is not None:  # none of the layers has an error to hand down
        assert gpu.launches["windows"] == 2 * 2 * layers and "errors" not in gpu.launches
        assert gpu.launches["normalised"] == gpu.launches["undone"] == 2 * layers
        assert gpu.launches["hinge_pairs" if rule == "clapp_s" else "infonce"] == 2 * layers


@pytest.mark.parametrize("rule", ["clapp", "cpc", "bcm"])
def test_dW_in_float32_is_the_cpus_to_four_digits(gpu, rule):
    found, wanted = (first_updates(begun(rule, d, dtype="float32")) for d in ("cuda", "cpu"))
    assert_same(found, wanted, limit=1e-4)


@pytest.mark.parametrize("rule", ["clapp", "bcm"])
def test_a_training_repeats_bit_for_bit(gpu, rule):
    runs = [begun(rule, dtype="float32", layers=4) for _ in range(2)]
    np.testing.assert_array_equal(*(steps(run, 3) for run in runs))
    for key, w in weights(runs[0]).items():
        np.testing.assert_array_equal(w, weights(runs[1])[key])


@pytest.mark.parametrize("rule", ["clapp", "bcm"])
def test_steps_leave_no_memory_behind(gpu, rule):
    import cupy

    state, pool = begun(rule, dtype="float32", layers=4), cupy.get_default_memory_pool()
    used, taken = [], []
    for _ in range(200 if gpu is None else 8):
        steps(state, 1)
        used.append(pool.used_bytes())
        taken.append(pool.total_bytes())
    assert set(used[3:]) == {used[3]}  # weights and moments
    assert taken[-1] <= 1.05 * taken[len(taken) // 4]  # the number of events changes by the draw


def test_a_batch_crosses_once_and_only_its_numbers_come_back(gpu, tmp_path):
    if gpu is None:
        pytest.skip("a card does not count what crosses")
    state = begun(steps=2 * training.FLUSH + 3)
    losses = len(state.modules) * 2  # losses and open gates
    crossed = []

    def count(progress):
        crossed.append((progress.step, len(gpu.sent), list(gpu.fetched)))
        gpu.forget()

    gpu.forget()
    assert training.train(state, tmp_path, count)
    batches = [sent for _, sent, _ in crossed]
    # One is on its way when the losses are read, but at the end.
    assert [step for step, _, _ in crossed] == [20, 40, 43]
    assert batches == [21, 20, 2]
    layers = len(state.network.layers)
    # Whether the graph of a step gives its bits is asked once.
    for (_, _, fetched), measured, compared in zip(
        crossed[:2], (3, 2), ([8], []), strict=True
    ):  # 1, 10, 20; 30, 40
        assert fetched == [*compared, 8 * losses * 20] + [8 * 5 * layers] * measured
    saved = 3 * sum(len(own) for own in state.weights.values())  # weights and moments
    saved += layers  # when its neurons have answered
    assert len(crossed[2][2]) == 1 + saved


def test_batches_come_from_pinned_memory_by_one_copy_each(gpu):
    if gpu is None:
        pytest.skip("a card does not count what crosses")
    state = begun()
    fed = [state.batch(step) for step in range(5)]
    gpu.forget()
    for batch, wanted in zip(prefetched(iter(fed), "cuda:0"), fed, strict=True):
        for found, exact in zip(arrays(batch), arrays(wanted), strict=True):
            assert found.dtype == exact.dtype
            np.testing.assert_array_equal(found.get(), exact)
    assert len(gpu.sent) == 5 and all(pinned for _, pinned in gpu.sent)


def test_all_parameters_of_a_layer_move_in_one_launch(gpu):
    if gpu is None:
        pytest.skip("a card does not count launches")
    state = begun()
    steps(state, 3)
    assert max(len(own) for own in state.weights.values()) == 4
    assert gpu.launches["adam"] == 3 * len(state.weights)


def arrays(batch):
    for event in (e for c in batch.draws for half in (c.pred, c.retro) for e in half):
        yield from (event.context, event.target, event.label, event.weight)
    yield from (batch.pixels, batch.top, batch.left, batch.flip)


@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_items_of_any_size_arrive_as_they_were(gpu, count):
    rng = np.random.default_rng(count)
    items = [
        (number, [rng.random((number % 3, 1000 * number))], rng.random(number) < 0.5, None)
        for number in rng.integers(0, 9, count).tolist()
    ]
    items = [(n, a, b.reshape(1, -1)[:, ::-1], c) for n, a, b, c in items]  # not contiguous
    items = [(0, [np.empty((3, 0))], np.empty((1, 0), bool), None), *items]
    found = [(n, a[0].get(), b.get(), c) for n, a, b, c in prefetched(iter(items), "cuda:0")]
    for (n, a, b, c), (m, x, y, z) in zip(found, items, strict=True):
        assert (n, c) == (m, z) and a.dtype == x[0].dtype and b.dtype == y.dtype
        np.testing.assert_array_equal(a, x[0])
        np.testing.assert_array_equal(b, y)


def test_what_fails_while_items_are_made_is_raised(gpu):
    def items():
        yield np.zeros(3)
        raise UserError("a file is gone")

    with pytest.raises(UserError, match="a file is gone"):
        list(prefetched(items(), "cuda:0"))


def test_the_second_gpu_can_be_taken():
    with standin.installed(devices=2) as machine:
        state = begun(device="cuda:1")
        wanted = begun(device="cpu")
        np.testing.assert_allclose(steps(state, 2), steps(wanted, 2), rtol=1e-10)
        assert machine.current == 1 and state.device == "cuda:1"


def test_a_gpu_that_is_not_there_is_named():
    for devices, sentence in ((0, "needs a GPU, and CUDA finds none"), (1, "has 1 GPU")):
        with standin.installed(devices), pytest.raises(UserError, match=sentence):
            begun(device="cuda:1")
    with standin.installed(devices=0):
        assert begun(device="auto").device == "cpu"
    with standin.installed():
        assert begun(device="auto").device == "cuda:0"


def test_cudas_libraries_that_are_not_there_are_named(monkeypatch):
    def missing():
        raise RuntimeError('Failure finding "libnvrtc.so.12"\nand more')

    with standin.installed():
        import cupy

        monkeypatch.setattr(cupy.cuda.nvrtc, "getVersion", missing)
        sentence = r"needs CUDA's libraries.*pip install '.\[gpu\]'.*libnvrtc.so.12\"\)$"
        with pytest.raises(UserError, match=sentence):
            begun()


def test_memory_that_does_not_suffice_is_one_sentence(monkeypatch, tmp_path):
    def no_room(*args, **how):
        raise MemoryError("Out of memory allocating 1,024 bytes")

    monkeypatch.setattr(training, "learn_batch", no_room)
    done = call("run", *CALL, "--device", "cpu", "--steps", 1, "--out", tmp_path / "a")
    assert done.exit_code == 2 and "1,024 bytes): take a smaller --batch" in done.output


def test_the_surprise_circuit_draws_the_same_bursts_and_noise_on_a_gpu(gpu):
    noisy = {"gate": "circuit", "circuit_noise": 0.3, "burst_probability": 0.5}
    found, wanted = begun(**noisy), begun(device="cpu", **noisy)
    np.testing.assert_allclose(steps(found, 2), steps(wanted, 2), rtol=1e-10)
    assert_same(weights(found), weights(wanted))


def test_the_terms_of_cpcs_gradient_are_the_same_on_a_gpu(gpu):
    found, wanted = (cpc_gradient.cpc_gradient(begun("gim", d)) for d in ("cuda", "cpu"))
    assert found.agrees
    for section in ("terms", "needs"):
        for a, b in zip(getattr(found, section), getattr(wanted, section), strict=True):
            numbers = [(p.size, p.share, p.without) for p in (a, b)]
            assert (a.layer, a.what) == (b.layer, b.what)
            np.testing.assert_allclose(*numbers, rtol=1e-6, atol=1e-9)


CALL = [
    *("--width", "0.03", "--batch", "4", "--crop", "40", "--prediction-steps", "2"),
    *("--dtype", "float64", "--images", "40", "--no-probe"),
]
PROBE = ["--protocol", "published", "--epochs", "2", "--views", "1", "--train", "10", "--test", "6"]


RECORD = (
    "layer=2,synapse=1:1:0:2,random=3,neurons=0:2,prediction=1:1:0,retro=2:0:1,weights;layer=1,all"
)


def call(*args):
    testing, _ = pytest.importorskip("click.testing"), pytest.importorskip("rich")
    from plasticity.cli import main

    return testing.CliRunner().invoke(main, [*map(str, args)], env={"COLUMNS": "120"})


def stored(folder):
    params = runs.load(runs.checkpoint_path(folder)).params
    return {(la, n): w for la, own in params.items() for n, w in own.items()}


def test_a_run_is_trained_resumed_probed_and_inspected_on_a_gpu(gpu, tmp_path):
    record = ("--record", RECORD)
    folders = {device: tmp_path / device for device in ("cpu", "cuda")}
    found = {}
    for device, folder in folders.items():
        on = ("--device", device)
        for args in (
            ("run", *CALL, *on, "--steps", 2, *record, "--record-every", 1, "--out", folder),
            ("run", "--resume", folder, *on, "--steps", 3, "--no-probe"),
            ("probe", folder, *on, *PROBE, "--json", folder / "probe.json"),
            ("inspect", folder, *on, "--layer", 2, "--synapse", "1,1,0,2"),
        ):
            done = call(*args)
            assert done.exit_code == 0, done.output
        found[device] = inspection.read(folder / "record.h5")
    told = [json.loads((f / "summary.json").read_text()) for f in folders.values()]
    assert "peak_device_bytes" not in told[0] and told[1]["peak_device_bytes"] > 0
    assert_same(stored(folders["cuda"]), stored(folders["cpu"]))
    assert_same(found["cuda"], found["cpu"], limit=1e-6)  # what is recorded is float32
    probes = [json.loads((f / "probe.json").read_text()) for f in folders.values()]
    assert probes[0]["trained"] == probes[1]["trained"]


@pytest.mark.parametrize("rule", ["oja", "bcm"])
def test_rules_that_read_maps_are_recorded_the_same_on_a_gpu(gpu, rule, tmp_path):
    found = {}
    for device in ("cpu", "cuda"):
        args = ("--rule", rule, "--layers", 2, "--device", device, "--out", tmp_path / device)
        few = [a for a in CALL if a not in ("--prediction-steps", "2")]
        record = ("--record", "layer=2,random=5,neurons=0:2", "--record-every", 1)
        done = call("run", *few, "--steps", 2, *args, *record)
        assert done.exit_code == 0, done.output
        found[device] = inspection.read(tmp_path / device / "record.h5")
    assert np.abs(found["cuda"]["conv2/synapses/share"]).max() > 0
    assert_same(found["cuda"], found["cpu"], limit=1e-6)


@pytest.mark.parametrize("rule", ["clapp", "bcm"])
def test_verify_compares_the_cpu_with_the_gpu(gpu, rule, tmp_path):
    small = ["--width", "0.03", "--layers", "2", "--batch", "2", "--seeds", "1"]
    done = call("verify", "--rule", rule, *small, "--against", "cuda", "--json", tmp_path / "v")
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "v").read_text())
    assert {row["method"] for row in found["rows"]} == {"cuda:0"} and found["holds"]
    assert 0 < max(row["error"] for row in found["rows"]) < 1e-10
