"""What a run's layers hold and answer, as arrays: what the figures and the report draw.

Every function takes a run (`run.State`) or plain arrays and gives plain arrays; nothing here
draws. `plasticity.reports.plots` joins them to `plasticity.figures`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from threadpoolctl import threadpool_limits

from plasticity import seeds
from plasticity.arrays import to_host
from plasticity.errors import MissingError, installs
from plasticity.network import Network, Parameters
from plasticity.probes import plastic
from plasticity.probes.encodings import encodings
from plasticity.probes.probe import chosen as chosen_examples
from plasticity.runs import sets
from plasticity.runs.options import RunOptions
from plasticity.runs.run import State
from plasticity.stimuli import Stimulus

PERPLEXITY = 30.0


@dataclass(frozen=True)
class Survey:
    """What one layer makes of a set of images.

    Attributes:
        encoding: of each image, the mean over its patches, `(n, D)`.
        best: the strongest encoding of a patch of each image, by neuron `(n, D)`.
        patch: which patch that is, row times columns plus column, the first of equals,
            int `(n, D)`.
    """

    encoding: np.ndarray
    best: np.ndarray
    patch: np.ndarray


def test_set(options: RunOptions, count: int) -> tuple[Stimulus, np.ndarray]:
    """The test images of the run's data set, and the indices of `count` of them (0: all)."""
    source = sets.split(options, "test")
    return sets.stimulus(options, source), chosen_examples(source, count)


def survey(
    state: State,
    weights: Parameters,
    stimulus: Stimulus,
    indices: np.ndarray,
    report: Callable[[int], None] = lambda done: None,
) -> list[Survey]:
    """Encode the centre crops of images, layer by layer, keeping the best patch for each neuron.

    Args:
        report: called with the number of images encoded.
    """
    found: list[list[tuple[np.ndarray, ...]]] = []
    done = 0
    how = state.options.batch, state.device
    for layers in encodings(state.network, plastic.of(state, weights), stimulus, indices, *how):
        found.append([_best(z) for z in layers])
        done += len(layers[0])
        report(done)
    return [
        Survey(*(np.concatenate(parts) for parts in zip(*layer, strict=True)))
        for layer in zip(*found, strict=True)
    ]


def _best(z: np.ndarray) -> tuple[np.ndarray, ...]:
    """What `Survey` keeps of a batch, from the encodings of patches `(n, rows, columns, D)`."""
    flat = z.reshape(len(z), -1, z.shape[-1])
    return tuple(to_host(a) for a in (z.mean(axis=(1, 2)), flat.max(axis=1), flat.argmax(axis=1)))


def neurons(surveys: Sequence[Survey], count: int, seed: int) -> np.ndarray:
    """`count` neurons of a layer drawn by `seed`, of those that answer a patch in each survey."""
    answering = np.logical_and.reduce([(one.best > 0).any(axis=0) for one in surveys])
    alive = np.flatnonzero(answering)
    rng = seeds.generator(seed, seeds.VIEWS)
    return np.sort(rng.choice(alive, min(count, len(alive)), replace=False))


def favourites(
    of: Survey, chosen: ArrayLike, count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The patches that excite each neuron most, at most one from an image, the strongest first.

    Args:
        chosen: neurons `(J,)`.

    Returns:
        Place of the image in the survey, patch and encoding, each `(J, count)`; fewer if there are
        fewer images.
    """
    chosen = np.asarray(chosen)
    best = of.best[:, chosen]
    image = np.argsort(-best, axis=0, kind="stable")[:count].T
    at = image, chosen[:, None]
    return image, of.patch[at], of.best[at]


def windows(network: Network, layer: int) -> list[tuple[int, int, int]]:
    """What the places of a layer's map see of the input: for each dimension where the first one's
    window begins (below 0 in the padding), the step from one to the next, and the size.

    Raises:
        MissingError: a layer up to it is no convolution.
    """
    found = [(0, 1, 1)] * network.dims
    for one in network.layers[: layer + 1]:
        of = getattr(one, "geometry", None)
        if of is None:
            raise MissingError(f"{one.name} is no convolution: what it sees is not worked out")
        for axis, (begin, step, size) in enumerate(found):
            begin, size = begin - step * of.padding[axis], size + step * (of.kernel[axis] - 1)
            step *= of.stride[axis]
            size += step * (of.pool[axis] - 1)
            found[axis] = begin, step * of.pool_stride[axis], size
    return found


def tsne(encoding: np.ndarray, seed: int) -> np.ndarray:
    """t-SNE (van der Maaten & Hinton 2008) of encodings `(n, D)`, by scikit-learn: `(n, 2)`.

    It starts from the two first principal components; perplexity 30, or a third of fewer images.

    Raises:
        UserError: scikit-learn is missing, or fewer than 4 images.
    """
    try:
        from sklearn.manifold import TSNE
    except ImportError as error:
        raise MissingError(f"t-SNE needs scikit-learn: {installs('plot')}") from error
    if len(encoding) < 4:
        raise MissingError(
            f"t-SNE needs at least 4 images, got {len(encoding)}: take more --images"
        )
    spread = encoding.std(axis=0, dtype=float)
    if not spread.any():
        raise MissingError("every image has the same encoding: there is nothing to embed")
    start = "pca" if np.count_nonzero(spread) > 1 else "random"
    perplexity = min(PERPLEXITY, (len(encoding) - 1) / 3)
    with threadpool_limits(1):  # several threads take many times as long, waiting for each other
        random = np.random.RandomState(np.random.MT19937(np.random.SeedSequence(seed)))
        return TSNE(perplexity=perplexity, init=start, random_state=random).fit_transform(encoding)
