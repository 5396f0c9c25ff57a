"""How ranks share the contexts of a batch, and what each needs of the others for its own.

A rank computes the events whose contexts are of its own samples. It needs foreign encodings as
their targets, and no more of them than its events name; the drive on these goes back to the ranks
that have them. Loss, open gates and the dW of a rule's own parameters are sums over events, and so
over ranks. A rule says by `at_once` that it looks at each context by itself.

Targets are numbered anew for a rank: those of its own samples in the order of their own layout, and
behind them the foreign ones that its events name, by their owners. Where a context is compared with
all targets, they are those of the whole batch in its order.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from plasticity.arrays import Array
from plasticity.events import AllPairs, Events, Foreign, Layout
from plasticity.learning.ranks import Ranks
from plasticity.rule import Draw, Learning, Rule, at_once


def shared(rule: Rule) -> bool:
    """Whether ranks may share the contexts of its events: others see the whole batch."""
    return at_once(rule) and getattr(rule, "gate", "") != "circuit"


def numbered(draw: Draw, layout: Layout) -> Draw:
    """A draw of the host with its events in the rows of one rank, and the rows of others' it names.

    Args:
        layout: of the whole batch, with the samples that are the rank's, `Layout.mine`.
    """
    halves = [half for half in (draw.pred, draw.retro) if half is not None]
    if isinstance(draw.pred[0], AllPairs):
        return draw
    every, own = [e for half in halves for e in half], layout.own()
    home = layout.mine[0] // own.samples * own.rows  # the place of its first row
    context, target = (
        _places(np.concatenate([getattr(e, name) for e in every]), layout) - home
        for name in ("context", "target")
    )
    away = (target < 0) | (target >= own.rows)
    foreign = np.unique(target[away])
    target[away] = own.rows + np.searchsorted(foreign, target[away])
    ends = np.cumsum([len(e.context) for e in every])[:-1]
    places = zip(np.split(context, ends), np.split(target, ends), strict=True)

    def again(event: Events) -> Events:
        context, target = next(places)
        first = event.first // layout.samples * own.samples
        return replace(event, context=context, target=target, first=first)

    foreign = foreign + home
    pred, retro = (half and tuple(map(again, half)) for half in (draw.pred, draw.retro))
    counts = np.bincount(foreign // own.rows, minlength=layout.samples // own.samples)
    needs = Foreign(tuple(counts.tolist()), foreign % own.rows)
    return replace(draw, pred=pred, retro=retro, foreign=needs)


def _places(rows: np.ndarray, layout: Layout) -> np.ndarray:
    """Rows of the whole batch by their owners: rank * rows of each + row among its own."""
    time, sample, lane = np.unravel_index(rows, layout.shape)
    samples = layout.mine[1] - layout.mine[0]
    owner, sample = np.divmod(sample, samples)
    return ((owner * layout.time + time) * samples + sample) * layout.lanes + lane


def asked(batches: Iterable[Any], ranks: Ranks | None) -> Iterator[Any]:
    """The batches, where ranks know which of their encodings the others name."""
    for batch in batches:
        needs = [draw.foreign for draw in batch.draws if draw.foreign is not None]
        if ranks and needs:
            told = iter(ranks.ask(needs))
            draws = [
                d if d.foreign is None else replace(d, foreign=next(told)) for d in batch.draws
            ]
            batch = replace(batch, draws=tuple(draws))
        yield batch


def learn(
    ranks: Ranks,
    rule: Rule,
    z: Array,
    own: dict[str, Array],
    draw: Draw,
    layout: Layout,
    above: Array | None = None,
) -> Learning:
    """`Rule.learn` among ranks: the drives on this one's own encodings.

    Args:
        z, above: encodings of this rank where the rule's contexts are shared, and dW, loss and open
            gates are then parts of sums over ranks; of the whole batch for other rules.
        layout: of the whole batch.
    """
    if not shared(rule):
        made = rule.learn(z, own, draw, layout, *(() if above is None else (above,)))
        up = made.context_drive
        up = None if up is None else ranks.own(up, layout)
        return replace(made, drive=ranks.own(made.drive, layout), context_drive=up)
    contexts = z if above is None else above
    if draw.foreign is None:  # every target
        made = rule.learn(ranks.gather(z, layout), own, draw, layout, contexts)
        drive = ranks.scatter(made.drive, layout)
    else:
        here = ranks.layout(layout).own(sum(draw.foreign.named))
        made = rule.learn(ranks.fetch(z, draw.foreign), own, draw, here, contexts)
        drive = ranks.bring(made.drive, draw.foreign)
    if above is None:
        return replace(made, drive=drive + made.context_drive, context_drive=None)
    return replace(made, drive=drive)
