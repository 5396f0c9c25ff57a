"""A layer's own rule and rate: the sections `[layer.NAME]` of a configuration.

A section that names a rule has that rule's own options, at their usual values but for those that it
gives; one that names none goes on from the run's. What it may say besides: `lr`, `optimiser`,
`frozen = true` (the weights never change), and `plastic = "always"` (the layer goes on learning
while encodings are computed, see `probes.plastic`).
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

from plasticity import plugins
from plasticity.errors import UserError
from plasticity.learning import Modules, Pace, Rules, rule_check
from plasticity.network import Network
from plasticity.rule import Rule, learns, looks_up, reads_labels

if TYPE_CHECKING:
    from plasticity.runs.options import RunOptions

Section = dict[str, object]

PLASTIC = ("training", "always")
OWN = ("rule", "lr", "optimiser", "weight_decay", "frozen", "plastic")
"""What a section may say whatever its rule."""


@dataclass(frozen=True)
class Assigned:
    """What the layers of a run learn by.

    Attributes:
        modules: the layers of each, by number from 0.
        rules: of each module, None where it is frozen.
        paces: by the name of every layer that learns.
        plastic: the modules that go on learning while encodings are computed.
    """

    modules: Modules
    rules: Rules
    paces: Mapping[str, Pace]
    plastic: frozenset[int] = frozenset()

    @classmethod
    def same(cls, rule: Rule, modules: Modules, network: Network, pace: Pace) -> "Assigned":
        """One rule for all layers."""
        names = (layer.name for layer in network.layers)
        return cls(modules, [rule] * len(modules), dict.fromkeys(names, pace))

    @property
    def learn(self) -> list[Rule]:
        """The rules of the modules that are not frozen, each once."""
        found: list[Rule] = []
        for rule in self.rules:
            if rule is not None and rule not in found:
                found.append(rule)
        return found


@contextmanager
def said_of(name: str) -> Iterator[None]:
    """What is wrong in a section is told with its name."""
    try:
        yield
    except UserError as error:
        raise UserError(f"[layer.{name}]: {error}") from error


def checked(sections: object) -> dict[str, Section]:
    """The sections with names as options have them, and paths of rules made absolute.

    Raises:
        UserError: no table of tables, or a value that no option has.
    """
    if not isinstance(sections, Mapping):
        raise UserError(
            f"'layer' is {sections!r:.60}: expected a section for each layer, such as [layer.conv1]"
        )
    found: dict[str, Section] = {}
    for name, given in sections.items():
        if not isinstance(given, Mapping):
            raise UserError(
                f"layer.{name} is {given!r:.60}: expected a section [layer.{name}] with keys such "
                "as rule, lr and frozen"
            )
        section = {key.replace("-", "_"): value for key, value in given.items()}
        with said_of(name):
            _check(section)
        if plugins.is_file(str(section.get("rule", ""))):
            section["rule"] = plugins.absolute(str(section["rule"]))
        found[name] = section
    return found


def _check(section: Section) -> None:
    from plasticity.runs.options import RunOptions, check_type

    for key, value in section.items():
        if key in ("frozen", "plastic"):
            kind, word = (bool, "true or false") if key == "frozen" else (str, " or ".join(PLASTIC))
            if not isinstance(value, kind) or (kind is str and value not in PLASTIC):
                raise UserError(f"{key} should be {word}, it is {value!r:.60}")
        elif key in RunOptions.__dataclass_fields__:
            check_type(key, value)
        elif not isinstance(value, bool | int | float | str):
            raise UserError(f"{key} should be a number, a text, true or false, not {value!r:.60}")
    if section.get("frozen") and (others := [key for key in section if key != "frozen"]):
        raise UserError(
            f"a frozen layer has nothing else to say, and here is {' and '.join(others)}: take "
            "that out, or frozen = true"
        )


def always(section: Section) -> bool:
    """Whether a layer goes on learning while encodings are computed."""
    return section.get("plastic", PLASTIC[0]) == PLASTIC[1]


def files(sections: Mapping[str, Section]) -> list[str]:
    """The files that sections name as rules, each once."""
    named = (str(section.get("rule", "")) for section in sections.values())
    return list(dict.fromkeys(name for name in named if plugins.is_file(name)))


def moved(sections: Mapping[str, Section], there: Mapping[str, str]) -> dict[str, Section]:
    """The sections, where files of rules have other paths now."""
    return {
        name: {k: there.get(v, v) if k == "rule" else v for k, v in section.items()}
        for name, section in sections.items()
    }


def differ(asked: Mapping[str, Section], stored: Mapping[str, Section], folder: object) -> str:
    """In a sentence, where sections would make another run."""
    for name in dict.fromkeys([*asked, *stored]):
        ours, theirs = asked.get(name, {}), stored.get(name, {})
        for key in dict.fromkeys([*ours, *theirs]):
            if ours.get(key) != theirs.get(key):
                told = [str(one.get(key, "nothing of it")) for one in (ours, theirs)]
                return (
                    f"[layer.{name}]: {key} = {told[0]} would make another run: {folder} has "
                    f"{told[1]}; leave the section away, or start a new run"
                )
    raise AssertionError("the sections are the same")


def as_a_run(options: "RunOptions", name: str) -> "RunOptions":
    """The options of a run whose layers all learn as the section of layer `name` says.

    Raises:
        UserError: a key that is no option of the rule.
    """
    from plasticity.runs.options import OF_RULES

    section = {
        k: v for k, v in options.layer.get(name, {}).items() if k not in ("frozen", "plastic")
    }
    changes: dict[str, object] = {"layer": {}}
    if "rule" in section:
        changes |= {flag: given.unset for flag, given in OF_RULES.items()}
        changes |= {"set": {}, "lr": 0.0, "optimiser": ""}
    own: dict[str, object] = {}
    with said_of(name):
        cls = options.changed(**changes | {"rule": section.get("rule", options.rule)}).rule_class()
        fields = rule_check.takes(cls)
        for key, value in section.items():
            flag = OF_RULES.get(key)
            if key in OWN or (flag and (cls in flag.of or key not in fields)):
                changes[key] = value
            elif key in fields:
                own[key] = str(value)
            else:
                if key in options.__dataclass_fields__:
                    raise UserError(f"{key} is of the whole run, and not of a layer")
                known = [*OWN, *fields, *(f for f, g in OF_RULES.items() if g.name in fields)]
                near = get_close_matches(key, known, n=1)
                who = plugins.short(str(section.get("rule", options.rule)))
                raise UserError(
                    f"unknown key '{key}'"
                    + (f"; did you mean '{near[0]}'?" if near else "")
                    + f": expected {', '.join(OWN)}, or an option of {who}, which takes "
                    f"{rule_check.in_words(cls)}"
                )
        if own:
            changes["set"] = {**changes.get("set", options.set), **own}
        return options.changed(**changes)


def resolved(options: "RunOptions", network: Network) -> dict[str, Section]:
    """The sections with all values that are used, as `RunOptions.resolved` has those of the run."""
    from plasticity.runs.options import OF_RULES

    found: dict[str, Section] = {}
    for name, section in options.layer.items():
        if section.get("frozen"):
            found[name] = {"frozen": True}
            continue
        with said_of(name):
            one = as_a_run(options, name)
            used = one.resolved(0)
            takes = {flag for flag in OF_RULES if getattr(used, flag) != OF_RULES[flag].unset}
        found[name] = {"rule": used.rule, "lr": used.lr, "optimiser": used.optimiser}
        found[name]["weight_decay"] = used.weight_decay
        found[name] |= {flag: getattr(used, flag) for flag in OF_RULES if flag in takes}
        found[name] |= dict(one.set)
        if always(section):
            found[name]["plastic"] = section["plastic"]
    return found


def assigned(options: "RunOptions", network: Network, several: bool = False) -> Assigned:
    """What every layer of a run learns by.

    Args:
        several: whether several processes learn together.

    Raises:
        UserError: a layer that is not there, a rule that is not for it, or sections that
            contradict each other.
    """
    rule = options.rule_object()
    modules = network.modules(options.split_of(rule, network))
    names = [layer.name for layer in network.layers]
    for name in options.layer:
        if name not in names:
            raise UserError(_no_layer(name, network))
    if not options.layer:
        rule_check.check_fits(rule, network, several=several)
        pace = _pace(options, rule)
        return Assigned.same(rule, modules, network, pace)

    own: dict[str, Rule | None] = {}
    paces: dict[str, Pace] = {}
    plastic = {name: always(section) for name, section in options.layer.items()}
    for name in names:
        here = as_a_run(options, name)
        with said_of(name):
            made = here.rule_object()
        frozen = options.layer.get(name, {}).get("frozen") or not learns(made)
        own[name] = None if frozen else made
        if not frozen:
            paces[name] = _pace(here, made)
        if plastic.get(name) and (frozen or reads_labels(made)):
            why = "has no rule to learn by" if frozen else f"learns by {made.name}, from labels"
            raise UserError(
                f'[layer.{name}]: plastic = "always" lets a layer learn while it is tested, and '
                f"{name} {why}"
            )
    rules = [_of_module(module, network, own, plastic) for module in modules]
    found = Assigned(
        modules,
        rules,
        paces,
        frozenset(m for m, module in enumerate(modules) if plastic.get(names[module[0]])),
    )
    _check_together(options, network, found, rule, several)
    return found


def _pace(options: "RunOptions", rule: Rule) -> Pace:
    """How weights move by the options of a run, or where they say nothing as the rule has it."""
    optimiser = options.optimiser or rule.optimiser
    return Pace(options.lr or rule.rate, optimiser, options.weight_decay)


def _no_layer(name: str, network: Network) -> str:
    names = [layer.name for layer in network.layers]
    for layer in network.layers:
        if name in (conv.name for conv in layer.convolutions):
            return f"[layer.{name}]: {name} is a part of the block {layer.name}: name the block"
    near = get_close_matches(name, names, n=1)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    return f"[layer.{name}]: {network.name} has here the layers {', '.join(names)}{hint}"


def _of_module(
    module: list[int], network: Network, own: Mapping[str, Rule | None], plastic: Mapping[str, bool]
) -> Rule | None:
    """The rule that the layers of a module share, as they share its loss.

    Raises:
        UserError: they are given different ones.
    """
    names = [network.layers[i].name for i in module]
    first = names[0]
    for name in names[1:]:
        if own[name] != own[first] or plastic.get(name, False) != plastic.get(first, False):
            raise UserError(
                f"{', '.join(names[:-1])} and {names[-1]} are one module, which learns by one loss "
                "at its top, and so its layers cannot have rules of their own, be frozen or be "
                "plastic one by one: say the same of all of them, or split the network by "
                "--modules, such as --modules layers"
            )
    return own[first]


def _check_together(
    options: "RunOptions", network: Network, found: Assigned, run: Rule, several: bool
) -> None:
    """Refuse rules where they mean nothing, and modules that nothing is learned in or for.

    Args:
        run: the rule of layers without a section.
    """
    modules, rules = found.modules, found.rules
    tops = [network.layers[module[-1]].name for module in modules]
    if not any(rule is not None for rule in rules):
        raise UserError("every layer is frozen, and so nothing would learn: let one learn")
    if rules[-1] is None and not (rules[-2] is not None and looks_up(rules[-2])):
        raise UserError(
            f"{tops[-1]}, the last layer, is frozen, and nothing above it learns from it: leave it "
            f"out by --layers {modules[-1][0]}, or let it learn"
        )
    for m, (module, rule) in enumerate(zip(modules, rules, strict=True)):
        if rule is None:
            continue
        named = next((n for i in module if (n := network.layers[i].name) in options.layer), tops[m])
        layers = [network.layers[i] for i in module]
        with said_of(named):
            rule_check.check_fits(rule, network, several=several, layers=layers)
            if reads_labels(rule) and rule.modules == "1" and rule not in (run, rules[-1]):
                raise UserError(
                    f"{rule.name} learns by one error that comes down from the top of the network, "
                    "and no error crosses from module to module, so below the top it cannot be "
                    "mixed with other rules: take greedy_supervised, a readout for each module"
                )
        recurrent = layers[-1].recurrent and len(module) == 1 and rule.predicts
        if options.below_gru == "gru" and recurrent and m and rules[m - 1] != rule:
            why = "is frozen" if rules[m - 1] is None else f"learns by {rules[m - 1].name}"
            raise UserError(
                f"--below-gru gru lets {tops[m - 1]} learn from the loss of {tops[m]} alone, and "
                f"it {why}: leave --below-gru away"
            )
