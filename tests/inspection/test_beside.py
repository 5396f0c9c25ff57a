"""Two rules on the same weights: cosines, sizes and signs, beside torch and numbers by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from plasticity import inspection, kernels
from plasticity.errors import UserError
from plasticity.inspection import beside
from plasticity.kernels.definition import eprop
from plasticity.runs.options import RunOptions

SMALL = RunOptions(
    rule="clapp", width=0.06, layers=3, batch=4, crop=40, dtype="float64", device="cpu", seed=3,
    prediction_steps=2,
)  # fmt: skip
SOUND = RunOptions(
    rule="clapp_s", net="audio", width=0.03, batch=2, samples=5120, dtype="float64", device="cpu"
)


def fresh(options, gain=2.0):
    return inspection.fresh(options, gain)


def by_name(found, quantity="cosine"):
    return {(p.layer, p.parameter): getattr(p, quantity) for p in found.pairs}


def test_cosine_norms_and_signs_of_two_updates_by_hand():
    """|a| = 5, |b| = 10, a b = 3 x 6 = 18... of four entries two are 0 in one, one sign agrees."""
    a, b = np.array([[3.0, 0.0], [4.0, 0.0]]), np.array([[6.0, 8.0], [0.0, 0.0]])
    assert beside.measured(a, b) == pytest.approx((18 / 50, 2, 1))
    assert beside.measured(a, -a) == pytest.approx((-1, 1, 0))
    assert beside.measured(a, np.array([[1.0, 1.0], [-1.0, 1.0]]))[2] == 0.5
    assert np.isnan(beside.measured(a, 0 * b)).all()


def test_a_rule_beside_itself_has_cosine_1_and_beside_its_negative_minus_1(monkeypatch):
    from plasticity.rules.clapp import Clapp
    from plasticity.rules.clapp_s import ClappS

    options = SMALL.changed(rule="clapp_s")
    same = beside.compare_rules([fresh(options)], "hinge_cpc", {"modules": "layers"})
    assert by_name(same) == pytest.approx(dict.fromkeys(by_name(same), 1))
    assert by_name(same, "ratio") == pytest.approx(dict.fromkeys(by_name(same), 1))
    assert set(by_name(same, "signs").values()) == {1}
    gamma = Clapp.gamma
    monkeypatch.setattr(ClappS, "gamma", lambda *args: -3 * gamma(*args))
    turned = beside.compare_rules([fresh(options)], "hinge_cpc", {"modules": "layers"})
    assert by_name(turned) == pytest.approx(dict.fromkeys(by_name(same), -1))
    assert by_name(turned, "ratio") == pytest.approx(dict.fromkeys(by_name(same), 1 / 3))
    assert set(by_name(turned, "signs").values()) == {0}


def in_torch(state, step, local):
    """Minus the gradient of the hinge by torch, written out: at every layer, or at the top alone.

    Eq. (14): the half of W_pred moves the target alone, that of W_retro the context.
    """
    layers = state.network.layers
    own = {
        layer: {n: torch.tensor(w, requires_grad=True) for n, w in kept.items()}
        for layer, kept in state.weights.items()
    }
    batch = state.batch(step, generators=beside.generators(state, step))
    x = torch.tensor(state.stimulus.inputs(batch, np.float64).transpose(0, 3, 1, 2).copy())
    draws, total = iter(batch.draws), 0.0
    for layer in layers:
        x = x.detach() if local else x
        x = F.relu(F.conv2d(x, own[layer.name]["weight"], own[layer.name]["bias"], padding=1))
        x = F.max_pool2d(x, 2) if layer.pool == 2 else x
        if not local and layer is not layers[-1]:
            continue
        z, draw = x.mean((2, 3)), next(draws)
        for half, name in ((draw.pred, "W_pred"), (draw.retro, "W_retro")):
            for e in half:
                learner, other = (e.target, e.context)[:: 1 if name == "W_pred" else -1]
                seen = z[other].detach() @ own[layer.name][name][e.k - 1].T
                y, weight = torch.tensor(e.label), torch.tensor(e.weight)
                total = total + (weight * F.relu(1 - y * (z[learner] * seen).sum(1))).sum()
    total.backward()
    return {
        (layer, n): -w.grad.numpy()
        for layer, kept in own.items()
        for n, w in kept.items()
        if w.grad is not None
    }


def test_clapp_beside_hinge_cpc_is_what_torch_gives_for_both():
    state = fresh(SMALL)
    found = beside.compare_rules([state], "hinge_cpc", {"coin": "true"})
    second, drawn = beside.placed(state, beside.under(SMALL, "hinge_cpc", {"coin": "true"}))
    assert drawn == () and second.modules == [[0, 1, 2]]
    a, b = in_torch(state, 0, local=True), in_torch(second, 0, local=False)
    assert set(by_name(found)) == set(a) & set(b)
    for key in set(a) & set(b):
        both = [w.ravel() for w in (a[key], b[key])]
        norms = [np.linalg.norm(w) for w in both]
        assert by_name(found)[key] == pytest.approx(both[0] @ both[1] / np.prod(norms), abs=1e-9)
        assert by_name(found, "ratio")[key] == pytest.approx(norms[1] / norms[0])
    # The loss at the top is the same, and so is what the top learns; below it is another.
    assert by_name(found)["conv3", "weight"] == pytest.approx(1)
    assert abs(by_name(found)["conv1", "weight"]) < 0.9


def test_with_a_coin_and_without_one_the_same_negatives_are_drawn():
    state = fresh(SMALL)
    both, _ = beside.placed(state, beside.under(SMALL, "clapp_s"))
    one, two = (s.batch(5, generators=beside.generators(s, 5)) for s in (state, both))
    for mine, others in zip(one.draws, two.draws, strict=True):
        for half, whole in ((mine.pred, others.pred), (mine.retro, others.retro)):
            for a, b in zip(half, whole, strict=True):
                pairs = set(zip(b.context.tolist(), b.target.tolist(), b.label, strict=True))
                assert set(zip(a.context.tolist(), a.target.tolist(), a.label, strict=True)) < pairs
                assert len(b.label) > len(a.label) > 0
    assert np.array_equal(one.pixels, two.pixels)


def test_the_weights_are_the_run_s_and_only_what_it_lacks_is_drawn():
    state = fresh(SMALL.changed(weights="symmetric"))
    second, drawn = beside.placed(state, beside.under(state.options, "", {"weights": "retro"}))
    assert drawn == ("conv1.W_retro", "conv2.W_retro", "conv3.W_retro")
    for layer, own in state.weights.items():
        assert all(second.weights[layer][name] is w for name, w in own.items())
    _, drawn = beside.placed(state, beside.under(state.options, "feedback_alignment"))
    assert drawn == ("conv2.feedback", "conv3.feedback")


def test_another_rule_gets_what_the_run_chose_and_its_own_usual_settings_besides():
    chose = SMALL.changed(weights="symmetric", negatives=3)
    other = beside.under(chose, "gim").rule_object()
    assert (other.steps, other.symmetric, other.negatives) == (2, True, 3)
    plain = beside.under(SMALL, "gim").rule_object()
    assert (plain.steps, plain.negatives, plain.negatives_from) == (2, 16, "batch")
    asked = beside.under(chose, "gim", {"negatives": "8"}).rule_object()
    assert asked.negatives == 8
    # What a rule refuses it is not given: CPC has no gate to share.
    assert beside.under(SMALL.changed(gate="shared"), "cpc").rule_object().gate == "own"
    field = beside.under(SMALL, "bcm", {"tau": "7"}).rule_object()
    assert field.tau == 7


def test_means_over_batches_have_their_standard_errors():
    state = fresh(SMALL)
    singles = [beside.compare_rules([state], "clapp_s", first_step=i).pairs[0] for i in range(3)]
    found = beside.compare_rules([state], "clapp_s", batches=3).pairs[0]
    cosines = [pair.cosine for pair in singles]
    assert found.cosine == pytest.approx(np.mean(cosines))
    assert found.cosine_error == pytest.approx(np.std(cosines, ddof=1) / np.sqrt(3))
    assert found.batches == 3 and np.isnan(singles[0].cosine_error)
    summed = [0.0, 0.0]
    second, _ = beside.placed(state, beside.under(SMALL, "clapp_s"))
    for i in range(3):
        for n, one in enumerate((state, second)):
            (layer, name, dW), *_ = beside.changes(one, i)
            assert (layer, name) == ("conv1", "weight")
            summed[n] = summed[n] + dW
    assert found.of_means == pytest.approx(beside.measured(*summed)[0])


def test_no_weight_moves():
    state = fresh(SMALL)
    before = {la: {n: w.copy() for n, w in own.items()} for la, own in state.weights.items()}
    beside.compare_rules([state], "hinge_cpc", batches=2)
    for layer, own in before.items():
        assert all(np.array_equal(state.weights[layer][n], w) for n, w in own.items())


def test_feedback_alignment_learns_the_top_as_backpropagation_and_below_by_its_own_matrices():
    options = SMALL.changed(rule="hinge_cpc")
    state = fresh(options)
    found = by_name(beside.compare_rules([state], "feedback_alignment"))
    assert found["conv3", "weight"] == pytest.approx(1)
    assert abs(found["conv1", "weight"]) < 0.6
    # With the transposed weights in their place it is backpropagation.
    second, _ = beside.placed(state, beside.under(options, "feedback_alignment"))
    for layer in ("conv2", "conv3"):
        second.weights[layer]["feedback"] = second.weights[layer]["weight"]
    for (*_, a), (*_, b) in zip(beside.changes(state, 0), beside.changes(second, 0), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)


def test_eprop_beside_bptt_is_the_traces_beside_torchs_gradient():
    state = fresh(SOUND.changed(credit="eprop"), 1.0)
    found = by_name(beside.compare_rules([state], "", {"credit": "bptt"}))
    met = {}

    def watch(watched):
        met.update({seen.layer.name: seen for seen in watched.layers})

    batch = state.batch(0, generators=beside.generators(state, 0))
    for _ in state.updates(batch, watch):
        pass
    seen = met["gru"]
    own = {n: w for n, w in state.weights["gru"].items() if n.startswith(("weight_", "bias_"))}
    x, h, signal = seen.x, seen.h, np.asarray(seen.error)
    _, gates = kernels.gru_forward(x, **own)
    unit = torch.nn.GRU(x.shape[2], h.shape[2], batch_first=True).double()
    with torch.no_grad():
        for name, w in own.items():
            getattr(unit, f"{name}_l0").copy_(torch.tensor(w))
    (unit(torch.tensor(x))[0] * torch.tensor(signal)).sum().backward()
    for name in ("weight_ih", "weight_hh"):
        synapses = eprop.every(own[name].shape)
        trace = eprop.eligibility(name, synapses, x, h, gates)
        local = eprop.change(signal, synapses, trace)
        exact = getattr(unit, f"{name}_l0").grad.numpy()
        assert found["gru", name] == pytest.approx(beside.measured(local, exact.ravel())[0])
    # What is fed forward does not hear of the credit.
    assert found["conv2", "weight"] == pytest.approx(1)


def test_how_far_eprop_is_from_bptt_is_what_its_page_says():
    """White inputs, white signals, torch's start: 0.97 to 0.98, and 0.85 to 0.91 without traces."""
    rng = np.random.default_rng(0)
    I, H, T = 128, 64, 128  # noqa: E741
    bound = H**-0.5
    shapes = {"weight_ih": (3 * H, I), "weight_hh": (3 * H, H), "bias_ih": 3 * H, "bias_hh": 3 * H}
    own = {name: rng.uniform(-bound, bound, shape) for name, shape in shapes.items()}
    x, signal = rng.standard_normal((2, T, I)), rng.standard_normal((2, T, H))
    h, gates = kernels.gru_forward(x, **own)
    both = own["weight_ih"], own["weight_hh"]
    by = {c: kernels.gru_learn(x, h, gates, signal, *both, c)[0] for c in kernels.CREDITS}
    cosine = {c: beside.measured(by[c]["weight_ih"], by["bptt"]["weight_ih"])[0] for c in by}
    assert 0.95 < cosine["eprop"] < 0.99 and 0.8 < cosine["none"] < 0.93


def test_a_rule_that_reads_labels_has_both_learn_from_the_labelled_examples():
    state = fresh(SMALL)
    found = beside.compare_rules([state], "supervised")
    assert found.labelled and state.stimulus.source.labels is not None
    assert {layer for layer, _ in by_name(found)} == {"conv1", "conv2", "conv3"}
    assert found.drawn == ("conv3.W_readout", "conv3.b_readout")


@pytest.mark.parametrize(
    ("rule", "given", "told"),
    [
        ("random", {}, "the rule random changes no weights"),
        ("clapp", {}, "both are clapp with the same settings"),
        ("", {}, "both are clapp with the same settings"),
        ("hinge_cpc", {"prediction_steps": 3}, r"has the shape \(2, .* under hinge_cpc"),
        ("hinge_cpc", {"width": "2"}, "--set width: both rules meet the same run"),
        ("hinge_cpc", {"colour": "yes"}, "--set colour: both rules meet"),
        ("hinge_cpc", {"nonsense": "2"}, "--set nonsense: hinge_cpc has no such field"),
        ("hinge_cpc", {"negatives": "two"}, "--set negatives=two: expected a whole number"),
        ("hinge_cpc", {"coin": "maybe"}, "--set coin=maybe: expected true or false"),
        ("hinge_cpc", {"modules": "9"}, "--modules 9 does not split the 3 layers"),
        ("hinge_cpc", {"credit": "bptt"}, "--credit has no meaning for vgg6"),
        ("hinge_cpq", {}, "did you mean 'hinge_cpc'"),
        ("oja", {"negatives": 2}, "--negatives has no meaning for the rule oja"),
    ],
)
def test_rules_that_cannot_meet_are_told_in_a_sentence(rule, given, told):
    with pytest.raises(UserError, match=told):
        beside.compare_rules([fresh(SMALL)], rule, given)


@pytest.mark.parametrize("options", [SOUND, RunOptions(
    rule="clapp_s", net="vgg5_video", width=0.03, batch=2, clip_frames=24, side=40, layers=3,
    dtype="float64", device="cpu",
)])  # fmt: skip
def test_sound_and_film_are_compared_as_images_are(options):
    found = beside.compare_rules([fresh(options)], "hinge_cpc")
    layers = {layer for layer, _ in by_name(found)}
    assert layers >= {layer.name for layer in fresh(options).network.layers}
    assert np.isfinite([p.cosine for p in found.pairs if p.parameter == "weight"]).all()


def test_weights_of_float32_and_gates_that_are_all_closed_leave_a_blank():
    state = fresh(SMALL.changed(rule="clapp_s", dtype="float32"), 0.0)
    state.weights["conv1"]["weight"][:] = 0
    found = beside.compare_rules([replace(state)], "hinge_cpc", batches=2)
    pair = found.pairs[0]
    assert np.isnan(pair.cosine) and pair.batches == 0
    assert found.as_dict()["pairs"][0]["cosine"] is None
