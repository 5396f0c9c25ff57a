"""Measures of layers: by hand, and as their definitions say in float64."""

import numpy as np
import pytest

from plasticity.learning import measures
from plasticity.network import Network
from tests.small import NETWORK


def test_sparsity_is_0_where_all_neurons_answer_alike_and_1_where_none_does():
    alike, one, none = np.full((3, 2, 4), 2.0), np.zeros((3, 2, 4)), np.zeros((3, 2, 4))
    one[..., 1] = [[5.0, 1.0], [2.0, 0.5], [1.0, 1.0]]
    found = [float(measures.outputs(y)[1]) for y in (alike, one, none)]
    np.testing.assert_allclose(found, [0, 1 - 1 / 4, 1], atol=1e-15)


def test_activity_is_the_mean_and_may_be_negative():
    y = np.array([[[1.0, -2.0]], [[-3.0, 0.0]]])
    activity, sparsity, answers = measures.outputs(y)
    assert float(activity) == -1
    # (1.5^2 / 2.5 + 1.5^2 / 4.5) / 2 of the two places
    assert float(sparsity) == pytest.approx(1 - (0.9 + 0.5) / 2) and answers.all()


@pytest.mark.parametrize("shape", [(7, 3, 5, 6), (13, 11), (6, 4, 1), (64, 16)])
@pytest.mark.parametrize("piece", [1, 40, 10**6])
def test_a_map_taken_piece_by_piece_has_the_measures_of_the_whole(shape, piece, monkeypatch):
    monkeypatch.setattr(measures, "PIECE", piece)
    y = np.random.default_rng(0).standard_normal(shape).astype(np.float32).clip(-0.5)
    y[..., 0] = 0.3  # says nothing, though it is not 0
    y[0, ..., -1] = -9  # answers once
    activity, sparsity, answers = measures.outputs(y)
    places = y.reshape(-1, shape[-1]).astype(float)
    dense = np.abs(places).mean(axis=1) ** 2 / (places**2).mean(axis=1)
    assert activity.dtype == sparsity.dtype == np.float64
    np.testing.assert_allclose([activity, sparsity], [y.mean(dtype=float), 1 - dense.mean()],
                               rtol=1e-5, atol=1e-7)  # fmt: skip
    assert answers.tolist() == [i > 0 for i in range(shape[-1])] or shape[-1] == 1


def test_who_has_half_of_a_batch_finds_the_measures_of_all_of_it():
    rng = np.random.default_rng(1)
    y = rng.standard_normal((4, 3, 5)).clip(0)
    y[:2, :, 0] = y[2:, :, 1] = y[..., 2] = 0  # 0 and 1 answer in one half each, 2 in none
    told = []

    class Peers:
        size = 2

        def mean(self, a):
            told.append(a)
            return a if len(told) == 1 else (told[0] + a) / 2

    measures.outputs(y[:2], Peers())
    found, whole = measures.outputs(y[2:], Peers()), measures.outputs(y)
    np.testing.assert_allclose(found[:2], whole[:2], rtol=1e-12)
    assert found[2].tolist() == whole[2].tolist() == [True, True, False, True, True]


@pytest.mark.parametrize("piece", [1, 70, 10**6])
def test_norm_is_that_of_the_weights_onto_a_neuron_and_drift_that_of_all_of_them(
    piece, monkeypatch
):
    monkeypatch.setattr(measures, "PIECE", piece)
    rng = np.random.default_rng(2)
    start = [rng.standard_normal(shape).astype(np.float32) for shape in ((4, 3, 3, 3), (6, 2))]
    now = [w + np.float32(0.1) * w**2 for w in start]
    norm, drift = measures.synapses(now, start)
    norms = [np.linalg.norm(row) for w in now for row in w.astype(float).reshape(len(w), -1)]
    flat = [np.concatenate([w.astype(float).ravel() for w in both]) for both in (now, start)]
    moved = np.linalg.norm(flat[0] - flat[1]) / np.linalg.norm(flat[1])
    np.testing.assert_allclose([norm, drift], [np.mean(norms), moved], rtol=1e-5)


def test_weights_that_began_at_0_drift_by_their_norm():
    start = [np.zeros((2, 2))]
    assert float(measures.synapses([np.full((2, 2), 3.0)], start)[1]) == 6


def test_a_layers_matrices_are_what_its_inputs_meet_without_what_a_rule_keeps():
    weights = NETWORK.prepare(0)
    own = weights["conv1"] | {"W_pred": np.ones((1, 5, 5)), "weight.trace": np.ones((5, 1, 3, 3)),
                              "feedback": np.ones((5, 1, 3, 3))}  # fmt: skip
    found = measures.matrices(NETWORK.layers[0], {**weights, "conv1": own})
    assert len(found) == 1 and found[0] is weights["conv1"]["weight"]


@pytest.mark.parametrize("name, counts", [("audio", {"gru": 2}), ("resnet50", {"layer1.0": 4})])
def test_a_gru_has_two_matrices_and_a_block_one_of_each_convolution(name, counts):
    from plasticity import networks

    network: Network = networks.get(name, width=0.02)
    weights = network.prepare(0)
    for layer in network.layers:
        if layer.name in counts:
            found = measures.matrices(layer, weights)
            assert len(found) == counts[layer.name] and all(w.ndim >= 2 for w in found)
