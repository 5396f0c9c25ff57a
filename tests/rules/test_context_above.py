"""The context from one layer above: what changes what, and against torch's autograd."""

import numpy as np
import pytest
from click.testing import CliRunner
from plasticity.cli import main

from plasticity import inspection, rules
from plasticity.errors import UserError
from plasticity.events import Layout, events
from plasticity.rule import Draw
from plasticity.runs.options import RunOptions
from plasticity.verification.autograd import negative_gradients
from plasticity.verification.gradient import in_words_of_the_reference
from tests.rounding import adds_up
from tests.small import case

SPLITS = {"layers": [[0], [1], [2]], "1+2": [[0], [1, 2]], "2+1": [[0, 1], [2]]}
VARIANTS = {
    "own gates": {},
    "symmetric": {"symmetric": True},
    "block_grad": {"block_grad": True},
    "frozen": {"learn_prediction": False},
    "shared gate": {"gate": "shared"},
    "no gate": {"gate": "off"},
    "no dendrites": {"dendrites": False},
}


def above(name, **options):
    return rules.get(name, steps=2, context="above", **options)


def test_a_single_event_by_hand():
    """c = (1, 2) of the layer above, z = (3,): W_pred c = 3, u = 9, a saccade surprises."""
    rule, layout = rules.get("clapp_s", steps=1, context="above"), Layout(3, 1, 1)
    z = np.array([[5.0], [0.0], [3.0]])
    c = np.array([[1.0, 2.0], [0.0, 0.0], [7.0, 7.0]])
    own = {"W_pred": np.array([[[1.0, 1.0]]]), "W_retro": np.array([[[2.0], [-1.0]]])}
    saccade = events(layout, 1, 1, np.array([False]), np.array([True]), np.array([[2]]))
    learned = rule.learn(z, own, Draw((saccade,), (saccade,)), layout, c)
    assert learned.drive.tolist() == [[0.0], [0.0], [-3.0]]  # -W_pred c at the target alone
    # u = c.W_retro z = (1, 2).(6, -3) = 0: open, and the layer above learns -W_retro z.
    assert learned.context_drive.tolist() == [[-6.0, 3.0], [0.0, 0.0], [0.0, 0.0]]
    assert learned.changes["W_pred"].tolist() == [[[-3.0, -6.0]]]
    assert learned.changes["W_retro"].tolist() == [[[-3.0], [-6.0]]]
    assert learned.loss == 0.5 * (1 + 9) + 0.5 * (1 + 0)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("name", ["clapp", "clapp_s", "hinge_cpc", "gim"])
def test_dW_is_minus_the_gradient_in_every_split(name, split, variant):
    options = VARIANTS[variant]
    if name == "gim":
        if "gate" in options or "dendrites" in options:
            with pytest.raises(UserError, match="gim has no surprise gate"):
                above(name, **options)
            return
        options = {"negatives": 4, "symmetric": False, **options}
    c = case(above(name, **options), modules=SPLITS[split])
    words, draws = in_words_of_the_reference(c.rule, c.draws)
    losses, wanted = negative_gradients(
        c.network, c.modules, c.weights, c.patches, c.layout, draws, **words
    )
    found = c.updates()
    halves = 2 if c.draws[0].retro is not None else 1
    np.testing.assert_allclose([halves * u.loss for u in found], losses, rtol=1e-10)
    for update, module in zip(found, c.modules, strict=True):
        for layer in (c.network.layers[i].name for i in module):
            assert set(update.changes[layer]) == set(wanted[layer])
            for parameter, dW in wanted[layer].items():
                error = np.abs(update.changes[layer][parameter] - dW).max() / np.abs(dW).max()
                assert error < 1e-10, f"{layer}.{parameter}: {error:.2e}"


def test_predictions_go_between_the_numbers_of_neurons_of_two_layers():
    """Layers of 5, 6 and 7 neurons; the last one is its own context."""
    shapes = {la: own["W_pred"].shape for la, own in case(above("clapp")).weights.items()}
    assert shapes == {"conv1": (2, 5, 6), "conv2": (2, 6, 7), "conv3": (2, 7, 7)}
    assert case(above("clapp")).weights["conv1"]["W_retro"].shape == (2, 6, 5)


def test_a_layer_learns_as_the_context_of_the_layer_below():
    """Another loss below changes what a layer learns, but not its predictions."""
    c = case(above("clapp_s"))
    before = c.updates()
    weights = {layer: dict(own) for layer, own in c.weights.items()}
    weights["conv1"]["W_retro"] = -weights["conv1"]["W_retro"]
    after = c.updates(weights=weights)

    def moved(i, parameter):
        layer = f"conv{i + 1}"
        pair = (update[i].changes[layer][parameter] for update in (before, after))
        return not np.array_equal(*pair)

    assert moved(1, "weight") and moved(1, "bias")
    assert not moved(0, "weight") and not moved(0, "W_pred")  # conv1 is no context
    assert not moved(1, "W_pred") and not moved(1, "W_retro") and not moved(2, "weight")


def test_without_the_context_role_a_layer_learns_from_its_own_loss_alone():
    """block_grad: the drive from below is zero."""
    c = case(above("clapp_s", block_grad=True))
    before = c.updates()
    weights = {layer: dict(own) for layer, own in c.weights.items()}
    weights["conv1"]["W_pred"] = -weights["conv1"]["W_pred"]
    after = c.updates(weights=weights)
    np.testing.assert_array_equal(
        before[1].changes["conv2"]["weight"], after[1].changes["conv2"]["weight"]
    )


def test_weights_that_change_between_updates_change_no_later_update():
    """Modules may learn as their update is out, as in training."""
    from plasticity import learning

    c = case(above("clapp"))
    wanted = c.updates()
    parts = (c.network, c.rule, c.modules, c.weights, c.patches, c.layout, c.draws)
    for update, same in zip(learning.updates(*parts), wanted, strict=True):
        for layer, own in update.changes.items():
            for parameter, dW in own.items():
                np.testing.assert_array_equal(dW, same.changes[layer][parameter])
                c.weights[layer][parameter] += dW


def test_a_single_module_has_nothing_above():
    with pytest.raises(UserError, match="--context above needs modules above others"):
        case(above("hinge_cpc"), modules=[[0, 1, 2]])


PARTS = {"W_pred": "target", "W_retro": "context"}


@pytest.mark.parametrize("layer", [1, 3, 6])
@pytest.mark.parametrize("name", ["clapp", "hinge_cpc"])
def test_an_inspected_parameter_adds_up_from_its_own_loss_and_that_of_the_layer_below(name, layer):
    """The first layer is no context, the last one is its own and that of the layer below."""
    options = RunOptions(
        rule=name, width=0.03, batch=4, dtype="float64", context="above", modules="layers"
    )
    step = inspection.look(inspection.fresh(options, 2.0), layer)
    roles = {1: {"target"}, 3: {"target", "context below"}}
    for parameter in (
        "weight",
        "bias",
        *(("W_pred", "W_retro") if name == "clapp" else ("W_pred",)),
    ):
        dW = step.seen.changes[parameter]
        at = np.unravel_index(np.abs(dW).argmax(), dW.shape)
        k = 1 if parameter in PARTS else 0  # prediction steps are counted from 1
        index = (int(at[0]) + k, *map(int, at[1:]))
        found = inspection.inspect(step, parameter, index)
        assert found.agrees and found.applied != 0
        every = {"target", "context", "context below"}
        wanted = {PARTS[parameter]} if parameter in PARTS else roles.get(layer, every)
        assert {row["role"] for row in found.by_role()} == wanted


def test_a_layer_in_a_module_of_several_meets_the_error_of_both_losses():
    """conv2 is below the top of the last module, which is a context too."""
    options = RunOptions(
        rule="clapp_s", width=0.03, batch=4, dtype="float64", context="above", layers=3,
        modules="1+2",
    )  # fmt: skip
    state = inspection.fresh(options, 2.0)
    for layer, roles in ((2, {"error"}), (3, {"target", "context", "context below"})):
        step = inspection.look(state, layer)
        dW = step.seen.changes["weight"]
        at = np.unravel_index(np.abs(dW).argmax(), dW.shape)
        found = inspection.inspect(step, "weight", tuple(map(int, at)))
        assert found.agrees and {row["role"] for row in found.by_role()} == roles
        parts = [row["part of dW"] for row in inspection.inspect_layer(step, 10**6).patches]
        assert sum(parts) == pytest.approx(1)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_record_adds_up_while_weights_change(dtype, tmp_path):
    """Of the second step too: a module learns before the roles of the one above are recorded."""
    call = ["run", "--rule", "clapp", "--context", "above", "--width", "0.03", "--batch", "4",
            "--layers", "3", "--dtype", dtype, "--steps", "2", "--lr", "0.1", "--no-probe",
            "--record-every", "1", "--record", "layer=*,random=5",
            "--out", str(tmp_path / "run")]  # fmt: skip
    done = CliRunner().invoke(main, call)
    assert done.exit_code == 0, done.output
    found = inspection.read(tmp_path / "run")
    assert set(found.roles) == {"target", "context", "context below"}
    for layer, learns in (("conv1", [0]), ("conv2", [0, 1]), ("conv3", [0, 1, 2])):
        dW, share = (found[f"{layer}/synapses/{name}"] for name in ("dW", "share"))
        assert dW.shape == (2, 5)
        adds_up(share, dW)
        gates = np.isfinite(found[f"{layer}/gates"]).any(axis=(0, 2, 3))
        assert [i for i, there in enumerate(gates) if there] == learns
