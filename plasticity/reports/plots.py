"""The figures of a run by name: what each of them needs, computed once for all that share it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from plasticity import figures, runs
from plasticity.arrays import to_host
from plasticity.errors import MissingError, UserError
from plasticity.figures import Figure
from plasticity.files import make_folder
from plasticity.inspection import comparisons, dimension, views
from plasticity.inspection.records import NAME, read
from plasticity.inspection.step import index_of
from plasticity.network import Parameters
from plasticity.probes import probe
from plasticity.probes.kept import Best, Kept
from plasticity.probes.probe import Probed
from plasticity.reports import film, sound
from plasticity.runs import lifecycle
from plasticity.runs.run import State
from plasticity.stimuli import STIMULI, Stimulus

EVENT_IMAGES = 64  # images at least whose events are looked at
ROWS_FOR_ALL, ROWS_FOR_ONE = 2, 6  # neurons of a layer in the figure of patches
FAVOURITES = 5


@dataclass
class Look:
    """A run opened to be drawn.

    Attributes:
        layer: the only one to draw, by its index, or None for all; images: how many are encoded.
        seed: of the neurons that are shown and of t-SNE.
        report: called with what is going on, how far, of how much.
    """

    folder: Path
    stored: runs.Checkpoint
    state: State
    layer: int | None = None
    images: int = 300
    seed: int = 0
    report: Callable[[str, int, int], None] = field(default=lambda what, done, total: None)

    @cached_property
    def start(self) -> Parameters:
        """The weights that the run began with."""
        return probe.random_start(self.state)

    @property
    def layers(self) -> list[int]:
        """The layers to draw."""
        return list(range(len(self.names))) if self.layer is None else [self.layer]

    @property
    def names(self) -> list[str]:
        return [layer.name for layer in self.state.network.layers]

    @property
    def kept_with(self) -> list[str]:
        """For each layer the convolution that a rule's matrices and gates are kept with."""
        return [layer.convolutions[-1].name for layer in self.state.network.layers]

    @property
    def title(self) -> str:
        state = self.state
        return f"{state.rule_name} on {state.network.name}, {state.options.data}"

    @property
    def moved(self) -> bool:
        """Whether the weights are others than those of the random start."""
        return self.state.step > 0 and self.state.learns

    @cached_property
    def test(self) -> tuple[Stimulus, np.ndarray]:
        """The examples that are encoded, and which of their set they are."""
        return views.test_set(self.state.options, self.images)

    @cached_property
    def surveys(self) -> dict[str, list[views.Survey]]:
        """What all layers make of the test images, with random and, if others, trained weights."""
        stimulus, indices = self.test
        found = {}
        for who, weights in self.sets.items():

            def report(done: int, who: str = who) -> None:
                self.report(f"encoding, {who}", done, len(indices))

            found[who] = views.survey(self.state, weights, stimulus, indices, report)
        return found

    @cached_property
    def encoded(self) -> dict[str, list[np.ndarray]]:
        """Encodings of test examples, of speech with phones of frames, by weights and layer."""
        if "phones" in self.state.stimulus.tasks:
            return {who: found.z for who, found in sound.encoded(self).items()}
        return {who: [s.encoding for s in of] for who, of in self.surveys.items()}

    def embedded(
        self, encodings: dict[str, list[np.ndarray]]
    ) -> dict[str, list[np.ndarray | None]]:
        """t-SNE of the layers to draw, None of one that is silent.

        Args:
            encodings: for each set of weights those of every layer, `(n, D)`.
        """
        points: dict[str, list[np.ndarray | None]] = {who: [] for who in encodings}
        done, total = 0, len(encodings) * len(self.layers)
        for who, layers in encodings.items():
            for z in (layers[i] for i in self.layers):
                silent = not z.std(axis=0, dtype=float).any()
                points[who].append(None if silent else views.tsne(z, self.seed))
                done += 1
                self.report("t-SNE", done, total)
        return points

    @property
    def sets(self) -> dict[str, Parameters]:
        """The weights to look at: random ones and, if others, the trained."""
        found = {"random weights": self.start}
        return found | ({"trained": self.state.weights} if self.moved else {})

    @cached_property
    def all_events(self) -> list[comparisons.ModuleEvents]:
        def report(done: int) -> None:
            self.report("scores and gates", done, EVENT_IMAGES)

        return comparisons.events(self.state, EVENT_IMAGES, report)

    @property
    def events(self) -> list[comparisons.ModuleEvents]:
        """The events of the modules to draw."""
        wanted = {self.names[i] for i in self.layers}
        found = [one for one in self.all_events if one.layer in wanted]
        if not found:
            self._not_on_top()
        return found

    def _not_on_top(self) -> None:
        raise MissingError(
            f"{self.names[self.layers[0]]} is not the top of a module: scores are taken at "
            f"{', '.join(self.state.names)}"
        )


def open_look(
    folder: Path,
    checkpoint: Path | None = None,
    *,
    data_dir: str | None = None,
    device: str | None = None,
    rule: str | None = None,
    trusted: bool = False,
    layer: str | None = None,
    **settings: object,
) -> Look:
    """Open a run to draw it.

    Args:
        rule: where the run's rule file is now, if it was moved; trusted: let the files of its
            folder run.
        layer: its number from 1 or its name; settings: `images`, `seed`, `report` of `Look`.

    Raises:
        UserError: no run there, a damaged checkpoint, or no such layer.
    """
    stored = lifecycle.stored_at(checkpoint or runs.checkpoint_of(folder))
    how = {"data_dir": data_dir, "device": device, "rule": rule, "trusted": trusted}
    state = lifecycle.restored(stored, folder, **how)
    index = None if layer is None else index_of(state, layer, blocks=True)
    return Look(Path(folder), stored, state, index, **settings)


LABELS = {
    "activity": "mean activity",
    "sparsity": "sparsity",
    "dead": "dead neurons (%)",
    "norm": "norm of W",
    "drift": "drift of W",
}
"""Measures of a layer in a figure."""


def draw_end(state: State, folder: Path, probed: Probed | None) -> None:
    """Draw what a run ends with, its losses and its probe, into its folder."""
    metrics = {name: np.array(values) for name, values in state.metrics.items()}
    if "loss" in metrics and len(metrics["seconds"]):
        title = f"{state.rule_name} on {state.network.name}, {state.options.data}"
        figures.save_both(figures.losses(metrics, state.names, title), folder / "losses")
    if state.measures.steps:
        names = range(len(state.network.layers))
        figures.save_both(_measures(state, list(names)), folder / "measures")
    if probed is not None:
        bars = probe_bars(probed.as_dict())
        figures.save_both(bars, folder / "probe")


def draw_kept(over: Kept, best: Best, folder: Path) -> None:
    """Draw the probes of what a run has kept into its folder."""
    figures.save_both(kept_probes(over, best), Path(folder) / "kept-probes")


def probe_bars(probed: dict[str, Any]) -> Figure:
    """A probe as it is stored: accuracy by layer, with the data set's name and chance."""
    accuracies = (probed[name] for name in ("layers", "trained", "random", "error"))
    task = probed.get("task", "classes")
    title = f"{task} of {probed['data']}, {probed['protocol']} probe"
    return figures.probe_bars(*accuracies, title, probed.get("classes", 0))


def kept_probes(over: Kept, best: Best | None = None) -> Figure:
    """Probes of what a run has kept, over training."""
    about = over.about
    title = f"{about['task']} of {about['data']}, {about['protocol']} probe"
    step = None if best is None else best.step
    of = np.array(over.trained)
    classes = about.get("classes", 0)
    return figures.kept_probes(over.steps, of, over.layers, over.error, title, classes, step)


def losses(look: Look) -> Figure:
    """Loss and open gates of every module over steps: figure 7."""
    metrics = {name: np.array(values) for name, values in look.state.metrics.items()}
    if not len(metrics["seconds"]):
        raise MissingError("the run has not taken a step yet: there are no losses")
    if "loss" not in metrics or not metrics["loss"].any():
        raise MissingError(f"the rule {look.state.rule_name} has no loss to draw")
    names = look.state.names
    wanted = [i for i, name in enumerate(names) if name in {look.names[j] for j in look.layers}]
    if not wanted:
        look._not_on_top()
    chosen = {name: of[:, wanted] for name, of in metrics.items() if name != "seconds"}
    return figures.losses(chosen, [names[i] for i in wanted], look.title)


def names_of(folders: Sequence[Path]) -> list[str]:
    """What runs are called beside each other: their folders' last names, or where two are alike
    the paths.

    Raises:
        UserError: a run that is named twice.
    """
    names = [Path(folder).absolute().name for folder in folders]
    names = names if len(set(names)) == len(names) else [str(folder) for folder in folders]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{name} is named twice")
    return names


def losses_together(stored: Mapping[str, runs.Checkpoint]) -> Figure:
    """The loss and the open gates, or the accuracy, of the last module of several runs, by name.

    Raises:
        MissingError: a run before its first step, or without a loss.
    """
    found: dict[str, dict[str, np.ndarray]] = {}
    for name, checkpoint in stored.items():
        metrics = checkpoint.metrics
        if not len(metrics.get("loss", ())):
            raise MissingError(f"{name} has no losses to draw: it made no step, or descends none")
        kept = ("loss", "open_gates", "accuracy")
        found[name] = {what: metrics[what][:, -1] for what in kept if what in metrics}
    return figures.losses_of_runs(found, "losses of the last module")


def opened(folders: Sequence[Path]) -> dict[str, runs.Checkpoint]:
    """The checkpoints of several runs, without moments, by the runs' names.

    Raises:
        UserError: a run that is named twice, no run, or a damaged one.
    """
    named = dict(zip(names_of(folders), folders, strict=True))
    return {name: runs.load(runs.checkpoint_of(f), moments=False) for name, f in named.items()}


def measures(look: Look) -> Figure:
    """Activity, sparsity, dead neurons, norm and drift of the weights of every layer over steps."""
    if not look.state.measures.steps:
        raise MissingError("no step of the run was measured: there are no measures of its layers")
    return _measures(look.state, look.layers)


def _measures(state: State, layers: list[int]) -> Figure:
    found = {
        label: np.array(state.measures.values[name])[:, layers] * (100 if name == "dead" else 1)
        for name, label in LABELS.items()
    }
    names = [state.network.layers[i].name for i in layers]
    title = f"{state.rule_name} on {state.network.name}, {state.options.data}"
    return figures.measures(np.array(state.measures.steps), found, names, title)


def hinge(look: Look) -> Figure:
    """Scores of positive and negative samples against the hinge: figure 6."""
    return figures.hinge(look.events)


def gates(look: Look) -> Figure:
    """Open gates by prediction step, sign and role."""
    return figures.gates(look.events)


def predictions(look: Look) -> Figure:
    """Norm, alignment and spectrum of W_pred and W_retro."""
    wanted = {look.kept_with[i] for i in look.layers}
    trained, random = (
        [
            one
            for one in comparisons.predictions(
                {n: own for n, own in weights.items() if n in wanted}
            )
        ]
        for weights in (look.state.weights, look.start)
    )
    if not trained:
        if any("W_pred" in own for own in look.state.weights.values()):
            look._not_on_top()
        raise MissingError(f"the rule {look.state.rule_name} keeps no W_pred")
    return figures.predictions(trained, random, recorded_alignment(look))


def recorded_alignment(look: Look) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Cosines of W_pred and W_retro over the steps that were recorded, by layer; maybe none."""
    if not (look.folder / NAME).is_file():
        return {}
    recorded = read(look.folder)
    found = {
        name: recorded.get(f"{name}/alignment")
        for name in map(look.kept_with.__getitem__, look.layers)
    }
    return {name: (recorded.steps, of) for name, of in found.items() if of is not None and len(of)}


def history(look: Look) -> Figure:
    """Open gates and alignment over training, as recorded at the top of the last module."""
    if not (look.folder / NAME).is_file():
        raise MissingError("nothing was recorded while training: 'plasticity run --record' does")
    layer = look.kept_with[look.state.modules[-1][-1] if look.layer is None else look.layer]
    recorded = read(look.folder)
    gates = recorded.get(f"{layer}/gates")
    if gates is None or not np.isfinite(gates).any():
        raise MissingError(f"{recorded.path} holds no gates of {layer}")
    rule = look.state.rule_of(layer)
    cosines, title = recorded.get(f"{layer}/alignment"), f"{layer}, {rule and rule.name}"
    return figures.gate_history(recorded.steps, gates, recorded.roles, recorded.ks, cosines, title)


def kernels(look: Look) -> Figure:
    """The kernels of the first layer, beside their random start."""
    layer = look.state.network.layers[0]
    if look.layer:
        raise MissingError(f"kernels are drawn of the first layer alone, {layer.name}")
    if len(layer.kernel) < 2:
        raise MissingError(
            f"the kernels of {layer.name} have {len(layer.kernel)} dimensions, not 2 or 3"
        )
    sets = {"trained": look.state.weights} if look.moved else {}
    sets["random weights"] = look.start
    columns = 8 if layer.outputs > 12 else 4
    colour = look.state.stimulus.channels == 3
    tiles = {
        name: figures.kernels(_in_space(to_host(own[layer.name]["weight"])), colour)
        for name, own in sets.items()
    }
    return figures.kernel_grid(
        {name: figures.mosaic(one, columns) for name, one in tiles.items()}, layer.name
    )


def _in_space(weight: np.ndarray) -> np.ndarray:
    """Kernels `(O, C, h, w)`; those in time `(O, C, t, h, w)` frame beside frame."""
    return weight if weight.ndim == 4 else np.concatenate(list(np.moveaxis(weight, 2, 0)), axis=-1)


def patches(look: Look) -> Figure:
    """The patches that excite neurons most, trained beside random weights: figures 3a and 8."""
    (stimulus, indices), names = look.test, []
    count = min(FAVOURITES, len(indices))
    blocks: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for layer in look.layers:
        own = {who: found[layer] for who, found in look.surveys.items()}
        rows = ROWS_FOR_ALL if look.layer is None else ROWS_FOR_ONE
        chosen = views.neurons(list(own.values()), rows, look.seed)
        names += [f"{look.names[layer]}\n{j}" for j in chosen]
        for who, survey in own.items():
            place, patch, _ = views.favourites(survey, chosen, count)
            shown = stimulus.source.pixels(indices[place.ravel()])
            shown = shown.reshape(*place.shape, *shown.shape[1:])
            blocks.setdefault(who, []).append((shown, stimulus.box(patch)))
    if not names:
        raise MissingError("no neuron answers any patch: there is nothing to show")
    joined = {
        who: tuple(np.concatenate(part) for part in zip(*found, strict=True))
        for who, found in reversed(blocks.items())
    }
    return figures.patches(joined, names, stimulus.patch)


def tsne(look: Look) -> Figure:
    """t-SNE of the encodings by layer, trained beside random weights: figure 3b."""
    if "phones" in look.state.stimulus.tasks:  # the class of a frame, not of an example
        return sound.frames(look)
    stimulus, indices = look.test
    images = stimulus.source
    points = look.embedded(look.encoded)
    labels = None if images.labels is None else images.labels[indices]
    names = [look.names[i] for i in look.layers]
    return figures.embeddings(points, names, labels, images.classes)


def spectrum(look: Look) -> Figure:
    """Eigenvalues of the covariance of encodings by layer, and how many dimensions they fill."""
    found = {
        who: [dimension.spectrum(layers[i]) for i in look.layers]
        for who, layers in look.encoded.items()
    }
    ratios = {who: list(map(dimension.participation, layers)) for who, layers in found.items()}
    return figures.spectrum([look.names[i] for i in look.layers], found, ratios, look.title)


PLOTS: dict[str, Callable[[Look], Figure]] = {
    "losses": losses,
    "measures": measures,
    "hinge": hinge,
    "gates": gates,
    "history": history,
    "predictions": predictions,
    "kernels": kernels,
    "patches": patches,
    "clips": film.clips,
    "spectrum": spectrum,
    "tsne": tsne,
    "utterance": sound.utterance,
    "confusions": sound.confusions,
    "traces": sound.traces,
}


def fit(name: str, look: Look) -> None:
    """Refuse a figure that is another stimulus's.

    Raises:
        MissingError: which one's it is.
    """
    own = look.state.options.unfed
    others = [kind.name for kind in STIMULI.values() if name in kind.figures]
    if others and name not in own.figures:
        raise MissingError(
            f"the figure {name} is of {' and '.join(others)}, and {look.state.network.name} is for "
            f"{own.name}"
        )


def of(look: Look) -> list[str]:
    """The figures that a run can have, by its stimulus and network."""
    recurrent = any(layer.recurrent for layer in look.state.network.layers)
    own = look.state.options.unfed.figures
    others = {name for kind in STIMULI.values() for name in kind.figures} - set(own)
    return [n for n in PLOTS if n not in others and (n != "traces" or recurrent)]


def chosen(names: tuple[str, ...]) -> list[str]:
    """The figures asked for, each once; `all` stands for every one.

    Raises:
        UserError: none, or a name that is not known (with the nearest).
    """
    known = ", ".join([*PLOTS, "all"])
    if not names:
        raise UserError(f"nothing to plot: name one or more of {known}")
    for name in names:
        if name not in PLOTS and name != "all":
            near = get_close_matches(name.lower().replace("-", ""), [*PLOTS, "all"], n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"expected {known}"
            raise UserError(f"unknown plot '{name}': {hint}")
    return list(PLOTS) if "all" in names else list(dict.fromkeys(names))


def paths(names: list[str], out: Path, formats: tuple[str, ...]) -> dict[str, list[Path]]:
    """Where each figure goes: a file for each format in the folder `out`, or `out` itself.

    Raises:
        UserError: a single file for several figures, a suffix that is not known.
    """
    if not out.suffix or out.is_dir():
        return {name: [out / f"{name}.{kind}" for kind in formats] for name in names}
    if len(names) > 1:
        raise UserError(f"--out {out} is one file for {len(names)} plots: name a folder")
    figures.check_suffix(out)
    return {names[0]: [out]}


def draw(
    look: Look, wanted: dict[str, list[Path]], *, skip: bool
) -> tuple[list[Path], dict[str, str]]:
    """Draw and write figures; returns the files, and why the others were left out.

    Args:
        skip: leave out a figure whose data are missing, where otherwise that is an error; those
            that the run's stimulus has not go without a word.

    Raises:
        UserError: a figure that cannot be drawn or written.
    """
    written: list[Path] = []
    left_out: dict[str, str] = {}
    can_be = of(look)
    for name, files in wanted.items():
        if skip and name not in can_be:
            continue
        try:
            fit(name, look)
            figure = PLOTS[name](look)
        except MissingError as error:
            if not skip:
                raise
            left_out[name] = str(error)
            continue
        written += write(figure, files)
    return written, left_out


def write(figure: Figure, files: Sequence[Path]) -> Sequence[Path]:
    """Write a figure into files, whose folders are made; returns the files.

    Raises:
        UserError: one that cannot be written.
    """
    for path in files:
        make_folder(path.parent)
        figures.save(figure, path)
    return files
