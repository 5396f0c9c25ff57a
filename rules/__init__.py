"""The rules of plasticity, a file for each, and the way from a name to a rule."""

from difflib import get_close_matches
from importlib import import_module

from plasticity.errors import UserError
from plasticity.rule import Rule

# name -> (module, class)
RULES = {
    "clapp": ("clapp", "Clapp"),
    "clapp_s": ("clapp_s", "ClappS"),
    "hinge_cpc": ("hinge_cpc", "HingeCpc"),
    "cpc": ("cpc", "Cpc"),
    "gim": ("gim", "Gim"),
    "supervised": ("supervised", "Supervised"),
    "greedy_supervised": ("greedy_supervised", "GreedySupervised"),
    "random": ("random", "Random"),
}


def find(name: str) -> type[Rule]:
    """The class of the rule called `name`.

    Raises:
        UserError: an unknown rule (with the nearest name).
    """
    if name not in RULES:
        near = get_close_matches(name.lower().replace("-", "_"), RULES, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"known rules: {', '.join(RULES)}"
        raise UserError(f"unknown rule '{name}': {hint}")
    module, cls = RULES[name]
    return getattr(import_module(f"plasticity.rules.{module}"), cls)


def get(name: str, **options: object) -> Rule:
    """The rule called `name` with the options it knows.

    Raises:
        UserError: an unknown rule (with the nearest name), or an option out of range.
    """
    return find(name)(**options)
