"""Layers with rules, rates and rests of their own: `[layer.NAME]` of a configuration."""

import json
import re

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from plasticity.cli import main

from plasticity import learning, runs, verification
from plasticity.errors import UserError
from plasticity.inspection import step as steps
from plasticity.reports import page, plots
from plasticity.runs import lifecycle, run, training
from plasticity.runs.options import RunOptions
from tests.learning.test_ranks import SMALL as ONE_PROCESS
from tests.learning.test_ranks import ended as ended_rank
from tests.learning.test_ranks import largest_difference, mpi, one_process
from tests.learning.test_ranks import start as start_ranks

SMALL = {"width": 0.03, "batch": 4, "crop": 40, "prediction_steps": 2, "device": "cpu"}
MIXED = """
width = 0.03
batch = 4
crop = 40
prediction_steps = 2
probe = false

[layer.conv1]
rule = "oja"
lr = 1e-3
[layer.conv2]
frozen = true
[layer.conv3]
rule = "bcm"
[layer.conv5]
rule = "hinge_cpc"
prediction-steps = 1
[layer.conv6]
lr = 0.01
optimiser = "plain"
"""

MINE = """
from dataclasses import dataclass
from typing import ClassVar
import numpy as np
from plasticity.rule import Role, Rule


@dataclass(frozen=True)
class Counted(Rule):
    size: float = 1.0
    name: ClassVar[str] = "counted"
    equation: ClassVar[str] = "dW_ji = size y_j x_i"

    def prepare_synapses(self, W, rng):
        return {"seen": np.zeros_like(W)}

    def roles(self, z, own, draw, layout):
        yield Role.of_patches("post", z, z.sum(axis=1) * 0 + self.size)

    def synapses(self, s):
        from plasticity.rule import Change
        return Change(state={"seen": s.state["seen"] + 1})
"""


def call(*args):
    return CliRunner().invoke(main, [*map(str, args)], env={"COLUMNS": "200"})


def train(folder, config, *more):
    (folder.parent / f"{folder.name}.toml").write_text(config)
    path = folder.parent / f"{folder.name}.toml"
    done = call("run", "--config", path, "--out", folder, *more)
    assert done.exit_code == 0, done.output
    return done.output


def stored(folder):
    return runs.load(runs.checkpoint_path(folder))


def weights(folder):
    return {(la, n): w for la, own in stored(folder).params.items() for n, w in own.items()}


def same(a, b, but=()):
    a, b = weights(a), weights(b)
    assert a.keys() == b.keys()
    return all(np.array_equal(a[key], b[key]) for key in a if key[0] not in but)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixed") / "run"
    said = train(folder, MIXED, "--steps", 4)
    return folder, said


def begun(**layer):
    return run.begin(RunOptions(**SMALL, layer=layer))


def refused(**layer):
    with pytest.raises(UserError) as caught:
        lifecycle.plan(RunOptions(**SMALL, layer=layer))
    return str(caught.value)


def step(state, count=1):
    for i in range(state.step, state.step + count):
        training.learn_batch(state, state.batch(i))
    return state.weights


def test_a_layer_learns_as_in_a_run_whose_layers_all_have_its_rule():
    """Where nothing below it differs: conv1 by Oja's rule, beside a run by Oja's rule."""
    mixed = step(begun(conv1={"rule": "oja", "lr": 1e-3}), 3)
    alone = {n: value for n, value in SMALL.items() if n != "prediction_steps"}
    alone = step(run.begin(RunOptions(**alone, rule="oja", lr=1e-3, layers=1)), 3)
    for name in ("weight", "bias"):
        np.testing.assert_array_equal(mixed["conv1"][name], alone["conv1"][name])
    assert "W_pred" not in mixed["conv1"] and "W_pred" in mixed["conv2"]


def test_sections_that_say_what_the_run_says_change_no_bit():
    plain = run.begin(RunOptions(**SMALL))
    pace = plain.optimiser.paces["conv1"].rate
    said = begun(conv1={"rule": "clapp", "prediction_steps": 2}, conv4={"lr": pace})
    a, b = step(plain, 2), step(said, 2)
    assert all(np.array_equal(a[la][n], b[la][n]) for la in a for n in a[la])


def test_a_frozen_layer_keeps_every_bit_and_is_read_by_those_above():
    state = begun(conv2={"frozen": True})
    before = {n: w.copy() for n, w in state.weights["conv2"].items()}
    above = state.weights["conv3"]["weight"].copy()
    step(state, 3)
    assert set(before) == {"weight", "bias"}, "it has no W_pred either"
    assert all(np.array_equal(w, state.weights["conv2"][n]) for n, w in before.items())
    assert not np.array_equal(above, state.weights["conv3"]["weight"])
    assert "conv2" not in state.optimiser.moments and state.names[:2] == ["conv1", "conv3"]


def test_layers_below_a_frozen_one_learn_as_if_it_were_not():
    held, free = step(begun(conv3={"frozen": True}), 2), step(run.begin(RunOptions(**SMALL)), 2)
    for layer in ("conv1", "conv2"):
        assert all(np.array_equal(w, free[layer][n]) for n, w in held[layer].items())


def test_a_frozen_norm_is_a_constant():
    """It normalises by its running statistics, which no batch moves."""
    options = RunOptions(net="vgg5_video", width=0.05, batch=2, clip_frames=5, side=40, layers=3,
                         prediction_steps=2, device="cpu",
                         layer={"conv2": {"frozen": True}})  # fmt: skip
    state = run.begin(options)
    before = {n: w.copy() for n, w in state.weights["conv2"].items()}
    step(state, 2)
    assert all(np.array_equal(w, state.weights["conv2"][n]) for n, w in before.items())
    found = verification.verify([state], batch=2)
    rows = [*found.comparisons, *found.dependences]
    assert {row.verdict for row in rows} == {"ok"}
    assert {row.layer for row in rows} == {"conv1", "conv3"}


def test_rates_are_the_layers_own():
    state = begun(conv1={"lr": 0.5, "optimiser": "plain"}, conv2={"lr": 0.25, "optimiser": "plain"})
    before = {la: state.weights[la]["weight"].copy() for la in ("conv1", "conv2")}
    seen = {}

    def watch(watched):
        for one in watched.layers:
            seen[one.layer.name] = one.changes["weight"].copy()

    training.learn_batch(state, state.batch(0), watch)
    for layer, rate in (("conv1", 0.5), ("conv2", 0.25)):
        wanted = before[layer] + np.float32(rate) * seen[layer]
        np.testing.assert_array_equal(state.weights[layer]["weight"], wanted)


def test_a_section_that_names_a_rule_starts_from_that_rules_usual_options():
    options = RunOptions(**SMALL, lr=0.5, negatives=2, layer={"conv1": {"rule": "oja"},
                         "conv2": {"rule": "clapp"}, "conv3": {"negatives": 3}})  # fmt: skip
    state = run.begin(options)
    rates = [state.optimiser.paces[f"conv{i}"].rate for i in (1, 2, 3, 4)]
    assert rates == [2e-4, 2e-4, 0.5, 0.5]
    assert [(rule.steps, rule.negatives) for rule in state.rules[1:4]] == [(5, 1), (2, 3), (2, 2)]


def test_a_mixture_resumes_bit_for_bit(mixed, tmp_path):
    folder, said = mixed
    assert "clapp (conv1 oja, conv2 frozen, conv3 bcm, conv5 hinge_cpc)" in said
    train(tmp_path / "parts", MIXED, "--steps", 2)
    done = call("run", "--resume", tmp_path / "parts", "--steps", 4)
    assert done.exit_code == 0, done.output
    assert same(folder, tmp_path / "parts")
    a, b = stored(folder), stored(tmp_path / "parts")
    for name in ("loss", "open_gates"):
        np.testing.assert_array_equal(a.metrics[name], b.metrics[name])
    for layer, own in a.moments.items():
        assert all(np.array_equal(m[k], b.moments[layer][n][k]) for n, m in own.items() for k in m)
    assert set(a.moments) == {"conv1", "conv3", "conv4", "conv5"}, "conv2 rests, conv6 is plain"


def test_what_a_run_stores_makes_the_same_run(mixed, tmp_path):
    folder, _ = mixed
    done = call("run", "--config", folder / "config.toml", "--out", tmp_path / "again")
    assert done.exit_code == 0, done.output
    assert same(folder, tmp_path / "again")
    assert stored(folder).options["layer"] == stored(tmp_path / "again").options["layer"]


def test_a_loss_that_a_rule_does_not_have_is_left_out_of_tables(mixed):
    folder, said = mixed
    loss = stored(folder).metrics["loss"]
    assert np.isnan(loss[:, [0, 1]]).all() and np.isfinite(loss[:, 2:]).all()
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["loss_last"][:2] == [None, None] and "NaN" not in json.dumps(summary)
    assert summary["layers"] == ["conv1", "conv3", "conv4", "conv5", "conv6"]
    assert "–" in said and "nan" not in said


def test_every_layer_is_verified_under_its_rule(mixed):
    state = lifecycle.reopen(mixed[0], device="cpu")
    state = run.begin(state.options.changed(dtype="float64"))
    found = verification.verify([state], batch=3, gain=2.0)
    assert found.holds, [row for row in found.rows if row.verdict != "ok"]
    by = {row.layer: row.method for row in found.comparisons}
    assert by == {"conv1": "definition", "conv3": "definition", "conv4": "torch",
                  "conv5": "torch", "conv6": "torch"}  # fmt: skip
    assert {row.layer for row in found.sums} == set(by) == {row.layer for row in found.dependences}
    locality = {row.layer: row.locality for row in found.dependences}
    assert locality["conv5"] == "module" and locality["conv6"] == "layer"


def test_a_wrong_factor_of_one_layers_rule_is_caught(mixed, monkeypatch):
    from plasticity.rules.oja import Oja

    state = run.begin(lifecycle.reopen(mixed[0], device="cpu").options.changed(dtype="float64"))
    right = Oja.decay
    monkeypatch.setattr(Oja, "decay", lambda self, z, own: 1.5 * right(self, z, own))
    found = verification.verify([state], batch=3, gain=2.0)
    assert {row.layer for row in found.rows if row.verdict == "differs"} == {"conv1"}


def test_a_rule_of_which_nothing_is_known_is_missed(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    state = run.begin(RunOptions(**SMALL, dtype="float64",
                                 layer={"conv1": {"rule": str(tmp_path / "mine.py")}}))  # fmt: skip
    found = verification.verify([state], batch=3, gain=2.0)
    assert found.missed == ("counted",) and not found.holds and found.comparisons


def test_a_rule_of_ones_own_goes_with_the_run_and_keeps_its_state(tmp_path):
    (tmp_path / "mine.py").write_text(text := f"{MINE}# nobody has agreed to this\n")
    config = MIXED + '[layer.conv4]\nrule = "./mine.py"\nsize = 0.5\nlr = 1e-4\n'
    config = config.replace("./mine.py", str(tmp_path / "mine.py"))
    (tmp_path / "c.toml").write_text(config)
    done = call("run", "--config", tmp_path / "c.toml", "--out", tmp_path / "no")
    assert done.exit_code == 2 and "--trust" in done.output and not (tmp_path / "no").exists()
    train(tmp_path / "run", config, "--steps", 2, "--trust")
    (copy,) = (tmp_path / "run").glob("rule-*.py")
    assert copy.read_text() == text
    (tmp_path / "mine.py").unlink()
    done = call("run", "--resume", tmp_path / "run", "--steps", 3)
    assert done.exit_code == 0, done.output
    params = stored(tmp_path / "run").params["conv4"]
    assert (params["weight.seen"] == 3).all() and (params["bias.seen"] == 3).all()
    assert not any("." in name for name in stored(tmp_path / "run").params["conv1"])
    assert lifecycle.reopen(tmp_path / "run", device="cpu").rules[3].size == 0.5


def test_inspection_knows_the_rule_of_each_layer(mixed):
    state = steps.open_run(mixed[0], device="cpu")
    for layer, rule in (("conv1", "oja"), ("conv3", "bcm"), ("conv6", "clapp")):
        done = call("inspect", mixed[0], "--layer", layer, "--synapse", "0,0,0,0")
        assert done.exit_code == 0 and f", {rule}, step 5" in done.output, done.output
        assert "within rounding" in done.output
        one = steps.look(state, layer)
        assert one.rule.name == rule
    before, after = one.weights["weight"], steps.moved(one, "weight")[0]
    np.testing.assert_array_equal(after, before + np.float32(0.01) * one.seen.changes["weight"])
    done = call("inspect", mixed[0], "--layer", "conv2", "--synapse", "0,0,0,0")
    assert done.exit_code == 2 and "conv2 is frozen" in done.output


def test_a_recording_and_a_resumption_take_every_layers_rule(tmp_path):
    train(tmp_path / "run", MIXED, "--steps", 3, "--record", "layer=*,random=3,weights",
          "--record-every", 1)  # fmt: skip
    with h5py.File(tmp_path / "run" / "record.h5", "r") as file:
        assert list(file["step"]) == [1, 2, 3]
        assert "conv2" not in file and "conv1" in file and "conv3" in file
    done = call("run", "--config", tmp_path / "run.toml", "--out", tmp_path / "no", "--record",
                "layer=conv2,random=2")  # fmt: skip
    assert done.exit_code == 2 and "conv2 is frozen in this run" in done.output


def test_figures_and_the_page_tell_the_rule_of_each_layer(mixed):
    done = call("plot", mixed[0], "losses", "hinge")
    assert done.exit_code == 0, done.output
    look = plots.open_look(mixed[0], device="cpu")
    assert look.title.startswith("clapp (conv1 oja, conv2 frozen, conv3 bcm, conv5 hinge_cpc)")
    told = {row["of"]: row["value"] for row in page._learning(look)}
    assert told["conv1: rule"] == "oja" and told["conv2: frozen"]
    assert told["conv6: optimiser"] == "Plain" and told["conv6: learning rate"] == "0.01"
    assert [row["first loss"] for row in page._training(look)][:2] == ["–", "–"]
    events = {one.layer: one.hinged for one in look.all_events}
    assert events["conv4"] and not events["conv1"] and "conv2" not in events


def test_a_loss_that_crosses_teaches_the_ends_that_learn_by_its_rule():
    """The GRU predicts the layer below it, which learns by another rule, or not at all."""
    sound = {"net": "audio", "width": 0.03, "batch": 2, "samples": 5120, "prediction_steps": 2,
             "device": "cpu", "dtype": "float64"}  # fmt: skip
    for layer, section in (("gru", {"rule": "clapp_s"}), ("conv5", {"frozen": True})):
        state = run.begin(RunOptions(**sound, layer={layer: section}))
        crossing = state.losses[-1]
        assert crossing.crosses and crossing.blocked, "the target is read alone"
        found = verification.verify([state], batch=2, gain=2.0)
        assert found.holds, [row for row in found.rows if row.verdict != "ok"]
    above = RunOptions(**{**SMALL, "dtype": "float64"}, rule="clapp_s", weights="symmetric",
                       context="above", layer={"conv3": {"rule": "oja"}})  # fmt: skip
    above = run.begin(above)
    blocked = [loss.blocked_context for loss in above.losses]
    assert blocked == [False, True, False, False, False, False]
    found = verification.verify([above], batch=3, gain=2.0)
    assert found.holds, [row for row in found.rows if row.verdict != "ok"]


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        ({"conv7": {"lr": 1}}, "vgg6 has here the layers conv1, conv2.*did you mean 'conv"),
        ({"conv1": {"rule": "ojo"}}, r"\[layer.conv1\]: unknown rule 'ojo': did you mean 'oja'"),
        ({"conv1": {"rul": "oja"}}, r"\[layer.conv1\]: unknown key 'rul'; did you mean 'rule'"),
        ({"conv1": {"batch": 3}}, r"\[layer.conv1\]: batch is of the whole run"),
        ({"conv1": {"rule": "oja", "negatives": 3}}, "--negatives has no meaning for the rule oja"),
        ({"conv1": {"lr": "fast"}}, r"\[layer.conv1\]: the option lr should be a finite number"),
        ({"conv1": {"lr": -1.0}}, r"\[layer.conv1\]: --lr must not be negative"),
        ({"conv1": {"frozen": "yes"}}, "frozen should be true or false, it is 'yes'"),
        ({"conv1": {"plastic": "often"}}, "plastic should be training or always, it is 'often'"),
        ({"conv1": {"frozen": True, "rule": "oja"}}, "a frozen layer .* here is rule: take"),
        ({"conv6": {"frozen": True}}, "conv6, the last layer, is frozen, and nothing above it"),
        ({f"conv{i}": {"frozen": True} for i in range(1, 7)}, "every layer is frozen"),
        ({"conv1": {"rule": "supervised"}}, r"\[layer.conv1\]: supervised learns by one error"),
        ({"conv1": 3}, r"layer.conv1 is 3: expected a section \[layer.conv1\]"),
    ],
)
def test_a_section_that_means_nothing_is_refused(layer, said):
    assert re.search(said, refused(**layer)), refused(**layer)


def test_layers_that_share_a_loss_share_its_rule():
    how = {**SMALL, "rule": "gim", "modules": "3+3"}
    with pytest.raises(UserError, match="conv1, conv2 and conv3 are one module, which learns by"):
        run.begin(RunOptions(**how, layer={"conv2": {"frozen": True}}))
    with pytest.raises(UserError, match="split the network by --modules"):
        run.begin(RunOptions(**{**how, "modules": ""}, layer={"conv1": {"rule": "oja"}}))
    both = {f"conv{i}": {"rule": "hinge_cpc"} for i in (4, 5, 6)}
    state = run.begin(RunOptions(**how, layer={**both, "conv1": {"lr": 1e-2}}))
    assert [rule.name for rule in state.rules] == ["gim", "hinge_cpc"]
    assert state.optimiser.paces["conv1"].rate == 1e-2 != state.optimiser.paces["conv2"].rate
    with pytest.raises(UserError, match="are one module"):  # the whole network, by one error
        end_to_end = {"rule": "supervised", "width": 0.03, "batch": 4, "device": "cpu"}
        run.begin(RunOptions(**end_to_end, layer={"conv1": {"rule": "oja"}}))


def test_a_rule_that_is_not_for_a_layer_is_refused_by_the_layers_name():
    sound = {"net": "audio", "width": 0.03, "batch": 2, "samples": 5120, "device": "cpu"}
    with pytest.raises(UserError, match=r"\[layer.gru\]: oja .*another rule for it"):
        run.begin(RunOptions(**sound, layer={"gru": {"rule": "oja"}}))
    state = run.begin(RunOptions(**sound, layer={"conv2": {"rule": "oja"}}))
    assert state.rule_of("conv2").name == "oja"
    with pytest.raises(UserError, match="learn from the loss of gru alone, and it learns by oja"):
        run.begin(RunOptions(**sound, below_gru="gru", layer={"conv5": {"rule": "oja"}}))


def test_resuming_with_another_section_is_refused_and_with_the_same_not(mixed):
    path = mixed[0].parent / "run.toml"
    done = call("run", "--resume", mixed[0], "--config", path)
    assert done.exit_code == 0, done.output
    other = mixed[0].parent / "other.toml"
    other.write_text(path.read_text().replace("lr = 1e-3", "lr = 2e-3"))
    done = call("run", "--resume", mixed[0], "--config", other)
    assert done.exit_code == 2
    assert "[layer.conv1]: lr = 0.002 would make another run" in done.output
    assert "has 0.001" in done.output


def test_supervised_layers_among_others_learn_from_labels(tmp_path):
    options = RunOptions(**SMALL, layer={"conv6": {"rule": "greedy_supervised"}})
    state = lifecycle.plan(options)
    found = training.learn_batch(state, state.batch(0))
    assert found["accuracy"][:5] == [None] * 5 and 0 <= float(found["accuracy"][5]) <= 1
    assert "W_readout" in state.weights["conv6"] and "W_pred" in state.weights["conv5"]


@mpi
def test_two_ranks_learn_a_mixture_as_one_process_does(tmp_path):
    (tmp_path / "c.toml").write_text(
        '[layer.conv1]\nrule = "oja"\noptimiser = "plain"\n[layer.conv2]\nfrozen = true\n'
        '[layer.conv3]\nrule = "bcm"\n'
    )
    how = ("--config", tmp_path / "c.toml", "--steps", 4)
    process = start_ranks(tmp_path / "two", *how)
    one_process(*ONE_PROCESS, *how, "--out", tmp_path / "one")
    code, output = ended_rank(process)
    assert code == 0, output
    assert largest_difference(tmp_path / "two", tmp_path / "one") < 1e-12


def test_one_rule_for_all_layers_is_each_of_them():
    modules = [[0], [1]]
    assert learning.each("rule", modules) == ["rule", "rule"]
    assert learning.each(["a", None], modules) == ["a", None]
