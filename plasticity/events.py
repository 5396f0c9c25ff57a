"""What is compared with what: contexts, targets, signs and negatives of one step of learning.

Time runs down the rows of patches. At prediction step k a context in row t is compared with the
target in row t + k + 1 (one row is skipped, since neighbours overlap by half) of the same image
and column (a fixation, y = +1) or of another input (a saccade, y = -1).
"""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from plasticity.arrays import Array, to_device
from plasticity.errors import UserError


@dataclass(frozen=True)
class Layout:
    """How rows of encodings are ordered: time first, then samples, then lanes.

    A sample is an image, an utterance or a clip. Lanes go through time side by side: the columns
    of an image's patches. `skip` time steps lie between a context and its first target: 1 for
    patches, whose neighbours overlap by half, 0 for sound and film.
    """

    time: int
    samples: int
    lanes: int = 1
    skip: int = 1

    @property
    def rows(self) -> int:
        return self.time * self.samples * self.lanes

    @property
    def shape(self) -> tuple[int, int, int]:
        """Time, samples, lanes."""
        return self.time, self.samples, self.lanes

    def offset(self, k: int) -> int:
        """Rows between a context and its true future at prediction step k."""
        return (k + self.skip) * self.samples * self.lanes

    def contexts(self, k: int) -> int:
        """How many rows have a future at prediction step k; they are the first ones."""
        return self.rows - self.offset(k)

    def sample(self, rows: Array) -> Array:
        """The sample that each row is of."""
        return rows // self.lanes % self.samples

    # The same in words of patches of images, for rules written in them.
    patches = property(lambda self: self.rows)
    images = property(lambda self: self.samples)
    columns = property(lambda self: self.lanes)


@dataclass(frozen=True)
class Events:
    """The comparisons of one prediction step.

    `context` and `target` are patches, `(E,)` int; `label` is y, +1 or -1, `(E,)`; `weight` turns
    the sum over events into the average of THEORY: over rows, columns, images of that sign and
    negatives, and over prediction steps. `key` is that of random numbers which events may need
    besides, see `seeds.uniform`.
    """

    k: int
    context: Array
    target: Array
    label: Array
    weight: Array
    key: int = 0

    def on(self, device: str, dtype: np.dtype) -> "Events":
        """The same events as arrays of `device`, labels and weights in `dtype`."""
        return Events(
            self.k,
            to_device(self.context, device),
            to_device(self.target, device),
            to_device(self.label.astype(dtype), device),
            to_device(self.weight.astype(dtype), device),
            self.key,
        )


def events(
    layout: Layout, k: int, steps: int, positive: np.ndarray, negative: np.ndarray, who: np.ndarray
) -> Events:
    """The events of prediction step `k` of `steps`, from draws made by the caller.

    Args:
        positive, negative: bool `(B,)`, images that take part with their true future, and with
            negatives.
        who: the negatives, patch numbers `(contexts, N)`.

    Returns:
        Events ordered by context, for each the positive one before its negatives.
    """
    true, image = _truth(layout, k)
    target = np.concatenate([true, who], axis=1)
    takes_part = np.empty(target.shape, bool)
    takes_part[:, :1], takes_part[:, 1:] = positive[image], negative[image]
    taken = np.flatnonzero(takes_part)
    context, place = np.divmod(taken, target.shape[1])
    fixation = place == 0
    count = np.count_nonzero(fixation)
    weight = np.where(fixation, 1 / max(1, count), 1 / max(1, len(taken) - count)) / steps
    label = np.where(fixation, 1.0, -1.0)
    return Events(k, context, target.reshape(-1)[taken], label, weight)


@cache
def _truth(layout: Layout, k: int) -> tuple[np.ndarray, np.ndarray]:
    """For each context the patch of its true future, and its image, both `(contexts, 1)`."""
    place = np.arange(layout.contexts(k))[:, None]
    return place + layout.offset(k), layout.sample(place)


def keyed(drawn: tuple[Events, ...], rng: np.random.Generator) -> tuple[Events, ...]:
    """The same events, those of every prediction step with a key of their own."""
    return tuple(replace(e, key=int(rng.integers(2**63))) for e in drawn)


def same_place(layout: Layout, k: int, others: np.ndarray) -> np.ndarray:
    """Negatives of other images `others (B, N)`, each at the position of the true future.

    Returns:
        Patch numbers `(contexts, N)`, as `events` takes them.
    """
    row, image, column = np.unravel_index(np.arange(layout.offset(k), layout.rows), layout.shape)
    row, column = row[:, None], column[:, None]
    return (row * layout.samples + others[image]) * layout.lanes + column


def draw(
    layout: Layout,
    rng: np.random.Generator,
    *,
    steps: int = 5,
    coin: bool = True,
    negatives: int = 1,
    negatives_from: str = "patch",
) -> tuple[Events, ...]:
    """Draw the events of every prediction step.

    Args:
        coin: each image takes part with one sign, by a fair coin that holds for all prediction
            steps (CLAPP); otherwise with both (CLAPP-s).
        negatives: how many for each context, drawn anew for each prediction step.
        negatives_from: `patch`, the same patch position of other images (one image for all
            positions), or `batch`, any target of the batch.

    Raises:
        UserError: too few rows of patches for `steps`, or no other image to take negatives from.
    """
    if layout.time < steps + layout.skip + 1:
        raise UserError(
            f"{steps} prediction steps need at least {steps + layout.skip + 1} time steps (rows of "
            f"patches in an image), there are {layout.time}: take a larger --crop, a smaller "
            "--patch or fewer --prediction-steps"
        )
    if negatives_from == "patch" and layout.samples < 2:
        raise UserError("negatives of other images need a batch of at least 2, it has 1")
    fixation = rng.random(layout.samples) < 0.5 if coin else np.ones(layout.samples, bool)
    saccade = ~fixation if coin else fixation
    drawn = []
    for k in range(1, steps + 1):
        if negatives_from == "patch":
            away = rng.integers(1, layout.samples, (layout.samples, negatives))
            others = (np.arange(layout.samples)[:, None] + away) % layout.samples
            who = same_place(layout, k, others)
        else:
            who = rng.integers(layout.offset(k), layout.rows, (layout.contexts(k), negatives))
        drawn.append(events(layout, k, steps, fixation, saccade, who))
    return tuple(drawn)
