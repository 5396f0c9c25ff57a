"""A step of the published video code in its mode CLAPP: losses, scores, statistics and every dW."""

import json
from pathlib import Path

import numpy as np
import pytest
from plasticity.rules.clapp_s import ClappS
from plasticity.rules.gim import Gim

from plasticity import learning
from plasticity.events import Layout
from plasticity.learning import Reading
from plasticity.network import Network, Norm, NormConv, Pool

FIXTURE = Path(__file__).parent / "fixtures" / "video_25_clapp_std.npz"
POOL = Pool((1, 3, 3), (1, 2, 2))
BLOCKS = (
    ((1, 7, 7), (1, 2, 2), 0, POOL),
    ((1, 5, 5), (1, 2, 2), (0, 1, 1), POOL),
    ((1, 3, 3), 1, (0, 1, 1), 1),
    ((1, 3, 3), 1, (0, 1, 1), 1),
    ((1, 3, 3), 1, (0, 1, 1), POOL),
)
RULE = ClappS(steps=3, symmetric=True, reads="map", negatives_from="others")
FILM = Reading(time="map")
NAMES = {"gain": "bn0/gain", "shift": "bn0/bias", "weight": "conv0/weight", "bias": "conv0/bias"}


@pytest.fixture(scope="module")
def golden():
    with np.load(FIXTURE) as file:
        return {name: file[name] for name in file.files}


def network(golden, statistics="batch"):
    layers, inputs = [], 3
    for i, (kernel, stride, padding, pool) in enumerate(BLOCKS):
        outputs = len(golden[f"module{i}/conv0/bias"])
        norm = Norm(statistics=statistics)
        layers.append(
            NormConv(f"conv{i + 1}", inputs, outputs, kernel, stride, padding, pool, norm=norm)
        )
        inputs = outputs
    return Network("film", tuple(layers))


def weights(golden, after=False):
    found = {}
    for i in range(5):
        own = {n: golden[f"module{i}/{path}"] for n, path in NAMES.items()}
        own["W_pred"] = golden[f"module{i}/W_pred"]
        C = len(own["bias"])
        stored = [golden[f"module{i}/bn0/running_{n}_after"] for n in ("mean", "var")]
        mean, var = stored if after else (np.zeros(C), np.ones(C))
        found[f"conv{i + 1}"] = own | {"running_mean": mean, "running_var": var}
    return found


def inputs(golden):
    meta = json.loads(str(golden["meta_json"]))
    clip = np.moveaxis(golden["clip"], 1, -1) / 255
    return (clip - meta["mean"]) / meta["std"]


def step_of(golden, net, own):
    modules, layout = net.modules("layers"), Layout(8, 2, 1, skip=0)
    draws = learning.draws(RULE, layout, modules, 0, 0)
    seen = []
    how = net, RULE, modules, own, inputs(golden), layout, draws, seen.append
    return list(learning.updates(*how, reading=FILM)), seen


@pytest.fixture(scope="module")
def step(golden):
    """What the rule makes of the step: updates by module, and what was watched."""
    return step_of(golden, network(golden), weights(golden))


def close(found, wanted, name=""):
    scale = np.abs(wanted).max()
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-9 * scale, err_msg=name)


def maps(scored):
    """Encodings `(T B, y, x, C)` as the file has them, `(B, C, T, y, x)`."""
    z = scored.z.reshape(8, 2, *scored.z.shape[1:])
    return np.moveaxis(z.swapaxes(0, 1), -1, 1)


def test_every_encoding_is_the_published_one(golden, step):
    for i, watched in enumerate(step[1]):
        close(maps(watched.predicted[0]), golden[f"module{i}/encoding"])


def test_every_loss_is_the_published_one(golden, step):
    for i, update in enumerate(step[0]):
        close(update.loss, golden[f"module{i}/loss"])


def test_every_score_is_the_published_one(golden, step):
    """Contexts and targets count samples first there, frames first here."""
    order = np.arange(10).reshape(5, 2).T.reshape(-1)
    for i, watched in enumerate(step[1]):
        targets = [role for role in watched.roles if role.name == "target"]
        assert [role.events.k for role in targets] == [1, 2, 3]
        for k, role in enumerate(targets):
            u = role.score.reshape(10, 10)[np.ix_(order, order)]
            close(u, golden[f"module{i}/scores"][k])


def test_batch_and_running_statistics_are_the_published_ones(golden, step):
    for i, (update, watched) in enumerate(zip(*step, strict=True)):
        (seen,), at = watched.layers, f"module{i}/bn0/"
        close(seen.mean, golden[at + "batch_mean"])
        close(seen.var, golden[at + "batch_var"])
        state = update.state[f"conv{i + 1}"]
        close(state["running_mean"], golden[at + "running_mean_after"])
        close(state["running_var"], golden[at + "running_var_after"])


def test_every_update_is_minus_the_published_gradient(golden, step):
    for i, update in enumerate(step[0]):
        ((name, changes),) = update.changes.items()
        assert changes.keys() == {*NAMES, "W_pred"}
        for parameter, dW in changes.items():
            path = NAMES.get(parameter, parameter)
            close(dW, -golden[f"grad/loss{i}/module{i}/{path}"], f"{name} {parameter}")


def test_shares_of_events_through_the_norm_add_up_to_every_update(golden, step):
    """The published gradient again, event by event: gate, dendritic signal, post, pre'."""
    rng = np.random.default_rng(0)
    for watched in step[1]:
        ((seen,), roles), read = (watched.layers, watched.roles), watched.reading
        for name in ("weight", "gain", "bias"):
            dW = seen.changes[name]
            at = tuple(int(i) for i in np.unravel_index(rng.integers(dW.size), dW.shape))
            pre, total = seen.pre(name, at), 0.0
            for role in roles:
                drive = np.zeros_like(watched.predicted[0].z[..., :1])
                signal = role.signals[..., at[:1]]
                np.add.at(
                    drive,
                    role.learner,
                    role.gamma.reshape(-1, 1, 1, 1) * signal[role.source],
                )
                error = read.spread(drive, seen.winner.shape[1:-1])
                total += (seen.through(at[0], error) * pre).sum()
            assert total == pytest.approx(dW[at], rel=1e-8)


def test_with_the_running_statistics_the_same_clips_give_the_published_evaluation(golden):
    net, own = network(golden), weights(golden, after=True)
    for i, (y, _) in enumerate(net.maps(inputs(golden), own)):
        close(np.moveaxis(y, -1, 1), golden[f"eval/module{i}/encoding"])
    held = network(golden, "running")
    updates, _ = step_of(golden, held, own)
    for i, update in enumerate(updates):
        close(update.loss, golden[f"eval/module{i}/loss"])


def test_the_hinge_over_all_pairs_has_the_factor_a_half_and_n_minus_1_negatives():
    layout = Layout(8, 2, 1, skip=0)
    n = 2 * (8 - 3)
    for rule, factor in ((RULE, 0.5), (Gim(steps=3, negatives_from="others"), 1.0)):
        for k, pairs in enumerate(rule.draw(layout, np.random.default_rng(0)).pred, 1):
            weight = np.full((n, n), factor / (n * (n - 1)) / 3)
            np.fill_diagonal(weight, factor / n / 3)
            np.testing.assert_allclose(pairs.weight, weight, rtol=1e-15)
            np.testing.assert_array_equal(pairs.label, 2 * np.eye(n) - 1)
            assert (pairs.contexts(layout), pairs.targets(layout)) == (
                slice(0, n),
                slice(2 * k, 2 * k + n),
            )
