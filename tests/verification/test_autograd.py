"""The reference itself: against the published code, and against numbers worked by hand."""

import sys
from importlib import import_module

import numpy as np
import pytest
import torch

from plasticity.errors import UserError
from plasticity.events import Layout, events
from plasticity.network import Conv, Network
from plasticity.rule import Draw
from plasticity.verification.autograd import Groups, encodings, negative_gradients
from tests import golden

GOLDEN = {
    "clapp": (golden.load_clapp, {}),
    "gim": (golden.load_gim, {"loss": "infonce"}),
}


@pytest.fixture(scope="module", params=GOLDEN)
def published(request):
    """A step of the published code, and losses and dW of the reference."""
    load, options = GOLDEN[request.param]
    c = load()
    losses, dW = negative_gradients(
        c.network, c.modules, c.params, c.patches, c.layout, c.draws, symmetric=True, **options
    )
    return c, losses, dW


def test_encodings_are_those_of_the_published_code(published):
    c, _, _ = published
    params = {
        layer: {n: torch.tensor(w) for n, w in own.items()} for layer, own in c.params.items()
    }
    patches = torch.tensor(np.moveaxis(c.patches, -1, 1).copy())
    found = encodings(c.network, c.modules, params, patches)
    for z, wanted in zip(found.values(), c.encodings, strict=True):
        np.testing.assert_allclose(z.numpy(), wanted, rtol=1e-9, atol=1e-12)


def test_losses_are_those_of_the_published_code(published):
    c, losses, _ = published
    np.testing.assert_allclose(losses, c.losses, rtol=1e-9)


def test_gradients_are_those_of_the_published_code(published):
    c, _, dW = published
    assert {layer: set(own) for layer, own in dW.items()} == {
        layer: set(own) for layer, own in c.dW.items()
    }
    for layer, own in c.dW.items():
        for name, wanted in own.items():
            error = np.abs(dW[layer][name] - wanted).max() / np.abs(wanted).max()
            assert error < 1e-9, (layer, name)


def test_the_small_constant_of_the_published_info_nce_matters():
    """Without it the golden loss is missed: a probability is tiny."""
    c = golden.load_gim()
    losses, _ = negative_gradients(
        c.network,
        c.modules,
        c.params,
        c.patches,
        c.layout,
        c.draws,
        loss="infonce",
        symmetric=True,
        eps=0.0,
    )
    assert np.abs(np.array(losses) / c.losses - 1).max() > 1e-6


# One layer of two neurons that sees one pixel x per patch: z = (x, 2 x + 1). Three rows, one image,
# one column. The context is x = 1, c = (1, 3); its true future x = 3, z = (3, 7); between them
# x = 0, z = (0, 1). W_pred c = (1, -2), so u = -11; W_retro z = (6, 7), so u_retro = 27.
NETWORK = Network("two neurons", (Conv("conv1", 1, 2, (1, 1), 1, 0),))
LAYOUT = Layout(3, 1, 1)
PATCHES = np.array([1.0, 0.0, 3.0]).reshape(3, 1, 1, 1)
W_PRED = np.array([[1.0, 0.0], [1.0, -1.0]])
W_RETRO = np.array([[2.0, 0.0], [0.0, 1.0]])


def by_hand(draw, W_pred=W_PRED, **variant):
    """Loss and dW of the one layer, as lists."""
    params = {
        "conv1": {
            "weight": np.array([1.0, 2.0]).reshape(2, 1, 1, 1),
            "bias": np.array([0.0, 1.0]),
            "W_pred": W_pred[None],
            "W_retro": W_RETRO[None],
        }
    }
    losses, dW = negative_gradients(NETWORK, None, params, PATCHES, LAYOUT, [draw], **variant)
    return losses[0], {name: w.squeeze().tolist() for name, w in dW["conv1"].items()}


def half(y):
    """The true future as a fixation, or the same patch as a saccade."""
    fixation = np.array([y > 0])
    return (events(LAYOUT, 1, 1, fixation, ~fixation, np.array([[2]])),)


ZERO = [[0.0, 0.0], [0.0, 0.0]]
Z_BY_C, C_BY_Z = [[3.0, 9.0], [7.0, 21.0]], [[3.0, 7.0], [9.0, 21.0]]


def test_separate_halves_have_gates_of_their_own():
    """A fixation surprises W_pred, u = -11, and not W_retro, u = 27: the target role alone."""
    loss, dW = by_hand(Draw(half(1), half(1)))
    assert loss == 12
    assert dW == {"weight": [3, -6], "bias": [1, -2], "W_pred": Z_BY_C, "W_retro": ZERO}


def test_the_retro_half_follows_its_own_draw():
    """A saccade in W_retro's half: L_c = 28, the context learns -(6, 7)."""
    loss, dW = by_hand(Draw(half(1), half(-1)))
    assert loss == 12 + 28
    assert dW["weight"] == [3 - 6, -6 - 7] and dW["bias"] == [1 - 6, -2 - 7]
    assert dW["W_pred"] == Z_BY_C and dW["W_retro"] == [[-3, -7], [-9, -21]]


def test_a_shared_gate_opens_both_roles():
    """Eq. (17): W_pred's surprise gates W_retro z = (6, 7) at the context too."""
    loss, dW = by_hand(Draw(half(1)), gate="shared")
    assert loss == 12
    assert dW == {"weight": [9, 1], "bias": [7, 5], "W_pred": Z_BY_C, "W_retro": C_BY_Z}


def test_a_shared_gate_closes_both_roles():
    """As a saccade u = -11 is no surprise, although u_retro = 27 is one."""
    loss, dW = by_hand(Draw(half(-1)), gate="shared")
    assert loss == 0
    assert dW == {"weight": [0, 0], "bias": [0, 0], "W_pred": ZERO, "W_retro": ZERO}


def test_the_symmetric_context_role_has_the_transpose():
    """W_pred^T z = (10, -7)."""
    loss, dW = by_hand(Draw(half(1)), symmetric=True)
    assert loss == 12
    assert dW == {"weight": [3 + 10, -6 - 7], "bias": [1 + 10, -2 - 7], "W_pred": Z_BY_C}


@pytest.mark.parametrize("symmetric", [True, False])
def test_block_grad_leaves_the_target_role(symmetric):
    loss, dW = by_hand(Draw(half(1)), symmetric=symmetric, block_grad=True)
    assert loss == 12
    assert dW == {"weight": [3, -6], "bias": [1, -2], "W_pred": Z_BY_C}


def test_without_a_gate_gamma_is_the_sign():
    """Both halves learn from a fixation; the loss is -u."""
    loss, dW = by_hand(Draw(half(1), half(1)), gate="off")
    assert loss == 11 - 27
    assert dW == {"weight": [9, 1], "bias": [7, 5], "W_pred": Z_BY_C, "W_retro": C_BY_Z}


def test_without_dendritic_input_its_factor_is_one():
    """x_z + x_c = 3 + 1 for every neuron; predictions learn as before."""
    loss, dW = by_hand(Draw(half(1)), gate="shared", dendrites=False)
    assert loss == 12
    assert dW == {"weight": [4, 4], "bias": [2, 2], "W_pred": Z_BY_C, "W_retro": C_BY_Z}


def test_without_dendritic_input_separate_halves_keep_their_gates():
    """W_retro's half is no surprise, u = 27: x_z = 3 alone."""
    loss, dW = by_hand(Draw(half(1), half(1)), dendrites=False)
    assert loss == 12
    assert dW == {"weight": [3, 3], "bias": [1, 1], "W_pred": Z_BY_C, "W_retro": ZERO}


def test_without_dendritic_input_the_symmetric_matrix_learns_once():
    loss, dW = by_hand(Draw(half(1)), symmetric=True, dendrites=False)
    assert loss == 12
    assert dW == {"weight": [4, 4], "bias": [2, 2], "W_pred": Z_BY_C}


def test_frozen_predictions_have_no_entry():
    _, dW = by_hand(Draw(half(1)), symmetric=True, learn_prediction=False)
    assert dW == {"weight": [13, -13], "bias": [11, -9]}


@pytest.mark.parametrize("variant", [{"symmetric": True}, {"gate": "shared"}])
def test_a_gate_is_closed_exactly_at_the_margin(variant):
    """W_pred c = (-2, 1): u = 1, so 1 - y u = 0, in the loss and in the surrogate."""
    loss, dW = by_hand(Draw(half(1)), W_pred=np.array([[-2.0, 0.0], [1.0, 0.0]]), **variant)
    assert loss == 0
    assert dW["weight"] == [0, 0] and dW["W_pred"] == ZERO


def group(positive, negative):
    index = np.array([0])
    return (Groups(1, index, np.array([positive]), np.array([[negative]]), np.ones(1)),)


def test_info_nce_by_hand():
    """Scores -11 and -2: p = 1 / (1 + e^9). The slope of -log p is (1 - p) (u_neg - u_pos)'s."""
    loss, dW = by_hand(Draw(group(2, 1)), loss="infonce", symmetric=True, eps=0.0)
    wrong = 1 - 1 / (1 + np.exp(9))
    assert loss == pytest.approx(np.log1p(np.exp(9)))
    # Targets +-(1, -2), context W_pred^T (3, 6) = (9, -6); z_1 = 0 of the negative is silent.
    np.testing.assert_allclose(dW["weight"], wrong * np.array([3 + 9, -6 - 6]))
    np.testing.assert_allclose(dW["bias"], wrong * np.array([1 + 9, -2 - 6 + 2]))
    np.testing.assert_allclose(dW["W_pred"], wrong * np.outer([3, 6], [1, 3]))


def test_info_nce_with_separate_halves_by_hand():
    """In the half of W_retro the same patches are swapped: scores 3 and 27, p = 1 / (1 + e^24)."""
    draw = Draw(group(2, 1), group(1, 2))
    loss, dW = by_hand(draw, loss="infonce", eps=0.0)
    wrong, retro = 1 - 1 / (1 + np.exp(9)), 1 - 1 / (1 + np.exp(24))
    assert loss == pytest.approx(np.log1p(np.exp(9)) + np.log1p(np.exp(24)))
    # The context alone learns from W_retro (z_1 - z_2) = (-6, -6).
    np.testing.assert_allclose(dW["weight"], [wrong * 3 - retro * 6, -wrong * 6 - retro * 6])
    np.testing.assert_allclose(dW["W_pred"], wrong * np.outer([3, 6], [1, 3]))
    np.testing.assert_allclose(dW["W_retro"], -retro * np.outer([1, 3], [3, 6]))


@pytest.mark.parametrize(
    "variant, message",
    [
        ({}, "retro half"),
        ({"loss": "infonce", "gate": "shared"}, "InfoNCE"),
        ({"loss": "mse"}, "unknown loss 'mse'"),
        ({"gate": "open"}, "unknown gate 'open'"),
    ],
)
def test_what_does_not_go_together_is_refused(variant, message):
    with pytest.raises(UserError, match=message):
        by_hand(Draw(half(1)), **variant)


def test_without_torch_the_reference_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "plasticity.verification.autograd")
    with pytest.raises(UserError, match=r"pip install '.\[verify\]'"):
        import_module("plasticity.verification.autograd")
