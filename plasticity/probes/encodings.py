"""What every layer of a run makes of examples: encodings, as probes and figures read them."""

from collections.abc import Callable, Iterator

import numpy as np

from plasticity.arrays import Array, to_host
from plasticity.device import prefetched
from plasticity.learning import Reading
from plasticity.network import Network, Parameters
from plasticity.probes.plastic import Plastic, begun
from plasticity.stimuli import Stimulus


def dtype_of(weights: Parameters) -> np.dtype:
    """What a network with these weights computes in."""
    return next(w for own in weights.values() for w in own.values()).dtype


def encodings(
    network: Network,
    weights: Parameters | Plastic,
    stimulus: Stimulus,
    indices: np.ndarray,
    size: int,
    device: str,
    rng: np.random.Generator | None = None,
    reading: Reading | None = None,
) -> Iterator[list[Array]]:
    """Batch by batch, for each layer the encodings of examples, `(examples, time, lanes, D)`.

    The lanes of images are the columns of their patches. Centre crops, or varied ones by `rng`.

    Args:
        weights: see `plastic.of`, where layers go on learning meanwhile.
        size: examples in a batch; reading: how maps become encodings, by default the stimulus's;
            positions that it keeps are flattened into D.
    """
    stream, reading = begun(weights), reading or stimulus.reading
    dtype = dtype_of(stream.weights)
    for batch in prefetched(stimulus.in_order(indices, size, rng), device):
        x, layout = stimulus.inputs(batch, dtype), stimulus.layout(len(batch.index))
        found = []
        for y, mean in network.maps(x, stream.weights):
            of = reading.layout(layout, y.shape[1:-1])
            z = reading.read(y, mean)
            found.append(z.reshape(*of.shape, -1).swapaxes(0, 1))
        stream.met(x, len(batch.index))
        yield found


def means(
    network: Network,
    weights: Parameters | Plastic,
    stimulus: Stimulus,
    indices: np.ndarray,
    size: int,
    device: str,
    rng: np.random.Generator | None = None,
) -> Iterator[list[Array]]:
    """Batch by batch, for each layer `(examples, D)`: as `encode`, which joins them."""
    how = size, device, rng, stimulus.read_out
    for layers in encodings(network, weights, stimulus, indices, *how):
        yield [z.mean(axis=(1, 2)) for z in layers]


def encode(
    network: Network,
    weights: Parameters | Plastic,
    stimulus: Stimulus,
    indices: np.ndarray,
    size: int,
    device: str,
    rng: np.random.Generator | None = None,
    report: Callable[[int], None] = lambda done: None,
) -> list[np.ndarray]:
    """The encoding of whole examples, as a probe reads it, layer by layer: the mean over time and
    lanes.

    Args:
        indices: which examples of the set; size: examples in a batch.
        report: called with the number of examples encoded.

    Returns:
        For each layer `(len(indices), D)`, D with the positions that are kept, float32 or float64
        as the weights are.
    """
    found, done = [], 0
    for layers in means(network, weights, stimulus, indices, size, device, rng):
        found.append([to_host(z) for z in layers])
        done += len(layers[0])
        report(done)
    return [np.concatenate(layer) for layer in zip(*found, strict=True)]
