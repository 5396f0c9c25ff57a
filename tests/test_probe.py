"""Linear probes."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax

from plasticity import probe
from plasticity.errors import UserError


def blobs(n=300, D=6, classes=3, spread=0.5, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, n)
    centres = np.random.default_rng(99).standard_normal((classes, D)) * 2
    return centres[y] + spread * rng.standard_normal((n, D)), y


def test_the_gradient_is_the_slope_of_the_loss():
    x, y = blobs(40)
    hot, rng = np.eye(3)[y], np.random.default_rng(0)
    flat, direction = rng.standard_normal((2, 7 * 3))
    _, gradient = probe.cross_entropy(flat, x, hot, 0.1)
    up, down = (probe.cross_entropy(flat + e * direction, x, hot, 0.1)[0] for e in (1e-6, -1e-6))
    assert (up - down) / 2e-6 == pytest.approx(gradient @ direction, rel=1e-6)


def test_the_fit_is_the_minimum_that_another_formulation_finds():
    x, y = blobs(60, spread=2)

    def loss(flat):
        W, b = flat[:-3].reshape(6, 3), flat[-3:]
        scores = log_softmax(x @ W + b, axis=1)
        return -scores[np.arange(60), y].mean() + 0.05 * (W**2).sum()

    wanted = minimize(loss, np.zeros(21), method="BFGS")
    found = probe._fit(x, np.eye(3)[y], 0.1, np.zeros(21))
    assert loss(found) == pytest.approx(wanted.fun, rel=1e-4)


def test_separable_classes_are_told_apart_and_noise_is_not():
    x, y = blobs()
    test_x, test_y = blobs(200, seed=1)
    assert probe.logistic(x, y, test_x, test_y, 3).accuracy > 0.98
    noise = np.random.default_rng(2).standard_normal((1000, 6))
    labels = np.random.default_rng(3).integers(0, 3, 1000)
    found = probe.logistic(noise[:500], labels[:500], noise[500:], labels[500:], 3)
    assert abs(found.accuracy - 1 / 3) < 0.07


def test_scale_and_constant_neurons_do_not_matter_to_the_regularised_probe():
    x, y = blobs(spread=2)
    test_x, test_y = blobs(200, spread=2, seed=1)
    plain = probe.logistic(x, y, test_x, test_y, 3)
    widen = lambda a: np.hstack([a * 1000, np.full((len(a), 2), 7.0)])  # noqa: E731
    assert probe.logistic(widen(x), y, widen(test_x), test_y, 3).accuracy == plain.accuracy


def test_more_neurons_than_images_is_no_problem():
    x, y = blobs(30, D=100)
    test_x, test_y = blobs(30, D=100, seed=1)
    assert probe.logistic(x, y, test_x, test_y, 3).accuracy > 0.9


def test_both_protocols_repeat():
    x, y = blobs(spread=2)
    for fit in (probe.logistic, lambda *a: probe.adam(*a, epochs=3)):
        assert fit(x, y, x, y, 3) == fit(x, y, x, y, 3)


def test_the_published_probe_learns_and_takes_new_views_each_epoch():
    x, y = blobs()
    test_x, test_y = blobs(200, seed=1)
    seen = []

    def views(epoch):
        seen.append(epoch)
        return x.astype(np.float32)

    assert probe.adam(views, y, test_x, test_y, 3, epochs=40, lr=1e-2).accuracy > 0.95
    assert sorted(set(seen)) == list(range(40))


def test_what_cannot_be_probed_is_said():
    x, y = blobs()
    with pytest.raises(UserError, match="at least two classes"):
        probe.logistic(x, 0 * y, x, y, 3)
    with pytest.raises(UserError, match="not finite"):
        probe.logistic(x * np.nan, y, x, y, 3)
