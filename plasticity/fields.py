"""Options are declared where they belong: as fields of a rule, a stimulus or a run.

A field says its default, its meaning and its limits once; the command line, configuration files,
checks and the stored form of a run read them from there.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from plasticity.errors import UserError


@dataclass(frozen=True)
class Option:
    """What a field says of itself.

    Attributes:
        help: its meaning, in a line of `--help`.
        flag: its name as an option of a run, such as `prediction_steps`; empty: it is none.
        shown: its default in words, where the value itself does not tell.
        least, most: its limits; above: whether `least` itself is excluded.
        choices: the texts that it may be.
        words: values of the option, and of the field that each stands for, where they differ.
        unset: the option's value where nobody asked for one, if not the field's default.
        off: the flag that turns it off; also: further names of the flag.
        free: whether a run may be resumed with another value.
    """

    help: str
    flag: str = ""
    shown: str = ""
    least: float | None = None
    most: float | None = None
    above: bool = False
    choices: tuple[str, ...] = ()
    words: Mapping[object, object] | None = None
    unset: object = None
    off: str = ""
    also: tuple[str, ...] = ()
    free: bool = False

    def check(self, name: str, value: object) -> None:
        """Refuse a value that is out of its limits.

        Args:
            name: what the value is called in errors.

        Raises:
            UserError: what was expected.
        """
        if self.choices and value not in self.choices:
            *some, last = filter(None, map(str, self.choices))
            raise UserError(f"unknown {name} '{value}': expected {', '.join(some)} or {last}")
        least, most = self.least, self.most
        fits = least is None or (value > least if self.above else value >= least)
        fits_below = most is None or value <= most
        if self.above and not (fits and fits_below):
            word = "positive" if not least and most is None else f"above {least:g}"
            word += "" if most is None else f" and at most {most:g}"
            raise UserError(f"{name} must be {word}, got {value}")
        if not fits:
            word = f"must be at least {least:g}" if least else "must not be negative"
            raise UserError(f"{name} {word}, got {value}")
        if not fits_below:
            raise UserError(f"{name} is at most {most:,}, got {value}")


def option(default: object, help: str, **how: Any) -> Any:
    """A field of a dataclass with its default and meaning; `how`: see `Option`."""
    return field(default=default, metadata={"option": Option(help, **how)})


def declared(cls: type) -> dict[str, Option]:
    """What the fields of a dataclass say of themselves, by name.

    A subclass that gives a field another default alone keeps the rest.
    """
    found = {}
    for one in reversed(cls.__mro__):
        for f in vars(one).get("__dataclass_fields__", {}).values():
            if "option" in f.metadata:
                found[f.name] = f.metadata["option"]
    return found


def check(of: object) -> None:
    """Refuse values of a dataclass's fields that are out of their limits.

    Raises:
        UserError: as `Option.check`.
    """
    for name, said in declared(type(of)).items():
        said.check(dashed(said.flag) if said.flag else name, getattr(of, name))


def dashed(name: str) -> str:
    """An option as it is typed: `--prediction-steps`."""
    return "--" + name.replace("_", "-")


@dataclass(frozen=True)
class Given:
    """An option of a run that is a field of a rule or a stimulus.

    Attributes:
        of: the classes that have it, first the one that declared it.
    """

    name: str
    said: Option
    unset: object
    of: tuple[type, ...]

    def value(self, given: object) -> object:
        """The field's value for that of the option."""
        return self.said.words[given] if self.said.words else given

    def told(self, value: object) -> object:
        """The option's value for that of the field."""
        words = self.said.words or {}
        return next((word for word, meant in words.items() if meant == value), value)


def gathered(classes: Iterable[type]) -> dict[str, Given]:
    """The fields of rules or stimuli that are options of a run, by the options' names."""
    found: dict[str, Given] = {}
    for cls in classes:
        for name, said in declared(cls).items():
            if not said.flag:
                continue
            if said.flag in found:
                before = found[said.flag]
                found[said.flag] = Given(name, before.said, before.unset, (*before.of, cls))
                if name != before.name:
                    raise TypeError(
                        f"{cls.__name__}.{name} is an option of {before.of[0].__name__} too"
                    )
            else:
                default = cls.__dataclass_fields__[name].default
                unset = default if said.unset is None else said.unset
                found[said.flag] = Given(name, said, unset, (cls,))
    return found


def with_options(given: Mapping[str, Given]) -> Callable[[type], type]:
    """Give a class fields for options that are declared elsewhere, before it is a dataclass."""

    def give(cls: type) -> type:
        for name, one in given.items():
            cls.__annotations__[name] = type(one.unset)
            setattr(cls, name, field(default=one.unset, metadata={"option": one.said}))
        return cls

    return give
