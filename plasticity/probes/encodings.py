"""What every layer of a run makes of images: encodings, as probes and figures read them."""

from collections.abc import Callable, Iterator

import numpy as np

from plasticity import data
from plasticity.arrays import Array, to_host
from plasticity.device import ahead
from plasticity.network import Network, Parameters
from plasticity.runs.options import RunOptions
from plasticity.runs.run import cut


def patch_encodings(
    network: Network,
    weights: Parameters,
    images: "data.ImageSet",
    indices: np.ndarray,
    options: RunOptions,
    device: str,
    rng: np.random.Generator | None = None,
) -> Iterator[list[Array]]:
    """Batch by batch, for each layer the encoding of every patch `(images, rows, columns, D)`.

    Centre crops without flip, or random ones drawn from `rng`.
    """
    side = options.rows
    batches = data.in_order(images, indices, batch=options.batch, crop=options.crop, rng=rng)
    for batch in ahead(batches, device):
        patches = cut(batch, images, options, device)
        shape = (side, len(batch.pixels), side, -1)
        yield [z.reshape(shape).transpose(1, 0, 2, 3) for z in network.encodings(patches, weights)]


def encode(
    network: Network,
    weights: Parameters,
    images: "data.ImageSet",
    indices: np.ndarray,
    options: RunOptions,
    device: str,
    rng: np.random.Generator | None = None,
    report: Callable[[int], None] = lambda done: None,
) -> list[np.ndarray]:
    """The encoding of whole images, layer by layer: the mean over their patches.

    Centre crops without flip, or random ones drawn from `rng`.

    Args:
        indices: which images of the set.
        report: called with the number of images encoded.

    Returns:
        For each layer `(len(indices), D)`, float32 or float64 as the run computes.
    """
    found, done = [], 0
    for layers in patch_encodings(network, weights, images, indices, options, device, rng):
        found.append([to_host(z.mean(axis=(1, 2))) for z in layers])
        done += len(layers[0])
        report(done)
    return [np.concatenate(layer) for layer in zip(*found, strict=True)]
