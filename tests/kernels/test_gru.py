"""The gated recurrent unit behind the door: torch's, its gradient, and the credits that are not."""

import numpy as np
import pytest
import torch

from plasticity import kernels
from plasticity.kernels.definition import eprop
from tests.rounding import close

NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
SHAPES = [(3, 7, 5, 11), (1, 9, 3, 4), (4, 1, 2, 5), (2, 6, 3, 1), (2, 5, 1, 3), (0, 5, 3, 4)]


def case(M, T, I, H, dtype=np.float64):  # noqa: E741
    """Input, weights with torch's bounds, and what is wanted of the states."""
    rng, bound = np.random.default_rng(M + 10 * T), 1 / np.sqrt(H)
    shapes = (3 * H, I), (3 * H, H), (3 * H,), (3 * H,)
    weights = {n: rng.uniform(-bound, bound, s) for n, s in zip(NAMES, shapes, strict=True)}
    x, error = rng.standard_normal((M, T, I)), rng.standard_normal((M, T, H))
    return x.astype(dtype), {n: w.astype(dtype) for n, w in weights.items()}, error.astype(dtype)


def learned(x, weights, error, credit):
    """The states, and dW by parameter with the error at the input as `x`."""
    h, gates = kernels.gru_forward(x, **weights)
    ih_hh = weights["weight_ih"], weights["weight_hh"]
    changes, _, below = kernels.gru_learn(x, h, gates, error, *ih_hh, credit, True)
    return h, changes | {"x": below}


def in_torch(x, weights, error, credit):
    """The same by autograd, which meets p wherever a gate does only as far as the credit goes."""
    own = {n: torch.tensor(a, requires_grad=True) for n, a in {**weights, "x": x}.items()}
    p, states = torch.zeros(len(x), error.shape[2], dtype=torch.float64), []
    for t in range(x.shape[1]):
        met = p if credit == "bptt" else p.detach()
        leaked = p.detach() if credit == "none" else p
        by_input = own["x"][:, t] @ own["weight_ih"].T + own["bias_ih"]
        by_state = met @ own["weight_hh"].T + own["bias_hh"]
        (xr, xz, xn), (ur, uz, s) = by_input.chunk(3, 1), by_state.chunk(3, 1)
        r, z = torch.sigmoid(xr + ur), torch.sigmoid(xz + uz)
        p = (1 - z) * torch.tanh(xn + r * s) + z * leaked
        states.append(p)
    h = torch.stack(states, dim=1)
    (h * torch.tensor(error)).sum().backward()
    return h.detach().numpy(), {n: a.grad.numpy() for n, a in own.items()}


@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_torchs_and_with_bptt_so_is_its_gradient(shape):
    x, weights, error = case(*shape)
    theirs = torch.nn.GRU(*shape[2:], batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        for name, w in weights.items():
            getattr(theirs, f"{name}_l0").copy_(torch.tensor(w))
    h, found = learned(x, weights, error, "bptt")
    if not len(x):  # torch refuses
        assert h.shape == (0, *error.shape[1:]) and not any(dW.any() for dW in found.values())
        return
    given = torch.tensor(x, requires_grad=True)
    output, _ = theirs(given)
    np.testing.assert_allclose(h, output.detach().numpy(), atol=1e-12)
    (output * torch.tensor(error)).sum().backward()
    np.testing.assert_allclose(found.pop("x"), given.grad.numpy(), atol=1e-10)
    for name, dW in found.items():
        np.testing.assert_allclose(dW, getattr(theirs, f"{name}_l0").grad.numpy(), atol=1e-10)


@pytest.mark.parametrize("credit", kernels.CREDITS)
@pytest.mark.parametrize("shape", SHAPES[:-1])
def test_each_credit_is_the_gradient_where_time_is_cut_as_it_says(shape, credit):
    x, weights, error = case(*shape)
    h, found = learned(x, weights, error, credit)
    theirs, wanted = in_torch(x, weights, error, credit)
    np.testing.assert_allclose(h, theirs, atol=1e-12)
    for name, dW in found.items():
        np.testing.assert_allclose(dW, wanted[name], atol=1e-10)


def test_with_bptt_dW_is_the_slope_of_what_is_wanted():
    x, weights, error = case(2, 6, 3, 4)
    _, found = learned(x, weights, error, "bptt")
    arrays = weights | {"x": x}
    rng, step = np.random.default_rng(0), 1e-5
    for name, array in arrays.items():
        for flat in rng.choice(array.size, 5, replace=False):
            at, sides = np.unravel_index(flat, array.shape), []
            for sign in (1, -1):
                moved = array.copy()
                moved[at] += sign * step
                its = arrays | {name: moved}
                h, _ = kernels.gru_forward(its.pop("x"), **its)
                sides.append((h * error).sum())
            assert (sides[0] - sides[1]) / (2 * step) == pytest.approx(found[name][at], abs=1e-8)


def test_credits_differ_but_at_a_single_time():
    def changes(T, credit):
        return learned(*case(3, T, 4, 5), credit)[1]["weight_ih"]

    for one, other in (("eprop", "bptt"), ("eprop", "none")):
        np.testing.assert_array_equal(changes(1, one), changes(1, other))
        assert np.abs(changes(6, one) - changes(6, other)).max() > 1e-3
    with pytest.raises(ValueError, match="unknown credit 'rtrl': expected eprop, bptt, none"):
        changes(2, "rtrl")


def test_a_neuron_that_keeps_its_state_hands_the_whole_error_back():
    """z = 1 by its bias: h stays 0, and lambda is the sum of all errors to come."""
    x, weights, error = case(2, 5, 3, 4)
    weights["bias_ih"][4:8] = 50
    h, gates = kernels.gru_forward(x, **weights)
    assert np.abs(h).max() < 1e-15
    ih_hh = weights["weight_ih"], weights["weight_hh"]
    _, found, below = kernels.gru_learn(x, h, gates, error, *ih_hh, "eprop")
    assert below is None
    np.testing.assert_allclose(found, error[:, ::-1].cumsum(axis=1)[:, ::-1], atol=1e-12)


@pytest.mark.parametrize("credit", kernels.CREDITS)
def test_in_float32_dW_is_that_of_float64(credit):
    """Of the same states: their own rounding is tested with the forms."""
    x, weights, error = case(3, 9, 20, 33, np.float32)
    exact = [a.astype(float) for a in (x, error, weights["weight_ih"], weights["weight_hh"])]
    h, gates = kernels.gru_forward(x, **weights)
    ih_hh = weights["weight_ih"], weights["weight_hh"]
    found, _, below = kernels.gru_learn(x, h, gates, error, *ih_hh, credit, True)
    states = h.astype(float), gates.astype(float)
    wanted, _, exactly = kernels.gru_learn(exact[0], *states, exact[1], *exact[2:], credit, True)
    # Sums over sequences and times of what rounding has touched up to T (3 H + 16) times itself.
    size = {n: np.abs(dW).max() for n, dW in wanted.items()}
    for name, dW in found.items():
        assert dW.dtype == np.float32
        close(dW, wanted[name], size[name], 9 * (3 * 33 + 16))
    close(below, exactly, np.abs(exactly).max(), 9 * (3 * 33 + 16))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_error_that_counts_times_first_changes_no_bit_and_no_form(monkeypatch, dtype):
    x, weights, error = case(3, 7, 5, 4, dtype)
    turned = np.ascontiguousarray(error.swapaxes(0, 1)).swapaxes(0, 1)
    assert not turned.flags.c_contiguous
    wanted, asked, form = learned(x, weights, error, "eprop"), [], kernels.form
    monkeypatch.setattr(kernels, "form", lambda *call: asked.append(form(*call)) or asked[-1])
    _, found = learned(x, weights, turned, "eprop")
    for name, dW in found.items():
        np.testing.assert_array_equal(dW, wanted[1][name])
    which = "cpu" if dtype == np.float32 else "definition"
    assert {one.__module__ for one in asked} == {f"plasticity.kernels.{which}.gru"}


@pytest.mark.parametrize("name", NAMES)
def test_the_traces_of_all_synapses_are_what_is_asked_of_some(name):
    x, weights, _ = case(2, 5, 3, 4)
    h, gates = kernels.gru_forward(x, **weights)
    synapses = eprop.every(weights[name].shape)
    some = synapses[[0, 5, -1]]
    everywhere = kernels.eligibility(name, synapses, x, h, gates)
    np.testing.assert_array_equal(
        kernels.eligibility(name, some, x, h, gates), everywhere[:, :, [0, 5, -1]]
    )
