"""Linear probes."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import log_softmax

from plasticity import seeds
from plasticity.errors import UserError
from plasticity.probes import linear
from tests.rounding import close_slope


def blobs(n=300, D=6, classes=3, spread=0.5, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, n)
    centres = np.random.default_rng(99).standard_normal((classes, D)) * 2
    return centres[y] + spread * rng.standard_normal((n, D)), y


def test_the_gradient_is_the_slope_of_the_loss():
    x, y = blobs(40)
    hot, rng = np.eye(3)[y], np.random.default_rng(0)
    flat, direction = rng.standard_normal((2, 7 * 3))
    _, gradient = linear.cross_entropy(flat, x, hot, 0.1)
    up, down = (linear.cross_entropy(flat + e * direction, x, hot, 0.1)[0] for e in (1e-6, -1e-6))
    close_slope((up - down) / 2e-6, gradient, direction, 1e-6)


@pytest.mark.parametrize("spread", [1.0, 0.1, 10.0])
def test_the_fit_is_the_minimum_that_another_formulation_finds(spread):
    x, y = blobs(60, spread=2)

    def loss(flat):
        W, b = flat[:-3].reshape(6, 3), flat[-3:]
        scores = log_softmax(x @ W + b, axis=1)
        return -scores[np.arange(60), y].mean() + 0.05 * (W**2).sum()

    wanted = minimize(loss, np.zeros(21), method="BFGS", options={"gtol": 1e-8})
    # Units that fit the data badly take longer, they lead to the same place.
    found, _ = linear._fit(x, np.eye(3)[y], 0.1, np.zeros(21), np.full(6, spread))
    assert loss(found) == pytest.approx(wanted.fun, rel=1e-6)
    W, wanted_W = found[:18].reshape(6, 3), wanted.x[:18].reshape(6, 3)
    # The penalty curves the loss by 0.1 at least, which bounds how far off so low a point is.
    assert ((W - wanted_W) ** 2).sum() <= 2 * 2e-6 * wanted.fun / 0.1


def test_the_probe_is_the_regularised_minimum_on_standardised_encodings():
    x, y = blobs(80, D=5, spread=3)
    test_x, test_y = blobs(300, D=5, spread=3, seed=1)
    inputs, test = ((a - x.mean(axis=0)) / x.std(axis=0) for a in (x, test_x))

    def loss(flat):
        W, b = flat[:15].reshape(5, 3), flat[15:]
        return -log_softmax(inputs @ W + b, axis=1)[np.arange(80), y].mean() + 0.01 * (W**2).sum()

    flat = minimize(loss, np.zeros(18), method="BFGS").x
    wanted = ((test @ flat[:15].reshape(5, 3) + flat[15:]).argmax(axis=1) == test_y).mean()
    found = linear.logistic(x, y, test_x, test_y, 3, penalties=(0.02,))
    assert found.penalty == 0.02 and found.accuracy == pytest.approx(wanted, abs=1.5 / 300)


@pytest.mark.parametrize("n, D", [(50, 8), (8, 50)])
def test_the_principal_axes_keep_all_that_the_images_have(n, D):
    x = np.random.default_rng(0).standard_normal((n, D)) * np.arange(1, D + 1)
    axes, spread = linear._principal(x)
    np.testing.assert_allclose(axes.T @ axes, np.eye(8), atol=1e-12)
    np.testing.assert_allclose(x @ axes @ axes.T, x, atol=1e-10)
    np.testing.assert_allclose(((x @ axes) ** 2).mean(axis=0), spread)


def test_encodings_that_go_along_with_each_other_take_few_iterations():
    rng = np.random.default_rng(1)
    causes = rng.standard_normal((400, 40)) * np.logspace(0, -2, 40)
    x = causes @ rng.standard_normal((40, 80))
    y = (causes[:, 20] > 0).astype(int) + (causes[:, 30] > 0)
    assert linear.logistic(x, y, x, y, 3, penalties=(1e-4,)).iterations < 60


def test_separable_classes_are_told_apart_and_noise_is_not():
    x, y = blobs()
    test_x, test_y = blobs(200, seed=1)
    assert linear.logistic(x, y, test_x, test_y, 3).accuracy > 0.98
    noise = np.random.default_rng(2).standard_normal((1000, 6))
    labels = np.random.default_rng(3).integers(0, 3, 1000)
    found = linear.logistic(noise[:500], labels[:500], noise[500:], labels[500:], 3)
    assert abs(found.accuracy - 1 / 3) < 0.07


def test_scale_and_constant_neurons_do_not_matter_to_the_regularised_probe():
    x, y = blobs(spread=2)
    test_x, test_y = blobs(200, spread=2, seed=1)
    plain = linear.logistic(x, y, test_x, test_y, 3)
    widen = lambda a: np.hstack([a * 1000, np.full((len(a), 2), 7.0)])  # noqa: E731
    found = linear.logistic(widen(x), y, widen(test_x), test_y, 3)
    # Fits end near the minimum, not in it: one image on a border may go either way.
    assert found.accuracy == pytest.approx(plain.accuracy, abs=1.5 / 200)


def test_a_layer_that_tells_nothing_is_at_chance():
    x, y = blobs()
    assert linear.logistic(0 * x + 3, y, 0 * x + 3, y, 3).accuracy == np.bincount(y).max() / len(y)


@pytest.mark.parametrize("labels", [np.arange(300) % 5, np.arange(300) // 60])
def test_a_fifth_is_held_out_of_every_class_whatever_their_order(labels):
    held, kept = linear._split(300, seed=0)
    np.testing.assert_array_equal(np.sort(np.concatenate([held, kept])), np.arange(300))
    assert len(held) == 60 and np.bincount(labels[held], minlength=5).min() >= 5
    assert not np.array_equal(held, linear._split(300, seed=1)[0])


def test_classes_without_images_are_allowed():
    x, y = blobs()
    assert linear.logistic(x, y, x, y, 7).accuracy > 0.98


def test_more_neurons_than_images_is_no_problem():
    x, y = blobs(30, D=100)
    test_x, test_y = blobs(30, D=100, seed=1)
    assert linear.logistic(x, y, test_x, test_y, 3).accuracy > 0.9


def test_both_protocols_repeat():
    x, y = blobs(spread=2)
    for fit in (linear.logistic, lambda *a: linear.adam(*a, epochs=3)):
        assert fit(x, y, x, y, 3) == fit(x, y, x, y, 3)


def test_the_published_probe_is_torchs_linear_layer_and_adam():
    x, y = blobs(70, spread=2)
    rng = seeds.generator(4, seeds.PROBE, 1)
    start = rng.uniform(-(6**-0.5), 6**-0.5, 7 * 3)
    layer = torch.nn.Linear(6, 3).double()
    layer.weight.data[:] = torch.tensor(start[:18].reshape(6, 3).T)
    layer.bias.data[:] = torch.tensor(start[18:])
    optimiser = torch.optim.Adam(layer.parameters(), lr=1e-2)
    for _ in range(3):
        for pick in torch.tensor(rng.permutation(70)).split(32):
            optimiser.zero_grad()
            scores = layer(torch.tensor(x)[pick])
            torch.nn.functional.cross_entropy(scores, torch.tensor(y)[pick]).backward()
            optimiser.step()
    test_x, test_y = blobs(500, spread=2, seed=1)
    with torch.no_grad():
        scores = layer(torch.tensor(test_x)).numpy()
    second, first = np.sort(scores, axis=1)[:, 1:].T
    assert (first - second).min() > 1e-6  # no image lies so near a border that rounding decides
    wanted = (scores.argmax(axis=1) == test_y).mean()
    found = linear.adam(x, y, test_x, test_y, 3, epochs=3, lr=1e-2, seed=4)
    assert found.accuracy == wanted and found.iterations == 9


def test_the_published_probe_learns_and_takes_new_views_each_epoch():
    x, y = blobs()
    test_x, test_y = blobs(200, seed=1)
    seen = []

    def views(epoch):
        seen.append(epoch)
        return x.astype(np.float32)

    assert linear.adam(views, y, test_x, test_y, 3, epochs=40, lr=1e-2).accuracy > 0.95
    assert seen == list(range(40))


def test_what_cannot_be_probed_is_said():
    x, y = blobs()
    with pytest.raises(UserError, match="at least two classes"):
        linear.logistic(x, 0 * y, x, y, 3)
    with pytest.raises(UserError, match="not finite"):
        linear.logistic(x * np.nan, y, x, y, 3)
    with pytest.raises(UserError, match="labels go from -1 to 1, expected 0 to 2"):
        linear.logistic(x, y - 1, x, y - 1, 3)
    with pytest.raises(UserError, match="a label for each encoding, got 299 for 300"):
        linear.adam(x, y[1:], x, y, 3)
    with pytest.raises(UserError, match="training encodings have 6 neurons, those of the test 5"):
        linear.logistic(x, y, x[:, 1:], y, 3)
    with pytest.raises(UserError, match="at least one test image"):
        linear.logistic(x, y, x[:0], y[:0], 3)


def noisy(n, D, seed):
    """Classes that overlap, so that the penalty matters."""
    return blobs(n, D, 3, spread=4.0, seed=seed)


def test_the_penalty_is_chosen_without_the_test_images():
    x, y = noisy(120, 30, 0)
    chosen = set()
    for seed in range(8):
        rng = np.random.default_rng(seed)
        test_x, test_y = noisy(60, 30, seed + 1)
        chosen.add(linear.logistic(x, y, test_x, rng.permutation(test_y), 3).penalty)
    assert len(chosen) == 1


def test_of_penalties_that_tell_alike_the_largest_is_taken():
    y = np.arange(300) % 3
    x = np.eye(3)[y]  # told apart by all of them
    assert linear.logistic(x, y, x, y, 3).penalty == max(linear.PENALTIES)


def test_what_is_told_is_told_at_the_chosen_penalty():
    x, y = noisy(200, 10, 0)
    test_x, test_y = noisy(200, 10, 50)
    found = linear.logistic(x, y, test_x, test_y, 3)
    assert min(linear.PENALTIES) < found.penalty < max(linear.PENALTIES)
    at = {p: linear.logistic(x, y, test_x, test_y, 3, penalties=(p,)) for p in linear.PENALTIES}
    differ = {p: int((one.told != found.told).sum()) for p, one in at.items()}
    # Fits end near the minimum, not in it: one image on a border may go either way.
    assert differ.pop(found.penalty) <= 1 and min(differ.values()) > 4


def test_a_neuron_that_is_the_same_in_all_training_images_tells_nothing_of_others():
    """Rounding leaves its deviation a little above 0."""
    x, y = noisy(300, 6, 0)
    test_x, test_y = noisy(60, 6, 1)
    same = np.full((300, 1), 0.1)
    assert same.std() > 0
    found = linear.logistic(np.hstack([x, same]), y, np.hstack([test_x, test_x[:, :1]]), test_y, 3)
    np.testing.assert_array_equal(found.told, linear.logistic(x, y, test_x, test_y, 3).told)


def told_by(z, y, kept, held, penalty):
    """How many of the held images another routine tells, fitted on those kept alone."""

    def loss(flat):
        W, b = flat[:-3].reshape(-1, 3), flat[-3:]
        fit = -log_softmax(z[kept] @ W + b, axis=1)[np.arange(len(kept)), y[kept]].mean()
        return fit + penalty / 2 * (W**2).sum()

    flat = minimize(loss, np.zeros(3 * z.shape[1] + 3), method="L-BFGS-B").x
    W, b = flat[:-3].reshape(-1, 3), flat[-3:]
    return int(((z[held] @ W + b).argmax(axis=1) == y[held]).sum())


def test_the_penalty_is_the_one_whose_fit_on_four_fifths_tells_most_of_the_fifth():
    """But for an image that rounding may turn; where the fifth is fitted too, the smallest wins."""
    lost = 0
    for seed in range(6):
        x, y = noisy(150, 60, seed)
        z = (x - x.mean(axis=0)) / x.std(axis=0)
        order = seeds.generator(0, seeds.PROBE, 2).permutation(len(x))
        told = {p: told_by(z, y, order[30:], order[:30], p) for p in linear.PENALTIES}
        chosen = linear.logistic(x, y, x[:9], y[:9], 3).penalty
        assert told[chosen] >= max(told.values()) - 1
        lost += told[min(told)] < max(told.values()) - 1
    assert lost


def test_an_encoding_is_told_alike_whatever_other_test_images_there_are():
    """Means and deviations are those of the training images alone."""
    x, y = noisy(100, 8, 0)
    test_x, test_y = noisy(40, 8, 1)
    alone = linear.logistic(x, y, test_x, test_y, 3).told
    others = np.concatenate([test_x, 50 + 30 * test_x])
    beside = linear.logistic(x, y, others, np.tile(test_y, 2), 3).told
    np.testing.assert_array_equal(beside[:40], alone)
