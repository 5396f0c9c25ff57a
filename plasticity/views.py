"""What a run's layers hold and answer, as arrays: what the figures and the report draw.

Every function takes a run (`training.State`) or plain arrays and gives plain arrays; nothing here
draws. `plasticity.plots` joins them to `plasticity.figures`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from plasticity import data, experiment, seeds, training
from plasticity.arrays import to_host
from plasticity.errors import UserError, installs
from plasticity.inspection.layer import cosine_by_step, open_gates
from plasticity.inspection.step import role_on_host
from plasticity.learning import Watched
from plasticity.network import Parameters
from plasticity.options import RunOptions
from plasticity.rule import reads_labels
from plasticity.training import State

PERPLEXITY = 30.0


class MissingError(UserError):
    """What a figure needs is not there; says why."""


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


def test_images(options: RunOptions, count: int) -> tuple[data.ImageSet, np.ndarray]:
    """The test images of the run's data set, and the indices of `count` of them (0: all)."""
    images = options.open("test")
    return images, experiment.chosen(images, count)


def survey(
    state: State,
    weights: Parameters,
    images: data.ImageSet,
    indices: np.ndarray,
    report: Callable[[int], None] = lambda done: None,
) -> list[Survey]:
    """Encode the centre crops of images, layer by layer, keeping the best patch for each neuron.

    Args:
        report: called with the number of images encoded.
    """
    found: list[list[tuple[np.ndarray, ...]]] = []
    done = 0
    where = state.options, state.device
    for layers in training.patch_encodings(state.network, weights, images, indices, *where):
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
    of: Survey, chosen: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The patches that excite each neuron most, at most one from an image, the strongest first.

    Args:
        chosen: neurons `(J,)`.

    Returns:
        Place of the image in the survey, patch and encoding, each `(J, count)`; fewer if there are
        fewer images.
    """
    best = of.best[:, chosen]
    image = np.argsort(-best, axis=0, kind="stable")[:count].T
    at = image, chosen[:, None]
    return image, of.patch[at], of.best[at]


def box(options: RunOptions, side: int, patch: np.ndarray) -> np.ndarray:
    """Where patches of the centre crop lie in an image: left, top `(..., 2)`, in its pixels.

    Args:
        side: of the image; patch: their numbers in the crop, as in `Survey`.
    """
    top, left, _ = data.crops(1, side, options.crop)
    row, column = np.divmod(patch, options.rows)
    step = options.patch // 2
    return np.stack([left[0] + step * column, top[0] + step * row], axis=-1)


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


@dataclass(frozen=True)
class ModuleEvents:
    """The comparisons that a module makes in some batches.

    Attributes:
        layer: the top of the module, where its scores are taken.
        score: u; label: y; open: whether the gate is open; each `(E,)`.
        gates: fraction of open gates by role, prediction step and sign, as `open_gates`.
        hinged: whether the rule says that Eq. (3) is its loss.
    """

    layer: str
    score: np.ndarray
    label: np.ndarray
    open: np.ndarray
    gates: list[dict[str, object]]
    hinged: bool = False


def events(
    state: State, images: int, report: Callable[[int], None] = lambda done: None
) -> list[ModuleEvents]:
    """The events of the batches that training would take next, with at least so many images.

    Raises:
        MissingError: a rule that makes no comparisons.
    """
    if reads_labels(state.rule):
        raise MissingError(
            f"the rule {state.rule.name} learns from labels: it has no positive and negative "
            "samples, and no gates"
        )
    batch = state.options.batch
    count = max(1, -(-images // batch))
    parts: dict[str, list[ModuleEvents]] = {name: [] for name in state.names}

    def watch(watched: Watched) -> None:
        if (made := _events(state, watched)) is not None:
            parts[made.layer].append(made)

    for further in range(count):
        with np.errstate(over="ignore", invalid="ignore"):
            for _ in state.next(watch, further)[1]:
                pass
        if not any(parts.values()):
            raise MissingError(
                f"the rule {state.rule.name} compares nothing: it has no scores and no gates"
            )
        report(min((further + 1) * batch, images))
    return [_together(own) for own in parts.values() if own]


def _events(state: State, watched: Watched) -> ModuleEvents | None:
    """The events of one module in one batch; scores that two roles share are counted once."""
    roles, own, last = [], [], None
    for role in (role for scored in watched.predicted for role in scored.roles):
        if role.score is not last:
            own.append(len(roles))
        last = role.score
        roles.append(role_on_host(role))
    if not roles:
        return None
    scored = [roles[i] for i in own]
    return ModuleEvents(
        state.names[watched.module],
        np.concatenate([role.score for role in scored]),
        np.concatenate([role.events.label for role in scored]),
        np.concatenate([role.gamma != 0 for role in scored]),
        open_gates(roles),
        getattr(state.rule, "hinge", False),
    )


def _together(parts: list[ModuleEvents]) -> ModuleEvents:
    """The events of several batches as one."""
    table: dict[tuple, list[tuple[int, float]]] = {}
    for part in parts:
        for row in part.gates:
            key = row["role"], row["k"], row["sign"]
            table.setdefault(key, []).append((row["events"], row["events"] * row["open"]))
    gates = []
    for (role, k, sign), counts in sorted(table.items(), key=lambda item: _order(item[0])):
        total, opened = (sum(values) for values in zip(*counts, strict=True))
        row = {"role": role, "k": k, "sign": sign, "events": total, "open": opened / total}
        gates.append(row)
    arrays = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("score", "label", "open")
    )
    return ModuleEvents(parts[0].layer, *arrays, gates, parts[0].hinged)


def _order(key: tuple) -> tuple:
    role, k, sign = key
    return role != "target", role, k, -sign


@dataclass(frozen=True)
class Prediction:
    """The prediction matrices of one layer, by prediction step.

    Attributes:
        norm: Frobenius norm of W_pred[k], `(K,)`; spectrum: its singular values, the largest
            first, `(K, D)`.
        retro_norm, cosine: of W_retro[k], and between W_pred[k] and W_retro[k] transposed, `(K,)`,
            or None where the rule keeps W_pred alone.
    """

    layer: str
    norm: np.ndarray
    spectrum: np.ndarray
    retro_norm: np.ndarray | None
    cosine: np.ndarray | None


def predictions(weights: Parameters) -> Iterator[Prediction]:
    """Norm, spectrum and alignment of W_pred and W_retro, for every layer that has them."""
    for layer, own in weights.items():
        if "W_pred" not in own:
            continue
        W_pred = to_host(own["W_pred"]).astype(float)
        spectrum = np.linalg.svd(W_pred, compute_uv=False)
        retro_norm = cosine = None
        if "W_retro" in own:
            W_retro = to_host(own["W_retro"]).astype(float)
            retro_norm = np.linalg.norm(W_retro, axis=(1, 2))
            cosine = cosine_by_step(W_pred, W_retro)
        norm = np.linalg.norm(W_pred, axis=(1, 2))
        yield Prediction(layer, norm, spectrum, retro_norm, cosine)


def kernels(weight: np.ndarray) -> np.ndarray:
    """The kernels of a layer `(O, C, h, w)` to look at, `(O, h, w)`: means over its inputs."""
    return to_host(weight).mean(axis=1)


def mosaic(tiles: np.ndarray, columns: int, gap: int = 1) -> np.ndarray:
    """Images `(n, h, w)` side by side, row by row, with `gap` empty (NaN) pixels between them."""
    rows, (h, w) = -(-len(tiles) // columns), tiles.shape[1:]
    found = np.full((rows * (h + gap) - gap, columns * (w + gap) - gap), np.nan)
    for place, tile in enumerate(tiles):
        row, column = divmod(place, columns)
        top, left = row * (h + gap), column * (w + gap)
        found[top : top + h, left : left + w] = tile
    return found
