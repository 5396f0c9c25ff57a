"""The compiled form of the gated recurrent unit against its definition in float64."""

import numpy as np
import pytest

from plasticity import kernels
from plasticity.kernels.cpu import gru, threads
from plasticity.kernels.definition import gru as definition
from tests.rounding import close, gru_limits, gru_sizes

SHAPES = [(3, 7, 11), (1, 9, 4), (4, 1, 5), (2, 6, 1), (5, 12, 40), (0, 5, 4), (2, 0, 3)]
EPS = float(np.finfo(np.float32).eps)


def case(M, T, H):
    """drive, weight_hh, bias_ih, bias_hh and the error at h, float32."""
    rng = np.random.default_rng(M + T)
    shapes = (M, T, 3 * H), (3 * H, H), (3 * H,), (3 * H,), (M, T, H)
    drawn = [rng.standard_normal(s).astype(np.float32) for s in shapes]
    drawn[1] /= np.float32(np.sqrt(H))
    return drawn


@pytest.fixture(params=["a share for each thread", "one by one"], autouse=True)
def shares(request, monkeypatch):
    if request.param == "one by one":
        monkeypatch.setattr(threads, "shares", lambda n: [(i, i + 1) for i in range(n)])


@pytest.mark.parametrize("shape", SHAPES)
def test_states_agree_with_their_definition(shape):
    *given, _ = case(*shape)
    h, gates = gru.gru_states(*given)
    exact = [a.astype(float) for a in given]
    wanted = definition.gru_states(*exact)
    limits = gru_limits(*exact, *wanted, EPS)
    for found, right, limit in zip((h, gates), wanted, limits, strict=True):
        assert found.dtype == np.float32 and found.shape == right.shape
        assert (np.abs(found - right) <= limit).all()


@pytest.mark.parametrize("credit", kernels.CREDITS)
@pytest.mark.parametrize("shape", SHAPES)
def test_posts_agree_with_their_definition(shape, credit):
    *given, error = case(*shape)
    given = error, *gru.gru_states(*given), given[1], credit
    exact = [a.astype(float) for a in given[:-1]]
    *sizes, terms = gru_sizes(*exact, credit)
    wanted = definition.gru_posts(*exact, credit)
    for found, right, size in zip(gru.gru_posts(*given), wanted, sizes, strict=True):
        assert found.dtype == np.float32
        close(found, right, size, terms)


def test_sigma_and_tanh_keep_their_digits_and_their_ends():
    """A neuron's drive through its gates, from far below to far above, a sequence for each."""
    a = np.concatenate([np.linspace(-120, 120, 997), np.linspace(-1, 1, 997), [np.inf, -np.inf]])
    a, none = a.astype(np.float32), np.zeros(3, np.float32)
    drive = np.repeat(a[:, None, None], 3, axis=2)
    _, gates = gru.gru_states(drive, np.zeros((3, 1), np.float32), none, none)
    exact = np.exp(-np.logaddexp(0, -a.astype(float))), np.tanh(a.astype(float))
    for found, wanted in zip((gates[:, 0, 1, 0], gates[:, 0, 2, 0]), exact, strict=True):
        assert (np.abs(found - wanted) <= 4 * EPS * np.maximum(np.abs(wanted), 1e-31)).all()


def test_what_is_no_number_stays_none():
    *given, error = case(2, 4, 3)
    given[0][0, 1, 4] = np.nan
    h, gates = gru.gru_states(*given)
    assert np.isnan(h[0, 1, 1]) and np.isnan(h[0, 2:]).all()
    assert np.isfinite(h[0, 0]).all() and np.isfinite(h[1]).all()
    assert np.isnan(gru.gru_posts(error, h, gates, given[1], "bptt")[0][0]).any()
