"""The rules of plasticity, a file for each, and the way from a name to a rule."""

from importlib import import_module

from plasticity import plugins
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
    "feedback_alignment": ("feedback_alignment", "FeedbackAlignment"),
    "oja": ("oja", "Oja"),
    "bcm": ("bcm", "Bcm"),
    "hebbian": ("hebbian", "Hebbian"),
    "covariance": ("covariance", "Covariance"),
    "sanger": ("sanger", "Sanger"),
    "normalised_hebb": ("normalised_hebb", "NormalisedHebb"),
    "softhebb": ("softhebb", "SoftHebb"),
    "reward_hebb": ("reward_hebb", "RewardHebb"),
    "predictive_coding": ("predictive_coding", "PredictiveCoding"),
    "stdp": ("stdp", "Stdp"),
    "random": ("random", "Random"),
}


def find(name: str, bound: str = "") -> type[Rule]:
    """The class of a rule: one of this package, of an installed one, or in a file.

    Args:
        name: as `RULES` or the entry points `plasticity.rules` know it, or a path such as
            `./my_rule.py` or `./my_rule.py:MyRule`; bound: the SHA-256 that the file must have.

    Raises:
        UserError: an unknown rule (with the nearest name), or a file that holds none.
    """
    if name in RULES:
        module, cls = RULES[name]
        return getattr(import_module(f"plasticity.rules.{module}"), cls)
    if plugins.is_file(name):
        return plugins.class_in(name, bound, "learn", "class MyRule(plasticity.rule.Rule)")
    return plugins.installed("rule", name, "plasticity.rules", RULES)


def get(name: str, **options: object) -> Rule:
    """The rule called `name` with its options.

    Raises:
        UserError: as `find`, or an option out of range.
    """
    return find(name)(**options)
