"""Does a network tell the future from something else? On examples that it has not learned from."""

from copy import copy
from dataclasses import dataclass

import numpy as np

from plasticity import learning
from plasticity.probes.probe import random_start
from plasticity.rule import Role
from plasticity.runs.run import State


@dataclass(frozen=True)
class Foresight:
    """How well the losses of a network are met on batches that no weight has moved for.

    Attributes:
        examples: how many were looked at; loss: the mean of every loss.
        told: for each loss the share of samples whose score has the sign of the sample, positive
            for a true future and negative for another one, each kind counting half, so that chance
            is 1/2; None where a rule's loss is not Eq. (3).
    """

    examples: int
    loss: np.ndarray
    told: np.ndarray | None


@dataclass(frozen=True)
class Learned:
    """The foresight of a run's random start and of the run, on the same batches."""

    start: Foresight
    now: Foresight

    def as_dict(self) -> dict[str, object]:
        """As stored in `summary.json`."""
        found: dict[str, object] = {"examples": self.now.examples}
        for name in ("loss", "told"):
            for when, one in (("start", self.start), ("now", self.now)):
                value = getattr(one, name)
                if value is not None:
                    found[f"{name}_{when}"] = value.tolist()
        return found


def learned(state: State, batches: int = 1) -> Learned | None:
    """What a run has learned, told by what it foresees in its coming batches.

    Returns:
        None where a rule descends no loss.
    """
    now = foresee(state, batches)
    if now is None:
        return None
    start = copy(state)  # with the data set that is open
    start.weights = random_start(state)
    return Learned(foresee(start, batches), now)


def foresee(state: State, batches: int = 1) -> Foresight | None:
    """The losses of a run, and the scores behind them, on its coming batches.

    Batches, crops and draws are functions of the seed and the step: two states of one run at the
    same step meet the same ones. No weight moves.

    Returns:
        None where a rule descends no loss.
    """
    hinge = all(rule.hinge for rule in state.rules if rule is not None)
    losses: list[np.ndarray] = []
    told: list[np.ndarray] = []
    for further in range(batches):
        seen: list[float] = []

        def watch(watched: learning.Watched, seen: list[float] = seen) -> None:
            seen.extend(right(scored.roles) for scored in watched.predicted)

        _, updates = state.next(watch if hinge else None, further)
        reports = [report for update in updates for report in update.reports.values()]
        if any(report.loss is None for report in reports):
            return None
        losses.append(np.array([float(report.loss) for report in reports]))
        told.append(np.array(seen))
    mean = np.mean(told, axis=0) if hinge else None
    return Foresight(batches * state.options.batch, np.mean(losses, axis=0), mean)


def right(roles: tuple[Role, ...]) -> float:
    """The share of samples whose score has their sign, `y u > 0`, over positive ones and others.

    Where both halves of a prediction have scores of their own, all count.
    """
    hits = dict.fromkeys((1, -1), 0.0)
    count = dict.fromkeys((1, -1), 0.0)
    for role in roles:
        y, takes_part = role.events.label, role.events.weight != 0
        for sign in hits:
            of = (y == sign) & takes_part
            hits[sign] += float((of & (y * role.score > 0)).sum())
            count[sign] += float(of.sum())
    return float(np.mean([hits[sign] / count[sign] for sign in hits if count[sign]]))
