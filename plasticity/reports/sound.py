"""Figures of a run on sound: utterances, frames, confusions of phones, eligibility traces."""

from typing import TYPE_CHECKING

import numpy as np

from plasticity import figures, learning, seeds
from plasticity.arrays import to_device, to_host
from plasticity.data.decoded import RATE
from plasticity.data.utterances import HOP, WINDOW, Speech
from plasticity.errors import MissingError
from plasticity.events import Layout
from plasticity.figures import Figure
from plasticity.learning import Loss, Watched
from plasticity.probes import linear, phones, plastic
from plasticity.runs import sets
from plasticity.runs.run import State
from plasticity.stimuli.sound import normalised, timing

if TYPE_CHECKING:
    from plasticity.reports.plots import Look

UTTERANCES, LONGEST = 40, 3  # utterances in t-SNE, seconds of the one that is drawn


def _spoken(look: "Look") -> Speech:
    """The test utterances of the run's set of speech."""
    return sets.split(look.state.options, "test")


def encoded(look: "Look") -> dict[str, phones.Frames]:
    """Frames of test utterances as all layers encode them, by weights."""
    source = _spoken(look)
    which = phones.check(source, source.name)[:UTTERANCES]
    how = source, which, look.state.options.alignment, look.state.device, look.images
    return {
        who: phones.frames(look.state.network, plastic.of(look.state, weights), *how)
        for who, weights in look.sets.items()
    }


def frames(look: "Look") -> Figure:
    """t-SNE of frames of test utterances by layer, coloured by the kind of phone."""
    source = _spoken(look)
    kinds = [figures.kind_of(name) for name in source.phone_names]
    classes = sorted(set(kinds), key=kinds.index)
    found = encoded(look)
    told = next(iter(found.values())).phones  # the same frames with all weights
    labels = np.array([classes.index(kinds[phone]) for phone in told])
    points = look.embedded({who: of.z for who, of in found.items()})
    return figures.embeddings(points, [look.names[i] for i in look.layers], labels, classes)


def utterance(look: "Look") -> Figure:
    """An utterance above the activity, the gates and the surprise of the highest layer."""
    source, state = _spoken(look), look.state
    network, loss = state.network, state.losses[-1]
    i = int(phones.check(source, source.name)[look.seed % max(1, (source.label_counts > 0).sum())])
    samples = source.samples(i)[: RATE * LONGEST]
    dtype = np.dtype(state.options.dtype)
    x = normalised(to_device(samples[None], state.device), dtype)
    target, context = loss.ends(state.modules)
    kept, reads = None, {}
    for number, layer in enumerate(network.layers):
        x, kept, mean = layer.forward(x, state.weights)
        if number in (target, context):
            reads[number] = to_host(state.stimulus.reading.read(x, mean))
    hop, middle = timing(network)[context]
    seconds = (middle + hop * np.arange(x.shape[1])) / RATE
    gates = {}
    if network.layers[-1].recurrent:
        r, z = to_host(kept[2][0, :, :2]).mean(axis=2).T
        gates = {"reset r": r, "update z": z}
    spoken = [source.phone_names[p] for p in source.phones(i)]
    ends = np.flatnonzero(np.diff(source.phones(i).astype(int))) + 1
    spans = zip([0, *ends], [*ends, len(spoken)], strict=True)
    times = [(spoken[a], _edge(a), _edge(b)) for a, b in spans]
    shown = [one for one in times if one[1] < len(samples) / RATE]
    title = f"{source.ids[i]}, {state.rule_name} on {network.name}, step {state.step}"
    surprise = _surprise(state, loss, reads[target], reads[context], look.seed)
    activity, name = to_host(x[0]), network.layers[-1].name
    return figures.utterance(samples, shown, activity, seconds, gates, surprise, title, name)


def _edge(j: int) -> float:
    """When label j begins, halfway between the middles of its window and of the one before, s."""
    return (HOP * j + (WINDOW - HOP) / 2) / RATE


def _surprise(
    state: State, loss: Loss, z: np.ndarray, c: np.ndarray, seed: int
) -> dict[str, np.ndarray]:
    """The fraction of open gates of each context of an utterance, by the sign of the event."""
    rule, name = state.rules[loss.kept], state.keys[-1]
    if not getattr(rule, "predicts", False):
        return {}
    layout = Layout(len(z), 1, 1, skip=0)
    draw = rule.draw(layout, seeds.generator(seed, seeds.VIEWS))
    own = {n: to_host(w) for n, w in learning.rules_own(state.weights[name]).items()}
    roles = rule.roles(z, own, draw.on("cpu", z.dtype), layout, *((c,) if loss.crosses else ()))
    found = {}
    for role in (role for role in roles if role.name == "target"):
        for sign, kind in ((1, "the true future"), (-1, "other frames")):
            here = role.events.label == sign
            opened, count = found.setdefault(kind, (np.zeros(len(z)), np.zeros(len(z))))
            np.add.at(opened, role.events.context[here], role.gamma[here] != 0)
            np.add.at(count, role.events.context[here], 1)
    nothing = np.full(len(z), np.nan)
    return {
        kind: np.divide(opened, count, out=nothing.copy(), where=count > 0)
        for kind, (opened, count) in found.items()
    }


def confusions(look: "Look") -> Figure:
    """Phones and what a linear reader of the highest layer takes their frames for."""
    state, layer = look.state, look.layers[-1]
    spoken = {"train": sets.split(state.options, "train"), "test": _spoken(look)}
    met = {}
    for split, source in spoken.items():
        which = phones.check(source, source.name)
        how = state.options.alignment, state.device, phones.MOST[split]
        told = lambda *so_far, split=split: look.report(f"{split} utterances", *so_far)  # noqa: E731
        weights = plastic.of(state, state.weights)
        met[split] = phones.frames(state.network, weights, source, which, *how, told)
    train, test = met["train"], met["test"]
    names = spoken["train"].phone_names
    found = linear.logistic(train.z[layer], train.phones, test.z[layer], test.phones, len(names))
    counts = np.zeros((len(names), len(names)))
    np.add.at(counts, (test.phones, found.told), 1)
    title = (
        f"{look.names[layer]}, {state.rule_name}, step {state.step}: "
        f"{100 * found.accuracy:.1f} % of {len(test.phones)} frames"
    )
    return figures.confusions(counts, names, title)


def traces(look: "Look") -> Figure:
    """Eligibility traces of the synapses of a recurrent layer that the coming step moves most."""
    state = look.state
    layer = next((la for la in state.network.layers if la.recurrent), None)
    if layer is None:
        raise MissingError(f"{state.network.name} has no recurrent layer: nothing keeps a trace")
    found: list[Watched] = []
    for _ in state.next(found.append)[1]:
        pass
    seen = next(s for watched in found for s in watched.layers if s.layer is layer).on_host()
    dW, rows = seen.changes[layer.main], []
    hop, middle = timing(state.network)[list(state.network.layers).index(layer)]
    for gate in range(3):  # of r, z and n the synapse that moves most
        part = np.abs(dW[gate * layer.outputs : (gate + 1) * layer.outputs])
        j, i = np.unravel_index(int(part.argmax()), part.shape)
        index = (gate * layer.outputs + int(j), int(i))
        name = f"{'rzn'[gate]}, {j} from {i}"
        trace = seen.pre(layer.main, index)
        rows.append((name, seen.now(layer.main, index)[0], trace[0], seen.error[0, :, int(j)]))
    seconds = (middle + hop * np.arange(seen.positions)) / RATE
    return figures.traces(seconds, rows, f"{layer.name}, credit {layer.credit}, step {state.step}")
