"""Oja, BCM, gated Hebbian learning and feedback alignment, against numbers worked out by hand."""

import numpy as np
import pytest
from click.testing import CliRunner
from plasticity.cli import main

from plasticity import inspection, learning, rules, runs
from plasticity.errors import UserError
from plasticity.events import Layout
from plasticity.network import Conv, Network
from plasticity.runs.options import RunOptions
from tests.small import case

ONE = Network("one", (Conv("layer", 1, 2, kernel=(1,), padding=0),))
LAYOUT = Layout(2, 1, 1)  # two patches


def by_hand(rule, weight, bias, x, labels=None, **own):
    """dW of a layer of two neurons that see one input each at two positions of two patches."""
    weights = {"layer": {"weight": np.array(weight).reshape(2, 1, 1), "bias": np.array(bias)}}
    weights["layer"] |= {name: np.array(value) for name, value in own.items()}
    patches = np.array(x, float).reshape(2, 2, 1)
    draws = learning.draws(rule, LAYOUT, [[0]], 0, 0, labels)
    (update,) = learning.updates(ONE, rule, [[0]], weights, patches, LAYOUT, draws)
    dW = update.changes["layer"]
    bias = dW["bias"].tolist() if "bias" in dW else None
    return dW["weight"].reshape(-1).tolist(), bias, update.state.get("layer", {})


def test_oja_by_hand():
    """W = (2, -1), no bias, x = 1, 0 and 3, -1: y_1 = 2, 0, 6, 0 and y_2 = 0, 0, 0, 1."""
    dW, db, _ = by_hand(rules.get("oja"), [2.0, -1.0], [0.0, 0.0], [[1, 0], [3, -1]])
    # sum of y x: 2 + 18 = 20 and -1; sum of y^2: 40 and 1; four positions.
    assert dW == [(20 - 40 * 2) / 4, (-1 - 1 * -1) / 4]
    assert db == [8 / 4, 1 / 4]  # x = 1, and a bias of 0 does not decay


def test_oja_finds_the_first_principal_component_with_length_one():
    """A neuron that is never silenced: positive inputs, compared with an eigenvector by LAPACK."""
    rng = np.random.default_rng(3)
    x = np.abs(rng.standard_normal((200, 1, 4)) @ rng.random((4, 4)))
    net = Network("one", (Conv("layer", 4, 1, kernel=(1,), padding=0),))
    weights = {"layer": {"weight": np.full((1, 4, 1), 0.1), "bias": np.zeros(1)}}
    rule, layout = rules.get("oja"), Layout(200, 1, 1)
    for _ in range(600):
        draws = learning.draws(rule, layout, [[0]], 0, 0)
        (update,) = learning.updates(net, rule, [[0]], weights, x, layout, draws)
        weights["layer"]["weight"] += 0.05 * update.changes["layer"]["weight"]
    wanted = np.linalg.eigh(x[:, 0].T @ x[:, 0])[1][:, -1]
    np.testing.assert_allclose(weights["layer"]["weight"][0, :, 0], np.abs(wanted), atol=1e-6)


def test_bcm_by_hand():
    """Below theta a neuron depresses, above it potentiates; theta then follows y^2."""
    rule = rules.get("bcm", tau=4.0, epsilon=0.5)
    dW, db, state = by_hand(rule, [2.0, 1.0], [0.0, 0.0], [[1, 0], [3, -1]], theta=[3.0, 10.0])
    # y_1 = 2, 0, 6, 0: 2(2-3)1 + 6(6-3)3 = 52; y_2 = 1, 0, 3, 0: 1(1-10)1 + 3(3-10)3 = -72
    assert dW == [52 / 4 - 0.5 * 2, -72 / 4 - 0.5 * 1]
    assert db == [(-2 + 18) / 4, (-9 - 21) / 4]
    assert state["theta"].tolist() == [3 + (40 / 4 - 3) / 4, 10 + (10 / 4 - 10) / 4]


def test_a_patch_without_novelty_changes_nothing_and_one_with_it_learns_by_hebb():
    """Mean activities (1, .5) and (3, 1.5), expected (1, 0): distances 0.25 and 6.25."""
    x, own = [[1, 0], [3, -1]], {"expected": [1.0, 0.0], "spread": [1.0]}
    rule = rules.get("hebbian", bounded=False, tau=2.0)
    dW, db, state = by_hand(rule, [2.0, 1.0], [0.0, 0.0], x, **own)
    assert (dW, db) == ([6 * 3 / 4, 3 * 3 / 4], [6 / 4, 3 / 4])  # the second patch alone
    assert state["expected"].tolist() == [1 + (2 - 1) / 2, 0 + (1 - 0) / 2]
    assert state["spread"].tolist() == [1 + ((0.25 + 6.25) / 2 - 1) / 2]
    dW, _, _ = by_hand(rules.get("hebbian"), [2.0, 1.0], [0.0, 0.0], x, **own)
    assert dW == [(18 - 36 * 2) / 4, (9 - 9 * 1) / 4]


def test_covariance_by_hand():
    """y_1 = 2, 0, 6, 0 and y_2 = 0, 0, 0, 1, by x = 1, 0, 3, -1: means 2 and 1/4, and 3/4."""
    dW, db, _ = by_hand(rules.get("covariance"), [2.0, -1.0], [0.0, 0.0], [[1, 0], [3, -1]])
    assert dW == [20 / 4 - 2 * 3 / 4, -1 / 4 - 1 / 4 * 3 / 4] and db is None


def test_stdp_by_hand():
    """Two time steps, y_1 = (2, 0), (6, 0), y_2 = (1, 0), (3, 0); pre fades to a half, post to a
    quarter."""
    half, quarter = 1 / np.log(2), 1 / np.log(4)
    rule = rules.get("stdp", A_plus=2.0, A_minus=0.5, tau_plus=half, tau_minus=quarter)
    dW, db, _ = by_hand(rule, [2.0, 1.0], [0.0, 0.0], [[1, 0], [3, -1]])
    # xbar = (1/2, 0) at the second step, ybar_1 = (1/2, 0), ybar_2 = (1/4, 0)
    assert dW == pytest.approx([(2 * 6 / 2 - 0.5 * 3 / 2) / 4, (2 * 3 / 2 - 0.5 * 3 / 4) / 4])
    assert db is None


def test_sanger_by_hand():
    """y_1 = 2, 0, 6, -2 and y_2 = -1, 0, -3, 1: the second neuron hears of the first one's W."""
    dW, db, _ = by_hand(rules.get("sanger"), [2.0, -1.0], [0.0, 0.0], [[1, 0], [3, -1]])
    assert dW == [(22 - 44 * 2) / 4, (-11 - -22 * 2 - 11 * -1) / 4] and db is None


def test_sangers_neurons_find_the_principal_components_in_their_order():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((400, 1, 4)) @ np.diag([3.0, 2.0, 1.0, 0.5]) @ rng.random((4, 4))
    x -= x.mean(axis=0)
    net = Network("one", (Conv("layer", 4, 3, kernel=(1,), padding=0),))
    weights = {"layer": {"weight": 0.1 * rng.standard_normal((3, 4, 1)), "bias": np.zeros(3)}}
    rule, layout = rules.get("sanger"), Layout(400, 1, 1)
    draws = learning.draws(rule, layout, [[0]], 0, 0)
    largest, vectors = np.linalg.eigh(x[:, 0].T @ x[:, 0] / 400)
    for _ in range(20_000):
        (update,) = learning.updates(net, rule, [[0]], weights, x, layout, draws)
        weights["layer"]["weight"] += 0.3 / largest[-1] * update.changes["layer"]["weight"]
    found = weights["layer"]["weight"][..., 0]
    np.testing.assert_allclose(np.abs(found @ vectors[:, ::-1]), np.eye(3, 4), atol=1e-6)


def test_normalised_hebb_by_hand():
    rule = rules.get("normalised_hebb", length=2.0)
    dW, db, _ = by_hand(rule, [2.0, -1.0], [0.0, 0.0], [[1, 0], [3, -1]])
    assert dW == [20 / 4, -1 / 4] and db is None
    W = rule.constrain(np.array([[[3.0, 4.0]], [[0.0, 0.0]]]), {})
    np.testing.assert_allclose(W, [[[1.2, 1.6]], [[0, 0]]])


def test_softhebb_by_hand():
    """W = (ln 3, 0): at x = 1 y = (3/4, 1/4), at x = -1 (1/4, 3/4); at x = 0 nothing changes."""
    W = np.log(3)
    for anti, wanted in ((False, [(1 - W * W) / 8, -1 / 8]), (True, [(1 - W * W) / 4, -1 / 4])):
        rule = rules.get("softhebb", anti_hebbian=anti)
        dW, db, _ = by_hand(rule, [W, 0.0], [0.0, 0.0], [[1, 0], [-1, 0]])
        assert dW == pytest.approx(wanted, rel=1e-14) and db is None


def test_reward_hebb_by_hand():
    """Neuron 0 votes most, for class 0, which is right: R = 1, where 1/4 was expected."""
    rule = rules.get("reward_hebb", classes=2, tau=2.0, tau_reward=4.0)
    own = {"expected": [0.25], "weight.eligibility": np.array([4.0, 8.0]).reshape(2, 1, 1)}
    x = [[1, 0], [3, -1]]
    dW, db, state = by_hand(rule, [2.0, -1.0], [0.0, 0.0], x, np.array([0]), **own)
    e = [4 / 2 + 7 / 2, 8 / 2 - 7 / 16]  # what is left, and the covariances
    assert dW == [0.75 * e[0], 0.75 * e[1]] and db is None
    assert state["weight.eligibility"].reshape(-1).tolist() == e
    assert state["expected"].tolist() == [0.25 + 0.75 / 4]
    dW, _, state = by_hand(rule, [2.0, -1.0], [0.0, 0.0], x, np.array([1]), **own)
    assert dW == [-0.25 * e[0], -0.25 * e[1]]  # less than was expected


def test_predictive_coding_by_hand():
    """z = (1, 0), (3, 1/2), means of the input 1/2 and 1, U = (1, 1): e = -1/2 and -5/2."""
    weights = {
        "weight": np.array([2.0, -1.0]).reshape(2, 1, 1),
        "bias": np.zeros(2),
        "U": np.ones((1, 2)),
    }
    x = np.array([[1, 0], [3, -1.0]]).reshape(2, 2, 1)
    rule = rules.get("predictive_coding")
    draws = learning.draws(rule, LAYOUT, [[0]], 0, 0)
    (update,) = learning.updates(ONE, rule, [[0]], {"layer": weights}, x, LAYOUT, draws)
    dW = update.changes["layer"]
    assert update.loss == (1 / 4 + 25 / 4) / 4
    assert dW["U"].tolist() == [[(-1 / 2 * 1 - 5 / 2 * 3) / 2, -5 / 2 * 1 / 2 / 2]]
    assert dW["weight"].reshape(-1).tolist() == [(-1 / 2 * 1 - 5 / 2 * 3) / 4, -5 / 2 * -1 / 4]


def test_a_trace_is_the_leaky_sum_over_earlier_or_later_time_steps():
    layout, values = Layout(3, 1, 2), np.array([[1.0], [2], [3], [5], [8], [13]])
    kept = np.exp(-1 / 1.5)
    wanted = [[0], [0], [kept], [2 * kept], [kept * (kept + 3)], [kept * (2 * kept + 5)]]
    np.testing.assert_allclose(layout.trace(values, 1.5), wanted)
    later = layout.trace(values, 1.5, future=True)
    np.testing.assert_allclose(later[0], [kept * (3 + kept * 8)])
    assert not later[4:].any()


def test_hebb_with_its_gate_off_is_oja():
    c = case(rules.get("oja"))
    oja, hebb = c.updates(), case(rules.get("hebbian", gate="off")).updates
    weights = {
        la: {**own, "expected": np.zeros(own["bias"].size), "spread": np.zeros(1)}
        for la, own in c.weights.items()
    }
    for a, b in zip(oja, hebb(weights=weights), strict=True):
        for layer, own in a.changes.items():
            for name, dW in own.items():
                np.testing.assert_array_equal(dW, b.changes[layer][name])


def test_only_winners_of_a_pool_learn_by_hebb():
    """The map's drive goes to each pool's winner: dW summed by hand over positions."""
    c = case(rules.get("hebbian", gate="off", bounded=False))
    x, _, _ = c.network.layers[0].forward(c.patches, c.weights)
    y, (_, winner), _ = c.network.layers[1].forward(x, c.weights)
    padded = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
    wanted = np.zeros((6, 5, 3, 3))
    for n, r, s, o in zip(*np.nonzero(y), strict=True):
        row, column = 2 * r + winner[n, r, s, o] // 2, 2 * s + winner[n, r, s, o] % 2
        pre = padded[n, row : row + 3, column : column + 3].transpose(2, 0, 1)
        wanted[o] += y[n, r, s, o] * pre / y[..., 0].size
    found = c.updates()[1].changes["conv2"]["weight"]
    assert np.abs(found - wanted).max() < 1e-12 * np.abs(wanted).max()


def test_feedback_alignment_by_hand():
    """Two layers of one neuron: the error at the top comes down by B = 5, not by W = 2."""
    net = Network("two", tuple(Conv(n, 1, 1, kernel=(1,), padding=0) for n in "ab"))
    layout, rule = Layout(3, 2, 1), rules.get("feedback_alignment", steps=1, symmetric=True)
    one = np.ones((1, 1, 1))
    weights = {
        "a": {"weight": 3 * one, "bias": np.zeros(1)},
        "b": {"weight": 2 * one, "bias": np.zeros(1), "feedback": 5 * one},
    }
    weights["b"]["W_pred"] = np.full((1, 1, 1), 0.01)
    x = np.arange(1.0, 7.0).reshape(6, 1, 1)
    draws = learning.draws(rule, layout, [[0, 1]], 0, 0)
    tops = []
    (update,) = learning.updates(
        net, rule, [[0, 1]], weights, x, layout, draws, lambda seen: tops.append(seen.predicted[0])
    )
    delta = tops[0].learning.drive[:, 0]
    assert np.abs(delta).max() > 0
    assert update.changes["b"]["weight"].item() == pytest.approx((delta * 3 * x.ravel()).sum())
    assert update.changes["a"]["weight"].item() == pytest.approx((5 * delta * x.ravel()).sum())


def test_feedback_is_fixed_and_one_for_each_layer_above_the_lowest():
    rule, modules = rules.get("feedback_alignment", steps=2), [[0], [1, 2]]
    c = case(rule, modules=modules)
    assert "feedback" not in c.weights["conv1"] and "feedback" not in c.weights["conv2"]
    assert c.weights["conv3"]["feedback"].shape == c.weights["conv3"]["weight"].shape
    assert not np.array_equal(c.weights["conv3"]["feedback"], c.weights["conv3"]["weight"])
    assert all("feedback" not in own for u in c.updates() for own in u.changes.values())
    top = case(rules.get("hinge_cpc", steps=2), modules=modules)
    same = {la: {n: c.weights[la][n] for n in own} for la, own in top.weights.items()}
    a, b = c.updates()[1].changes, top.updates(weights=same)[1].changes
    np.testing.assert_array_equal(a["conv3"]["weight"], b["conv3"]["weight"])
    assert not np.allclose(a["conv2"]["weight"], b["conv2"]["weight"])


@pytest.mark.parametrize("name", ["oja", "bcm", "hebbian"])
@pytest.mark.parametrize(
    ("parameter", "dtype"), [("weight", "float64"), ("bias", "float64"), ("weight", "float32")]
)
def test_the_events_of_a_synapse_add_up_to_its_dW(name, parameter, dtype):
    options = RunOptions(rule=name, width=0.04, batch=2, crop=32, dtype=dtype)
    if name == "bcm":
        options = options.changed(set={"epsilon": "0.1"})
    step = inspection.look(inspection.fresh(options, 2.0), 2)
    found = inspection.inspect(step, parameter, (3, 1, 0, 2) if parameter == "weight" else (3,))
    assert found.agrees and found.applied != 0
    roles = {row["role"]: row["share"] for row in found.by_role()}
    assert set(roles) == {"post", "decay"} and all(roles.values())
    table = found.table()
    rounding = 1e-5 * np.abs(table["share"]).sum()
    assert table["share"].sum() == pytest.approx(found.applied, abs=rounding)
    view = inspection.inspect_layer(step, top=100_000)
    assert sum(row["part of dW"] for row in view.patches) == pytest.approx(1, rel=1e-4)


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("bcm", {"tau": 0.5}, "tau must be at least 1"),
        ("bcm", {"epsilon": -1.0}, "epsilon must not be negative"),
        ("hebbian", {"gate": "ajar"}, "unknown --gate 'ajar'"),
        ("hebbian", {"tau": 0.0}, "tau must be at least 1"),
    ],
)
def test_options_out_of_range_are_said(name, options, sentence):
    with pytest.raises(UserError, match=sentence):
        rules.get(name, **options)


@pytest.mark.parametrize(
    "name",
    [
        "bcm",
        "hebbian",
        "oja",
        "feedback_alignment",
        "covariance",
        "stdp",
        "sanger",
        "normalised_hebb",
        "reward_hebb",
        "softhebb",
        "predictive_coding",
    ],
)
def test_a_run_in_two_parts_is_the_run_in_one_bit_for_bit(name, tmp_path):
    small = ("--rule", name, "--width", 0.02, "--layers", 2, "--batch", 4, "--no-probe")
    for out, steps in (("a", (4,)), ("b", (2, 4))):
        call("run", *small, "--steps", steps[0], "--out", tmp_path / out)
        for more in steps[1:]:
            call("run", "--resume", tmp_path / out, "--steps", more, "--no-probe")
    a, b = (runs.load(tmp_path / f"{n}/checkpoint.h5") for n in "ab")
    kept = {"bcm": {"theta"}, "hebbian": {"expected", "spread"}, "oja": set()}
    assert name not in kept or set(a.params["conv2"]) == {"weight", "bias"} | kept[name]
    for layer, own in a.params.items():
        for parameter, w in own.items():
            assert parameter not in ("theta", "expected", "spread") or w.any()
            np.testing.assert_array_equal(w, b.params[layer][parameter])


def call(*args):
    done = CliRunner().invoke(main, list(map(str, args)))
    assert done.exit_code == 0, done.output


def test_what_is_as_far_as_usual_is_no_novelty():
    """The gate opens where the distance is larger than the usual one, and not where it is equal."""
    rule = rules.get("hebbian")
    own = {"expected": np.zeros(2), "spread": np.array([4.0])}
    z = np.array([[2.0, 0.0], [2.0, 0.1], [0.0, 1.0]])  # |z|^2: 4, 4.01, 1
    np.testing.assert_array_equal(rule.third_factor(z, own), [0, 1, 0])
