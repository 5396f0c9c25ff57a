"""Similarity of representations, beside the printed formulas in float64."""

import numpy as np
import pytest

from plasticity.errors import UserError
from plasticity.inspection import similarity
from plasticity.inspection.similarity import centred, cka, gram
from plasticity.runs import lifecycle, training
from plasticity.runs.options import RunOptions

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((30, 7)), RNG.standard_normal((30, 5))
Y[:, :3] += X[:, :3]


def hsic(K, L):
    """Song et al. 2012, Eq. (4), term by term."""
    n, one = len(K), np.ones(len(K))
    K, L = K - np.diag(np.diag(K)), L - np.diag(np.diag(L))
    middle = (one @ K @ one) * (one @ L @ one) / ((n - 1) * (n - 2))
    return (np.trace(K @ L) + middle - 2 / (n - 2) * one @ K @ L @ one) / (n * (n - 3))


def test_cka_is_hsic_of_both_over_that_of_each():
    K, L = X @ X.T, Y @ Y.T
    expected = hsic(K, L) / np.sqrt(hsic(K, K) * hsic(L, L))
    assert cka(gram(X), gram(Y)) == pytest.approx(expected, rel=1e-10)
    assert 0.1 < expected < 0.9


def test_rotations_scales_and_shifts_of_features_change_nothing():
    turn = np.linalg.qr(RNG.standard_normal((7, 7)))[0]
    assert cka(gram(X), gram(3 * X @ turn + 5)) == pytest.approx(1)
    assert cka(gram(X @ turn), gram(Y)) == pytest.approx(cka(gram(X), gram(Y)))


def test_features_that_share_nothing_have_no_bias_upwards():
    """The plain CKA of so many features is near 1; without its bias it is near 0."""
    found = [
        cka(*(gram(np.random.default_rng(i).standard_normal((2, 30, 400))[j]) for j in (0, 1)))
        for i in range(20)
    ]
    assert abs(np.mean(found)) < 0.05


def test_centred_rows_and_columns_sum_to_nothing():
    K = centred(gram(X))
    np.testing.assert_allclose(K.sum(axis=0), 0, atol=1e-10)
    assert not np.diag(K).any()


def test_features_that_do_not_vary_have_no_similarity():
    assert np.isnan(cka(gram(np.ones((30, 2))), gram(X)))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folders = []
    for rule in ("clapp", "hinge_cpc"):
        folder = tmp_path_factory.mktemp("runs") / rule
        folder.mkdir()
        state = lifecycle.plan(
            RunOptions(
                rule=rule, width=0.04, layers=2, batch=4, steps=2, images=40, device="cpu",
                probe=False,
            )
        )  # fmt: skip
        lifecycle.make(state, folder)
        training.train(state, folder)
        folders.append(folder)
    return folders


def test_runs_are_compared_layer_by_layer_and_each_with_its_start(runs):
    found = similarity.compare_runs(runs, examples=30)
    assert found.rules == ["clapp", "hinge_cpc"] and found.steps == [2, 2]
    assert [s.first_layer for s in found.same_layer(0, 1)] == ["conv1", "conv2"]
    assert len(found.similar) == 4 and np.shape(found.to_start) == (2, 2)
    assert all(0.9 < s.cka <= 1 for s in found.same_layer(0, 1))  # two steps from one start
    assert not found.probes and len(found.unprobed) == 2


def test_a_run_named_twice_and_too_few_examples_are_told(runs):
    with pytest.raises(UserError, match="named twice"):
        similarity.compare_runs([runs[0], runs[0]])
    with pytest.raises(UserError, match="at least 20"):
        similarity.compare_runs(runs, examples=5)
