"""Runs beside each other: how similar their layers make the same examples, and their probes.

    from plasticity.inspection import similarity

    found = similarity.compare_runs(["runs/clapp", "runs/hinge_cpc"], examples=1000)

Linear CKA (Kornblith, Norouzi, Lee & Hinton, ICML 2019, Eq. 1 to 4) without its bias, which is
large where neurons are as many as examples: HSIC of two Gram matrices is estimated as by Song,
Smola, Gretton, Bedo & Borgwardt, JMLR 13 (2012), Eq. (4), which is their scalar product after
centring as by Szekely & Rizzo, Annals of Statistics 42 (2014), Eq. (2.5). CKA is then a cosine.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from plasticity import runs
from plasticity.errors import UserError
from plasticity.inspection.tables import blank
from plasticity.network import Parameters
from plasticity.probes.encodings import encode
from plasticity.probes.probe import chosen, random_start
from plasticity.runs import lifecycle, sets
from plasticity.runs.run import State
from plasticity.stimuli import Stimulus

LEAST, MOST = 20, 5000
"""Examples: a tenth of them is left out for the error, and a Gram matrix is as wide as they are."""
COLUMNS = 2048
PARTS = 10

Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Similar:
    """Linear CKA of two layers on the same examples.

    `first` and `second` are runs by their number, from 0; `error` is a standard error (jackknife),
    NaN between different layers.
    """

    first: int
    second: int
    first_layer: str
    second_layer: str
    cka: float
    error: float


@dataclass(frozen=True)
class Probe:
    """One probe that all runs have had: accuracies by run and layer, and their standard errors.

    Attributes:
        what: protocol, task, data and numbers of examples.
        accuracy: by run, then by layer, fractions; random: those of each run's random start, or an
            empty list; error: one standard error of a fraction, by run.
        task, data: of the probe; classes: how many there are, 0 where it is not known.
    """

    what: str
    layers: list[str]
    accuracy: list[list[float]]
    random: list[list[float]]
    error: list[float]
    task: str = "classes"
    data: str = ""
    classes: int = 0

    def difference(self, run: int, layer: int) -> tuple[float, float]:
        """Accuracy of a run less that of the first, and its standard error.

        The error is that of independent test examples; where they are the same it is less.
        """
        value = self.accuracy[run][layer] - self.accuracy[0][layer]
        return value, math.hypot(self.error[run], self.error[0])

    def rows(self, names: Sequence[str]) -> list[dict[str, str]]:
        """A table in percent: by layer every run, its random start, and the differences.

        Args:
            names: of the runs.
        """
        made = []
        for i, layer in enumerate(self.layers):
            row = {"layer": layer}
            for r, name in enumerate(names):
                row[name] = f"{100 * self.accuracy[r][i]:.1f} ± {100 * self.error[r]:.1f}"
                if self.random[r]:
                    row[f"{name}, start"] = f"{100 * self.random[r][i]:.1f}"
            for r, name in enumerate(names[1:], 1):
                value, error = self.difference(r, i)
                row[f"{name} - {names[0]}"] = f"{100 * value:+.1f} ± {100 * error:.1f}"
            made.append(row)
        return made


@dataclass(frozen=True)
class RunsBeside:
    """Several runs of one network.

    Attributes:
        runs: folders; rules, steps: of each; data: what the test examples are from.
        similar: every layer of a run with every layer of another.
        to_start: by run and layer, CKA of the run with its own random start.
        probes: those that all runs have had; unprobed: runs that have had none.
    """

    runs: list[str]
    rules: list[str]
    steps: list[int]
    data: str
    example: str
    examples: int
    layers: list[str]
    similar: list[Similar]
    to_start: list[list[float]]
    probes: list[Probe]
    unprobed: list[str]

    def same_layer(self, first: int, second: int) -> list[Similar]:
        """The similarity of each layer of a run with the same layer of another."""
        return [
            s
            for s in self.similar
            if (s.first, s.second) == (first, second) and s.first_layer == s.second_layer
        ]

    def as_dict(self) -> dict[str, object]:
        """For JSON, in which NaN is null."""
        found = asdict(self)
        found["similar"] = [blank(row) for row in found["similar"]]
        found["to_start"] = [[None if v != v else v for v in row] for row in self.to_start]
        return found


def gram(x: np.ndarray) -> np.ndarray:
    """The scalar products of examples `(n, n)`, float64, of features `(n, D)` less their means.

    D is gone through piece by piece.
    """
    K = np.zeros((len(x), len(x)))
    for at in range(0, x.shape[1], COLUMNS):
        part = x[:, at : at + COLUMNS].astype(float)
        part -= part.mean(axis=0)
        K += part @ part.T
    return K


def centred(K: np.ndarray) -> np.ndarray:
    """A Gram matrix with an empty diagonal whose rows and columns sum to 0 (U-centred)."""
    n, K = len(K), K.copy()
    np.fill_diagonal(K, 0)
    rows = K.sum(axis=0) / (n - 2)
    K += rows.sum() / (n - 1) - rows - rows[:, None]
    np.fill_diagonal(K, 0)
    return K


def cka(K: np.ndarray, L: np.ndarray) -> float:
    """Linear CKA without bias of two sets of features by their Gram matrices `(n, n)`.

    It may be slightly negative where nothing is shared, and is NaN where all features are constant.
    """
    K, L = centred(K), centred(L)
    sizes = math.sqrt((K * K).sum() * (L * L).sum())
    return float((K * L).sum()) / sizes if sizes else math.nan


def cka_error(K: np.ndarray, L: np.ndarray) -> float:
    """The standard error of `cka` over examples: the jackknife that leaves out a tenth."""
    part = np.arange(len(K)) % PARTS
    left = [np.flatnonzero(part != p) for p in range(PARTS)]
    values = np.array([cka(K[np.ix_(a, a)], L[np.ix_(a, a)]) for a in left])
    return float(np.sqrt((PARTS - 1) * values.var()))


def compare_runs(
    folders: Sequence[Path | str],
    *,
    examples: int = 1000,
    data_name: str | None = None,
    report: Report = lambda what, done, total: None,
    **how: object,
) -> RunsBeside:
    """Similarity of all pairs of layers of all pairs of runs, and their probes side by side.

    All meet the same test examples, as probes see them (images: the mean over the patches of a
    centre crop; clips: that over time; utterances: that over the frames of a crop), and a layer's
    features are these encodings.

    Args:
        examples: how many, 0 for as many as there are, at most `MOST`.
        data_name: a data set whose test examples all meet, by default the one they learned from.
        how: as of `lifecycle.reopen`.

    Raises:
        UserError: runs of different networks, stimuli or data, a run named twice, or too few
            examples.
    """
    _check_folders(folders)
    states = [lifecycle.reopen(Path(folder), **how) for folder in folders]
    _check_alike(folders, states, data_name)
    first = states[0]
    source = sets.split(first.options, "test", data_name)
    stimulus = sets.stimulus(first.options, source)
    indices = chosen(source, min(examples or MOST, MOST))
    if len(indices) < LEAST:
        raise UserError(
            f"similarity wants at least {LEAST} {stimulus.example}s to be measured by, there are "
            f"{len(indices)}: take more by --images, or another set by --data"
        )
    layers = [layer.name for layer in first.network.layers]
    grams, to_start = [], []
    for folder, state in zip(folders, states, strict=True):
        name = shown(folder)
        mine = _grams(state, state.weights, stimulus, indices, name, report)
        start = _grams(state, random_start(state), stimulus, indices, f"{name}, start", report)
        to_start.append([cka(*pair) for pair in zip(mine, start, strict=True)])
        grams.append(mine)
    similar = []
    pairs = [(a, b) for a in range(len(states)) for b in range(a + 1, len(states))]
    for done, (a, b) in enumerate(pairs, 1):
        similar += [
            Similar(a, b, layers[i], layers[j], cka(K, L), cka_error(K, L) if i == j else math.nan)
            for i, K in enumerate(grams[a])
            for j, L in enumerate(grams[b])
        ]
        report("similarities", done, len(pairs))
    probes, unprobed = probes_of(folders)
    return RunsBeside(
        [str(folder) for folder in folders],
        [state.rule.name for state in states],
        [state.step for state in states],
        data_name or first.options.data,
        stimulus.example,
        len(indices),
        layers,
        similar,
        to_start,
        probes,
        unprobed,
    )


def shown(folder: Path | str) -> str:
    """A run in a word: the name of its folder."""
    return Path(folder).absolute().name


def _grams(
    state: State,
    weights: Parameters,
    stimulus: Stimulus,
    indices: np.ndarray,
    what: str,
    report: Report,
) -> list[np.ndarray]:
    """The Gram matrix of every layer."""
    told = lambda done: report(what, done, len(indices))  # noqa: E731
    how = stimulus, indices, state.options.batch, state.device
    return [gram(z) for z in encode(state.network, weights, *how, report=told)]


def _check_folders(folders: Sequence[Path | str]) -> None:
    if len(folders) < 2:
        raise UserError("similarity is between runs: name at least two")
    where = [Path(folder).resolve() for folder in folders]
    for folder, one in zip(folders, where, strict=True):
        if where.count(one) > 1:
            raise UserError(f"{folder} is named twice: a run is as similar to itself as can be, 1")


def _check_alike(folders: Sequence[Path | str], states: Sequence[State], data: str | None) -> None:
    """Refuse runs that cannot meet the same examples layer by layer."""
    first, *others = states
    own, layers = first.options, [layer.name for layer in first.network.layers]
    for folder, other in zip(folders[1:], others, strict=True):
        its, named = other.options, [layer.name for layer in other.network.layers]
        both = f"{folders[0]} and {folder} cannot be compared"
        if own.unfed.name != its.unfed.name:
            raise UserError(f"{both}: one learned from {own.unfed.name}, one from {its.unfed.name}")
        if layers != named:
            raise UserError(
                f"{both} layer by layer: {first.network.name} has the layers {', '.join(layers)}, "
                f"and {other.network.name} has {', '.join(named)}"
            )
        for field in fields(own.unfed):
            mine, others = (getattr(one.unfed, field.name) for one in (own, its))
            if mine != others:
                raise UserError(
                    f"{both}: they meet their examples with {field.name} {mine} and {others}"
                )
        if data is None and (own.data, own.identity.get("test")) != (
            its.data,
            its.identity.get("test"),
        ):
            raise UserError(
                f"{both} on the data that they learned from: these are {own.data} and {its.data}; "
                "name a set whose test examples all meet by --data"
            )


def probes_of(folders: Sequence[Path | str]) -> tuple[list[Probe], list[str]]:
    """The probes that all runs have had, of one protocol, data and size, and runs without any.

    Raises:
        UserError: a file that cannot be read.
    """
    found = [{_what(probe): probe for _, probe in runs.probes(Path(folder))} for folder in folders]
    probes = []
    for what in found[0]:
        each = [one.get(what) for one in found]
        if all(each) and all(one["layers"] == each[0]["layers"] for one in each):
            accuracy, random, error = ([p[n] for p in each] for n in ("trained", "random", "error"))
            one = each[0]
            about = one.get("task", "classes"), one["data"], one.get("classes", 0)
            probes.append(Probe(what, one["layers"], accuracy, random, error, *about))
    return probes, [str(f) for f, one in zip(folders, found, strict=True) if not one]


def _what(probe: dict[str, Any]) -> str:
    """Protocol, task, data and sizes of a probe: runs are compared by the same one."""
    example, task = probe.get("example", "image"), probe.get("task", "classes")
    sizes = f"{probe.get('train_images')} training and {probe['test_images']} test {example}s"
    return f"{probe['protocol']}, {task} of {probe['data']}, {sizes}"
