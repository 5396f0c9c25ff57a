"""A run as a folder: where it begins, how it goes on, and what is measured and drawn at its end."""

import hashlib
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

from plasticity import claims, data, figures, plugins, probe, runs, seeds, training, trust
from plasticity.device import peak_bytes
from plasticity.errors import UserError
from plasticity.events import Layout
from plasticity.files import make_folder
from plasticity.network import Parameters
from plasticity.options import RunOptions
from plasticity.ranks import Ranks
from plasticity.training import State

BOUND = ("files", "identity")
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
    when = datetime.now().strftime("%Y%m%d-%H%M%S")
    name = f"{plugins.short(options.rule)}-{plugins.short(options.net)}-{when}"
    folder = Path(out) if out else Path("runs") / name
    if ranks is not None and ranks.rank:
        yield ranks.tell(None)
        return
    with claims.new(folder, numbered=not out) as made:
        yield ranks.tell(made) if ranks else made


def plan(options: RunOptions, ranks: Ranks | None = None) -> State:
    """A new run at its start, in memory.

    Everything that can be wrong with the options is said here.

    Raises:
        UserError: options or data that do not fit.
    """
    images = options.learning_set()
    options = options.resolved(len(images))
    state = training.begin(options.bound(), ranks)
    data.crops(0, state.images.side, options.crop)
    layout = Layout(options.rows, options.batch, options.rows)
    state.rule.draw(layout, seeds.generator(options.seed))  # says if there is nothing to draw from
    return state


def make(state: State, folder: Path) -> None:
    """Write the first checkpoint of a planned run, and what else its folder holds.

    Of several ranks the first writes.
    """
    training.save(state, folder)  # first: what is killed before the rest can be resumed
    complete(state, folder)


def complete(state: State, folder: Path) -> None:
    """Write the configuration and the copies of the run's files that the folder lacks."""
    if not state.writes:
        return
    if not (folder / "config.toml").is_file():
        stored = {n: v for n, v in state.options.as_dict().items() if n not in BOUND}
        runs.write_config(folder, stored)
    for kind in ("rule", "net"):
        copy, path = folder / f"{kind}.py", getattr(state.options, kind)
        if plugins.is_file(path) and not copy.is_file():
            runs.write_text(copy, plugins.read(path))


def resume(
    folder: Path,
    given: dict[str, object],
    free: set[str],
    ranks: Ranks | None = None,
    *,
    changed_data: bool = False,
    trusted: bool = False,
) -> State:
    """A run where its last checkpoint left it.

    Args:
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
    asked, was = options.changed(**given).resolved(0), options.resolved(0)
    for name, value in given.items():
        stored = getattr(was, name)
        if name not in free and getattr(asked, name) != stored:
            raise UserError(
                f"--{name.replace('_', '-')} {value} would make another run: {folder} has "
                f"{stored}; leave the option away, or start a new run"
            )
    changes = {name: value for name, value in given.items() if name in free}
    if "epochs" in changes and "steps" not in changes:
        changes["steps"] = 0
    options = options.changed(**changes)
    return training.restore(options, checkpoint, ranks)


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
    return options


def _with_data(options: RunOptions, name: str, changed: bool) -> RunOptions:
    """The options of a stored run with its images where they are now."""
    if changed:
        return options.changed(data=name, identity={}).bound()
    if options.images and not options.identity:
        raise UserError(
            f"the run learned from the first {options.images} images, as version 0.1.0 took them; "
            "now they are drawn by the seed: start a new run, or agree by --changed-data"
        )
    options = options.moved_data(name)
    options.learning_set()
    return options


def reopen(
    folder: Path,
    checkpoint: Path | None = None,
    *,
    data_dir: str | None = None,
    device: str | None = None,
    rule: str | None = None,
    trusted: bool = False,
) -> State:
    """A run as it was saved, to look at, without its optimiser.

    Args:
        trusted: let the rule and network files of its folder run, see `trust`.
        data_dir: where data sets are, or the run's folder of images, if it was moved.
        rule: where the run's rule file is now, if it was moved.
    """
    stored = runs.load(checkpoint or runs.checkpoint_of(folder), moments=False)
    return restored(stored, folder, data_dir=data_dir, device=device, rule=rule, trusted=trusted)


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
    if data_dir and options.lacks_images:
        options = options.moved_data(data_dir)
    changes = {"data_dir": data_dir, "device": device}
    options = options.changed(**{n: value for n, value in changes.items() if value is not None})
    return training.restore(options, stored)


@dataclass(frozen=True)
class Probed:
    """Linear-probe accuracy by layer: of a run, and of the same network at its random start.

    Accuracies are fractions of the test images; `error` is one standard error of such a fraction.
    `random` is empty where it was not measured.
    """

    protocol: str
    data: str
    layers: list[str]
    trained: list[float]
    random: list[float]
    train_images: int
    test_images: int
    classes: int

    @property
    def error(self) -> float:
        middle = float(np.mean(self.trained + self.random))
        return math.sqrt(middle * (1 - middle) / self.test_images)

    def as_dict(self) -> dict[str, object]:
        """For the summary."""
        return {**self.__dict__, "error": self.error}


def chosen(images: data.ImageSet, wanted: int) -> np.ndarray:
    """`wanted` of the images (0: all), always the same ones, without those left out as damaged."""
    order = seeds.generator(0, seeds.PROBE).permutation(len(images))
    return images.usable(np.sort(order[: wanted or len(images)]))


def random_start(state: State) -> Parameters:
    """The weights that this run began with."""
    return training.begin(state.options).weights


def probe_run(
    state: State,
    *,
    data_name: str | None = None,
    train_images: int = 0,
    test_images: int = 0,
    protocol: str = "regularised",
    epochs: int = 300,
    views: int = 4,
    beside_random: bool = True,
    report: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> Probed:
    """Linear probes on every layer, of the run's weights and of its random start.

    Args:
        data_name: a data set with labels, by default the run's own.
        train_images, test_images: how many, 0 for all.
        epochs, views: of the published protocol: passes over the images, and how many random
            crops and flips of each image they cycle through.
        protocol: `regularised`, logistic regression on standardised encodings of centre crops;
            `published`, raw encodings of random crops, softmax layer, Adam (THEORY).
        beside_random: False leaves the random start out.
        report: called with what is going on, how far, of how much.

    Raises:
        UserError: a data set without labels.
    """
    options = state.options
    name = data_name or options.data
    train, test = (options.open(split, data_name) for split in ("train", "test"))
    if train.labels is None or test.labels is None:
        raise UserError(
            f"the images of {name} have no labels, a probe needs them: sort them into a folder "
            "for each class, or take --no-probe"
        )
    pick_train, pick_test = chosen(train, train_images), chosen(test, test_images)
    state.damaged |= train.left_out | test.left_out
    train_y, test_y = train.labels[pick_train], test.labels[pick_test]
    classes = len(train.classes)
    found: dict[str, list[float]] = {}
    starts = [("random", random_start(state))] if beside_random else []
    for who, weights in [("trained", state.weights), *starts]:
        if who == "random" and _equal(weights, state.weights):
            found[who] = list(found["trained"])
            continue

        def encodings(images, indices, what, rng=None, who=who, weights=weights):
            return training.encode(
                state.network,
                weights,
                images,
                indices,
                options,
                state.device,
                rng=rng,
                report=lambda done: report(f"{who} weights: {what}", done, len(indices)),
            )

        test_z = encodings(test, pick_test, "test images")
        crops = [None]
        if protocol == "published":
            crops = [seeds.generator(options.seed, seeds.PROBE, view) for view in range(views)]
        train_z = [encodings(train, pick_train, "training images", rng) for rng in crops]
        found[who] = []
        for i, (b, *views_of_layer) in enumerate(zip(test_z, *train_z, strict=True), 1):
            if protocol == "published":
                result = probe.adam(
                    lambda epoch, of=views_of_layer: of[epoch % len(of)],
                    train_y,
                    b,
                    test_y,
                    classes,
                    epochs=epochs,
                    seed=options.seed,
                )
            else:
                result = probe.logistic(views_of_layer[0], train_y, b, test_y, classes)
            found[who].append(result.accuracy)
            report(f"{who} weights: probes", i, len(test_z))
    return Probed(
        protocol,
        name,
        [layer.name for layer in state.network.layers],
        found["trained"],
        found.get("random", []),
        len(pick_train),
        len(pick_test),
        classes,
    )


def _equal(a: Parameters, b: Parameters) -> bool:
    """Whether two sets of parameters are the same, bit for bit."""
    return all(
        bool((w == b[layer][name]).all()) for layer, own in a.items() for name, w in own.items()
    )


def probe_path(folder: Path, protocol: str, data_name: str) -> Path:
    """Where a run keeps the result of a probe."""
    name = Path(data_name).name
    if data_name not in data.SETS:  # two folders may have one last name
        name += f"-{hashlib.sha256(os.fsencode(data.absolute(data_name))).hexdigest()[:8]}"
    return Path(folder) / f"probe-{protocol}-{name}.json"


def outcome(state: State) -> dict[str, object]:
    """First and last losses, if any, last gates or accuracies, speed; empty before the first step.

    Last ones are means over 20 steps, `images_per_second` is that of the median step.
    """
    metrics = {name: np.array(values) for name, values in state.metrics.items()}
    seconds = metrics["seconds"]
    if not len(seconds):
        return {}
    first = {"loss_first": metrics["loss"][0].tolist()} if "loss" in metrics else {}
    return first | {
        **{
            f"{name}_last": values[-20:].mean(axis=0).tolist()
            for name, values in metrics.items()
            if name != "seconds"
        },
        "images_per_second": state.options.batch / float(np.median(seconds)),
        "seconds": float(seconds.sum()),
    }


def finish(state: State, folder: Path, probed: Probed | None) -> dict[str, object]:
    """Write the summary, then draw losses and probe; returns what the summary holds.

    Numbers come first: a disk that is full at the figures must not lose what was measured.
    """
    summary: dict[str, object] = {
        "rule": state.rule.name,
        "equation": state.rule.equation,
        "network": state.network.name,
        "options": state.options.as_dict(),
        "versions": training.versions(state.device),
        "steps": state.step,
        "layers": state.names,
        **({"damaged": state.damaged} if state.damaged else {}),
    }
    found = outcome(state)
    if found:
        summary |= {**found, "seconds_waited_for_data": state.waited}
        if state.device != "cpu":
            summary["peak_device_bytes"] = peak_bytes(state.device)
    if probed is not None:
        summary["probe"] = probed.as_dict()
    summary["written"] = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    runs.write_summary(folder, summary)
    if "loss_last" in found:
        metrics = {name: np.array(values) for name, values in state.metrics.items()}
        title = f"{state.rule.name} on {state.network.name}, {state.options.data}"
        figures.save_both(figures.losses(metrics, state.names, title), folder / "losses")
    if probed is not None:
        bars = figures.probe_bars(probed.layers, probed.trained, probed.random, probed.error)
        figures.save_both(bars, folder / "probe")
    return summary
