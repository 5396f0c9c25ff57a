"""What a rule must have, checked by one call on a layer of four neurons before training starts."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import get_type_hints

import numpy as np

from plasticity import plugins
from plasticity.errors import UserError
from plasticity.events import Layout
from plasticity.learning.step import NETWORKS_OWN, needed
from plasticity.learning.synapses import constrains, settles
from plasticity.network import Layer, Network
from plasticity.rule import (
    Change,
    Draw,
    Learning,
    OneSynapse,
    Role,
    Rule,
    Synapses,
    reads_labels,
)

NEURONS, IMAGES, COLUMNS, INPUTS = 4, 3, 2, 3
SETTABLE = (bool, int, float, str)
CHOICES = {
    "locality": ("layer", "module", "neighbours", "global"),
    "reads": ("encoding", "map", "places", "potential"),
    "post": ("winner", "active", "activity", "none"),
    "optimiser": ("adam", "plain"),
    "feedback": ("transposed", "random"),
}


def takes(cls: type) -> dict[str, type]:
    """The fields of a rule by name, with their types."""
    if not is_dataclass(cls) or not cls.__dataclass_params__.frozen:
        file = getattr(sys.modules.get(cls.__module__), "__file__", None) or cls.__module__
        raise UserError(
            f"the rule {cls.__name__} of {file} is no frozen dataclass: put "
            "@dataclass(frozen=True) above it"
        )
    hints = get_type_hints(cls)
    return {field.name: hints[field.name] for field in fields(cls)}


def in_words(cls: type) -> str:
    """What a rule takes, for an error."""
    found = [f"{name} ({getattr(kind, '__name__', kind)})" for name, kind in takes(cls).items()]
    return ", ".join(found) or "no options"


def typed(cls: type, given: dict[str, object]) -> dict[str, object]:
    """Values of `--set name=value` as the types of the rule's fields.

    Raises:
        UserError: a field that the rule does not have, or a value of another type.
    """
    known, found = takes(cls), {}
    for name, value in given.items():
        who = getattr(cls, "name", cls.__name__)
        if name not in known:
            raise UserError(f"--set {name}: {who} has no such field, it takes {in_words(cls)}")
        kind = known[name]
        if kind not in SETTABLE:
            raise UserError(
                f"--set {name}: {who} declares it as {kind}, and only bool, int, float and str "
                "can be set"
            )
        found[name] = from_text(f"--set {name}={value}", str(value), kind)
    return found


def from_text(what: str, text: str, kind: type) -> object:
    """A value of a type from its text.

    Args:
        what: the option with its value, for errors.

    Raises:
        UserError: a text that is none of this type.
    """
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise UserError(f"{what}: expected true or false")
        return text.lower() == "true"
    try:
        return kind(text)
    except ValueError as error:
        word = {int: "a whole number", float: "a number"}[kind]
        raise UserError(f"{what}: expected {word}") from error


def check(rule: Rule, where: str) -> None:
    """Call every method of a rule once, on a tiny layer, and look at what comes back.

    Args:
        where: the rule's file or name, for errors.

    Raises:
        UserError: what is missing, fails or has the wrong shape.
    """
    who = f"the rule {type(rule).__name__} of {where}"
    for name in ("name", "equation", "citation", "modules"):
        if not isinstance(getattr(rule, name, None), str):
            raise UserError(f"{who} has no {name}: expected {name}: ClassVar[str] = '...'")
    for name, known in CHOICES.items():
        if (value := getattr(rule, name, None)) not in known:
            raise UserError(f"{who} has {name} = {value!r}: expected {' or '.join(known)}")
    if rule.post != "winner" and rule.reads == "map":
        raise UserError(
            f"{who} has post = {rule.post!r}, a factor of the places before the pool, and reads = "
            "'map', the activity behind it: expected reads = 'places'"
        )
    for name in ("prepare", "draw", "roles", "learn"):
        if not callable(getattr(rule, name, None)):
            raise UserError(f"{who} has no method {name}: let it inherit from plasticity.rule.Rule")
    layout = Layout(max(1, getattr(rule, "steps", 1)) + 2, IMAGES, COLUMNS)
    rng = np.random.default_rng(0)
    z = rng.random((layout.rows, *((2, 2) if rule.reads != "encoding" else ()), NEURONS))

    for name in rule.needs:
        if name not in ("weight", "input"):
            raise UserError(f"{who} needs {name!r}: expected weight or input")
    more = {"inputs": INPUTS} if "input" in rule.needs else {}
    own = _call(rule.prepare, who, where)(NEURONS, rng, **more)
    _expect(isinstance(own, dict), who, "prepare", f"a dict of arrays, not {_kind(own)}")
    for name, w in own.items():
        _expect(isinstance(w, np.ndarray), who, "prepare", f"an array for {name}, not {_kind(w)}")
        _expect(name not in NETWORKS_OWN, who, "prepare", f"another name than {name}")
    x, W = rng.random((layout.rows, 3, 3, INPUTS)), rng.standard_normal((NEURONS, INPUTS, 2, 2))
    own |= needed(rule.needs, {"weight": W, "bias": W[:, 0, 0, 0]}, x)
    draw = _call(rule.draw, who, where)(layout, rng)
    _expect(isinstance(draw, Draw), who, "draw", f"a Draw, not {_kind(draw)}")
    if reads_labels(rule):
        draw = replace(draw, labels=np.arange(IMAGES) % getattr(rule, "classes", 2))
    roles = _call(lambda *a: list(rule.roles(*a)), who, where, "roles")(z, own, draw, layout)
    for role in roles:
        _check_role(role, layout, z, who)
    learned = _call(rule.learn, who, where)(z, own, draw, layout)
    _check_learning(learned, z, own, who)
    _check_synapses(rule, roles, (z, own, draw, layout), rng, who, where)


def _check_synapses(
    rule: Rule, roles: list[Role], read: tuple, rng: np.random.Generator, who: str, where: str
) -> None:
    """What becomes of all synapses, and of one."""
    z, own, draw, layout = read
    for W in (rng.standard_normal((NEURONS, INPUTS, 2, 2)), rng.standard_normal(NEURONS)):
        parameter = "weight" if W.ndim > 1 else "bias"
        kept = _call(rule.prepare_synapses, who, where)(W, rng)
        _expect(isinstance(kept, dict), who, "prepare_synapses", f"a dict, not {_kind(kept)}")
        sums = {name: W + 1 for name in dict.fromkeys(role.name for role in roles)} or {"drive": W}
        given = Synapses(parameter, sums, W, kept, z, own, draw, layout)
        if parameter == "bias" and not rule.biases:
            continue
        change = _call(rule.synapses, who, where)(given)
        _expect(isinstance(change, Change), who, "synapses", f"a Change, not {_kind(change)}")
        for what, found, known in (
            ("factor", change.factor, sums),
            ("state", change.state, kept),
            ("added", change.added, None),
        ):
            for name, value in found.items():
                _expect(known is None or name in known, who, "synapses", f"no {what} of {name}")
                shapes = (W.shape,) if what == "state" else ((), W.shape)
                _expect(
                    np.shape(value) in shapes,
                    who,
                    "synapses",
                    f"a {what} {name} of shape {W.shape}, not {np.shape(value)}",
                )
        for name, value in kept.items():
            _expect(
                np.shape(value) == W.shape,
                who,
                "prepare_synapses",
                f"{name} of shape {W.shape}, not {np.shape(value)}",
            )
        if parameter == "weight":
            bound = _call(rule.constrain, who, where)(W, kept)
            shape = np.shape(bound)
            _expect(shape == W.shape, who, "constrain", f"weights of shape {W.shape}, not {shape}")
            if getattr(rule, "definition", None) is not None:
                y = rng.random((layout.rows, 4, NEURONS))
                state = {name: float(value[0, 0, 0, 0]) for name, value in kept.items()}
                at = (0, 0, 0, 0)
                mine = y[..., 0], y[..., 0], y[..., 0], y, y, float(W[at]), W[:, 0, 0, 0], 0, at
                one = OneSynapse(*mine, state, own, draw, layout)
                value = _call(rule.definition, who, where)(one)
                _expect(np.shape(value) == (), who, "definition", "a single number")


def check_fits(
    rule: Rule,
    network: Network,
    several: bool = False,
    layers: Sequence[Layer] | None = None,
) -> None:
    """Refuse a rule on layers that do not have what it changes, or among several processes.

    Args:
        layers: those that learn by it, by default all.
        several: whether several processes learn together.

    Raises:
        UserError: a recurrent layer, or several processes, and why the rule is not for them.
    """
    synaptic = settles(rule) or constrains(rule)
    wants = {
        f"names its post factor, '{rule.post}', and the slopes of gates stand in the traces of "
        "their synapses": rule.post != "winner",
        "takes a part of every weight from it, which has no meaning for gates": (
            type(rule).decay is not Rule.decay
        ),
        "makes something of every weight, which has no meaning for those of gates": synaptic,
    }
    of = network.layers if layers is None else layers
    recurrent = [layer.name for layer in of if layer.recurrent]
    for what, wanted in wants.items():
        if wanted and recurrent:
            raise UserError(
                f"{rule.name} {what}: leave {recurrent[0]} out by --layers "
                f"{len(network.layers) - 1}, or take another rule for it"
            )
    if several and (settles(rule) or "input" in rule.needs):
        raise UserError(
            f"{rule.name} reads inputs, or keeps something for each synapse, of the whole batch: "
            "it learns in one process, without mpiexec"
        )


def _check_role(role: Role, layout: Layout, z: np.ndarray, who: str) -> None:
    _expect(isinstance(role, Role), who, "roles", f"a Role, not {_kind(role)}")
    E, patches = np.shape(role.gamma), layout.rows
    for name in ("score", "gamma", "source", "learner"):
        shape = np.shape(getattr(role, name))
        _expect(
            len(shape) == 1 and shape == E,
            who,
            "roles",
            f"{name} of shape (events,) like gamma {E} in the role {role.name}, not {shape}",
        )
    shape, wanted = np.shape(role.dendrite), ("rows", *z.shape[1:])
    _expect(
        len(shape) == len(wanted) and shape[1:] == wanted[1:],
        who,
        "roles",
        f"dendrite of shape ({', '.join(map(str, wanted))}) in the role {role.name}, not {shape}",
    )
    for name, rows in (("source", shape[0]), ("learner", patches)):
        values = np.asarray(getattr(role, name))
        inside = values.size == 0 or (values.min() >= 0 and values.max() < rows)
        _expect(inside, who, "roles", f"{name} between 0 and {rows - 1} in the role {role.name}")


def _check_learning(learned: Learning, z: np.ndarray, own: dict, who: str) -> None:
    _expect(isinstance(learned, Learning), who, "learn", f"a Learning, not {_kind(learned)}")
    shape, both = np.shape(learned.drive), (len(z), NEURONS)
    wanted = f"(patches, neurons) {both}"
    if z.ndim > 2:
        wanted += f" or that of the map {z.shape}"
    _expect(shape in (both, z.shape), who, "learn", f"a drive of shape {wanted}, not {shape}")
    if learned.decay is not None:
        shape = np.shape(learned.decay)
        _expect(shape == both, who, "learn", f"a decay of shape {both}, not {shape}")
    for name in ("loss", "open_gates"):
        if name == "loss" and learned.loss is None:
            continue
        shape = np.shape(getattr(learned, name))
        _expect(shape == (), who, "learn", f"a single number for {name}, not shape {shape}")
    for what, arrays in (("changes", learned.changes), ("state", learned.state)):
        for name, array in arrays.items():
            _expect(name in own, who, "learn", f"{what} of what prepare gives, not of {name}")
            shape, wanted = np.shape(array), own[name].shape
            _expect(
                shape == wanted, who, "learn", f"{what} of {name} of shape {wanted}, not {shape}"
            )


def _call(method: Callable, who: str, where: str, name: str = "") -> Callable:
    """The method, with what goes wrong in it said in a sentence."""

    def call(*args: object, **more: object) -> object:
        with _in_words(f"{who} fails in {name or method.__name__}", where):
            return method(*args, **more)

    return call


@contextmanager
def _in_words(what: str, where: str) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except NotImplementedError as error:
        raise UserError(f"{what}: the method is missing") from error
    except Exception as error:
        path = plugins.split(where)[0] if plugins.is_file(where) else Path(where)
        raise UserError(
            f"{what}, on a layer of {NEURONS} neurons: {plugins.told(error, path)}"
        ) from error


def _expect(holds: bool, who: str, method: str, what: str) -> None:
    if not holds:
        raise UserError(f"{who}: {method} should give {what}")


def _kind(value: object) -> str:
    return "nothing" if value is None else type(value).__name__
