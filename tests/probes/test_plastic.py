"""Layers that are plastic always learn while they are tested, on a copy."""

import numpy as np
import pytest
from click.testing import CliRunner
from plasticity.cli import main

from plasticity import learning, runs
from plasticity.errors import UserError
from plasticity.probes import plastic
from plasticity.probes.encodings import encode
from plasticity.runs import lifecycle, run, sets, training
from plasticity.runs.options import RunOptions

OJA = {"width": 0.03, "batch": 4, "crop": 40, "layers": 2, "device": "cpu", "rule": "oja",
       "lr": 1e-2, "dtype": "float64"}  # fmt: skip
ALWAYS = {"plastic": "always"}


def copied(weights):
    return {la: {n: w.copy() for n, w in own.items()} for la, own in weights.items()}


def same(a, b):
    return all(np.array_equal(w, b[la][n]) for la, own in a.items() for n, w in own.items())


def encoded(state, weights, indices, size=4):
    stimulus = sets.stimulus(state.options, sets.split(state.options, "test"))
    subject = plastic.of(state, weights)
    return encode(state.network, subject, stimulus, np.array(indices), size, "cpu")


def begun(steps=2, layer=None, **changed):
    state = run.begin(RunOptions(**{**OJA, **changed}, layer={"conv2": ALWAYS, **(layer or {})}))
    for i in range(steps):
        training.learn_batch(state, state.batch(i))
    return state


def test_a_batch_is_encoded_and_then_learned_from():
    """By hand: the second batch is encoded by the weights that a step on the first one makes."""
    state = begun()
    before = copied(state.weights)
    found = encoded(state, state.weights, range(8))
    stimulus = sets.stimulus(state.options, sets.split(state.options, "test"))
    first, second = (stimulus.inputs(batch, np.dtype(float))
                     for batch in stimulus.in_order(np.arange(8), 4))  # fmt: skip
    layout = stimulus.layout(4)
    stepped = copied(before)
    parts = state.network, state.rule, state.modules, before, first, layout
    nothing = learning.draws(state.rule, layout, state.modules, 0, 0)  # it draws nothing
    _, update = learning.updates(*parts, nothing)
    moments = {"conv2": {n: {k: m.copy() for k, m in own.items()}
                         for n, own in state.optimiser.moments["conv2"].items()}}  # fmt: skip
    learning.Optimiser(state.optimiser.paces, moments).ascend(stepped, update.changes, 3)
    for x, weights, at in ((first, before, slice(0, 4)), (second, stepped, slice(4, 8))):
        for number, z in enumerate(state.network.encodings(x, weights)):
            z = z.reshape(*layout.shape, -1).mean(axis=(0, 2))
            np.testing.assert_allclose(found[number][at], z, rtol=1e-12)
    assert same(before, state.weights) and state.step == 2
    assert not np.allclose(stepped["conv2"]["weight"], before["conv2"]["weight"], rtol=1e-6)


def test_a_stream_begins_with_the_saved_weights_and_depends_on_its_order():
    state = begun()
    once, again = (encoded(state, state.weights, range(12)) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(once, again, strict=True))
    order = [*range(4, 12), *range(4)]
    other = [z[np.argsort(order)] for z in encoded(state, state.weights, order)]
    np.testing.assert_array_equal(once[0], other[0])  # conv1 is not plastic
    assert not np.allclose(once[1], other[1])
    held = begun(layer={"conv2": {}})
    np.testing.assert_array_equal(encoded(held, held.weights, range(12))[0], once[0])
    np.testing.assert_array_equal(encoded(held, held.weights, range(4))[1], once[1][:4])


def test_the_random_start_is_plastic_too_and_starts_anew():
    state = begun()
    start = run.begin(state.options)
    found, wanted = (encoded(one, start.weights, range(8)) for one in (state, start))
    assert all(np.array_equal(a, b) for a, b in zip(found, wanted, strict=True))


def test_a_last_batch_with_nothing_to_compare_is_left_out():
    """Negatives of other images need two: nine images in batches of four leave one."""
    state = begun(1, rule="clapp", prediction_steps=2)
    assert len(encoded(state, state.weights, range(9))[0]) == 9
    with pytest.raises(UserError, match="learn while tested: negatives of other images need"):
        encoded(state, state.weights, range(3), size=1)


def test_only_the_plastic_end_of_a_loss_learns():
    """The GRU predicts the layer below it, which is held while it is tested."""
    options = RunOptions(net="audio", width=0.03, batch=2, samples=5120, prediction_steps=2,
                         device="cpu", layer={"gru": ALWAYS})  # fmt: skip
    state = run.begin(options)
    stream, before = plastic.of(state, state.weights).begin(), copied(state.weights)
    x = state.stimulus.inputs(state.batch(0), np.dtype("float32"))
    stream.met(x, 2)
    held = {la for la, own in before.items() if same({la: own}, stream.weights)}
    assert set(before) - held == {"gru"} and same(before, state.weights)


def test_a_run_is_probed_with_its_layers_plastic_and_stays_as_it_was_saved(tmp_path):
    (tmp_path / "c.toml").write_text('[layer.conv2]\nplastic = "always"\n')
    small = ["--width", "0.03", "--batch", "8", "--layers", "2", "--steps", "3", "--lr", "0.01",
             "--probe-train", "40", "--probe-test", "20"]  # fmt: skip

    def call(*args):
        done = CliRunner().invoke(main, [*map(str, args)])
        assert done.exit_code == 0, done.output

    call("run", "--config", tmp_path / "c.toml", *small, "--out", tmp_path / "run")
    call("run", *small, "--out", tmp_path / "held")
    of = [runs.load(runs.checkpoint_path(tmp_path / name)) for name in ("run", "held")]
    assert same(of[0].params, of[1].params), "training is the same"
    for _ in range(2):
        call("probe", tmp_path / "run", "--train", 40, "--test", 20, "--json", tmp_path / "p.json")
    state = lifecycle.reopen(tmp_path / "run", device="cpu")
    assert same(state.weights, of[0].params) and state.optimiser.moments["conv2"]
    again = runs.read_json(tmp_path / "p.json")["trained"]
    assert again == runs.read_summary(tmp_path / "run")["probe"]["trained"]
    call("plot", tmp_path / "run", "patches", "--images", 20)


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"frozen": True, "plastic": "always"}, "a frozen layer .* here is plastic"),
        ({"rule": "random", "plastic": "always"}, "conv1 has no rule to learn by"),
        ({"rule": "greedy_supervised", "plastic": "always"}, "by greedy_supervised, from labels"),
    ],
)
def test_what_cannot_learn_while_it_is_tested_is_refused(section, said):
    with pytest.raises(UserError, match=said):
        run.begin(RunOptions(width=0.03, batch=4, layers=2, device="cpu",
                             layer={"conv1": section}))  # fmt: skip
