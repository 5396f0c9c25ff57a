"""Two rules beside each other: the updates that both would make of the same weights.

    from plasticity import inspection

    run = inspection.open_run("runs/mine")
    found = inspection.compare_rules([run], "hinge_cpc", batches=8)
    found.pairs[0].cosine

dW is what the rule prescribes, before an optimiser. Both rules meet the same weights, the same
examples and, where they draw alike, the same negatives and signs: see `generators`.
"""

import math
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from plasticity import runs, seeds
from plasticity.arrays import Array, array_module
from plasticity.device import prefetched
from plasticity.errors import UserError
from plasticity.inspection.tables import blank
from plasticity.learning import rule_check
from plasticity.probes.probe import random_start
from plasticity.runs import lifecycle, run, warm
from plasticity.runs.options import OF_RULES, RunOptions, check_type
from plasticity.runs.run import State

OF_LEARNING = ("modules", "credit", "below_gru", "norm")
"""Options of a run that say how its network learns, besides those that are fields of rules."""
SETTINGS = (*OF_LEARNING, *OF_RULES)


@dataclass(frozen=True)
class Pair:
    """The updates of one parameter by two rules, at one step of a training.

    Cosine, ratio and signs are means over batches, each with its standard error, NaN for a single
    batch; they are NaN where a rule leaves the parameter as it is.

    Attributes:
        step: after so many steps of training.
        cosine: of the two dW; ratio: norm of the second over that of the first.
        signs: of the synapses that both move, the fraction that they move the same way.
        of_means: cosine of the two updates summed over all batches.
        batches: in which both move the parameter.
    """

    step: int
    layer: str
    parameter: str
    cosine: float
    cosine_error: float
    ratio: float
    ratio_error: float
    signs: float
    signs_error: float
    of_means: float
    batches: int


@dataclass(frozen=True)
class Beside:
    """Two rules on the weights of one network.

    Attributes:
        first, second: names of the rules; differ: settings by name in which they do, both values.
        size: examples in a batch.
        drawn: parameters of the second rule that the first keeps none of, and that were drawn by
            the seed, as for its own start.
        labelled: whether both learned from labelled examples because one of them reads labels.
    """

    first: str
    second: str
    differ: dict[str, tuple[object, object]]
    network: str
    data: str
    example: str
    size: int
    batches: int
    drawn: tuple[str, ...]
    labelled: bool
    pairs: list[Pair]

    @property
    def steps(self) -> list[int]:
        """The steps of training that were looked at."""
        return list(dict.fromkeys(pair.step for pair in self.pairs))

    @property
    def names(self) -> tuple[str, str]:
        """Both rules in a word each; where they are one, with what differs."""
        if self.first != self.second:
            return self.first, self.second
        settings = (
            ", ".join(f"{name} {both[i]}" for name, both in self.differ.items()) for i in (0, 1)
        )
        first, second = (f"{self.first} ({own})" for own in settings)
        return first, second

    @property
    def title(self) -> str:
        """What is compared, in a line."""
        first, second = self.names
        return f"{first} beside {second}, {self.network}"

    def as_dict(self) -> dict[str, object]:
        """For JSON, in which NaN is null."""
        found = asdict(self)
        found["pairs"] = [blank(pair) for pair in found["pairs"]]
        return found


def under(
    options: RunOptions, rule: str = "", given: Mapping[str, object] | None = None
) -> RunOptions:
    """The options of the same run under another rule, or under its own with other settings.

    Another rule has its own usual settings. What the run has otherwise than its own rule usually
    has, such as `prediction_steps`, it is given too, where it takes it. `given` wins over both.

    Args:
        rule: as `RunOptions.rule`, by default the run's own.
        given: settings by name: those of `SETTINGS`, or fields of the rule; values, or texts.

    Raises:
        UserError: a setting that is none, or that the rule does not take.
    """
    named = options.changed(rule=rule) if rule else options
    told, fields = _sorted(named, given or {})
    if named.rule == options.rule:
        return named.changed(**told, set={**options.set, **fields})
    usual = {name: one.unset for name, one in OF_RULES.items()} | {"modules": "", "set": {}}
    usual["layer"] = {}  # the other rule learns in all layers
    was, own = options.resolved(0), options.changed(**usual).resolved(0)
    chosen = {n: getattr(was, n) for n in SETTINGS if getattr(was, n) != getattr(own, n)}
    second = named.changed(**usual | told | {"set": fields})
    takes = rule_check.takes(second.rule_class())
    for name, value in chosen.items():
        if name in told or (name in OF_RULES and OF_RULES[name].name not in takes):
            continue
        try:
            with_it = second.changed(**{name: value})
            with_it.rule_object()
        except UserError:  # the rule has another meaning of it, or none
            continue
        second = with_it
    return second


def _sorted(options: RunOptions, given: Mapping[str, object]) -> tuple[dict, dict]:
    """Settings given by name: those that are options of a run, and those that are the rule's."""
    told: dict[str, object] = {}
    fields: dict[str, object] = {}
    takes = rule_check.takes(options.rule_class())
    for name, value in given.items():
        if name in SETTINGS:
            kind = type(getattr(RunOptions, name))
            if isinstance(value, str):
                value = rule_check.from_text(f"--set {name}={value}", value, kind)
            check_type(name, value)
            told[name] = value
        elif name in takes or not hasattr(RunOptions, name):
            fields[name] = value  # the rule says if it has no such field
        else:
            raise UserError(
                f"--set {name}: both rules meet the same run, of which this is an option; expected "
                f"{', '.join(OF_LEARNING)}, an option of rules or a field of this one: "
                f"{rule_check.in_words(options.rule_class())}"
            )
    return told, fields


def placed(state: State, options: RunOptions) -> tuple[State, tuple[str, ...]]:
    """The same network with the same weights under other options: those of `under`.

    What the first rule keeps and the second keeps too, such as W_pred, is the same; what the second
    alone keeps is drawn by the seed.

    Returns:
        The state, whose weights are the first one's own arrays, and the parameters that were drawn.

    Raises:
        UserError: parameters of one name and different shapes.
    """
    second, drawn = run.begin(options), []
    for layer, own in second.weights.items():
        for name, w in own.items():
            mine = state.weights.get(layer, {}).get(name)
            if mine is None:
                drawn.append(f"{layer}.{name}")
            elif mine.shape != w.shape:
                raise UserError(
                    f"{layer}.{name} has the shape {mine.shape} under {state.rule.name} and "
                    f"{w.shape} under {second.rule.name}, so that both cannot have the same: give "
                    "them the same settings, such as prediction_steps and context, by --set"
                )
            else:
                own[name] = mine
    second.step = state.step
    return second, tuple(drawn)


class _Apart(np.random.Generator):
    """A generator whose `random`, the coins of signs, comes from a stream of its own.

    So a rule without a coin draws the same negatives as one with it.
    """

    def __init__(self, seed: int, *key: int) -> None:
        super().__init__(seeds.generator(seed, *key, 0).bit_generator)
        self._coins = seeds.generator(seed, *key, 1)

    def random(self, *args: object, **how: object) -> object:
        return self._coins.random(*args, **how)


def generators(state: State, step: int) -> list[np.random.Generator]:
    """What every loss draws with when rules are compared: a function of seed, step and its name.

    Training numbers the losses, so that the top of six modules and of one draw differently; by
    name they draw alike.
    """
    return [
        _Apart(state.options.seed, seeds.DRAWS, step, zlib.crc32(name.encode()))
        for name in state.names
    ]


def changes(state: State, step: int) -> Iterator[tuple[str, str, Array]]:
    """Layer, parameter and dW of everything that a rule changes by the batch of a step."""
    batch = state.batch(step, generators=generators(state, step))
    (there,) = prefetched([batch], state.device)
    with np.errstate(over="ignore", invalid="ignore"):
        for update in state.updates(there):
            for layer, own in update.changes.items():
                for name, dW in own.items():
                    yield layer, name, dW


def compare_rules(
    states: Iterable[State],
    rule: str = "",
    given: Mapping[str, object] | None = None,
    *,
    batches: int = 1,
    first_step: int | None = None,
    report: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> Beside:
    """The updates of a run's rule beside those of another one, or of its own with other settings.

    Args:
        states: of one run, at several steps of its training (`over_training`), or a single one; no
            weight of theirs moves.
        rule, given: see `under`.
        batches: over so many batches; first_step: that of the first one, by default the next step
            of the first state. They are the same for all states.
        report: called with what is done, how far, of how much.

    Raises:
        UserError: rules that have no update to compare, or cannot meet.
    """
    pairs: list[Pair] = []
    shared = None
    for state in states:
        options = under(state.options, rule, given)
        second, drawn = placed(state, options)
        if shared is None:
            _check(state, second)
            shared = (second if second.taught else state).stimulus
            first_step = state.step if first_step is None else first_step
        state.stimulus = second.stimulus = shared
        steps = range(first_step, first_step + batches)
        pairs += _pairs(state, second, steps, report)
    if shared is None:
        raise UserError("there is nothing to compare: the training names no step")
    if not pairs:
        raise UserError(
            f"{state.rule_name} and {second.rule_name} change no parameter in common here: there "
            "is nothing to compare"
        )
    labelled = [one.taught for one in (state, second)]
    return Beside(
        state.rule_name,
        second.rule_name,
        differing(state.options, options),
        state.network.name,
        state.options.data,
        shared.example,
        state.options.batch,
        batches,
        drawn,
        labelled[0] != labelled[1],
        pairs,
    )


def differing(first: RunOptions, second: RunOptions) -> dict[str, tuple[object, object]]:
    """The settings, of those that both rules take, in which they differ: both values by name.

    And those that the second alone takes and was asked for; the first value is then None.
    """
    a, b = first.resolved(0), second.resolved(0)
    takes = [rule_check.takes(one.rule_class()) for one in (a, b)]
    found = {}
    for name in SETTINGS:
        if name in OF_RULES and not all(OF_RULES[name].name in of for of in takes):
            if getattr(second, name) != OF_RULES[name].unset:
                found[name] = None, getattr(b, name)
        elif (both := (getattr(a, name), getattr(b, name)))[0] != both[1]:
            found[name] = both
    rules = [one.rule_object() for one in (a, b)]
    for name in sorted({*a.set, *b.set}):
        both = tuple(getattr(one, name, None) for one in rules)
        if name not in found and both[0] != both[1]:
            found[name] = both
    return found


def _check(first: State, second: State) -> None:
    """Refuse rules that have nothing to compare."""
    for one in (first, second):
        if not one.learns:
            raise UserError(f"the rule {one.rule_name} changes no weights: it has no update")
    if first.options.rule == second.options.rule and not differing(first.options, second.options):
        raise UserError(
            f"both are {first.rule.name} with the same settings, so that their updates are one: "
            "name another rule by --with, or a setting by --set, such as --set weights=symmetric"
        )


@dataclass
class _Sums:
    """What is summed over batches for one parameter."""

    numbers: list[tuple[float, float, float]]
    first: Array
    second: Array


def _pairs(first: State, second: State, steps: Sequence[int], report: Callable) -> list[Pair]:
    """The rows of one state."""
    sums: dict[tuple[str, str], _Sums] = {}
    for done, step in enumerate(steps):
        mine = {(layer, name): dW for layer, name, dW in changes(first, step)}
        for layer, name, b in changes(second, step):
            a = mine.pop((layer, name), None)
            if a is None:
                continue
            one = sums.setdefault((layer, name), _Sums([], 0.0, 0.0))
            one.numbers.append(measured(a, b))
            one.first, one.second = one.first + a, one.second + b
        report(f"step {first.step}", done + 1, len(steps))
    order = [layer.name for layer in first.network.convolutions]
    rows = sorted(sums.items(), key=lambda item: _place(order, *item[0]))
    return [
        Pair(first.step, *key, *_means(one), measured(one.first, one.second)[0], _moved(one))
        for key, one in rows
    ]


def _place(order: Sequence[str], layer: str, name: str) -> tuple:
    """Weights of all layers from below, then W_pred and what else rules keep, then biases."""
    kind = 2 if "bias" in name else 0 if name.startswith("weight") else 1
    return kind, order.index(layer) if layer in order else len(order), layer, name


def measured(a: Array, b: Array) -> tuple[float, float, float]:
    """Cosine of two updates, norm of the second over that of the first, and agreement of signs.

    The last is a fraction of the entries that are 0 in neither. NaN where an update is 0.
    """
    xp = array_module(a)
    a, b = (array.reshape(-1).astype(np.float64) for array in (a, b))
    a_size, b_size = (float(xp.sqrt(array @ array)) for array in (a, b))
    if not (a_size and b_size):
        return math.nan, math.nan, math.nan
    both = (a != 0) & (b != 0)
    count = int(both.sum())
    same = int(((xp.sign(a) == xp.sign(b)) & both).sum())
    cosine = float(a @ b) / (a_size * b_size)
    return cosine, b_size / a_size, same / count if count else math.nan


def _means(one: _Sums) -> list[float]:
    """Means over batches and their standard errors, alternately."""
    values = np.array(one.numbers)
    values = values[np.isfinite(values).all(axis=1)]
    if not len(values):
        return [math.nan] * 6
    several = len(values) > 1
    error = values.std(axis=0, ddof=1) / np.sqrt(len(values)) if several else np.full(3, np.nan)
    return [float(v) for both in zip(values.mean(axis=0), error, strict=True) for v in both]


def _moved(one: _Sums) -> int:
    return int(np.isfinite(one.numbers).all(axis=1).sum())


def checkpoints(folder: Path) -> dict[int, Path | None]:
    """The steps of a run's training whose weights are there, each with its file.

    The start is always there: it is drawn by the seed, and has no file if none was kept, or it is
    that of a run that began with another one's weights.
    """
    last, began = runs.checkpoint_of(folder), warm.path_of(folder)
    found: dict[int, Path | None] = {0: began if began.is_file() else None, **runs.kept(folder)}
    return {**found, runs.load(last, moments=False).step: last}


def over_training(
    folder: Path, steps: Sequence[int] = (), **how: object
) -> tuple[list[int], Iterator[State]]:
    """A run at the steps of its training whose weights are there, from the first.

    Args:
        steps: only these; how: as of `lifecycle.reopen`.

    Returns:
        The steps, and a state for each; one is opened at a time.

    Raises:
        UserError: a step without a checkpoint.
    """
    there = checkpoints(folder)
    if missing := sorted(set(steps) - set(there)):
        raise UserError(
            f"{folder} has no checkpoint of step {', '.join(map(str, missing))}: there are "
            f"{', '.join(map(str, there))}; 'plasticity run --keep-every N', or --keep-weights N, "
            "keeps them"
        )
    wanted = sorted(set(steps or there))

    def states() -> Iterator[State]:
        for step in wanted:
            path = there[step] or there[max(there)]
            state = lifecycle.reopen(folder, path, **how)
            if there[step] is None:
                state = replace(state, weights=random_start(state), step=0)
            yield state

    return wanted, states()
