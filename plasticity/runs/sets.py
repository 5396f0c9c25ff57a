"""The data sets of a run: the one to learn from, its other splits, and what a run is bound to."""

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from plasticity.data import ImageSet
from plasticity.data.utterances import Speech
from plasticity.errors import UserError
from plasticity.stimuli import STIMULI, Stimulus

if TYPE_CHECKING:
    from plasticity.runs.options import RunOptions

Source = ImageSet | Speech
"""A data set."""


def stimulus(options: "RunOptions", source: Source | None = None) -> Stimulus:
    """The stimulus of a run.

    Args:
        source: a data set of the right kind, by default the one to learn from.

    Raises:
        UserError: as `learning_set`, fewer examples than a batch, or examples that are too
            small.
    """
    if source is not None:
        return replace(options.unfed, source=source)
    made = replace(options.unfed, source=learning_set(options))
    if len(made.source) < options.size:
        raise UserError(
            f"--batch {options.size} is more than the {len(made.source)} {made.example}s of "
            f"{options.data}"
        )
    return made


def learning_set(options: "RunOptions") -> Source:
    """The examples to learn from: of images the unlabelled, or for a rule that reads labels the
    labelled.

    Raises:
        UserError: no such data set, or no labels of two classes where the rule reads them.
    """
    taught, kind = options.taught, options.unfed
    found = split(options, kind.learns_from(bool(taught)))
    found = kind.labelled(found, taught) if taught else found
    return found.drawn(options.images, options.seed) if options.images else found


def split(options: "RunOptions", part: str, name: str | None = None) -> Source:
    """A split of the run's data set, or of another one that is named.

    Raises:
        UserError: as `Stimulus.open`, and examples that are not those the run began with.
    """
    kind = options.unfed
    if not name and options.identity and lacking(options):
        what = f"{kind.example}s"
        raise UserError(
            f"{options.data}, which the run learned from, is not there: if the {what} were moved, "
            "name their folder by --data (run --resume) or --data-dir (all others)"
        )
    where = options.data_dir or None
    found = kind.open(name or options.data, part, where, options.skip_damaged)
    if not name:
        _check(options, found)
    return found


def lacking(options: "RunOptions") -> bool:
    """Whether the data set is a folder that is not there."""
    named = any(options.data in kind.sets for kind in STIMULI.values())
    return not named and not os.path.isdir(options.data)


def bound(options: "RunOptions", source: Source) -> "RunOptions":
    """The same options, bound to the examples that are there now; `source` is learned from."""
    if options.data in options.unfed.sets:  # other splits may be fetched later on
        found = {source.part: source}
    else:
        found = options.unfed.open_splits(options.data, options.data_dir or None)
    return options.changed(identity={part: one.identity for part, one in found.items()})


def moved(options: "RunOptions", name: str) -> "RunOptions":
    """The same options where the folder of examples has another path now.

    Raises:
        UserError: examples that are not those the run began with.
    """
    there = options.changed(data=name)
    if there.data == options.data:
        return options
    another = f"--data {name} would make another run: this one began with {options.data}"
    if options.data in options.unfed.sets or not options.identity:
        raise UserError(another)
    try:
        for found in options.unfed.open_splits(there.data, None).values():
            _check(options, found)
    except UserError as error:
        raise UserError(f"{another}, and {error}") from error
    return there


def _check(options: "RunOptions", found: Source) -> None:
    """Refuse examples that are not those the run began with."""
    began, what = options.identity.get(found.part, found.identity), f"{options.unfed.example}s"
    if began != found.identity:
        was, now = (identity.split(", ")[0] for identity in (began, found.identity))
        change = "their names or sizes differ" if was == now else f"{now} instead of {was}"
        raise UserError(
            f"the '{found.part}' {what} of {found.name} are not those that the run began with "
            f"({change}): {what} were added, removed or replaced; put them back (or agree, with "
            "run --resume, by --changed-data)"
        )
