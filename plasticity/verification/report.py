"""All checks of a rule in one: its loss, its locality, the sum of its events."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from plasticity.errors import UserError
from plasticity.inspection.check import Sum, sums
from plasticity.learning import NETWORKS_OWN
from plasticity.rule import Rule
from plasticity.runs import run
from plasticity.runs.options import RunOptions
from plasticity.runs.run import State
from plasticity.runs.training import learn_batch
from plasticity.verification import definition, differences, gradient, junit, locality
from plasticity.verification.gradient import Comparison
from plasticity.verification.locality import Dependence


@dataclass(frozen=True)
class Verified:
    """What was found; `no_loss` and `no_events` say in a sentence what could not be compared, and
    `in_full` that the rule was checked in another precision than the run's.

    Attributes:
        missed: the rules of which nothing was compared with something independent.
        comparisons: dW beside the gradient, the rule's definition, or another device's.
        dependences: see `locality.check`; sums: of events, see `inspection.check.sums`.
    """

    rule: str
    network: str
    locality: str
    comparisons: list[Comparison]
    dependences: list[Dependence]
    sums: list[Sum]
    no_loss: str = ""
    no_events: str = ""
    missed: tuple[str, ...] = ()
    in_full: str = ""

    @property
    def rows(self) -> list[Comparison | Dependence | Sum]:
        return [*self.comparisons, *self.dependences, *self.sums]

    @property
    def compared(self) -> bool:
        """Whether there was something independent to compare the dW of every rule with."""
        return bool(self.comparisons) and not self.missed

    @property
    def holds(self) -> bool:
        """Whether every check holds, and dW was compared with something independent."""
        return self.compared and all(row.verdict == "ok" for row in self.rows)

    @property
    def hint(self) -> str:
        """What all that differs has in common, if it points to one mistake."""
        cosines = [row.cosine for row in self.comparisons if row.verdict == "differs"]
        if cosines and max(cosines) < -1 + 1e-6:
            return "Where dW is wrong it points the other way: check the signs"
        if cosines and min(cosines) > 1 - 1e-6:
            return "Where dW is wrong it points the right way, with another size: check the factors"
        return ""

    def as_dict(self) -> dict[str, object]:
        """Every row, for JSON."""
        found = {n: v for n, v in self.__dict__.items() if isinstance(v, str)} | {
            "hint": self.hint,
            "compared": self.compared,
            "holds": self.holds,
        }
        for name, rows in (
            ("rows", self.comparisons), ("dependences", self.dependences), ("sums", self.sums)
        ):  # fmt: skip
            found[name] = [{**asdict(row), "verdict": row.verdict} for row in rows]
        return found

    def junit(self) -> str:
        """Every row as a test case."""
        cases = []
        for row in self.rows:
            if isinstance(row, Comparison):
                name = f"{row.layer}.{row.parameter}"
                name += ", definition" if row.method == "definition" else ""
                why = f"relative error {row.error:.1e} at {row.place}, tolerance {row.tolerance:g}"
            elif isinstance(row, Dependence):
                name, why = f"{row.layer}, {row.changed}", f"states locality {row.locality}"
            else:
                name = f"{row.layer}.{row.parameter}{list(row.index)}"
                why = f"events add up to {row.total:.9g}, dW is {row.applied:.9g}"
            bad = "" if row.verdict == "ok" else f"{row.verdict}: {why}"
            group = {Comparison: "gradient", Dependence: "locality", Sum: "events"}[type(row)]
            cases.append((group, f"{name}, seed {row.seed}", bad))
        if not self.compared:
            cases.append(("gradient", "dW", f"nothing independent to compare with: {self.no_loss}"))
        return junit.document(f"plasticity verify {self.rule}", cases)


def fresh(options: RunOptions) -> State:
    """A run at its start."""
    return run.begin(options)


def verify(
    states: Sequence[State],
    *,
    batch: int = 4,
    gain: float = 1.0,
    method: str = "torch",
    samples: int = 12,
    against: str = "",
    tolerance: float | None = None,
    report: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> Verified:
    """Check a rule on the steps that seeds 0, 1, ... draw.

    Args:
        states: one for each seed, fresh or trained; gain: multiplies their weights.
        method: `torch` or `finite-difference`, with so many `samples` of each parameter.
        against: a GPU, to be compared with in place of the loss.
        report: called with what was checked, how far, of how much.

    Of runs that round the operands of products the rule is checked without that, but for
    `against`: what it costs is no fault of the rule.

    Raises:
        UserError: torch, or the GPU, is missing.
    """
    rounds = states[0].options.precision
    states = states if against else list(map(_in_full, states))
    state = states[0]
    comparisons, dependences, found = [], [], []
    no_loss, no_events = "", _no_events(state.assigned.learn)
    total = 3 * len(states)
    for seed, one in enumerate(states):
        report("checks", 3 * seed, total)
        made = gradient.case(one, seed=seed, batch=batch, gain=gain)
        if against:
            comparisons += gradient.on_device(made, against, tolerance)
        else:
            without = [rule.name for rule in one.assigned.learn if not gradient.has_loss(rule)]
            if without:
                names = " and ".join(without)
                are = "is the gradient" if len(without) == 1 else "are gradients"
                no_loss = f"{names} {are} of no loss: there is none to compare with"
            if len(without) == len(one.assigned.learn):
                pass
            elif method == "torch":
                comparisons += gradient.compare(made, tolerance)
            else:
                comparisons += differences.compare(made, samples, tolerance)
        if not against and any(map(definition.has_definition, one.assigned.learn)):
            learned = gradient.case(_learned(one), seed=seed, batch=batch, gain=gain)
            comparisons += definition.compare(learned, samples, tolerance)
        report("checks", 3 * seed + 1, total)
        dependences += locality.check(made)
        report("checks", 3 * seed + 2, total)
        try:
            found += [] if no_events else sums(_multiplied(one, gain), seed)
        except UserError as error:
            no_events = str(error)
    report("checks", total, total)
    return Verified(
        state.rule_name,
        state.network.name,
        locality.in_words(state),
        comparisons,
        dependences,
        found,
        no_loss,
        no_events,
        _missed(made, comparisons),
        "" if state.options.precision == rounds else f"checked in float32: the run's is {rounds}",
    )


def _in_full(state: State) -> State:
    """The same run, its products of operands as they are."""
    if state.options.precision == "float32":
        return state
    options = state.options.changed(precision="float32")
    return state.but(options=options, network=state.network.with_precision("float32"))


def _missed(made: gradient.Case, comparisons: Sequence[Comparison]) -> tuple[str, ...]:
    """The rules of which no layer was compared with anything."""
    layers = {row.layer for row in comparisons}
    met = [update.rule for update in made.updates if layers & update.changes.keys()]
    return tuple(rule.name for rule in made.state.assigned.learn if rule not in met)


def _learned(state: State, steps: int = 2) -> State:
    """A fresh run after some steps of learning, where its rule keeps something from step to step.

    So that a threshold, an expectation or an eligibility is not what it was at its start.
    """
    keeps = any(set(own) - set(NETWORKS_OWN) for own in state.weights.values())
    if state.step or not keeps:
        return state
    weights = {la: {n: w.copy() for n, w in own.items()} for la, own in state.weights.items()}
    optimiser = state.optimiser.restarted(weights)
    learned = state.but(weights=weights, optimiser=optimiser, metrics={"seconds": []})
    for step in range(steps):
        learn_batch(learned, learned.batch(step))
    return learned.but(step=0)


def _no_events(rules: Sequence[Rule]) -> str:
    without = [rule.name for rule in rules if type(rule).roles is Rule.roles]
    if len(without) == len(rules):
        return f"{' and '.join(without)} yields no roles: its events cannot be inspected"
    return ""


def _multiplied(state: State, gain: float) -> State:
    """The same run with its weights multiplied, as `verify.case` does."""
    weights = {
        layer: {name: w * w.dtype.type(gain) for name, w in own.items()}
        for layer, own in state.weights.items()
    }
    return state.but(weights=weights)
