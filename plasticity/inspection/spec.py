"""What `--record` asks for, in words: `layer=4,synapse=3:1:0:2;layer=*,random=1000`."""

from dataclasses import dataclass

import numpy as np

from plasticity import seeds
from plasticity.errors import UserError
from plasticity.inspection.step import index_of
from plasticity.learning import rules_own
from plasticity.runs.run import State

GRAMMAR = (
    "layer=NUMBER, NAME or *, and after commas what of it: synapse=POST:PRE:ROW:COL, random=COUNT "
    "(synapses, chosen by the seed), neurons=FIRST:LAST (LAST left out), all, NAME=I:J:... (an "
    "entry of a parameter that the rule keeps; prediction=K:J:I and retro=K:I:J mean those of "
    "W_pred and W_retro), and weights (their values too); semicolons between layers; of a layer "
    "alone 100 synapses are recorded"
)

SHORT = {"prediction": "W_pred", "retro": "W_retro"}


@dataclass(frozen=True)
class Wish:
    """What is recorded of one layer.

    Attributes:
        synapses: index of each, int `(S, 2 + dims)`, in the order asked for.
        neurons: whole neurons, int `(J,)`; weights: whether their values are wanted too.
        entries: of the rule's own parameters, by name, int `(S, dims)`; roles: of those that learn
            as Eq. (8) says, see `rule.Parameter`, whose entries are prediction step from 1, post,
            pre.
    """

    layer: int
    synapses: np.ndarray
    neurons: np.ndarray
    weights: bool
    entries: dict[str, np.ndarray]
    roles: dict[str, str]

    @property
    def synaptic(self) -> bool:
        """Whether synapses are wanted, or neurons with all of theirs."""
        return bool(len(self.synapses) or len(self.neurons))


def parse(spec: str, state: State) -> list[Wish]:
    """The wishes of a SPEC, one for each layer it names; what is said of it twice adds up.

    Raises:
        UserError: what cannot be understood, or is not there, in one sentence.
    """
    found: dict[int, list[str]] = {}
    for entry in filter(None, (part.strip() for part in spec.split(";"))):
        words = [word.strip() for word in entry.split(",")]
        key, _, layer = words[0].partition("=")
        if key != "layer" or not layer:
            raise UserError(f"--record: '{entry}' names no layer first: expected {GRAMMAR}")
        every = [
            i
            for i, conv in enumerate(state.network.convolutions)
            if state.rule_of(conv.name) is not None
        ]
        if layer != "*" and (named := index_of(state, layer)) not in every:
            name = state.network.convolutions[named].name
            raise UserError(f"--record: {name} is frozen in this run, and has no updates")
        for index in every if layer == "*" else [named]:
            found.setdefault(index, []).extend(words[1:])
    if not found:
        raise UserError(f"--record is empty: expected {GRAMMAR}")
    return [_wish(state, index, found[index]) for index in sorted(found)]


def _wish(state: State, index: int, words: list[str]) -> Wish:
    if set(words) <= {"weights"}:
        words = [*words, "random=100"]
    layer = state.network.convolutions[index]
    shape = state.weights[layer.name][layer.main].shape
    synapses: list[tuple[int, ...]] = []
    own = rules_own(state.weights[layer.name])
    said = getattr(state.rule_of(layer.name), "parameters", {})
    roles = {name: said[name].role for name in own if name in said and said[name].role}
    entries: dict[str, list[tuple[int, ...]]] = {}
    neurons: set[int] = set()
    for word in words:
        key, _, value = word.partition("=")
        parts = value.split(":")
        numbers = [int(p) for p in parts] if all(p.isdigit() for p in parts) else None
        if (key == "neurons" or word == "all") and layer.recurrent:
            raise UserError(
                f"--record: '{word}' is not for {layer.name}, whose neurons have three gates: name "
                "synapses, random=COUNT or entries of the rule's own parameters"
            )
        if word == "all":
            neurons |= set(range(layer.outputs))
        elif key == "synapse" and numbers is not None:
            synapses.append(_entry(f"{layer.name} has no synapse {value}", numbers, shape))
        elif (key in SHORT or key in own) and numbers is not None:
            name = SHORT.get(key, key)
            if name not in own:
                raise UserError(
                    f"--record: {layer.name} has no {name} here: it has "
                    f"{', '.join(state.weights[layer.name])}"
                )
            what = f"{name} of {layer.name} has no entry {value}"
            entry = _entry(what, numbers, own[name].shape, first=int(name in roles))
            entries.setdefault(name, []).append(entry)
        elif key == "neurons" and numbers is not None and len(numbers) == 2:
            first, last = numbers
            if not first < last <= layer.outputs:
                raise UserError(
                    f"--record: {layer.name} has no neurons {value}: it has 0:{layer.outputs}"
                )
            neurons |= set(range(first, last))
        elif key == "random" and numbers is not None and len(numbers) == 1 and numbers[0] > 0:
            rng = seeds.generator(state.options.seed, seeds.RECORD, index)
            count = min(numbers[0], int(np.prod(shape)))
            flat = np.sort(rng.choice(int(np.prod(shape)), count, replace=False))
            synapses += [tuple(int(i) for i in np.unravel_index(f, shape)) for f in flat]
        elif word != "weights":
            raise UserError(f"--record: '{word}' is not understood: expected {GRAMMAR}")
    return Wish(
        index,
        np.array(synapses, np.int64).reshape(-1, len(shape)),
        np.array(sorted(neurons), np.int64),
        "weights" in words,
        {name: np.array(found, np.int64) for name, found in entries.items()},
        {name: role for name, role in roles.items() if name in entries},
    )


def _entry(
    what: str, numbers: list[int], shape: tuple[int, ...], first: int = 0
) -> tuple[int, ...]:
    """An index that is in the shape; its first number is counted from `first`."""
    low = (first, *[0] * (len(shape) - 1))
    high = tuple(a + n - 1 for a, n in zip(low, shape, strict=True))
    if len(numbers) != len(shape) or not all(
        a <= n <= b for a, n, b in zip(low, numbers, high, strict=True)
    ):
        ends = " to ".join(":".join(map(str, end)) for end in (low, high))
        raise UserError(f"--record: {what}: expected {ends}")
    return tuple(numbers)
