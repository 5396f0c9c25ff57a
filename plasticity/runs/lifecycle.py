"""A run as a folder: where it begins, how it goes on, and what is measured and drawn at its end."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from plasticity import claims, plugins, runs, seeds, trust
from plasticity.errors import UserError
from plasticity.files import make_folder
from plasticity.learning.ranks import Ranks
from plasticity.runs import changes as alter
from plasticity.runs import journal, keeping, run, sections, sets, training, warm
from plasticity.runs.options import RunOptions
from plasticity.runs.run import State

BOUND = ("files", "identity", "changes")
"""Options that bind a run to its files and images: a configuration for other runs has none."""


def start(
    options: RunOptions, out: str | None = None, ranks: Ranks | None = None
) -> tuple[State, Path]:
    """A new run in the folder `out`, for one process that writes to it alone."""
    state = plan(options, ranks)
    folder = Path(out)
    make_folder(folder)
    make(state, folder)
    return state, folder


@contextmanager
def folder_of(
    options: RunOptions, out: str | None = None, ranks: Ranks | None = None
) -> Iterator[Path]:
    """The folder of a new run, by default `runs/RULE-NET-TIME`, held for as long as it is entered.

    Of several ranks the first makes and holds it. It goes again if the run never began.

    Raises:
        UserError: a folder that holds something already, or cannot be made.
    """
    folder = Path(out) if out else usual_folder(options)
    if ranks is not None and ranks.rank:
        yield ranks.tell(None)
        return
    with claims.new(folder, numbered=not out) as made:
        yield ranks.tell(made) if ranks else made


def usual_folder(options: RunOptions) -> Path:
    """`runs/RULE-NET-TIME`."""
    when = datetime.now().strftime("%Y%m%d-%H%M%S")
    return Path("runs") / f"{plugins.short(options.rule)}-{plugins.short(options.net)}-{when}"


def plan(options: RunOptions, ranks: Ranks | None = None) -> State:
    """A new run at its start, in memory.

    Everything that can be wrong with the options is said here.

    Raises:
        UserError: options or data that do not fit.
    """
    if options.tensorboard:
        journal.board()  # says if it is missing
    stimulus = sets.stimulus(options)
    options = options.resolved(len(stimulus.source))
    state = run.begin(sets.bound(options, stimulus.source), ranks)
    state.stimulus = stimulus
    if options.init:
        warm.start(state)
    for loss, layout in zip(state.losses, state.layouts, strict=True):  # says if nothing is drawn
        state.rules[loss.kept].draw(layout, seeds.generator(options.seed))
    _check_course(state)
    return state


def _check_course(state: State) -> None:
    """Refuse a way or an end that the run cannot have, before it begins.

    Raises:
        UserError: no card for graphs, no loss to stop by, or no such layer to choose by.
    """
    training.replaying(state)
    training.check_plateau(state)
    if state.options.best_by:
        keeping.check_by(state.options.best_by, [layer.name for layer in state.network.layers])


def make(state: State, folder: Path) -> None:
    """Write the first checkpoint of a planned run, and what else its folder holds.

    Of several ranks the first writes.
    """
    if state.options.init:
        run.save(state, folder, warm.path_of(folder))
    run.save(state, folder)  # before the rest: what is killed then can be resumed
    complete(state, folder)


def complete(state: State, folder: Path) -> None:
    """Write the configuration and the copies of the run's files that the folder lacks."""
    if not state.writes:
        return
    if not (folder / "config.toml").is_file():
        stored = {n: v for n, v in state.options.as_dict().items() if n not in BOUND}
        runs.write_config(folder, stored)
    for path, name in copies(state.options).items():
        if not (folder / name).is_file():
            runs.write_text(folder / name, plugins.read(path))


def copies(options: RunOptions) -> dict[str, str]:
    """Under what name a run's folder keeps a copy of each file that its options name."""
    found = {path: f"rule-{options.files[path][:8]}.py" for path in sections.files(options.layer)}
    named = {getattr(options, kind): f"{kind}.py" for kind in ("rule", "net")}
    return found | {path: name for path, name in named.items() if plugins.is_file(path)}


def resume(
    folder: Path,
    given: dict[str, object],
    free: set[str],
    ranks: Ranks | None = None,
    *,
    changed_data: bool = False,
    trusted: bool = False,
    changed: Mapping[str, str] | None = None,
) -> State:
    """A run where its last checkpoint left it.

    Args:
        changed: what is to be changed from here on, see `changes`.
        trusted: let the rule and network files of its folder run, see `trust`.
        given: options asked for now; those in `free` replace the stored ones, others must agree.
        changed_data: go on although images were added, removed or replaced.

    Raises:
        UserError: no run there, a damaged checkpoint, images that are not those the run began
            with, or an option that would make another run.
    """
    checkpoint = runs.load(runs.checkpoint_of(folder))
    files = {name: given.pop(name) for name in ("rule", "net") if name in given}
    options = options_of(checkpoint, folder, trusted=trusted, **files)
    options = _with_data(options, given.pop("data", options.data), changed_data)
    if "layer" in given:  # the files that it names may be the copies of the run's folder
        given["layer"] = sections.checked(given["layer"])
        named = {path: plugins.digest(path) for path in sections.files(given["layer"])}
        known = {sha: path for path, sha in options.files.items()}
        there = {path: known.get(sha, path) for path, sha in named.items()}
        given["layer"] = sections.moved(given["layer"], there)
    asked, was = options.changed(**given).resolved(0), options.resolved(0)
    for name, value in given.items():
        stored = getattr(was, name)
        if name == "layer" and asked.layer != stored:
            raise UserError(sections.differ(asked.layer, stored, folder))
        if name not in free and getattr(asked, name) != stored:
            raise UserError(
                f"--{name.replace('_', '-')} {value} would make another run: {folder} has "
                f"{stored}; leave the option away, or start a new run"
            )
    changes = {name: value for name, value in given.items() if name in free}
    if "epochs" in changes and "steps" not in changes:
        changes["steps"] = 0
    options = options.changed(**changes)
    if changed:
        taught, step = options.taught, checkpoint.step
        before, options = options.rule, alter.changed(options, changed, step)
        own = options.rule != before and plugins.is_file(options.rule)
        if own and (Path(folder) / "rule.py").is_file():
            raise UserError(
                f"{folder} holds the rule.py that it began with, and a run keeps one: start a new "
                f"run by --init {folder} --rule {options.rule}"
            )
        if options.taught != taught:  # it learns from other examples, which it is bound to then
            options = sets.bound(options.changed(identity={}), sets.learning_set(options))
        options = options.resolved(0)
    if options.tensorboard:
        journal.board()
    stimulus = sets.stimulus(options)
    options.schedule_object(len(stimulus.source))  # says if the run would go on without a rate
    state = run.restore(options, checkpoint, ranks, take=alter.take if changed else None)
    state.stimulus = stimulus
    if options.init or warm.path_of(folder).is_file():  # an imported run has no --init
        warm.resume(state, folder)
    _check_course(state)
    return state


def options_of(
    stored: runs.Checkpoint,
    folder: Path,
    *,
    rule: str | None = None,
    net: str | None = None,
    trusted: bool = False,
) -> RunOptions:
    """The options of a run. Nothing is executed, and what may be is settled here.

    A rule or network that is a file is that of the run's folder, or the one that is named now; both
    must have the text that the run began with. A file elsewhere is taken only if the folder has
    none and the user has agreed to its text before.

    Args:
        rule, net: where these files are now; to name them is to agree to them.
        trusted: agree to the files of the folder.

    Raises:
        UserError: stored options that are damaged, or a file that is not the run's.
    """
    options = RunOptions.from_dict(stored.options)
    for kind, named in (("rule", rule), ("net", net)):
        value = getattr(options, kind)
        if named is not None:
            options = options.moved(kind, named)
            if plugins.is_file(value):
                trust.agree(options.files[getattr(options, kind)])
            continue
        if not plugins.is_file(value):
            continue
        digest, copy = options.files[value], Path(folder).absolute() / f"{kind}.py"
        if copy.is_file():
            wanted = plugins.split(value)[1]
            options = options.moved(kind, f"{copy}:{wanted}" if wanted else str(copy))
            if trusted:
                trust.agree(digest)
        elif not trust.agreed(digest):
            raise UserError(f"{folder} lacks its {kind}.py: name that file by --{kind}")
    for path in sections.files(options.layer):
        options = _with_copy(options, path, Path(folder).absolute(), trusted)
    return options


def _with_copy(options: RunOptions, path: str, folder: Path, trusted: bool) -> RunOptions:
    """The options of a run, with the copy of its folder in the place of a layer's rule file."""
    digest, copy = options.files[path], folder / copies(options)[path]
    if copy.is_file():
        wanted = plugins.split(path)[1]
        there = f"{copy}:{wanted}" if wanted else str(copy)
        options = options.changed(
            layer=sections.moved(options.layer, {path: there}),
            files={**options.files, there: digest},
        )
        if trusted:
            trust.agree(digest)
    elif not trust.agreed(digest):
        raise UserError(f"{folder} lacks {copy.name}, the rule of a layer: put it back")
    return options


def _with_data(options: RunOptions, name: str, changed: bool) -> RunOptions:
    """The options of a stored run with its images where they are now."""
    if changed:
        options = options.changed(data=name, identity={})
        return sets.bound(options, sets.learning_set(options))
    if options.images and not options.identity:
        raise UserError(
            f"the run learned from the first {options.images} images, as version 0.1.0 took them; "
            "now they are drawn by the seed: start a new run, or agree by --changed-data"
        )
    return sets.moved(options, name)


def reopen(
    folder: Path,
    checkpoint: Path | None = None,
    *,
    data_dir: str | None = None,
    device: str | None = None,
    rule: str | None = None,
    trusted: bool = False,
    moments: bool = False,
) -> State:
    """A run as it was saved, to look at.

    Args:
        moments: read the optimiser's too, for who asks what it would do.
        trusted: let the rule and network files of its folder run, see `trust`.
        data_dir: where data sets are, or the run's folder of images, if it was moved.
        rule: where the run's rule file is now, if it was moved.
    """
    where = Path(checkpoint) if checkpoint else runs.checkpoint_of(folder)
    stored = stored_at(where, moments=moments)
    return restored(stored, folder, data_dir=data_dir, device=device, rule=rule, trusted=trusted)


def stored_at(path: Path, *, moments: bool = False) -> runs.Checkpoint:
    """A checkpoint to look at; with the optimiser's moments too where layers go on learning."""
    stored = runs.load(path, moments=moments)
    layers = stored.options.get("layer", {})
    plastic = any(sections.always(section) for section in sections.checked(layers).values())
    return runs.load(path) if plastic and not moments and not runs.is_record(path) else stored


def restored(
    stored: runs.Checkpoint,
    folder: Path,
    *,
    data_dir: str | None = None,
    device: str | None = None,
    rule: str | None = None,
    trusted: bool = False,
) -> State:
    """The run of a checkpoint; data, device and rule file perhaps elsewhere than they were."""
    options = options_of(stored, folder, rule=rule, trusted=trusted)
    if data_dir and sets.lacking(options):
        options = sets.moved(options, data_dir)
    changes = {"data_dir": data_dir, "device": device}
    options = options.changed(**{n: value for n, value in changes.items() if value is not None})
    return run.restore(options, stored)
