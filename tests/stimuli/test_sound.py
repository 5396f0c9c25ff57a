"""Sound: crops of utterances, frames as encodings, and the labels that frames have."""

import numpy as np
import pytest

from plasticity import networks
from plasticity.data.speech import open_speech
from plasticity.errors import UserError
from plasticity.events import Layout
from plasticity.network import Conv, Gru, Network
from plasticity.runs import lifecycle, sets
from plasticity.runs.options import RunOptions
from plasticity.stimuli import Sound
from plasticity.stimuli.sound import label_at, label_of, normalised, timing


@pytest.fixture(scope="module")
def stimulus():
    return Sound(open_speech("speech", shortest=20480).split("train"))


def test_an_epoch_takes_a_crop_of_every_utterance_and_the_next_in_another_order(stimulus):
    steps = len(stimulus.source) // 8
    index = [stimulus.batch(step, 1, 8).index for step in range(2 * steps)]
    first, second = np.concatenate(index[:steps]), np.concatenate(index[steps:])
    assert len(set(first)) == len(first) == 8 * steps
    assert not np.array_equal(first, second)


def test_crops_begin_at_multiples_of_ten_milliseconds_and_differ_from_epoch_to_epoch(stimulus):
    steps = len(stimulus.source) // 8
    starts: dict[int, set[int]] = {}
    for step in range(12 * steps):
        batch = stimulus.batch(step, 0, 8)
        assert (batch.start % 160 == 0).all()
        assert (batch.start + 20480 <= stimulus.source.lengths[batch.index]).all()
        for i, start, samples in zip(batch.index, batch.start, batch.samples, strict=True):
            starts.setdefault(int(i), set()).add(int(start))
            wanted = stimulus.source.samples(int(i), start, start + 20480)
            np.testing.assert_array_equal(samples, wanted)
    assert np.mean([len(own) for own in starts.values()]) > 4


def test_crops_of_an_utterance_start_at_its_first_place_and_at_its_last(stimulus):
    source = stimulus.source.pick([0])
    short = Sound(source, samples=int(source.lengths[0]) - 160)
    assert {int(short.batch(step, 0, 1).start[0]) for step in range(20)} == {0, 160}


def test_a_batch_is_a_function_of_seed_and_step_and_a_share_is_part_of_it(stimulus):
    whole, again = (stimulus.batch(5, 3, 6) for _ in range(2))
    part = stimulus.batch(5, 3, 6, slice(2, 4))
    np.testing.assert_array_equal(whole.samples, again.samples)
    np.testing.assert_array_equal(part.samples, whole.samples[2:4])
    np.testing.assert_array_equal(part.index, whole.index)
    assert not np.array_equal(whole.index, stimulus.batch(5, 4, 6).index)


def test_samples_are_normalised_by_one_scale_for_all():
    """(x + 22.22) / 2064.57, with the constants of the published code."""
    x = np.array([[-32768, 0, 100]], np.int16)
    found = normalised(x, np.dtype(float))
    assert found.shape == (1, 3, 1)
    np.testing.assert_allclose(found[0, :, 0], (x[0] + 22.22) / 2064.57, rtol=3e-5)


def test_the_timing_of_the_published_layers_is_that_of_the_table():
    """Samples from frame to frame, and in the middle of frame 0: by hand from kernel and stride."""
    wanted = [(5, 2.5), (20, 10), (40, 0), (80, -20), (160, 20), (160, 20)]
    assert timing(networks.get("audio", width=0.01)) == wanted


def test_a_pool_in_time_moves_the_middle_by_half_of_its_window():
    net = Network("n", (Conv("c", 1, 2, (4,), 2, 1, pool=3), Gru("g", 2, 2)))
    assert timing(net) == [(6, 0.5 + 2), (6, 2.5)]


@pytest.mark.parametrize("alignment", [0, 1, 2])
def test_a_label_is_read_at_the_frame_that_is_as_much_later_as_the_alignment_says(alignment):
    labels = np.arange(30)
    frame = (label_at(labels, alignment) - 20) / 160  # of the highest map
    np.testing.assert_array_equal(frame, labels + alignment)
    for shift in (-79, 0, 80):
        found = label_of(label_at(labels, alignment) + shift, alignment)
        np.testing.assert_array_equal(found, labels)


def test_frames_of_a_batch_have_the_phones_that_are_spoken_there(stimulus):
    net = networks.get("audio", width=0.01)
    batch = stimulus.batch(0, 0, 4)
    for layer, frames in ((5, 128), (0, 4095)):
        found = stimulus.labels(batch, net, layer, Layout(frames, 4, 1, skip=0))
        assert found.shape == (frames, 4)
        hop, middle = timing(net)[layer]
        for b, t in ((0, 0), (1, frames // 2), (3, frames - 1)):
            phones = stimulus.source.phones(int(batch.index[b]))
            sample = batch.start[b] + middle + hop * t
            nearest = np.abs(160 * (np.arange(len(phones)) + 2) + 20 - sample)
            near = nearest.min() <= 80
            assert found[t, b] == (phones[nearest.argmin()] if near else -1)


def test_without_alignment_an_utterance_has_all_its_phones_and_none_in_its_last_two_frames(
    stimulus,
):
    source = stimulus.source.pick([0])
    whole = Sound(source, samples=int(source.lengths[0]), alignment=0)
    (batch,), phones = whole.in_order(np.array([0]), 1), source.phones(0)
    layout = Layout(len(phones) + 2, 1, 1, skip=0)
    found = whole.labels(batch, networks.get("audio", width=0.01), 5, layout)
    assert found[:, 0].tolist() == [*phones, -1, -1]


def test_what_does_not_fit_is_told_in_a_sentence():
    with pytest.raises(UserError, match="12 prediction steps need at least 13 frames"):
        lifecycle.plan(RunOptions(net="audio", width=0.01, samples=800, device="cpu"))
    with pytest.raises(UserError, match="--crop is for images, and audio is for sound"):
        RunOptions(net="audio", crop=32).network()
    with pytest.raises(UserError, match="--samples is for sound, and vgg6 is for images"):
        RunOptions(samples=100).network()
    with pytest.raises(UserError, match="--credit has no meaning for vgg6"):
        RunOptions(credit="bptt").network()
    with pytest.raises(UserError, match="unknown --below-gru 'a': expected both or gru"):
        RunOptions(net="audio", below_gru="a")
    with pytest.raises(UserError, match=r"no utterance in .* can be used: .* shorter than 900000"):
        sets.stimulus(RunOptions(net="audio", samples=900_000, width=0.01))


def test_a_part_of_a_set_is_bound_to_the_whole():
    """A run on some of the utterances, or on those with phones, knows its set again."""
    whole = open_speech("speech").split("train")
    assert whole.drawn(10, 0).identity == whole.labelled().identity == whole.identity
    assert len(whole.drawn(10, 0)) == 10
    assert whole.identity != open_speech("speech").split("test").identity
