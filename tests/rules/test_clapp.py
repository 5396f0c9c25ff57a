"""What CLAPP says, sentence by sentence."""

import numpy as np
import pytest

from plasticity import kernels, rules
from plasticity.errors import UserError
from plasticity.events import Layout, events
from plasticity.rule import Draw
from tests.rounding import close_slope
from tests.small import NETWORK, case

OPTIONS = {"steps": 2}


def relative(a, b):
    return np.abs(a - b).max() / np.abs(b).max()


def encodings(case, layer):
    x = case.patches
    for i in range(layer + 1):
        x, _, z = case.network.layers[i].forward(x, case.weights)
    return z


def test_a_single_event_by_hand():
    """c = (1, 2), z = (3, 0), W_pred c = (1, 3): u = 3, a saccade surprises, gamma = -1."""
    rule = rules.get("clapp_s", steps=1)
    layout = Layout(3, 1, 1)
    z = np.array([[1.0, 2.0], [0.0, 0.0], [3.0, 0.0]])
    own = {
        "W_pred": np.array([[[1.0, 0.0], [1.0, 1.0]]]),
        "W_retro": np.array([[[2.0, 0.0], [-1.0, 5.0]]]),
    }
    saccade = events(layout, 1, 1, np.array([False]), np.array([True]), np.array([[2]]))
    learned = rule.learn(z, own, Draw((saccade,), (saccade,)), layout)
    # Eq. (6): -W_pred c at the target. Eq. (7): u = c.W_retro z = (1, 2).(6, -3) = 0 is below 1,
    # so the gate is open, -W_retro z = (-6, 3) at the context.
    assert learned.drive.tolist() == [[-6.0, 3.0], [0.0, 0.0], [-1.0, -3.0]]
    # Eq. (8): dW_pred,jk = -z_j c_k, dW_retro,kj = -c_k z_j.
    assert learned.changes["W_pred"].tolist() == [[[-3.0, -6.0], [0.0, 0.0]]]
    assert learned.changes["W_retro"].tolist() == [[[-3.0, 0.0], [-6.0, 0.0]]]
    assert learned.loss == 0.5 * (1 + 3) + 0.5 * (1 + 0)  # the mean of both halves, Eq. (14)
    assert learned.open_gates == 1


def test_a_closed_gate_changes_nothing():
    """The same event as a fixation: u = 3 > 1 is no surprise."""
    rule = rules.get("clapp_s", steps=1, symmetric=True)
    layout = Layout(3, 1, 1)
    z = np.array([[1.0, 2.0], [0.0, 0.0], [3.0, 0.0]])
    own = {"W_pred": np.array([[[1.0, 0.0], [1.0, 1.0]]])}
    fixation = events(layout, 1, 1, np.array([True]), np.array([False]), np.array([[2]]))
    learned = rule.learn(z, own, Draw((fixation,)), layout)
    assert not learned.drive.any() and not learned.changes["W_pred"].any()
    assert learned.loss == 0 and learned.open_gates == 0


def test_without_a_gate_the_same_event_changes_weights():
    rule = rules.get("clapp_s", steps=1, symmetric=True, gate="off")
    layout = Layout(3, 1, 1)
    z = np.array([[1.0, 2.0], [0.0, 0.0], [3.0, 0.0]])
    own = {"W_pred": np.array([[[1.0, 0.0], [1.0, 1.0]]])}
    fixation = events(layout, 1, 1, np.array([True]), np.array([False]), np.array([[2]]))
    assert rule.learn(z, own, Draw((fixation,)), layout).drive[2].tolist() == [1.0, 3.0]


@pytest.mark.parametrize("name", ["clapp", "clapp_s"])
def test_the_rule_is_the_slope_of_its_loss(name):
    """Finite differences of Eq. (3), symmetric, layer by layer, no autograd."""
    c = case(rules.get(name, symmetric=True, **OPTIONS))
    found = c.updates()
    for number, layer in enumerate(c.network.layers):
        assert 0.05 < found[number].open_gates < 0.95
        x = c.patches if number == 0 else None
        if x is None:
            x = c.patches
            for below in c.network.layers[:number]:
                x, _, _ = below.forward(x, c.weights)
        rng = np.random.default_rng(number)
        for parameter, dW in found[number].changes[layer.name].items():
            direction = rng.standard_normal(dW.shape)

            def loss(step, layer=layer, parameter=parameter, direction=direction, x=x, i=number):
                own = dict(c.weights[layer.name])
                own[parameter] = own[parameter] + step * direction
                _, _, z = layer.forward(x, {layer.name: own})
                return c.rule.learn(z, own, c.draws[i], c.layout).loss

            slope = (loss(1e-7) - loss(-1e-7)) / 2e-7
            close_slope(-slope, dW, direction)


def test_every_factor_of_an_update_multiplies():
    """dW summed over events from gate, dendritic signal, post and pre, one event at a time."""
    c = case(rules.get("clapp", **OPTIONS))
    x, layer = c.patches, c.network.layers[0]
    x, _, _ = layer.forward(x, c.weights)
    layer = c.network.layers[1]
    _, (_, winner), z = layer.forward(x, c.weights)
    padded = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
    wanted = np.zeros_like(c.weights["conv2"]["weight"])
    for role in c.rule.roles(z, c.weights["conv2"], c.draws[1], c.layout):
        for e in range(len(role.gamma)):
            patch = role.learner[e : e + 1]
            post = (
                kernels.post_factor(winner[patch], np.ones((1, 6)), layer.geometry, (8, 8))[0] / 16
            )
            for r, s in np.ndindex(8, 8):
                pre = padded[patch[0], r : r + 3, s : s + 3].transpose(2, 0, 1)
                signal = role.gamma[e] * role.dendrite[role.source[e]] * post[r, s]
                wanted += signal[:, None, None, None] * pre
    assert relative(c.updates()[1].changes["conv2"]["weight"], wanted) < 1e-12


def test_an_inhibited_neuron_does_not_learn():
    """A neuron that never wins its pool keeps its weights, however strong its drive."""
    c = case(rules.get("clapp_s", **OPTIONS))
    c.weights["conv2"]["weight"][3] = 0
    c.weights["conv2"]["bias"][3] = -1
    changes = c.updates()[1].changes["conv2"]
    assert not changes["weight"][3].any() and changes["bias"][3] == 0
    assert changes["weight"][[0, 1, 2, 4, 5]].any(axis=(1, 2, 3)).sum() >= 4


def test_aligned_W_pred_and_W_retro_give_the_symmetric_rule():
    for gate in ("own", "shared"):
        apart = case(rules.get("clapp", gate=gate, **OPTIONS))
        for own in apart.weights.values():
            own["W_retro"] = own["W_pred"].transpose(0, 2, 1).copy()
        draws = [Draw(d.pred, d.pred if gate == "own" else None) for d in apart.draws]
        found = apart.updates(draws=draws)
        symmetric = rules.get("clapp", symmetric=True, **OPTIONS)
        weights = {
            layer: {n: w for n, w in own.items() if n != "W_retro"}
            for layer, own in apart.weights.items()
        }
        wanted = apart.updates(rule=symmetric, weights=weights, draws=[Draw(d.pred) for d in draws])
        for a, b, layer in zip(found, wanted, NETWORK.layers, strict=True):
            for parameter, dW in b.changes[layer.name].items():
                assert relative(a.changes[layer.name][parameter], dW) < 1e-12
            retro = a.changes[layer.name]["W_retro"].transpose(0, 2, 1)
            assert relative(retro, b.changes[layer.name]["W_pred"]) < 1e-12


def test_block_grad_leaves_the_target_role_alone():
    """Eq. (13): patches of the first rows are never a target, so nothing drives them."""
    c = case(rules.get("clapp_s", block_grad=True, **OPTIONS))
    z = encodings(c, 0)
    learned = c.rule.learn(z, c.weights["conv1"], c.draws[0], c.layout)
    first_targets = c.layout.offset(1)
    assert not learned.drive[:first_targets].any() and learned.drive[first_targets:].any()
    assert {r.name for r in c.rule.roles(z, c.weights["conv1"], c.draws[0], c.layout)} == {"target"}


def test_nothing_leaks_from_one_layers_loss_into_another_layer():
    """Other predictions, signs and negatives in layer 3 leave the updates of layers 1, 2 alone."""
    c = case(rules.get("clapp", **OPTIONS))
    before = c.updates()
    weights = {layer: dict(own) for layer, own in c.weights.items()}
    weights["conv3"]["W_pred"] = -weights["conv3"]["W_pred"]
    other = c.rule.draw(c.layout, np.random.default_rng(77))
    after = c.updates(weights=weights, draws=[*c.draws[:2], other])
    for i, layer in enumerate(NETWORK.layers[:2]):
        for parameter, dW in before[i].changes[layer.name].items():
            np.testing.assert_array_equal(after[i].changes[layer.name][parameter], dW)
    assert relative(after[2].changes["conv3"]["weight"], before[2].changes["conv3"]["weight"]) > 0.1


def test_frozen_predictions_do_not_change_and_encoders_still_learn():
    frozen = case(rules.get("clapp", learn_prediction=False, **OPTIONS))
    free = frozen.updates(rule=rules.get("clapp", **OPTIONS))
    for a, b in zip(frozen.updates(), free, strict=True):
        layer = NETWORK.layers[a.module].name
        assert set(a.changes[layer]) == {"weight", "bias"}
        np.testing.assert_array_equal(a.changes[layer]["weight"], b.changes[layer]["weight"])


def test_without_dendritic_input_every_neuron_gets_the_bare_gate():
    c = case(rules.get("clapp_s", dendrites=False, **OPTIONS))
    z = encodings(c, 0)
    drive = c.rule.learn(z, c.weights["conv1"], c.draws[0], c.layout).drive
    assert drive.any() and (drive == drive[:, :1]).all()


def test_the_same_seed_draws_the_same_and_another_layer_other_events():
    rule, layout = rules.get("clapp"), Layout(7, 8, 7)
    a, b = case(rule, layout=layout), case(rule, layout=layout)
    for x, y in zip(a.draws, b.draws, strict=True):
        np.testing.assert_array_equal(x.pred[0].target, y.pred[0].target)
    assert not np.array_equal(a.draws[0].pred[0].label, a.draws[1].pred[0].label)
    assert not np.array_equal(a.draws[0].pred[0].label, a.draws[0].retro[0].label)


def test_predictions_start_as_the_published_codes_convolutions_do():
    """torch's default for a 1x1 convolution of D inputs: uniform within 1/sqrt(D)."""
    for name, W in rules.get("clapp").prepare(64, np.random.default_rng(0)).items():
        assert W.shape == (5, 64, 64) and 0.99 / 8 < np.abs(W).max() <= 1 / 8, name
        assert W.std() == pytest.approx(1 / 8 / 3**0.5, rel=0.02)


def test_an_unknown_choice_is_said_in_a_sentence():
    with pytest.raises(UserError, match="did you mean 'clapp_s'"):
        rules.get("clap_s")
    with pytest.raises(UserError, match="expected own, shared, circuit or off"):
        rules.get("clapp", gate="ajar")
    with pytest.raises(UserError, match="steps must be at least 1"):
        rules.get("clapp", steps=0)


@pytest.mark.parametrize(
    "options, own",
    [({}, True), ({"gate": "shared"}, False), ({"symmetric": True}, False),
     ({"block_grad": True}, False), ({"gate": "off"}, True)],
)  # fmt: skip
def test_context_and_target_have_draws_of_their_own_but_where_one_gate_is_for_both(options, own):
    draw = rules.get("clapp_s", steps=2, **options).draw(Layout(5, 3, 2), np.random.default_rng(0))
    assert (draw.retro is not None) == own


def test_how_local_a_rule_is_depends_on_its_modules_and_on_where_its_context_is():
    assert rules.get("clapp_s").locality == "layer" and rules.get("gim").locality == "module"
    assert rules.get("clapp_s", context="above").locality == "neighbours"
