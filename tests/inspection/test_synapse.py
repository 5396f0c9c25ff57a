"""One synapse: its events add up to the dW of training, and share training's factors."""

from collections import Counter

import numpy as np
import pytest

from plasticity import inspection, kernels
from plasticity.errors import UserError
from plasticity.kernels.definition import convolution
from plasticity.runs.options import RunOptions

WEIGHTS = {"weight": (2, 1, 0, 2), "bias": (3,)}
OWN = {"W_pred": (2, 1, 3), "W_retro": (1, 3, 1)}


def options(**values):
    small = {"width": 0.04, "batch": 2, "crop": 32, "prediction_steps": 1, "dtype": "float64"}
    return RunOptions(**{**small, "device": "cpu", "layers": 4, **values})


def fresh(gain=2.0, **values):
    return inspection.fresh(options(**values), gain)


def applied(state, layer, parameter, index):
    """dW of the next step, as training computes it."""
    for update in state.next()[1]:
        if layer in update.changes:
            return update.changes[layer][parameter][index]


def check(state, layer, parameter, index, at=None):
    found = inspection.inspect(inspection.look(state, layer), parameter, index)
    assert found.agrees
    assert found.applied == applied(state, layer, parameter, at or index)
    rounding = 1e-12 if state.options.dtype == "float64" else 1e-5
    assert abs(found.difference) <= rounding * found.scale
    assert found.table()["share"].sum() == pytest.approx(found.total, abs=1e-9 * found.scale)
    return found


@pytest.mark.parametrize("layer", ["conv1", "conv2", "conv4"])
@pytest.mark.parametrize("parameter", WEIGHTS)
@pytest.mark.parametrize("rule", ["clapp", "clapp_s"])
def test_events_add_up_to_the_dw_of_training(rule, layer, parameter):
    index = (2, 0, 0, 2) if (layer, parameter) == ("conv1", "weight") else WEIGHTS[parameter]
    found = check(fresh(rule=rule, seed=1), layer, parameter, index)
    assert found.scale > 0


@pytest.mark.parametrize("parameter", OWN)
def test_events_add_up_in_the_prediction_matrices(parameter):
    index = OWN[parameter]
    state = fresh(crop=40, prediction_steps=2)
    found = check(state, "conv2", parameter, index, (index[0] - 1, *index[1:]))
    assert set(found.columns["k"]) == {index[0]} and found.scale > 0


@pytest.mark.parametrize("rule", ["clapp", "clapp_s", "cpc", "gim", "hinge_cpc"])
@pytest.mark.parametrize("layer", ["conv1", "conv3", "conv4"])
def test_float32_agrees_to_its_own_rounding(rule, layer):
    index = (2, 0 if layer == "conv1" else 1, 0, 2)
    state = fresh(rule=rule, dtype="float32", modules="1+3", negatives=1)
    assert check(state, layer, "weight", index).scale > 0
    assert check(state, layer, "bias", (3,)).scale > 0


@pytest.mark.parametrize("rule", ["cpc", "gim", "hinge_cpc"])
def test_layers_below_the_top_of_a_module_learn_from_an_error(rule):
    state = fresh(rule=rule, modules="3+1", negatives=2)
    found = check(state, "conv2", "weight", (2, 1, 0, 2))
    assert set(found.columns["role"]) == {"error"}
    assert set(check(state, "conv3", "weight", (2, 1, 0, 2)).columns["role"]) == {
        "target",
        "context",
    }


def test_an_event_is_its_factors_by_hand():
    """The product of one row, from the weights themselves."""
    state = fresh(layers=2)
    step = inspection.look(state, 2)
    row = {n: v[0] for n, v in inspection.inspect(step, "weight", (2, 1, 0, 2)).largest(1).items()}
    z, own, lay = step.losses[0].z, state.weights["conv2"], step.layout
    image = list(step.batch.index)
    patch = (row["row"] * lay.samples + image.index(row["image"])) * lay.lanes + row["column"]
    other = row["other_row"] * lay.samples + image.index(row["other_image"])
    other = other * lay.lanes + row["other_column"]
    matrix = own["W_pred"][0] if row["role"] == "target" else own["W_retro"][0]
    assert row["dendrite"] == pytest.approx(matrix[2] @ z[other])
    u = z[patch] @ matrix @ z[other]
    assert row["score"] == pytest.approx(u) and row["gate"] == row["sign"] * (row["sign"] * u < 1)
    padded = np.pad(step.seen.x[patch], [(1, 1), (1, 1), (0, 0)])
    assert row["pre"] == padded[row["y"], row["x"] + 2, 1]
    a = convolution.convolve(
        step.seen.x[patch : patch + 1], own["weight"], own["bias"], step.layer.geometry
    )[0, ..., 2]
    top, left = row["y"] // 2 * 2, row["x"] // 2 * 2
    assert a[row["y"], row["x"]] == a[top : top + 2, left : left + 2].max() > 0
    factors = row["gate"] * row["dendrite"] * row["pre"]
    assert row["share"] == pytest.approx(factors * row["weight"] / 64)


def breaks(monkeypatch, factor, rule):
    """Break one factor on purpose, where training takes it from."""
    if factor == "gate":
        right = rule.gamma
        monkeypatch.setattr(rule, "gamma", lambda self, u, e: 3 * right(self, u, e))
    elif factor == "dendritic signal":
        right = rule._dendrite
        monkeypatch.setattr(rule, "_dendrite", lambda self, signal: right(self, signal) ** 2)
    elif factor == "post":
        right = convolution.post_factor
        monkeypatch.setattr(convolution, "post_factor", lambda *args: right(*args) * 5)
        monkeypatch.setattr(kernels, "post_factor", convolution.post_factor)
    elif factor == "inhibition":
        right = kernels.forward

        def first_wins(*args, **how):
            y, winner, z = right(*args, **how)
            return y, np.where(winner == kernels.SILENT, winner, 0).astype(np.uint8), z

        monkeypatch.setattr(kernels, "forward", first_wins)
    else:
        right = kernels.extract_patches
        monkeypatch.setattr(kernels, "extract_patches", lambda *a, **how: 2 * right(*a, **how))


# The compiled kernels of float32 have post inside: there it is broken by who wins.
@pytest.mark.parametrize(
    ("rule", "dtype", "factor"),
    [
        *(
            ("clapp", dtype, factor)
            for dtype in ("float64", "float32")
            for factor in ("gate", "dendritic signal", "inhibition", "pre")
        ),
        ("clapp", "float64", "post"),
        ("clapp_s", "float64", "gate"),
        ("cpc", "float64", "gate"),
        ("hinge_cpc", "float64", "post"),
    ],
)
def test_a_factor_broken_on_purpose_changes_update_and_inspection_alike(
    monkeypatch, rule, dtype, factor
):
    state = fresh(rule=rule, dtype=dtype, seed=1)
    index = (2, 1, 0, 2)
    before = check(state, "conv4", "weight", index)
    breaks(monkeypatch, factor, type(state.rule))
    after = check(state, "conv4", "weight", index)
    assert after.applied != pytest.approx(before.applied, rel=1e-3)
    if rule == "hinge_cpc":  # and below the top of its module
        check(state, "conv2", "weight", index)


def test_post_is_won_and_active_at_every_position():
    found = inspection.inspect(inspection.look(fresh(seed=1), 4), "weight", (2, 1, 0, 2))
    table = found.table(all_events=True)
    np.testing.assert_array_equal(table["post"], table["won"] & table["active"])
    assert (table["active"] & ~table["won"]).any()  # inhibited by another of its pool
    assert sum(found.inhibition().values()) == pytest.approx(1)


def test_the_map_is_the_kernel_that_the_synapse_belongs_to():
    step = inspection.look(fresh(seed=1), 2)
    around, place = inspection.inspect(step, "weight", (2, 1, 0, 2)).map()
    np.testing.assert_array_equal(around, step.seen.changes["weight"][2, 1])
    assert place == (0, 2)
    assert inspection.inspect(step, "bias", (3,)).map()[0].shape == (1, 1)


def test_a_sum_that_differs_is_told(monkeypatch):
    state = fresh(seed=1)
    step = inspection.look(state, 4)
    step.seen.changes["weight"][2, 1, 0, 2] *= 1 + 1e-6
    found = inspection.inspect(step, "weight", (2, 1, 0, 2))
    assert not found.agrees and "DIFFERS" in found._repr_html_()


def test_closed_gates_are_in_the_table_only_when_asked_for():
    found = inspection.inspect(inspection.look(fresh(gain=3.0), 2), "bias", (3,))
    some, every = found.table(), found.table(all_events=True)
    assert (some["share"] != 0).all() and len(every["share"]) == len(found.post_row) * 256
    assert (every["gate"] == 0).any() and every["share"].sum() == pytest.approx(found.total)


def test_the_largest_rows_are_those_of_all_parts_of_the_table(monkeypatch):
    found = inspection.inspect(inspection.look(fresh(gain=3.0), 2), "bias", (3,))
    sizes = np.sort(np.abs(found.table()["share"]))[::-1]
    monkeypatch.setattr("plasticity.inspection.synapse.ROWS", 3 * found.post.shape[1])
    assert len(list(found.rows())) > 3
    np.testing.assert_array_equal(np.abs(found.largest(12)["share"]), sizes[:12])


def test_events_are_counted_by_role_step_and_sign():
    look = inspection.look(fresh(gain=2.0, crop=40, prediction_steps=2), 2)
    found = inspection.inspect(look, "weight", (2, 1, 0, 2))
    wanted = Counter(zip(*(found.columns[n].tolist() for n in ("role", "k", "sign")), strict=True))
    rows = found.by_role()
    assert {(r["role"], r["k"], r["sign"]): r["events"] for r in rows} == wanted
    assert len({r["sign"] for r in rows}) == len({r["k"] for r in rows}) == 2
    assert sum(r["share"] for r in rows) == pytest.approx(found.total, abs=1e-12 * found.scale)


def test_what_is_not_there_is_named():
    state = fresh()
    step = inspection.look(state, 2)
    with pytest.raises(UserError, match=r"no entry 99,0,0,0: expected 4 numbers from"):
        inspection.inspect(step, "weight", (99, 0, 0, 0))
    with pytest.raises(UserError, match=r"no entry 0,1,1: expected 3 numbers from \(1, 0, 0\)"):
        inspection.inspect(step, "W_pred", (0, 1, 1))
    with pytest.raises(UserError, match="--layer 9"):
        inspection.look(state, 9)
    with pytest.raises(UserError, match="--step 3 cannot be recomputed"):
        inspection.look(state, 2, step=3)
    frozen = inspection.look(fresh(learn_prediction=False), 2)
    with pytest.raises(UserError, match="W_pred of conv2 is frozen"):
        inspection.inspect(frozen, "W_pred", (1, 1, 1))


OWN_RULE = """
from dataclasses import dataclass
from typing import ClassVar
import numpy as np
from plasticity import events, kernels
from plasticity.rule import Draw, Parameter, Role, Rule

@dataclass(frozen=True)
class Mine(Rule):
    steps: int = 2

    name: ClassVar[str] = "mine"
    equation: ClassVar[str] = "dW_ji = gamma (A c)_j rho'(a_j) x_i, dA_jk = gamma z_j c_k"
    parameters: ClassVar = {"A": Parameter("(prediction step, neuron j, neuron k)", "target")}

    def prepare(self, neurons, rng):
        return {"A": rng.standard_normal((2, neurons, neurons)) / neurons**0.5}

    def draw(self, layout, rng):
        return Draw(events.draw(layout, rng, steps=2, coin=False))

    def roles(self, z, own, draw, layout):
        for e, A in zip(draw.pred, own["A"], strict=True):
            p, source = z[e.contexts(layout)] @ A.T, e.context - e.first
            u = kernels.scores(z, p, e.target, source)
            yield Role("target", e, u, e.label * (e.label * u < 1) * e.weight, p, source)

    def learn(self, z, own, draw, layout):
        found = super().learn(z, own, draw, layout)
        found.changes["A"] = np.stack([
            (r.gamma[:, None] * z[r.events.target]).T @ z[r.events.context] for r in found.roles
        ])
        return found
"""


def seen_options(recorded):
    """The options of a run that was recorded, to begin it anew."""
    return RunOptions.from_dict(recorded.options)


@pytest.mark.parametrize("net, layer", [("vgg6", "conv2"), ("audio", "conv5")])
def test_a_matrix_of_a_rules_own_is_taken_apart_and_described_as_W_pred_is(net, layer, tmp_path):
    import h5py
    from click.testing import CliRunner
    from plasticity.cli import main

    (tmp_path / "mine.py").write_text(OWN_RULE)
    how = ["--rule", str(tmp_path / "mine.py"), "--net", net, "--width", "0.03"]
    done = CliRunner().invoke(main, ["inspect", *how, "--layer", layer, "--entry", "A,2,0,1"])
    assert done.exit_code == 0 and "within rounding" in done.output, done.output
    done = CliRunner().invoke(main, ["inspect", *how, "--layer", layer, "--entry", "A,3,0,1"])
    assert done.exit_code == 2 and "A of " in done.output
    done = CliRunner().invoke(main, ["run", *how, "--steps", "2", "--batch", "4", "--no-probe",
        "--layers", "1", "--optimiser", "plain", "--lr", "0.5", "--dtype", "float64", "--record",
        "layer=1,A=2:0:1,A=1:1:0,weights", "--record-every", "1",
        "--out", str(tmp_path / "run")])  # fmt: skip
    assert done.exit_code == 0, done.output
    recorded = inspection.read(tmp_path / "run")
    dW, value, share = (recorded[f"conv1/A/{name}"] for name in ("dW", "weight", "share"))
    np.testing.assert_allclose(value[1], value[0] + 0.5 * dW[0], rtol=1e-12)
    np.testing.assert_allclose(share.sum(axis=2), dW, atol=1e-6 * np.abs(share).max())
    assert (dW != 0).any()
    parts = inspection.inspect(inspection.look(inspection.fresh(seen_options(recorded), 1.0), 1),
        "A", (2, 0, 1))  # fmt: skip
    assert parts.applied == pytest.approx(dW[0, 0], rel=1e-9)
    with h5py.File(tmp_path / "run" / "checkpoint.h5") as file:
        assert "(prediction step, neuron j, neuron k)" in file["weights/conv1/A"].attrs["axes"]
