"""Ranks share the contexts of a batch: each computes the events of its own, and all are one."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import accumulate
from types import SimpleNamespace

import numpy as np
import pytest

from plasticity import rules
from plasticity.events import Events, Layout
from plasticity.learning import shares
from plasticity.learning.ranks import Ranks
from plasticity.rule import Draw
from plasticity.runs import run, training
from plasticity.runs.options import RunOptions

IMAGES = {"width": 0.02, "layers": 3, "crop": 48, "prediction_steps": 2}
SOUND = {"net": "audio", "width": 0.02, "layers": 6, "samples": 5120, "prediction_steps": 3}
FILM = {"net": "vgg5_video", "width": 0.02, "layers": 2, "clip_frames": 7, "batch": 6}
# The bias of a normalised layer has no slope. Adam would make steps of its rounding, and its error
# is one of the sums that cancel in it.
FILM |= {"optimiser": "plain", "lr": 1e-4}
STEPS = 2

CASES = {
    "clapp": IMAGES | {"rule": "clapp"},
    "clapp, symmetric": IMAGES | {"rule": "clapp", "weights": "symmetric"},
    "clapp, a shared gate": IMAGES | {"rule": "clapp", "gate": "shared"},
    "clapp, the target role alone": IMAGES | {"rule": "clapp", "block_grad": True},
    "clapp, a layer above": IMAGES | {"rule": "clapp", "context": "above"},
    "clapp, several negatives": IMAGES | {"rule": "clapp", "negatives": 3},
    "clapp_s of the batch": IMAGES | {"rule": "clapp_s", "negatives_from": "batch"},
    "clapp_s of all": IMAGES | {"rule": "clapp_s", "negatives_from": "all"},
    "hinge_cpc": IMAGES | {"rule": "hinge_cpc"},
    "gim": IMAGES | {"rule": "gim", "modules": "2+1"},
    "cpc": IMAGES | {"rule": "cpc"},
    "sound, clapp_s": SOUND | {"rule": "clapp_s"},
    "sound, clapp": SOUND | {"rule": "clapp"},
    "sound, gim": SOUND | {"rule": "gim"},
    "film, clapp_s": FILM | {"rule": "clapp_s"},
    "film, clapp": FILM | {"rule": "clapp"},
    "film, gim": FILM | {"rule": "gim", "modules": "1+1"},
}


class Comm:
    """MPI between threads, as far as ranks use it in a step; it counts what is sent."""

    def __init__(self, size):
        self.size, self.barrier = size, threading.Barrier(size, timeout=60)
        self.laid, self.sent, self.own = [None] * size, dict.fromkeys(range(size), 0), {}

    @property
    def rank(self):
        return self.own[threading.get_ident()]

    def _lay(self, value):
        """What all ranks lay down, on each of them."""
        self.barrier.wait()
        self.laid[self.rank] = value
        self.barrier.wait()
        found = list(self.laid)
        self.barrier.wait()
        return found

    def allgather(self, value):
        return self._lay(value)

    def Allgather(self, part, parts):
        parts.reshape(self.size, -1)[...] = [a.reshape(-1) for a in self._lay(part.copy())]

    def Allreduce(self, part, total):
        total[...] = sum(self._lay(part.copy()))

    def Iallreduce(self, part, total):
        self.Allreduce(part, total)
        return SimpleNamespace(Wait=lambda: None)

    def Reduce_scatter_block(self, parts, own):
        own[...] = sum(self._lay(parts.copy()))[self.rank]

    def Alltoall(self, parts, got):
        got[...] = [a[self.rank] for a in self._lay(parts.copy())]

    def Alltoallv(self, sent, got):
        (values, to), (into, of) = sent, got
        if values.dtype.kind == "f":
            self.sent[self.rank] += values.nbytes
        everyone = self._lay((values.reshape(-1).copy(), [*accumulate(to, initial=0)]))
        parts = [v[ends[self.rank] : ends[self.rank + 1]] for v, ends in everyone]
        assert [len(part) for part in parts] == list(of)
        into.reshape(-1)[...] = np.concatenate(parts)


def learned(how, ranks=None):
    """The weights and the metrics after some steps, in one process or by one of several ranks."""
    options = RunOptions(**{"batch": 12, "dtype": "float64", "device": "cpu"} | how)
    state = run.begin(options, ranks)
    share = ranks.share(options.batch) if ranks else slice(None)
    told = []
    for batch in shares.asked((state.batch(step, share) for step in range(STEPS)), ranks):
        found = training.learn_batch(state, batch)
        told.append([[float(v) for v in found[n]] for n in ("loss", "open_gates")])
    return state.weights, np.array(told)


def among(size, work):
    """What `work` makes for each of so many ranks, and how they spoke."""
    comm = Comm(size)

    def one(rank):
        comm.own[threading.get_ident()] = rank
        try:
            return work(Ranks(comm))
        except BaseException:
            comm.barrier.abort()
            raise

    with ThreadPoolExecutor(size) as pool:
        return [f.result() for f in [pool.submit(one, rank) for rank in range(size)]], comm


@pytest.mark.parametrize(
    "name, size", [(n, size) for n in CASES for size in (2, 3, 4) if "film" not in n or size == 3]
)
def test_several_ranks_learn_what_one_process_does(name, size):
    weights, told = learned(CASES[name])
    every, _ = among(size, lambda ranks: learned(CASES[name], ranks))
    for theirs, said in every:
        np.testing.assert_allclose(said, told, rtol=1e-10, atol=1e-12)
        for layer, own in weights.items():
            for parameter, w in own.items():
                of = own["weight"] if "film" in name and parameter == "bias" else w
                largest = np.abs(of).max() or 1
                error = np.abs(theirs[layer][parameter] - w).max() / largest
                assert error < 1e-12, (layer, parameter, error)


def named_of_others(layout, size, events):
    """The rows of other ranks that the events of each rank's contexts name, one by one."""
    each = layout.samples // size
    found = [set() for _ in range(size)]
    for event in events:
        of = layout.sample(event.context) // each, layout.sample(event.target) // each
        for rank, owner, row in zip(*of, event.target, strict=True):
            if rank != owner:
                found[rank].add(int(row))
    return [len(rows) for rows in found]


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("name", ["clapp", "cpc"])
def test_no_more_travels_than_the_encodings_that_are_named_and_the_drive_on_them(name, size):
    """Neurons times 8 bytes for each, there and back, and nothing for those that no event names."""
    how = {"batch": 12, "dtype": "float64", "device": "cpu"} | CASES[name]
    state = run.begin(RunOptions(**how))
    expected = 0
    for loss, layout, draw in zip(state.losses, state.layouts, state.batch(0).draws, strict=True):
        neurons = state.network.layers[loss.ends(state.modules)[0]].outputs
        named = named_of_others(layout, size, (*draw.pred, *(draw.retro or ())))
        expected += 2 * 8 * neurons * sum(named)

    def one_step(ranks):
        state = run.begin(RunOptions(**how), ranks)
        for batch in shares.asked([state.batch(0, ranks.share(12))], ranks):
            training.learn_batch(state, batch)

    _, comm = among(size, one_step)
    assert sum(comm.sent.values()) == expected > 0


@pytest.mark.parametrize("negatives_from", ["patch", "batch", "all"])
def test_a_rank_draws_what_one_process_draws_for_its_contexts(negatives_from):
    layout, rule = Layout(7, 6, 7), rules.get("clapp", negatives_from=negatives_from, negatives=2)
    whole = rule.draw(layout, np.random.default_rng(0))
    for rank in range(3):
        part = replace(layout, mine=(2 * rank, 2 * rank + 2))
        own = rule.draw(part, np.random.default_rng(0))
        for all_events, events in zip(whole.pred, own.pred, strict=True):
            mine = layout.sample(all_events.context) // 2 == rank
            for name in ("context", "target", "label", "weight"):
                wanted = getattr(all_events, name)[mine]
                np.testing.assert_array_equal(getattr(events, name), wanted)


def test_a_row_of_another_rank_stands_behind_the_own_ones():
    """Two images of two rows of one patch, and one rank for each."""
    layout = Layout(2, 2, 1, skip=0, mine=(1, 2))
    event = Events(1, np.array([1, 1]), np.array([3, 2]), np.array([1.0, -1.0]), np.ones(2))
    draw = shares.numbered(Draw((event,)), layout)
    assert draw.pred[0].context.tolist() == [0, 0]
    assert draw.pred[0].target.tolist() == [1, 2], "its own second row, and the first one behind"
    assert draw.foreign.named == (1, 0) and draw.foreign.rows.tolist() == [1]


@pytest.mark.parametrize("options, shared", [({}, True), ({"gate": "circuit"}, False)])
def test_rules_that_look_at_each_context_by_itself_share_them(options, shared):
    assert shares.shared(rules.get("clapp", **options)) == shared


def test_a_rule_that_inherits_sees_the_whole_batch_unless_it_says_otherwise():
    class Own(type(rules.get("clapp"))):
        pass

    assert not shares.shared(Own())
    Own.at_once = True
    assert shares.shared(Own())
