"""Linear probes of a run: how well its layers tell classes apart."""

import hashlib
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path

import numpy as np

from plasticity import data, seeds
from plasticity.errors import UserError
from plasticity.network import Parameters
from plasticity.probes import linear, normalised, phones, plastic
from plasticity.probes.encodings import encode
from plasticity.probes.plastic import Plastic
from plasticity.runs import run, sets
from plasticity.runs.run import State
from plasticity.stimuli import STIMULI, Stimulus

Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Probed:
    """Linear-probe accuracy by layer: of a run, and of the same network at its random start.

    Accuracies are fractions of the test images, or of the frames of test utterances; `error` is one
    standard error of such a fraction, which counts images or utterances. `random` is empty where it
    was not measured; `example` is what the data set holds, in a word.
    """

    protocol: str
    data: str
    layers: list[str]
    trained: list[float]
    random: list[float]
    train_images: int
    test_images: int
    classes: int
    task: str = "classes"
    standard_error: float | None = None
    example: str = "image"

    @property
    def error(self) -> float:
        if self.standard_error is not None:
            return self.standard_error
        middle = float(np.mean(self.trained + self.random))
        return math.sqrt(middle * (1 - middle) / self.test_images)

    def as_dict(self) -> dict[str, object]:
        """For the summary."""
        found = {**self.__dict__, "error": self.error}
        return {name: value for name, value in found.items() if name != "standard_error"}

    def _repr_html_(self) -> str:
        columns = {"layer": self.layers, "trained": self.trained}
        columns |= {"random weights": self.random} if self.random else {}
        head = "".join(f"<th>{name}</th>" for name in columns)
        rows = (
            f"<td>{escape(layer)}</td>" + "".join(f"<td>{100 * a:.1f} %</td>" for a in found)
            for layer, *found in zip(*columns.values(), strict=True)
        )
        return f"<table><tr>{head}</tr>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"


def chosen(images: data.ImageSet, wanted: int) -> np.ndarray:
    """`wanted` of the images (0: all), always the same ones, without those left out as damaged."""
    return images.usable(_some(len(images), wanted))


def _some(count: int, wanted: int) -> np.ndarray:
    """`wanted` of so many (0: all), always the same ones, in their order."""
    return np.sort(seeds.generator(0, seeds.PROBE).permutation(count)[: wanted or count])


def random_start(state: State) -> Parameters:
    """The weights that this run began with."""
    return run.begin(state.options).weights


def probe_run(
    state: State,
    *,
    task: str = "",
    data_name: str | None = None,
    train_images: int = 0,
    test_images: int = 0,
    protocol: str = "regularised",
    epochs: int = 0,
    views: int = 4,
    beside_random: bool = True,
    report: Report = lambda what, done, total: None,
) -> Probed:
    """Linear probes on every layer, of the run's weights and of its random start.

    Args:
        task: `classes` of images; `clips`, the classes of film; of sound `phones`, by frame, or
            `speakers`. By default the first of these, and `speakers` where the data have no phones.
        data_name: a data set with labels, by default the run's own.
        train_images, test_images: how many examples, 0 for all.
        epochs, views: of the published protocol: passes over the examples (0: as published), and
            how many random crops of each it cycles through.
        protocol: `regularised`, logistic regression on standardised encodings of centre crops;
            `published`, raw encodings of random crops, softmax layer, Adam (THEORY); of film batch
            normalisation and dropout before that layer.
        beside_random: False leaves the random start out.
        report: called with what is going on, how far, of how much.

    Raises:
        UserError: a data set without labels, or a task that it has not.
    """
    options = state.options
    name = data_name or options.data
    train, test = (sets.split(options, split, data_name) for split in ("train", "test"))
    task = _task(task, options.unfed, train)
    probe = PROBES[task](state, name, train, test, train_images, test_images)
    found: dict[str, list[float]] = {}
    starts = [("random", random_start(state))] if beside_random else []
    for who, weights in [("trained", state.weights), *starts]:
        if who == "random" and _equal(weights, state.weights):
            found[who] = list(found["trained"])
            continue
        how = protocol, epochs or EPOCHS[task], views
        said = lambda what, *so_far, who=who: report(f"{who} weights: {what}", *so_far)  # noqa: E731
        found[who] = probe.accuracies(plastic.of(state, weights), *how, said)
    state.damaged |= train.left_out | test.left_out
    return Probed(
        protocol,
        name,
        [layer.name for layer in state.network.layers],
        found["trained"],
        found.get("random", []),
        len(probe.pick_train),
        len(probe.pick_test),
        probe.classes,
        task,
        probe.standard_error,
        options.unfed.example,
    )


EPOCHS = {"classes": 300, "speakers": 50, "phones": 20, "clips": 200}
"""Of the published protocols: Illing et al. 2021 for images and film; Loewe et al. 2019, sound."""


def _task(asked: str, stimulus: Stimulus, source: sets.Source) -> str:
    if asked and asked not in stimulus.tasks:
        known = " or ".join(stimulus.tasks)
        raise UserError(f"--task {asked} is not for {stimulus.name}: expected {known}")
    return asked or stimulus.task(source)


class OfExamples:
    """A class for every example: of images, or the speakers of utterances."""

    standard_error: float | None = None  # that of a fraction of independent examples

    def __init__(
        self,
        state: State,
        name: str,
        train: sets.Source,
        test: sets.Source,
        most: int,
        most_tested: int,
    ) -> None:
        self.state, self.sets = state, (train, test)
        labels = [self.labels(of) for of in self.sets]
        if any(of is None for of in labels):
            raise UserError(self.missing.format(name=name))
        self.pick_train, self.pick_test = chosen(train, most), chosen(test, most_tested)
        self.train_y, self.test_y = labels[0][self.pick_train], labels[1][self.pick_test]
        self.classes = len(self.names(train))

    missing = (
        "the images of {name} have no labels, a probe needs them: sort them into a folder "
        "for each class, or take --no-probe"
    )
    batch, rate = 32, 1e-3
    fit = staticmethod(linear.adam)  # of the published protocol

    @staticmethod
    def labels(of: sets.Source) -> np.ndarray | None:
        return of.labels

    @staticmethod
    def names(of: sets.Source) -> tuple[str, ...]:
        return of.classes

    def accuracies(
        self, weights: Parameters | Plastic, protocol: str, epochs: int, views: int, report: Report
    ) -> list[float]:
        """For every layer, as a fraction."""
        state, options = self.state, self.state.options

        def encodings(of, indices, what, rng=None):
            return encode(
                state.network,
                weights,
                sets.stimulus(options, of),
                indices,
                options.batch,
                state.device,
                rng=rng,
                report=lambda done: report(what, done, len(indices)),
            )

        one = f"{options.unfed.example}s"
        train, test = self.sets
        test_z = encodings(test, self.pick_test, f"test {one}")
        crops = [None]
        if protocol == "published":
            crops = [seeds.generator(options.seed, seeds.PROBE, view) for view in range(views)]
        train_z = [encodings(train, self.pick_train, f"training {one}", rng) for rng in crops]
        found, labels = [], (self.train_y, self.test_y)
        for i, (b, *views_of_layer) in enumerate(zip(test_z, *train_z, strict=True), 1):
            if protocol == "published":
                result = self.fit(
                    lambda epoch, of=views_of_layer: of[epoch % len(of)],
                    labels[0],
                    b,
                    labels[1],
                    self.classes,
                    epochs=epochs,
                    batch=self.batch,
                    lr=self.rate,
                    seed=options.seed,
                )
            else:
                result = linear.logistic(views_of_layer[0], labels[0], b, labels[1], self.classes)
            found.append(result.accuracy)
            report("probes", i, len(test_z))
        return found


class OfSpeakers(OfExamples):
    """Who speaks, from the mean over time of a crop (Loewe et al. 2019)."""

    missing = "no speaker of {name} is known: sort its utterances into a folder for each"
    batch = 64

    @staticmethod
    def labels(of: sets.Source) -> np.ndarray | None:
        return of.speaker

    @staticmethod
    def names(of: sets.Source) -> tuple[str, ...]:
        return of.speakers


class OfClips(OfExamples):
    """The class of a clip, from the mean over time of flattened maps (Illing et al. 2021, B.3)."""

    missing = (
        "the clips of {name} have no labels, a probe needs them: sort them into a folder for each "
        "class, or take --no-probe"
    )
    rate = 1e-4
    fit = staticmethod(normalised.fit)


class OfPhones:
    """The phone of every frame, see `probes.phones`."""

    def __init__(
        self,
        state: State,
        name: str,
        train: sets.Source,
        test: sets.Source,
        most: int,
        most_tested: int,
    ) -> None:
        self.state, self.sets = state, (train, test)
        labelled = [phones.check(of, name) for of in self.sets]
        self.pick_train, self.pick_test = (
            of[_some(len(of), count)]
            for of, count in zip(labelled, (most, most_tested), strict=True)
        )
        if len(self.pick_test) < 2:
            raise UserError(
                f"a probe of phones needs two test utterances with phones, to tell how sure it is: "
                f"{name} has {len(self.pick_test)} to take here"
            )
        self.classes = len(train.phone_names)
        self.standard_error: float | None = None
        asked = zip(phones.MOST.items(), (most, most_tested), strict=True)
        self.most = {s: min(n, phones.EACH * count or n) for (s, n), count in asked}

    def accuracies(
        self, weights: Parameters | Plastic, protocol: str, epochs: int, views: int, report: Report
    ) -> list[float]:
        """For every layer, as a fraction of the test frames."""
        network, device, options = self.state.network, self.state.device, self.state.options
        alignment, (train, test) = options.alignment, self.sets
        most = self.most if protocol == "regularised" else {}

        def frames(of, indices, split):
            told = lambda *so_far: report(f"{split} utterances", *so_far)  # noqa: E731
            where = of, indices, alignment, device, most.get(split, 0)
            return phones.frames(network, weights, *where, told)

        tested, found, errors = frames(test, self.pick_test, "test"), [], []
        if protocol == "published":
            total = epochs * len(self.pick_train)
            readouts = phones.published(
                network, weights, replace(options.unfed, source=train), self.pick_train,
                self.classes, device, epochs=epochs, seed=options.seed,
                report=lambda done: report("training utterances", done, total),
            )  # fmt: skip
        else:
            trained = frames(train, self.pick_train, "train")
        for i, z in enumerate(tested.z):
            if protocol == "published":
                told = linear.told(readouts[i], z, self.classes)
            else:
                beside = trained.phones, z, tested.phones, self.classes
                told = linear.logistic(trained.z[i], *beside).told
            right = told == tested.phones
            found.append(float(right.mean()))
            errors.append(phones.error_by_utterance(right, tested.utterance))
            report("probes", i + 1, len(tested.z))
        self.standard_error = float(np.mean(errors))
        return found


PROBES = {
    "classes": OfExamples,
    "speakers": OfSpeakers,
    "phones": OfPhones,
    "clips": OfClips,
}


def _equal(a: Parameters, b: Parameters) -> bool:
    """Whether two sets of parameters are the same, bit for bit."""
    return all(
        bool((w == b[layer][name]).all()) for layer, own in a.items() for name, w in own.items()
    )


def probe_path(folder: Path, protocol: str, data_name: str, task: str = "") -> Path:
    """Where a run keeps the result of a probe."""
    name = Path(data_name).name + (f"-{task}" if task else "")
    known = {name for kind in STIMULI.values() for name in kind.sets}
    if data_name not in known:  # two folders may have one last name
        name += f"-{hashlib.sha256(os.fsencode(data.absolute(data_name))).hexdigest()[:8]}"
    return Path(folder) / f"probe-{protocol}-{name}.json"
