"""Phones by frame: what a linear reader finds of them in every layer of a network for sound.

Encodings of a whole corpus would take tens of gigabytes: utterances go through the network one by
one, and of each layer only the frames that a label is read at are kept.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from plasticity import kernels, seeds
from plasticity.arrays import to_device, to_host
from plasticity.data.utterances import Speech
from plasticity.errors import UserError
from plasticity.network import Network, Parameters
from plasticity.probes import linear
from plasticity.probes.encodings import dtype_of
from plasticity.probes.plastic import Held, Plastic, Stream, begun
from plasticity.stimuli import Sound
from plasticity.stimuli.sound import label_at, normalised, timing

MOST = {"train": 16_000, "test": 8_000}  # frames that the regularised probe takes, drawn at random
SPARE, LEAST = 4, 100
EACH = 10  # frames for each utterance, where a number of utterances is asked for

Report = Callable[[int], None]


def read_at(labels: int, alignment: int, hop: int, middle: float, frames: int) -> np.ndarray:
    """The frame of a layer that each label of an utterance is read at, int `(labels,)`; -1: none.

    It is the frame nearest to the sample that `stimuli.sound.label_at` names.
    """
    samples = label_at(np.arange(labels), alignment)
    frame = np.floor((samples - middle) / hop + 0.5).astype(np.int64)
    return np.where((frame >= 0) & (frame < frames), frame, -1)


@dataclass(frozen=True)
class Frames:
    """The frames that labels are read at.

    Attributes:
        z: for each layer `(n, D)`; phones, utterance: `(n,)`, the utterance counted from 0.
    """

    z: list[np.ndarray]
    phones: np.ndarray
    utterance: np.ndarray


def of_utterance(
    network: Network,
    weights: Parameters | Held | Stream,
    source: Speech,
    i: int,
    alignment: int,
    device: str,
) -> tuple[list[np.ndarray], np.ndarray]:
    """The encodings of a whole utterance at its labels, layer by layer `(n, D)`, and the phones."""
    phones, found, stream = source.phones(i), [], begun(weights)
    x = normalised(to_device(source.samples(i)[None], device), dtype_of(stream.weights))
    usable = np.ones(len(phones), bool)
    for (y, _), (hop, middle) in zip(network.maps(x, stream.weights), timing(network), strict=True):
        at = read_at(len(phones), alignment, hop, middle, y.shape[1])
        usable &= at >= 0
        found.append(to_host(y[0, np.maximum(at, 0)]))
    stream.met(x, 1)
    return [z[usable] for z in found], phones[usable]


def frames(
    network: Network,
    weights: Parameters | Plastic,
    source: Speech,
    indices: np.ndarray,
    alignment: int,
    device: str,
    most: int = 0,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Frames:
    """The frames of the named utterances, or `most` of them, always the same ones.

    These are drawn from utterances, in a random order, that have `SPARE` times as many, and from
    `LEAST` of them if there are so many.

    Args:
        weights: see `plastic.of`; report: called with the number of utterances encoded, and of all.
    """
    if most:
        indices = seeds.generator(0, seeds.PROBE, 4).permutation(indices)
        enough = np.searchsorted(np.cumsum(source.label_counts[indices]), SPARE * most) + 1
        indices = np.sort(indices[: max(enough, LEAST)])
    counts = source.label_counts[indices]
    rank = seeds.generator(0, seeds.PROBE, 3).permutation(counts.sum())
    chosen = rank < (most or len(rank))
    z, phones, utterance, first = [], [], [], 0
    stream = begun(weights)
    for number, i in enumerate(indices):
        own = chosen[first : first + counts[number]]
        first += counts[number]
        if own.any():
            layers, labels = of_utterance(network, stream, source, int(i), alignment, device)
            own = own[: len(labels)]
            z.append([layer[own] for layer in layers])
            phones.append(labels[own])
            utterance.append(np.full(own.sum(), number))
        report(number + 1, len(indices))
    layers = [np.concatenate(layer) for layer in zip(*z, strict=True)]
    return Frames(layers, np.concatenate(phones).astype(np.int64), np.concatenate(utterance))


def error_by_utterance(right: np.ndarray, utterance: np.ndarray) -> float:
    """One standard error of a fraction of frames, which counts utterances: frames of one are alike.

    That of a ratio of sums over utterances (Cochran 1977, section 6.3):
    `sqrt(U / (U - 1) sum over u of (c_u - p n_u)^2) / n`.

    Args:
        right: whether each frame is told, bool `(n,)`.
    """
    n, c = np.bincount(utterance), np.bincount(utterance, weights=right)
    n, c = n[n > 0], c[n > 0]
    if len(n) < 2:
        return math.nan
    rest = c - c.sum() / n.sum() * n
    return float(math.sqrt(len(n) / (len(n) - 1) * (rest**2).sum()) / n.sum())


def check(source: Speech, name: str) -> np.ndarray:
    """The utterances that have phones.

    Raises:
        UserError: none has.
    """
    found = np.flatnonzero(source.label_counts > 0)
    if not len(found):
        raise UserError(
            f"no utterance of {name} for '{source.part}' has phones: give it "
            "converted_aligned_phones.txt, or take --task speakers"
        )
    return found


def published(
    network: Network,
    weights: Parameters | Plastic,
    stimulus: Sound,
    train: np.ndarray,
    classes: int,
    device: str,
    *,
    epochs: int = 20,
    lr: float = 1e-4,
    seed: int = 0,
    report: Report = lambda done: None,
) -> list[np.ndarray]:
    """The published probe's readouts, one for each layer `((D + 1) classes,)`.

    Softmax on raw encodings, Adam, an utterance a step in a new order every epoch; all layers learn
    in one pass over the utterances (Loewe et al. 2019).
    """
    rng = seeds.generator(seed, seeds.PROBE, 1)
    readouts, moments = [], []
    for layer in network.layers:
        bound = 1 / math.sqrt(layer.outputs)
        flat = rng.uniform(-bound, bound, (layer.outputs + 1) * classes).astype(np.float32)
        readouts.append(flat)
        moments.append((np.zeros_like(flat), np.zeros_like(flat)))
    step, source, stream = 0, stimulus.source, begun(weights)
    for _ in range(epochs):
        for i in rng.permutation(train):
            z, phones = of_utterance(network, stream, source, int(i), stimulus.alignment, device)
            step += 1
            hot = np.eye(classes, dtype=np.float32)[phones]
            for flat, (m, v), x in zip(readouts, moments, z, strict=True):
                _, gradient = linear.cross_entropy(flat, x.astype(np.float32), hot, 0)
                kernels.adam([(flat, -gradient.astype(np.float32), m, v)], step, lr)
            report(step)
    return readouts
