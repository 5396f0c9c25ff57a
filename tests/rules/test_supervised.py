"""What the supervised rules say, sentence by sentence, and against torch's autograd."""

import numpy as np
import pytest

from plasticity import inspection, learning, rules
from plasticity.errors import UserError
from plasticity.events import Layout
from plasticity.rule import Draw
from plasticity.runs import sets
from plasticity.runs.options import RunOptions
from plasticity.verification.autograd import negative_gradients
from tests.rounding import close
from tests.small import case

SPLITS = {"1": [[0, 1, 2]], "1+2": [[0], [1, 2]], "2+1": [[0, 1], [2]], "layers": [[0], [1], [2]]}


def test_frames_without_a_label_are_as_if_they_were_not_there():
    rule, rng = rules.get("supervised", classes=3), np.random.default_rng(0)
    z, own = rng.standard_normal((6, 4)), rule.prepare(4, rng)
    labels = np.array([[0], [-1], [2], [1], [-1], [2]])  # of 6 frames of one utterance
    learned = rule.learn(z, own, Draw((), labels=labels), Layout(6, 1, 1, skip=0))
    known = labels[:, 0] >= 0
    alone = rule.learn(
        z[known], own, Draw((), labels=labels[known]), Layout(int(known.sum()), 1, 1, skip=0)
    )
    np.testing.assert_allclose(learned.drive[known], alone.drive, rtol=1e-12)
    assert not learned.drive[~known].any()
    np.testing.assert_allclose(learned.loss, alone.loss, rtol=1e-12)
    np.testing.assert_allclose(learned.measures["accuracy"], alone.measures["accuracy"])
    for name, dW in alone.changes.items():
        np.testing.assert_allclose(learned.changes[name], dW, rtol=1e-12)


def test_two_images_by_hand():
    """Scores (log 3 + 1/2, 1/2) and (1, 1): pi = (3/4, 1/4) and (1/2, 1/2); labels 0 and 1."""
    rule, layout = rules.get("supervised", classes=2), Layout(2, 2, 1)
    # Time comes first in the order of patches; the images' means are (1, 1) and (0, 2).
    z = np.array([[2.0, 0.0], [0.0, 1.0], [0.0, 2.0], [0.0, 3.0]])
    own = {"W_readout": np.array([[np.log(3), 0.5], [0.0, 0.5]]), "b_readout": np.zeros(2)}
    learned = rule.learn(z, own, Draw((), labels=np.array([0, 1])), layout)
    gamma = np.array([[0.25, -0.25], [-0.5, 0.5]])
    drive = gamma @ own["W_readout"] / 4  # averaged over 2 images of 2 patches
    # Each gamma is a probability, after some ten roundings, minus 0 or 1.
    size = np.ones((2, 2)) @ np.abs(own["W_readout"]) / 4
    close(learned.drive, drive[[0, 1, 0, 1]], size[[0, 1, 0, 1]], 16)
    zbar = np.array([[1.0, 1.0], [0.0, 2.0]])
    close(learned.changes["W_readout"], gamma.T @ zbar / 2, np.ones((2, 2)) @ zbar / 2, 16)
    close(learned.changes["b_readout"], gamma.sum(axis=0) / 2, 1, 16)
    assert learned.loss == pytest.approx((np.log(4 / 3) + np.log(2)) / 2)
    assert learned.measures["accuracy"] == 0.5  # equal scores name the first class, which is wrong


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("name", ["supervised", "greedy_supervised"])
def test_dW_is_minus_the_gradient_in_every_split(name, split):
    c = case(rules.get(name, classes=4), modules=SPLITS[split])
    losses, wanted = negative_gradients(
        c.network, c.modules, c.weights, c.patches, c.layout, c.draws, loss="cross_entropy"
    )
    found = c.updates()
    np.testing.assert_allclose([u.loss for u in found], losses, rtol=1e-12)
    for update, module in zip(found, c.modules, strict=True):
        for layer in (c.network.layers[i].name for i in module):
            assert set(update.changes[layer]) == set(wanted[layer])
            for parameter, dW in wanted[layer].items():
                error = np.abs(update.changes[layer][parameter] - dW).max() / np.abs(dW).max()
                assert error < 1e-10, f"{layer}.{parameter}: {error:.2e}"


def test_nothing_leaks_between_modules():
    """With another readout on top the lower modules learn the same."""
    c = case(rules.get("greedy_supervised", classes=3))
    before = c.updates()
    weights = {layer: dict(own) for layer, own in c.weights.items()}
    weights["conv3"]["W_readout"] = -weights["conv3"]["W_readout"]
    after = c.updates(weights=weights)
    for i, layer in enumerate(("conv1", "conv2")):
        for parameter, dW in before[i].changes[layer].items():
            np.testing.assert_array_equal(after[i].changes[layer][parameter], dW)
    assert not np.allclose(
        after[2].changes["conv3"]["weight"], before[2].changes["conv3"]["weight"]
    )


def test_greedy_with_one_module_is_supervised():
    c = case(rules.get("supervised", classes=3), modules=SPLITS["1"])
    (a,), (b,) = c.updates(), c.updates(rule=rules.get("greedy_supervised", classes=3))
    for layer, own in a.changes.items():
        for parameter, dW in own.items():
            np.testing.assert_array_equal(b.changes[layer][parameter], dW)


def test_large_scores_do_not_overflow():
    rule, layout = rules.get("supervised", classes=2), Layout(1, 2, 1)
    own = {"W_readout": np.array([[5e3], [-5e3]]), "b_readout": np.zeros(2)}
    with np.errstate(over="raise", invalid="raise"):
        z = np.array([[1.0], [2.0]])
        learned = rule.learn(z, own, Draw((), labels=np.array([0, 1])), layout)
    assert learned.loss == pytest.approx(1e4) and np.isfinite(learned.drive).all()


def test_labels_can_be_learned():
    """Eight images of noise with labels of their own: a hundred steps name them all."""
    c = case(
        rules.get("supervised", classes=2), modules=SPLITS["1"], layout=Layout(2, 8, 2), gain=1
    )
    adam, losses = learning.Optimiser.start(learning.Pace(1e-2), c.weights), []
    for step in range(100):
        (update,) = c.updates()
        losses.append(float(update.loss))
        adam.ascend(c.weights, update.changes, step + 1)
    assert update.measures["accuracy"] == 1 and losses[-1] < 0.1 * losses[0]


def test_a_step_without_labels_is_said():
    c = case(rules.get("supervised", classes=3), modules=SPLITS["1"])
    with pytest.raises(UserError, match="learns from labels, and the step has none"):
        c.updates(draws=[Draw(())])
    with pytest.raises(UserError, match="at least 2 classes"):
        rules.get("supervised", classes=1)


def test_the_classes_are_those_of_the_data_set():
    options = RunOptions(rule="supervised", width=0.05)
    images = sets.learning_set(options)
    assert images.split == "train" and options.rule_object().classes == len(images.classes) == 10
    assert sets.learning_set(RunOptions(rule="clapp")).split == "unlabelled"


def test_an_inspected_synapse_adds_up_and_a_readout_is_refused():
    options = RunOptions(rule="greedy_supervised", width=0.03, batch=4, dtype="float64")
    step = inspection.look(inspection.fresh(options, 2.0), 2)
    found = inspection.inspect(step, "weight", (1, 0, 2, 1))
    assert found.agrees and found.applied != 0
    assert {"label"} == {row["role"] for row in found.by_role()}
    with pytest.raises(UserError, match="W_readout is not taken apart"):
        inspection.inspect(step, "W_readout", (0, 0))
