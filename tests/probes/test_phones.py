"""Phones by frame: which frames are read, and what an accuracy of them is worth."""

import math

import numpy as np
import pytest

from plasticity import seeds
from plasticity.data.speech import open_speech
from plasticity.errors import UserError
from plasticity.probes import phones
from plasticity.probes.probe import probe_run
from plasticity.runs import run
from plasticity.runs.options import RunOptions
from plasticity.stimuli import Sound
from plasticity.stimuli.sound import normalised, timing

OPTIONS = RunOptions(net="audio", width=0.02, device="cpu", dtype="float64")


@pytest.fixture(scope="module")
def state():
    return run.begin(OPTIONS)


def test_labels_of_the_highest_map_are_read_at_frame_label_plus_alignment():
    for alignment in (0, 1, 2):
        found = phones.read_at(5, alignment, 160, 20, 6)
        wanted = [j + alignment if j + alignment < 6 else -1 for j in range(5)]
        assert found.tolist() == wanted


def test_labels_of_a_finer_map_are_read_at_the_frame_that_is_nearest_in_time():
    found = phones.read_at(50, 2, 5, 2.5, 4095)
    for j, frame in enumerate(found):
        sample = 160 * (j + 2) + 20
        assert abs(5 * frame + 2.5 - sample) <= 2.5


def test_an_utterance_is_read_whole_at_its_labels(state):
    source = open_speech("speech").split("test")
    z, labels = phones.of_utterance(state.network, state.weights, source, 3, 2, "cpu")
    x = normalised(source.samples(3)[None], np.dtype(float))
    maps = [y for y, _ in state.network.maps(x, state.weights)]
    assert len(labels) == len(source.phones(3))  # two frames more than labels
    np.testing.assert_array_equal(labels, source.phones(3))
    np.testing.assert_array_equal(z[-1], maps[-1][0, 2 : 2 + len(labels)])
    at = phones.read_at(len(labels), 2, *timing(state.network)[1], maps[1].shape[1])
    np.testing.assert_array_equal(z[1], maps[1][0, at])


def test_labels_that_are_read_beyond_a_map_are_left_out(state):
    """At alignment 5 the last three, since the highest map has two frames more than labels."""
    source = open_speech("speech").split("test")
    z, labels = phones.of_utterance(state.network, state.weights, source, 3, 5, "cpu")
    x = normalised(source.samples(3)[None], np.dtype(float))
    *_, (y, _) = state.network.maps(x, state.weights)
    np.testing.assert_array_equal(labels, source.phones(3)[:-3])
    np.testing.assert_array_equal(z[-1], y[0, 5:])


def test_the_published_readers_are_torchs_linear_layers_that_learn_by_adam(state):
    """An utterance a step, in a new order every epoch."""
    torch = pytest.importorskip("torch")
    source, which = open_speech("speech").split("train"), np.array([0, 3, 5])
    weights = state.weights
    how = {"epochs": 3, "lr": 1e-3, "seed": 4}
    found = phones.published(state.network, weights, Sound(source), which, 41, "cpu", **how)
    rng = seeds.generator(4, seeds.PROBE, 1)
    sizes = [layer.outputs for layer in state.network.layers]
    starts = [rng.uniform(-(D**-0.5), D**-0.5, (D + 1, 41)) for D in sizes]
    orders = [rng.permutation(which) for _ in range(3)]
    assert len({tuple(order) for order in orders}) > 1
    met = {i: phones.of_utterance(state.network, weights, source, i, 2, "cpu") for i in which}
    for number, (flat, start) in enumerate(zip(found, starts, strict=True)):
        readout = torch.tensor(start, dtype=torch.float32, requires_grad=True)
        adam = torch.optim.Adam([readout], lr=1e-3)
        for i in np.concatenate(orders):
            z, told = (torch.tensor(a) for a in (met[i][0][number], met[i][1].astype(int)))
            adam.zero_grad()
            scores = z.float() @ readout[:-1] + readout[-1]
            torch.nn.functional.cross_entropy(scores, told).backward()
            adam.step()
        right = readout.detach().numpy()
        assert np.abs(right - start).max() > 5e-3  # nine steps
        np.testing.assert_allclose(flat.reshape(right.shape), right, atol=1e-4)


def test_some_frames_are_always_the_same_ones_and_come_from_many_utterances(state):
    source = open_speech("speech").split("train")
    which = phones.check(source, "speech")
    found = [
        phones.frames(state.network, state.weights, source, which, 2, "cpu", 400) for _ in range(2)
    ]
    np.testing.assert_array_equal(found[0].z[2], found[1].z[2])
    assert len(found[0].phones) == len(found[0].z[0]) == 400
    assert len(np.unique(found[0].utterance)) >= 4  # drawn from 1,600 frames at least


def test_the_standard_error_counts_utterances_and_not_their_frames():
    """Of utterances that are told wholly or not at all it is that of a fraction of utterances."""
    U, p = 40, 0.25
    utterance = np.repeat(np.arange(U), 50)
    right = utterance < p * U
    wanted = math.sqrt(p * (1 - p) / (U - 1))
    assert phones.error_by_utterance(right, utterance) == pytest.approx(wanted)


def test_the_standard_error_is_the_spread_of_accuracies_of_drawn_utterances():
    rng = np.random.default_rng(0)
    found, errors = [], []
    for _ in range(400):
        lengths = rng.integers(5, 60, 30)
        chance = np.repeat(rng.beta(2, 2, 30), lengths)
        right = rng.random(len(chance)) < chance
        found.append(right.mean())
        errors.append(phones.error_by_utterance(right, np.repeat(np.arange(30), lengths)))
    assert np.mean(errors) == pytest.approx(np.std(found), rel=0.15)


@pytest.mark.parametrize("protocol", ["regularised", "published"])
def test_both_protocols_measure_every_layer_beside_random_weights(state, protocol):
    state.weights["conv1"]["weight"] *= 1.1
    sizes = {"train_images": 6, "test_images": 3}
    found = probe_run(state, **sizes, protocol=protocol, epochs=1)
    assert found.task == "phones" and found.classes == 41 and found.layers[-1] == "gru"
    assert len(found.trained) == len(found.random) == 6
    assert all(0 <= a <= 1 for a in (*found.trained, *found.random)) and found.error > 0


def test_frames_are_told_of_utterances_that_nothing_was_fitted_to(state, monkeypatch):
    met, frames = [], phones.frames

    def watched(network, weights, source, indices, *rest):
        met.append((source.part, len(indices)))
        return frames(network, weights, source, indices, *rest)

    monkeypatch.setattr(phones, "frames", watched)
    probe_run(state, train_images=6, test_images=3, beside_random=False)
    assert sorted(met) == [("test", 3), ("train", 6)]


def test_speakers_are_probed_by_utterance(state):
    found = probe_run(state, task="speakers", train_images=24, test_images=12, beside_random=False)
    assert (found.task, found.classes, found.random) == ("speakers", 4, [])
    middle = float(np.mean(found.trained))
    assert found.error == pytest.approx(math.sqrt(middle * (1 - middle) / 12))


def test_one_test_utterance_cannot_say_how_sure_it_is(state):
    with pytest.raises(UserError, match="needs two test utterances with phones"):
        probe_run(state, train_images=6, test_images=1)


def test_a_number_of_utterances_takes_ten_frames_of_each_at_most(state):
    from plasticity.probes.probe import OfPhones

    source = open_speech("speech")
    sets = [source.split(split) for split in ("train", "test")]
    assert OfPhones(state, "speech", *sets, 6, 3).most == {"train": 60, "test": 30}
    assert OfPhones(state, "speech", *sets, 5000, 2000).most == phones.MOST
    assert OfPhones(state, "speech", *sets, 0, 0).most == phones.MOST


def test_a_task_that_the_stimulus_has_not_is_told(state):
    with pytest.raises(UserError, match="--task classes is not for sound: expected phones or"):
        probe_run(state, task="classes")
    with pytest.raises(UserError, match="--task phones is not for images: expected classes"):
        probe_run(run.begin(RunOptions(width=0.02, layers=1, device="cpu")), task="phones")
