"""What is compared with what: contexts, targets, signs and negatives of one step of learning.

At prediction step k a context at time t is compared with the target at time t + k (a fixation,
y = +1) or with another encoding (a saccade, y = -1). Of images time runs down the rows of patches,
and one row is skipped, since neighbours overlap by half: the target's row is t + k + 1.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np

from plasticity import kernels
from plasticity.arrays import Array, array_module, to_device
from plasticity.errors import UserError
from plasticity.kernels import ByRow


@dataclass(frozen=True)
class Layout:
    """How rows of encodings are ordered: time first, then samples, then lanes.

    A sample is an image, an utterance or a clip. Lanes go through time side by side: the columns
    of an image's patches. `skip` time steps lie between a context and its first target: 1 for
    patches, whose neighbours overlap by half, 0 for sound and film. Contexts and their futures lie
    in a `window` of so many consecutive time steps, drawn anew for every loss; 0 is all of time.

    Ranks that share a batch share its contexts: `mine` are the first sample of one rank and the one
    after its last, None for all. `foreign` is how many rows of other ranks' samples stand behind
    those of the layout, as targets alone.
    """

    time: int
    samples: int
    lanes: int = 1
    skip: int = 1
    window: int = 0
    mine: tuple[int, int] | None = None
    foreign: int = 0

    @property
    def rows(self) -> int:
        return self.time * self.samples * self.lanes + self.foreign

    @property
    def shape(self) -> tuple[int, int, int]:
        """Time, samples, lanes."""
        return self.time, self.samples, self.lanes

    def offset(self, k: int) -> int:
        """Rows between a context and its true future at prediction step k."""
        return (k + self.skip) * self.samples * self.lanes

    def contexts(self, k: int) -> int:
        """How many rows of a window, its first ones, have a future at prediction step k."""
        return self.within * self.samples * self.lanes - self.offset(k)

    @property
    def within(self) -> int:
        """Time steps of the window."""
        return min(self.window or self.time, self.time)

    def sample(self, rows: Array) -> Array:
        """The sample that each row is of."""
        return rows // self.lanes % self.samples

    def of_mine(self, values: Array) -> Array:
        """Of rows of whole time steps `(n, ...)` those of one rank's samples."""
        if self.mine is None:
            return values
        steps = values.reshape(-1, self.samples, self.lanes, *values.shape[1:])
        return steps[:, slice(*self.mine)].reshape(-1, *values.shape[1:])

    def own(self, foreign: int = 0) -> "Layout":
        """The layout of one rank's own rows, and of so many foreign ones behind them."""
        begin, end = self.mine
        return replace(self, samples=end - begin, mine=None, foreign=foreign)

    def by_time(self, values: Array) -> Array:
        """Rows as `(time, rows of a time step, ...)`."""
        return values.reshape(self.time, -1, *values.shape[1:])

    def trace(self, values: Array, tau: float, future: bool = False) -> Array:
        """Leaky sums over the earlier time steps, or over the later ones: rows as they came.

        `sum over s < t of exp(-(t - s) / tau) v(s)`, at the same place of the same sample.

        Args:
            values: rows `(N, ...)`; tau: in time steps, above 0.
        """
        steps = self.by_time(values)
        found, kept = array_module(values).zeros_like(steps), math.exp(-1 / tau)
        order = range(self.time)[::-1] if future else range(self.time)
        for before, now in pairwise(order):
            found[now] = kept * (found[before] + steps[before])
        return found.reshape(values.shape)

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
    besides, see `seeds.uniform`. `first` is the first row that is a context, and `floor` the first
    one that may be a target (None: the first future). `by_target` and `by_context` list the events
    by their target's row, and by their context's from `first` on, where a loader has done it.
    `among` is how many events there are in all, where other ranks have some; 0 is those here.
    """

    k: int
    context: Array
    target: Array
    label: Array
    weight: Array
    key: int = 0
    first: int = 0
    floor: int | None = None
    by_target: ByRow | None = None
    by_context: ByRow | None = None
    among: int = 0

    def contexts(self, layout: Layout) -> slice:
        """The rows that are contexts."""
        return slice(self.first, self.first + layout.contexts(self.k))

    def targets(self, layout: Layout) -> slice:
        """The rows that may be targets."""
        floor = layout.offset(self.k) if self.floor is None else self.floor
        return slice(floor, layout.rows)

    def scores(self, targets: Array, contexts: Array, layout: Layout) -> Array:
        """For each event the scalar product of its target's row and its context's, `(E,)`.

        Args:
            targets: rows of what may be a target; contexts: rows of what is a context.
        """
        target, context = self.within(layout)
        return kernels.scores(targets, contexts, target, context)

    def onto_targets(self, out: Array, gamma: Array, contexts: Array, layout: Layout) -> None:
        """`out[target] += gamma contexts[context]`, event after event; rows as of `scores`."""
        target, context = self.within(layout)
        by = self.by_target and self.by_target.below(self.targets(layout).start)
        kernels.add_rows(out, target, gamma, contexts, context, by)

    def onto_contexts(self, out: Array, gamma: Array, targets: Array, layout: Layout) -> None:
        """`out[context] += gamma targets[target]`, event after event; rows as of `scores`."""
        target, context = self.within(layout)
        kernels.add_rows(out, context, gamma, targets, target, self.by_context)

    def within(self, layout: Layout) -> tuple[Array, Array]:
        """Target and context of each event among the rows that may be one."""
        return self.target - self.targets(layout).start, self.context - self.first

    def open(self, gates: Array) -> Array:
        """The fraction of gates that are open, a scalar array; of several ranks this one's part."""
        return gates.sum() / self.among if self.among else gates.mean()

    def on(self, device: str, dtype: np.dtype) -> "Events":
        """The same events as arrays of `device`, labels and weights in `dtype`."""
        return replace(
            self,
            context=to_device(self.context, device),
            target=to_device(self.target, device),
            label=to_device(self.label.astype(dtype), device),
            weight=to_device(self.weight.astype(dtype), device),
            by_target=None,
            by_context=None,
        )


@dataclass(frozen=True)
class Foreign:
    """The encodings of other ranks that the events of one rank name, see `learning.shares`.

    Attributes:
        named: how many of each rank; rows: which ones, by their numbers among their owner's.
        asked: how many of its own each other rank names, where ranks have asked each other; `rows`
            then says which of them.
    """

    named: tuple[int, ...]
    rows: Array
    asked: tuple[int, ...] = ()


@dataclass(frozen=True)
class Together:
    """The events of all prediction steps of a draw in one, those of both halves, as a card takes
    them: a step after the other, first those of `pred`.

    Attributes:
        context, target, label, weight: of every event, see `Events`.
        share: of every event in the fraction of open gates, a mean over steps and halves.
        at: the context among those of all steps, `step * contexts + context - first`.
        by_target, by_at: the events listed by their target's row, with a segment for each step,
            and by `at`.
        how: for `Steps`: `bounds`, the first event of each step and the end; `steps`, what their
            `Events` have besides arrays; `first`, the first row that is a context, for each half;
            `contexts`, how many there are at most at a step; `rows`, of the encodings.
    """

    context: Array
    target: Array
    label: Array
    weight: Array
    share: Array
    at: Array
    by_target: ByRow
    by_at: ByRow
    how: Mapping[str, Any]

    first = property(lambda self: self.how["first"])
    contexts = property(lambda self: self.how["contexts"])
    event = property(lambda self: self)  # what gamma and the loss look at

    def scores(self, z: Array, contexts: Array) -> Array:
        """The scores of all events, `(E,)`.

        Args:
            z: all encodings, rows of which are the targets; contexts: those of all steps, a step
                after the other, as W carries them to the targets' neurons.
        """
        return kernels.scores(z, contexts, self.target, self.at)

    def hinge(self, u: Array) -> tuple[Array, Array, Array]:
        """gamma, the loss and the open gates by Eq. (3), see `kernels.hinge`."""
        return kernels.hinge(u, self.label, self.weight, self.share)

    def open(self, gates: Array) -> Array:
        """The fraction of gates that are open, a mean over steps and halves."""
        return (gates * self.share).sum()

    def by_context(self, u: Array, targets: int) -> tuple[Array, Array, Array, Array]:
        """Scores `(contexts, targets)` where each context has so many events, its true one before
        the others, and for each the number of its true one, its weight and its share."""
        weight, share = (a.reshape(-1, targets)[:, 0] for a in (self.weight, self.share))
        true = array_module(u).zeros(len(weight), self.target.dtype)
        return u.reshape(-1, targets), true, weight, share

    def onto_targets(self, out: Array, gamma: Array, contexts: Array) -> None:
        """For each event of the first half `out[target] += gamma contexts[context]`."""
        half = len(self.how["steps"]) // len(self.first)
        pred = slice(0, self.how["bounds"][half])
        onto = self.target[pred], gamma[pred], contexts, self.at[pred]
        kernels.add_rows(out, *onto, replace(self.by_target, segments=half))

    def met(self, gamma: Array, z: Array) -> Array:
        """The targets as each context of each step meets them, the sum over events of gamma z."""
        out = array_module(z).zeros((len(self.how["steps"]) * self.contexts, z.shape[1]), z.dtype)
        kernels.add_rows(out, self.at, gamma, z, self.target, self.by_at)
        return out

    def step(self, i: int) -> Events:
        """The events of one step, counted through both halves."""
        begin, end = self.how["bounds"][i : i + 2]
        own = [a[begin:end] for a in (self.context, self.target, self.label, self.weight)]
        more = self.how["steps"][i]
        by_target = self.by_target.one(i, self.how["rows"], begin)
        by_context = self.by_at.one(i, self.how["contexts"], begin)
        events = Events(more["k"], *own, by_target=by_target, by_context=by_context)
        return replace(events, **more)


@dataclass(frozen=True)
class Steps(Sequence):
    """The events of one half, a prediction step after the other, as parts of `Together`."""

    all: "Together | AllTogether"
    half: int = 0

    def __len__(self) -> int:
        return len(self.all.how["steps"]) // len(self.all.first)

    def __getitem__(self, i: int) -> "Events | AllPairs":
        return self.all.step(range(len(self) * self.half, len(self) * (self.half + 1))[i])


def together(
    layout: Layout, pred: Sequence[Events], retro: Sequence[Events] | None
) -> tuple[Steps, Steps | None] | None:
    """Events of the host, of all prediction steps in one; None where they do not go together."""
    halves = [half for half in (pred, retro) if half is not None]
    every = [e for half in halves for e in half]
    kinds = {type(e) for e in every}
    if len(pred) != len(halves[-1]) or kinds not in ({Events}, {AllPairs}):
        return None
    if any(e.first != half[0].first for half in halves for e in half):
        return None
    made = _listed(layout, halves, every) if kinds == {Events} else _compared(halves, every)
    return made and (Steps(made), None if retro is None else Steps(made, 1))


def _listed(
    layout: Layout, halves: Sequence[Sequence[Events]], every: Sequence[Events]
) -> Together:
    contexts = max(layout.contexts(e.k) for e in every)
    counts = [len(e.context) for e in every]
    # Numbers of rows and events that 32 bits hold are moved and read in half the time.
    small = max(sum(counts), len(every) * max(layout.rows, contexts)) < 2**31
    dtype = np.int32 if small else np.int64
    of, joined = np.repeat(np.arange(len(every), dtype=dtype), counts), np.concatenate
    context, target = (
        joined([getattr(e, name) for e in every]).astype(dtype) for name in ("context", "target")
    )
    label, weight = (joined([getattr(e, name) for e in every]) for name in ("label", "weight"))
    first = np.array([e.first for e in every], dtype)
    at = of * contexts + context - first[of]
    parts = [1 / (max(1, e.among or n) * len(every)) for e, n in zip(every, counts, strict=True)]
    share = np.repeat(parts, counts).astype(weight.dtype)
    steps = [{n: getattr(e, n) for n in ("k", "key", "first", "floor", "among")} for e in every]
    how = {"bounds": [0, *np.cumsum(counts).tolist()], "steps": steps}
    how |= {"first": [half[0].first for half in halves]}
    how |= {"contexts": contexts, "rows": layout.rows}
    by_target = ByRow.of(target, layout.rows, of, len(every))
    by_at = ByRow.of(at, len(every) * contexts)
    return Together(context, target, label, weight, share, at, by_target, by_at, how)


@dataclass(frozen=True)
class AllPairs:
    """Every context of one prediction step compared with every target: products of matrices.

    The context of row i, counted from `first`, has its true future in target i, `offset` rows
    later, and all other targets are its negatives. Scores, `label`, `weight` and gamma are matrices
    `(n, n)` [context, target], and nothing is listed event by event. Of several ranks each has the
    contexts of its own samples, `(m, n)`, which stand in rows of their own.

    Attributes:
        number: of each context's true future among the targets, 0 to n - 1; true, other: what turns
            sums into averages, see `Events`, for each context `(m,)` that of its true pair and that
            of each of the others, 0 for those that take no part.
        start: the first row that is a target, by default `first + offset`; n: how many are, by
            default as many as contexts; among: the pairs that take part, on all ranks, 0 where
            nobody has counted them.
    """

    k: int
    number: Array
    true: Array
    other: Array
    offset: int
    first: int = 0
    start: int | None = None
    n: int = 0
    among: int = 0

    @property
    def same(self) -> Array:
        """Whether the target is the true future, bool."""
        return self.number[:, None] == array_module(self.number).arange(self._count)

    @property
    def label(self) -> Array:
        """y, +1 or -1."""
        one = (self.true * 0 + 1)[:, None]
        return array_module(one).where(self.same, one, -one)

    @property
    def weight(self) -> Array:
        xp = array_module(self.true)
        return xp.where(self.same, self.true[:, None], self.other[:, None])

    def contexts(self, layout: Layout) -> slice:
        """The rows that are contexts."""
        return slice(self.first, self.first + len(self.number))

    def targets(self, layout: Layout) -> slice:
        """The rows that are targets."""
        return slice(self._start, self._start + self._count)

    @property
    def _start(self) -> int:
        return self.first + self.offset if self.start is None else self.start

    @property
    def _count(self) -> int:
        return self.n or len(self.number)

    def scores(self, targets: Array, contexts: Array, layout: Layout) -> Array:
        """`u_ij`, the scalar products of all contexts with all targets."""
        return kernels.product(contexts, targets.T)

    def onto_targets(self, out: Array, gamma: Array, contexts: Array, layout: Layout) -> None:
        """`out_j += sum over i of gamma_ij contexts_i`."""
        out += kernels.product(gamma.T, contexts)

    def onto_contexts(self, out: Array, gamma: Array, targets: Array, layout: Layout) -> None:
        """`out_i += sum over j of gamma_ij targets_j`."""
        out += kernels.product(gamma, targets)

    def open(self, gates: Array) -> Array:
        """The fraction of gates that are open, of those that take part."""
        parts = self.among or array_module(gates).maximum((self.weight != 0).sum(), 1)
        return gates.sum() / parts

    def listed(self) -> tuple[Events, Array]:
        """The same, one event after the other, and which of the pairs `(n n,)` take part."""
        xp, start, n = array_module(self.true), self._start, self._count
        weight = self.weight.reshape(-1)
        (taken,) = xp.nonzero(weight)
        context, target = taken // n + self.first, taken % n + start
        label = self.label.reshape(-1)[taken]
        return Events(
            self.k, context, target, label, weight[taken], first=self.first, floor=start
        ), taken

    def on(self, device: str, dtype: np.dtype) -> "AllPairs":
        """The same as arrays of `device`, weights in `dtype`."""
        return replace(
            self,
            number=to_device(self.number, device),
            true=to_device(self.true.astype(dtype), device),
            other=to_device(self.other.astype(dtype), device),
        )


@dataclass(frozen=True)
class AllTogether:
    """All pairs of all prediction steps of a draw in one, those of both halves, as a card takes
    them: the contexts of a step after those of the other, first those of `pred`.

    Its methods are those of `Together`.

    Attributes:
        event: all contexts with their targets; share: of each context's pairs in the fraction of
            open gates, `(contexts,)`.
        how: for `Steps`: `steps`, what their `AllPairs` have besides arrays; `first`, the first row
            that is a context, for each half; `contexts`, how many there are at a step; `targets`,
            the first target of every step, for each half.
    """

    event: AllPairs
    share: Array
    how: Mapping[str, Any]

    first = property(lambda self: self.how["first"])
    contexts = property(lambda self: self.how["contexts"])

    def scores(self, z: Array, contexts: Array) -> Array:
        """The scores of all pairs, `(steps contexts, targets)`."""
        u = array_module(z).empty((len(contexts), self.event.n), z.dtype)
        for half, targets in self._halves(z):
            kernels.multiply(self._by_step(contexts[half]), targets, out=self._by_step(u[half]))
        return u

    def hinge(self, u: Array) -> tuple[Array, Array, Array]:
        """gamma, the loss and the open gates by Eq. (3), see `kernels.hinge_pairs`."""
        event = self.event
        return kernels.hinge_pairs(u, event.number, event.true, event.other, self.share)

    def open(self, gates: Array) -> Array:
        """The fraction of gates that are open, a mean over steps and halves."""
        return (gates * self.share[:, None]).sum()

    def by_context(self, u: Array, targets: int) -> tuple[Array, Array, Array, Array]:
        """The scores as they are, and what stands beside them, see `Together.by_context`."""
        return u, self.event.number, self.event.true, self.share

    def onto_targets(self, out: Array, gamma: Array, contexts: Array) -> None:
        """For each pair of the first half `out[target] += gamma contexts[context]`."""
        for i, start in enumerate(self.how["targets"][0]):
            of = slice(i * self.contexts, (i + 1) * self.contexts)
            to = out[start : start + self.event.n]
            kernels.multiply(gamma[of].T, contexts[of], out=to, add=True)

    def met(self, gamma: Array, z: Array) -> Array:
        """The targets as each context of each step meets them, the sum over pairs of gamma z."""
        out = array_module(z).empty((len(gamma), z.shape[1]), z.dtype)
        for half, targets in self._halves(z):
            met = gamma[half], targets.transpose(0, 2, 1), out[half]
            kernels.multiply(self._by_step(met[0]), met[1], out=self._by_step(met[2]))
        return out

    def step(self, i: int) -> AllPairs:
        """The pairs of one step, counted through both halves."""
        of = slice(i * self.contexts, (i + 1) * self.contexts)
        own = {name: getattr(self.event, name)[of] for name in ("number", "true", "other")}
        return AllPairs(**own, **self.how["steps"][i])

    def _by_step(self, rows: Array) -> Array:
        """Rows of all steps of a half as a stack, `(steps, contexts, ...)`."""
        return rows.reshape(-1, self.contexts, rows.shape[1])

    def _halves(self, z: Array) -> Iterator[tuple[slice, Array]]:
        """The rows of each half among all contexts, and its targets, a stack of matrices
        `(steps, D, targets)` that lie over each other in z: those of a step begin `between` rows
        after those of the step before."""
        windows = array_module(z).lib.stride_tricks.sliding_window_view(z, self.event.n, axis=0)
        for half, starts in enumerate(self.how["targets"]):
            K, between = len(starts), starts[1] - starts[0] if len(starts) > 1 else 1
            targets = windows[starts[0] : starts[-1] + 1 : between]
            yield slice(half * K * self.contexts, (half + 1) * K * self.contexts), targets


def _compared(
    halves: Sequence[Sequence[AllPairs]], every: Sequence[AllPairs]
) -> AllTogether | None:
    starts = [[e._start for e in half] for half in halves]
    between = {b - a for half in starts for a, b in pairwise(half)}
    sizes = {(len(e.number), e._count) for e in every}
    if len(sizes) > 1 or len(between) > 1 or min(between, default=1) < 1:
        return None
    ((contexts, n),) = sizes
    # Numbers of 32 bits are what a card computes with where they suffice, see `hinge_pairs`.
    dtype = np.int32 if len(every) * contexts * n < 2**31 else np.int64
    number, true, other = (
        np.concatenate([getattr(e, name) for e in every]) for name in ("number", "true", "other")
    )
    among = [e.among or max(1, np.count_nonzero(e.weight)) for e in every]
    share = np.repeat([1 / (a * len(every)) for a in among], contexts).astype(true.dtype)
    names = "k", "offset", "first", "start", "n", "among"
    steps = [{name: getattr(e, name) for name in names} for e in every]
    how = {"steps": steps, "first": [half[0].first for half in halves], "contexts": contexts}
    event = AllPairs(0, number.astype(dtype), true, other, 0, n=n)
    return AllTogether(event, share, how | {"targets": starts})


def all_pairs(
    layout: Layout,
    k: int,
    steps: int,
    positive: np.ndarray,
    negative: np.ndarray,
    start: int = 0,
    factor: float = 1.0,
) -> AllPairs:
    """All pairs of prediction step `k` of `steps`; contexts are the same at every step.

    They are those that have a future at the last step, T - K frames of each sample. Their targets
    are the frames k later, n = B (T - K) of them, so that each has n - 1 negatives, among them
    other frames of its own sample, its own frame too. The appendix of Illing et al. 2021 counts
    B T - 3 of them, the published code B (T - 3) - 1, as here.

    Args:
        positive, negative: bool `(B,)`, as of `events`; start: the time of the first context;
        factor: of all weights.
    """
    n, each = layout.contexts(steps), layout.samples * layout.lanes
    number = layout.of_mine(np.arange(n))
    sample = layout.sample(number)
    trues, others = _counts(layout, steps, positive, negative, n - 1)
    true = positive[sample] * (factor / max(1, trues) / steps)
    other = negative[sample] * (factor / max(1, others) / steps)
    among = max(1, trues + others)
    pairs = AllPairs(k, number, true, other, layout.offset(k), start * each, among=among)
    if layout.mine is None:
        return pairs
    begin, end = layout.mine
    own = {"first": start * (end - begin) * layout.lanes, "start": pairs.targets(layout).start}
    return replace(pairs, **own, n=n)


def events(
    layout: Layout,
    k: int,
    steps: int,
    positive: np.ndarray,
    negative: np.ndarray,
    who: np.ndarray,
    start: int = 0,
    floor: int | None = None,
) -> Events:
    """The events of prediction step `k` of `steps`, from draws made by the caller.

    Args:
        positive, negative: bool `(B,)`, images that take part with their true future, and with
            negatives.
        who: the negatives, rows `(contexts, N)`, of the contexts of `layout.mine`.
        start: the time of the first context; floor: see `Events`.

    Returns:
        Events ordered by context, for each the positive one before its negatives.
    """
    context, true, image = _truth(layout, k, start)
    target = np.concatenate([true, who], axis=1)
    takes_part = np.empty(target.shape, bool)
    takes_part[:, :1], takes_part[:, 1:] = positive[image], negative[image]
    taken = np.flatnonzero(takes_part)
    row, place = np.divmod(taken, target.shape[1])
    fixation = place == 0
    trues, others = _counts(layout, k, positive, negative, who.shape[1])
    weight = np.where(fixation, 1 / max(1, trues), 1 / max(1, others)) / steps
    label = np.where(fixation, 1.0, -1.0)
    first = start * layout.samples * layout.lanes
    targets = target.reshape(-1)[taken]
    among = max(1, trues + others) if layout.mine else 0
    return Events(k, context[row], targets, label, weight, first=first, floor=floor, among=among)


def _counts(
    layout: Layout, k: int, positive: np.ndarray, negative: np.ndarray, negatives: int
) -> tuple[int, int]:
    """True pairs and others in the whole batch, of the contexts that have a future at step k."""
    each = layout.contexts(k) // layout.samples
    return np.count_nonzero(positive) * each, np.count_nonzero(negative) * each * negatives


@lru_cache(maxsize=256)
def _truth(layout: Layout, k: int, start: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The contexts `(contexts,)` of `layout.mine`, and for each its true future and its sample
    `(contexts, 1)`."""
    rows = np.arange(layout.contexts(k))
    context = start * layout.samples * layout.lanes + layout.of_mine(rows)
    place = context[:, None]
    return context, place + layout.offset(k), layout.sample(place)


def keyed(drawn: tuple[Events, ...], rng: np.random.Generator) -> tuple[Events, ...]:
    """The same events, those of every prediction step with a key of their own."""
    return tuple(replace(e, key=int(rng.integers(2**63))) for e in drawn)


def same_place(layout: Layout, k: int, others: np.ndarray, start: int = 0) -> np.ndarray:
    """Negatives of other samples `others (B, N)`, each at the place of the true future.

    Args:
        others: for each sample of `layout.mine`.

    Returns:
        Patch numbers `(contexts, N)`, as `events` takes them.
    """
    _, future, _ = _truth(layout, k, start)
    row, image, column = np.unravel_index(future[:, 0], layout.shape)
    row, column = row[:, None], column[:, None]
    image = image if layout.mine is None else image - layout.mine[0]
    return (row * layout.samples + others[image]) * layout.lanes + column


def draw(
    layout: Layout,
    rng: np.random.Generator,
    *,
    steps: int = 5,
    coin: bool = True,
    negatives: int = 1,
    negatives_from: str = "patch",
    factor: float = 1.0,
) -> tuple[Events, ...] | tuple[AllPairs, ...]:
    """Draw the events of every prediction step.

    Args:
        coin: each image takes part with one sign, by a fair coin that holds for all prediction
            steps (CLAPP); otherwise with both (CLAPP-s).
        negatives: how many for each context, drawn anew for each prediction step.
        negatives_from: `patch`, the same place in other samples (one sample for all places);
            `batch`, any target of the batch; `all`, any encoding of the batch, as GIM's audio
            code has it: of as many random orders of all rows as there are negatives, the last
            entries are those of the contexts, at every prediction step; or `others`, each other
            target of the batch, as the published video code has it, see `all_pairs`, whatever
            `negatives` says.
        factor: of the loss over all pairs.

    Raises:
        UserError: too few rows of patches for `steps`, or no other image to take negatives from.
    """
    if layout.within < steps + layout.skip + 1:
        raise UserError(
            f"{steps} prediction steps need at least {steps + layout.skip + 1} time steps (rows of "
            f"patches in an image), there are {layout.within}: take a larger --crop, a smaller "
            "--patch or fewer --prediction-steps"
            if layout.skip
            else f"{steps} prediction steps need at least {steps + 1} frames, the highest map has "
            f"{layout.within}: take longer --samples, a wider --frames or fewer --prediction-steps"
        )
    if negatives_from == "patch" and layout.samples < 2:
        raise UserError("negatives of other images need a batch of at least 2, it has 1")
    fixation = rng.random(layout.samples) < 0.5 if coin else np.ones(layout.samples, bool)
    saccade = ~fixation if coin else fixation
    later = layout.time - layout.within
    start = int(rng.integers(0, later)) if later else 0
    if negatives_from == "others":
        how = fixation, saccade, start, factor
        return tuple(all_pairs(layout, k, steps, *how) for k in range(1, steps + 1))
    shuffled = None
    if negatives_from == "all":
        shuffled = np.stack([rng.permutation(layout.rows) for _ in range(negatives)], axis=1)
    drawn = []
    for k in range(1, steps + 1):
        floor = None
        if negatives_from == "patch":
            away = rng.integers(1, layout.samples, (layout.samples, negatives))
            # Numbers are drawn for the whole batch, that any number of ranks learns the same.
            own = layout.mine or (0, layout.samples)
            others = (np.arange(*own)[:, None] + away[slice(*own)]) % layout.samples
            who = same_place(layout, k, others, start)
        elif shuffled is not None:
            who, floor = layout.of_mine(shuffled[-layout.contexts(k) :]), 0
        else:
            who = rng.integers(layout.offset(k), layout.rows, (layout.contexts(k), negatives))
            who = layout.of_mine(who)
        drawn.append(events(layout, k, steps, fixation, saccade, who, start, floor))
    return tuple(drawn)
