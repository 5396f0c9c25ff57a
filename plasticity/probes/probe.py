"""Linear probes of a run: how well its layers tell classes apart."""

import hashlib
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from plasticity import data, seeds
from plasticity.errors import UserError
from plasticity.network import Parameters
from plasticity.probes import linear
from plasticity.probes.encodings import encode
from plasticity.runs import run
from plasticity.runs.run import State


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
    return run.begin(state.options).weights


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

        def encodings(of, indices, what, rng=None, who=who, weights=weights):
            return encode(
                state.network,
                weights,
                options.stimulus(of),
                indices,
                options.batch,
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
                result = linear.adam(
                    lambda epoch, of=views_of_layer: of[epoch % len(of)],
                    train_y,
                    b,
                    test_y,
                    classes,
                    epochs=epochs,
                    seed=options.seed,
                )
            else:
                result = linear.logistic(views_of_layer[0], train_y, b, test_y, classes)
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
