"""The published code and the explicit rule give the same losses and updates."""

import numpy as np
import pytest

from plasticity import learning, rules
from tests import golden


@pytest.fixture(scope="module")
def case():
    return golden.clapp_symmetric()


def run(case, dtype=np.float64):
    cast = lambda a: np.ascontiguousarray(a, dtype)  # noqa: E731
    weights = {layer: {n: cast(w) for n, w in own.items()} for layer, own in case.params.items()}
    draws = [draw.on("cpu", np.dtype(dtype)) for draw in case.draws]
    rule = rules.get("clapp", symmetric=True)
    return list(
        learning.updates(
            case.network, rule, case.modules, weights, cast(case.patches), case.layout, draws
        )
    )


def test_encodings_are_those_of_the_published_code(case):
    for z, wanted in zip(
        case.network.encodings(case.patches, case.params), case.encodings, strict=True
    ):
        np.testing.assert_allclose(z, wanted, rtol=1e-10, atol=1e-12)


def test_losses_are_those_of_the_published_code(case):
    np.testing.assert_allclose([u.loss for u in run(case)], case.losses, rtol=1e-12)


def test_updates_are_minus_the_gradients_of_the_published_code(case):
    found = run(case)
    assert any(0.1 < u.open_gates < 0.9 for u in found)
    for update, layer in zip(found, case.network.layers, strict=True):
        for name, wanted in case.dW[layer.name].items():
            error = np.abs(update.changes[layer.name][name] - wanted).max() / np.abs(wanted).max()
            assert error < 1e-10, (layer.name, name)


def test_float32_updates_are_those_of_the_published_code_to_four_digits(case):
    for update, layer in zip(run(case, np.float32), case.network.layers, strict=True):
        for name, wanted in case.dW[layer.name].items():
            error = np.abs(update.changes[layer.name][name] - wanted).max() / np.abs(wanted).max()
            assert error < 1e-4, (layer.name, name)
