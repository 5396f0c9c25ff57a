"""What figures show is what the layers do: beside brute force, patch by patch."""

import sys

import numpy as np
import pytest

from plasticity import figures
from plasticity.errors import MissingError, UserError
from plasticity.inspection import comparisons, views
from plasticity.kernels.definition import convolution
from plasticity.network import Conv, Network, Pool
from plasticity.runs import run
from plasticity.runs.options import RunOptions

OPTIONS = RunOptions(width=0.06, layers=3, batch=4, crop=40, dtype="float64", device="cpu", seed=3)
INDICES = np.array([5, 0, 17, 40, 2])


@pytest.fixture(scope="module")
def state():
    made = run.begin(OPTIONS.changed(prediction_steps=2))
    for own in made.weights.values():
        for w in own.values():
            w *= 2.0  # gates open and closed
    return made


@pytest.fixture(scope="module")
def stimulus():
    return views.test_set(OPTIONS, 0)[0]


@pytest.fixture(scope="module")
def images(stimulus):
    return stimulus.source


@pytest.fixture(scope="module")
def surveys(state, stimulus):
    return views.survey(state, state.weights, stimulus, INDICES)


def alone(state, images, image, left, top):
    """The encodings of one patch, cut from its image by hand and sent through the layers."""
    pixels = images.pixels(np.array([image]))[0, top : top + 16, left : left + 16]
    x = ((pixels / 255 - images.mean[0]) / images.std[0])[None, :, :, None]
    for layer in state.network.layers:
        own = state.weights[layer.name]
        x, _, z = convolution.forward(x, own["weight"], own["bias"], layer.geometry)
        yield z[0]


@pytest.fixture(scope="module")
def brute(state, images):
    """Encodings of every patch `(image, row, column)` of the centre crops, layer by layer."""
    edge = (images.side - OPTIONS.crop) // 2
    found = [
        [
            [
                list(alone(state, images, image, edge + 8 * column, edge + 8 * row))
                for column in range(4)
            ]
            for row in range(4)
        ]
        for image in INDICES
    ]
    return [
        np.array([[[cell[layer] for cell in row] for row in image] for image in found])
        for layer in range(3)
    ]


def test_an_image_is_encoded_as_the_mean_over_its_patches(surveys, brute):
    for survey, z in zip(surveys, brute, strict=True):
        np.testing.assert_allclose(survey.encoding, z.mean(axis=(1, 2)), rtol=1e-9, atol=1e-12)


def test_the_favourites_of_a_neuron_are_the_patches_with_the_largest_encodings(surveys, brute):
    for survey, z in zip(surveys, brute, strict=True):
        wanted = np.arange(z.shape[-1])
        place, patch, value = views.favourites(survey, wanted, 3)
        for j in wanted:
            best = sorted(
                ((z[i, :, :, j].max(), i) for i in range(len(z))), key=lambda b: (-b[0], b[1])
            )
            if best[0][0] == 0:
                continue
            np.testing.assert_allclose(value[j], [v for v, _ in best[:3]], rtol=1e-9, atol=1e-12)
            for i, p, v in zip(place[j], patch[j], value[j], strict=True):
                assert z[i, p // 4, p % 4, j] == pytest.approx(v)


def test_a_box_frames_the_very_pixels_that_excite_the_neuron(state, stimulus, surveys):
    chosen = views.neurons(surveys[2:], 4, 0)
    place, patch, value = views.favourites(surveys[2], chosen, 2)
    boxes = stimulus.box(patch)
    for row, j in enumerate(chosen):
        for image, (left, top), v in zip(place[row], boxes[row], value[row], strict=True):
            *_, z = alone(state, stimulus.source, INDICES[image], left, top)
            assert z[j] == pytest.approx(v)


def test_fewer_images_than_asked_for_are_all_shown(surveys):
    place, _, value = views.favourites(surveys[0], np.array([0, 1]), 99)
    assert place.shape == (2, len(INDICES)) and (np.diff(value) <= 0).all()
    assert sorted(place[0]) == list(range(len(INDICES)))  # each image once


def test_silent_neurons_are_not_shown_and_the_seed_repeats_the_choice():
    best = np.ones((3, 50))
    best[:, ::2] = 0
    survey = views.Survey(best, best, np.zeros(best.shape, int))
    drawn = [views.neurons([survey, survey], 6, seed).tolist() for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert all(j % 2 for j in drawn[0]) and len(set(drawn[0])) == 6
    assert views.neurons([survey], 99, 0).tolist() == list(range(1, 50, 2))


@pytest.mark.parametrize("weights, halves", [("retro", 2), ("symmetric", 1)])
def test_events_are_those_that_training_counts(weights, halves):
    state = run.begin(OPTIONS.changed(prediction_steps=2, weights=weights, rule="clapp_s"))
    for own in state.weights.values():
        for w in own.values():
            w *= 2.0
    found = comparisons.events(state, OPTIONS.batch)
    updates = list(state.next()[1])
    for one, update in zip(found, updates, strict=True):
        # contexts at k = 1, 2: rows 0 and 1, then row 0; 4 images, 4 columns, both signs
        assert len(one.score) == halves * 2 * (2 + 1) * 4 * 4
        rows = [row for row in one.gates if halves == 2 or row["role"] == "target"]
        by_step = [
            np.mean([row["open"] for row in rows if row["k"] == k], dtype=float) for k in (1, 2)
        ]
        assert np.mean(by_step) == pytest.approx(float(update.open_gates))
        # Eq. (3), averaged over events of a sign, summed over signs, averaged over k and halves
        loss = np.maximum(0, 1 - one.label * one.score)
        assert one.hinged and 0 < one.open.mean() < 1
        np.testing.assert_array_equal(one.open, loss > 0)


def test_scores_are_products_of_target_prediction_matrix_and_context(state):
    seen = []
    list(state.next(seen.append)[1])
    for one, watched in zip(comparisons.events(state, 4), seen, strict=True):
        wanted, (scored,) = [], watched.predicted
        for k in (0, 1):
            for half, name in ((scored.draw.pred, "W_pred"), (scored.draw.retro, "W_retro")):
                for c, z in zip(half[k].context, half[k].target, strict=True):
                    pair = (z, c) if name == "W_pred" else (c, z)
                    wanted.append(scored.z[pair[0]] @ scored.own[name][k] @ scored.z[pair[1]])
        np.testing.assert_allclose(one.score, wanted, rtol=1e-9, atol=1e-12)


def test_a_context_from_above_is_scored_by_the_layer_above():
    state = run.begin(OPTIONS.changed(prediction_steps=1, rule="clapp_s", context="above"))
    seen = []
    list(state.next(seen.append)[1])
    for number, one in enumerate(comparisons.events(state, 4)):
        here, above = (seen[m].predicted[0] for m in (number, min(number + 1, 2)))
        half = here.draw.pred[0]
        wanted = [
            here.z[z] @ here.own["W_pred"][0] @ above.z[c]
            for c, z in zip(half.context, half.target, strict=True)
        ]
        np.testing.assert_allclose(one.score[: len(wanted)], wanted, rtol=1e-9, atol=1e-12)
    shapes = [len(one.spectrum[0]) for one in comparisons.predictions(state.weights)]
    assert shapes == [min(own["W_pred"][0].shape) for own in state.weights.values()]


def test_several_batches_are_the_next_ones_of_training(state):
    both = comparisons.events(state, 8)
    state.step = 1
    second = comparisons.events(state, 4)
    state.step = 0
    first = comparisons.events(state, 4)
    for one, a, b in zip(both, first, second, strict=True):
        np.testing.assert_array_equal(one.score, np.concatenate([a.score, b.score]))
        for row in one.gates:
            same = [
                r
                for part in (a, b)
                for r in part.gates
                if (r["role"], r["k"], r["sign"]) == (row["role"], row["k"], row["sign"])
            ]
            assert row["events"] == sum(r["events"] for r in same)
            opened = sum(r["events"] * r["open"] for r in same)
            assert row["open"] * row["events"] == pytest.approx(opened)


@pytest.mark.parametrize("rule", ["random", "greedy_supervised"])
def test_a_rule_without_comparisons_says_so(rule):
    state = run.begin(RunOptions(rule=rule, width=0.04, layers=1, batch=2, device="cpu"))
    with pytest.raises(MissingError, match=rule):
        comparisons.events(state, 2)
    assert list(comparisons.predictions(state.weights)) == []


def test_predictions_have_norm_spectrum_and_alignment():
    W = np.random.default_rng(0).standard_normal((2, 3, 3))
    own = {"weight": None, "W_pred": W, "W_retro": np.stack([W[0].T, -W[1].T])}
    (found,) = comparisons.predictions({"below": {"weight": None}, "top": own})
    assert found.layer == "top"
    for k in (0, 1):
        squares = sorted(np.linalg.eigvalsh(W[k] @ W[k].T), reverse=True)
        np.testing.assert_allclose(found.spectrum[k] ** 2, squares)
        assert found.norm[k] ** 2 == pytest.approx(sum(squares))
    np.testing.assert_allclose(found.retro_norm, found.norm)
    np.testing.assert_allclose(found.cosine, [1, -1])
    (alone,) = comparisons.predictions({"top": {"W_pred": W}})
    assert alone.cosine is None and alone.retro_norm is None


def test_kernels_lie_in_rows_with_gaps_between():
    weight = np.arange(5 * 2 * 3 * 2, dtype=float).reshape(5, 2, 3, 2)
    image = figures.mosaic(figures.kernels(weight), 2)
    assert image.shape == (3 * 3 + 2, 2 * 2 + 1)
    for j in range(5):
        row, column = divmod(j, 2)
        tile = image[4 * row : 4 * row + 3, 3 * column : 3 * column + 2]
        np.testing.assert_array_equal(tile, (weight[j, 0] + weight[j, 1]) / 2)
    assert all(np.isnan(gap).all() for gap in (image[3], image[:, 2], image[8:, 3:]))


def test_tsne_keeps_groups_together_and_repeats():
    rng = np.random.default_rng(0)
    centres = np.repeat([[0.0, 0, 0], [9, 9, 9]], 10, axis=0)
    encodings = centres + 0.1 * rng.standard_normal((20, 3))
    points = views.tsne(encodings, 0)
    np.testing.assert_array_equal(points, views.tsne(encodings, 0))
    distance = np.linalg.norm(points[:, None] - points, axis=-1) + 1e9 * np.eye(20)
    assert (distance.argmin(axis=1) // 10 == np.arange(20) // 10).all()


def test_tsne_says_what_it_wants(monkeypatch):
    with pytest.raises(UserError, match="at least 4 images, got 3"):
        views.tsne(np.eye(3), 0)
    with pytest.raises(MissingError, match="the same encoding"):
        views.tsne(np.ones((5, 3)), 0)
    monkeypatch.setitem(sys.modules, "sklearn.manifold", None)
    with pytest.raises(MissingError, match=r"pip install '.\[plot\]'"):
        views.tsne(np.eye(5), 0)


def test_what_a_place_of_a_map_sees_is_what_reaches_it():
    """One pixel at a time, through weights of one: it reaches the places whose window holds it."""
    pool = Pool((1, 3, 2), (1, 2, 2))
    network = Network(
        "seen",
        (
            Conv("a", 1, 1, kernel=(1, 5, 2), stride=(1, 2, 1), padding=(0, 1, 0), pool=pool),
            Conv("b", 1, 1, kernel=(3, 3, 2), stride=(3, 1, 2), padding=(0, 1, 1)),
        ),
    )
    ones = {name: {"weight": np.ones((1, 1, *kernel)), "bias": np.zeros(1)}
            for name, kernel in (("a", (1, 5, 2)), ("b", (3, 3, 2)))}  # fmt: skip
    space = (6, 15, 15)  # every pixel is in a window
    every = np.eye(np.prod(space)).reshape(-1, *space, 1)
    for layer, (y, _) in enumerate(network.maps(every, ones)):
        for place in np.ndindex(y.shape[1:-1]):
            reached = np.argwhere(y[(slice(None), *place, 0)].reshape(space) > 0)
            for axis, (begin, step, size) in enumerate(views.windows(network, layer)):
                first = begin + step * place[axis]
                seen = np.arange(first, first + size)
                wanted = seen[(seen >= 0) & (seen < space[axis])]
                np.testing.assert_array_equal(np.unique(reached[:, axis]), wanted)
