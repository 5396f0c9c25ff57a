"""Runs from Python: `plasticity.run`, `plasticity.open`, and what they give.

What the commands do, with the same options under the same names (`--prediction-steps 3` is
`prediction_steps=3`), the same folders and the same sentences where something is wrong
(`plasticity.UserError`). Everything here calls what the commands call.
"""

import warnings
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from html import escape
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from plasticity import claims, inspection, learning, runs, trust
from plasticity.arrays import Array, to_host
from plasticity.errors import UserError
from plasticity.inspection.tables import html
from plasticity.layers import Seen
from plasticity.network import Network, Parameters
from plasticity.probes import given, kept
from plasticity.probes.probe import Probed, probe_run
from plasticity.reports import plots
from plasticity.rule import Role, Rule
from plasticity.runs import lifecycle, summary, training
from plasticity.runs.options import PRESETS, RunOptions, free
from plasticity.runs.run import State

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SYNAPSES = {"synapse": "weight", "bias": "bias", "prediction": "W_pred", "retro": "W_retro"}


class Encodings(dict[str, Array]):
    """What every layer makes of examples, `(examples, D)` by its name.

    Attributes:
        labels: of the examples, int `(examples,)`, or None; classes: their names.
    """

    labels: np.ndarray | None = None
    classes: tuple[str, ...] = ()

    def _repr_html_(self) -> str:
        rows = [{"layer": n, "shape": str(z.shape), "dtype": str(z.dtype)} for n, z in self.items()]
        return html(rows)


@dataclass(frozen=True)
class LayerUpdate:
    """What a layer's update in one step is made of, and what comes of it.

    dW of a synapse is the sum over events and places of gate, dendritic signal, post and pre; see
    `Run.inspect` for a synapse event by event.

    Attributes:
        dW: by parameter, what an optimiser is given, those that the rule keeps (`W_pred`) included.
        roles: the rule's events: `score` and `gamma` (gate times sign times weight) `(E,)`, and
            `signals`, the dendritic signals; empty below the top of a module.
        pre: input of the layer `(M, *space, C)`; seen: winners and drives, see `layers.Seen`.
        loss: of the losses that its module keeps; None for a rule that descends none.
    """

    layer: str
    dW: Mapping[str, Array]
    roles: tuple[Role, ...]
    pre: Array
    seen: Seen
    loss: float | None

    def _repr_html_(self) -> str:
        events = [role.listed() for role in self.roles]
        rows = [
            {"role": role.name, "k": int(role.events.k), "events": int(role.gamma.size),
             "open gates": float((role.gamma != 0).mean())}
            for role in events
        ]  # fmt: skip
        norms = [{"parameter": n, "shape": str(w.shape), "norm of dW": float((w**2).sum() ** 0.5)}
                 for n, w in self.dW.items()]  # fmt: skip
        return f"<h4>{escape(self.layer)}</h4>{html(norms)}{html(rows) if rows else ''}"


class Updates(dict[str, LayerUpdate]):
    """The updates of one step by layer."""

    def _repr_html_(self) -> str:
        return "".join(update._repr_html_() for update in self.values())


class Run:
    """A run of a folder, opened to be looked at; nothing here changes the folder.

    Attributes:
        folder: where it lies; state: all of it, see `runs.run.State`.
    """

    def __init__(self, folder: Path, state: State) -> None:
        self.folder, self.state = folder, state

    @property
    def weights(self) -> Parameters:
        """The weights by layer and parameter, arrays on the run's device."""
        return self.state.weights

    @property
    def steps(self) -> list[int]:
        """After which steps the weights were kept, by `--keep-every` or `--keep-weights`."""
        return list(runs.kept(self.folder))

    def weights_at(self, step: int) -> dict[str, dict[str, np.ndarray]]:
        """The weights that were kept after a step, by layer and parameter, on the host.

        Arrays are as they were stored: float16 where `--keep-dtype` says so.

        Raises:
            UserError: no weights of this step.
        """
        there = runs.kept(self.folder)
        if step not in there:
            raise UserError(
                f"{self.folder} has kept no weights of step {step}: there are "
                f"{', '.join(map(str, there)) or 'none'}; --keep-weights N keeps them"
            )
        return runs.load(there[step], moments=False).params

    @property
    def network(self) -> Network:
        """The network."""
        return self.state.network

    @property
    def rule(self) -> Rule:
        """The rule, with its options as fields."""
        return self.state.rule

    @property
    def options(self) -> RunOptions:
        """The options of the run, as attributes."""
        return self.state.options

    @property
    def step(self) -> int:
        """How many steps it has taken."""
        return self.state.step

    @property
    def metrics(self) -> dict[str, np.ndarray]:
        """What was measured: `loss` and `open_gates` `(steps, modules)`, `seconds` `(steps,)`."""
        return {name: np.array(values) for name, values in self.state.metrics.items()}

    def encode(
        self,
        examples: Any = "test",
        *,
        batch: int = 0,
        images: int = 0,
        report: Callable[[int], None] = lambda done: None,
    ) -> Encodings:
        """What every layer makes of examples, as a probe reads it.

        Args:
            examples: a split of the run's data set by its name; or an array of NumPy, CuPy or
                torch, whole images, utterances or clips, or floats as the network takes them: see
                `probes.given.encode_arrays`.
            batch: examples at a time, by default the run's; images: so many of a split, 0: all.
            report: called with the number of examples encoded.

        Returns:
            `(examples, D)` for each layer. On the host, but for arrays that lie on a GPU.

        Raises:
            UserError: no such split, or arrays that do not fit the network.
        """
        if not isinstance(examples, str):
            return Encodings(given.encode_arrays(self.state, examples, batch, report))
        _, labels, classes, _, batches = given.encode_split(self.state, examples, most=images)
        found, done = [], 0
        for layers in batches:
            found.append([to_host(z) for z in layers])
            done += len(layers[0])
            report(done)
        names = [layer.name for layer in self.network.layers]
        joined = map(np.concatenate, zip(*found, strict=True))
        made = Encodings(zip(names, joined, strict=True))
        made.labels, made.classes = labels, classes
        return made

    def updates(self) -> Updates:
        """The updates of the coming batch, layer by layer, with their factors; no weight moves."""
        watched: list[learning.Watched] = []
        _, coming = self.state.next(watched.append)
        found, done = Updates(), list(coming)
        for one in watched:
            update = next(u for u in done if u.module == one.module)
            loss = None if update.loss is None else float(update.loss)
            for seen in one.layers:
                name = seen.layer.name
                roles = one.roles if seen is one.layers[-1] else ()
                dW = update.changes.get(name, {})
                found[name] = LayerUpdate(name, dW, roles, seen.x, seen, loss)
        return found

    def inspect(self, layer: int | str, **synapse: tuple[int, ...]) -> Any:
        """The coming step of a layer taken apart, or of one of its synapses, event by event.

        Args:
            layer: its number from 1, or its name.
            synapse: one of `synapse=(post, pre, row, column)`, `bias=(post,)`,
                `prediction=(k, j, i)`, `retro=(k, i, j)`, as the command has them; none for all of
                the layer.

        Returns:
            `inspection.Synapse` or `inspection.LayerView`: tables in a notebook, and for pandas.

        Raises:
            UserError: no such layer or synapse, or several.
        """
        if unknown := set(synapse) - set(SYNAPSES):
            raise UserError(f"unknown {min(unknown)}: expected one of {', '.join(SYNAPSES)}")
        if len(synapse) > 1:
            raise UserError(f"take one of {', '.join(synapse)} at a time")
        step = inspection.look(self.state, layer)
        if not synapse:
            return inspection.inspect_layer(step)
        ((kind, index),) = synapse.items()
        index = (index,) if isinstance(index, int | np.integer) else tuple(map(int, index))
        name = SYNAPSES[kind]
        if step.layer.recurrent:
            name = {"weight": "weight_ih", "bias": "bias_ih"}.get(name, name)
        return inspection.inspect(step, name, index)

    def probe(self, **how: Any) -> Probed:
        """Linear probes of all layers, beside the random start: see `probes.probe.probe_run`."""
        return probe_run(self.state, **{"train_images": 5000, "test_images": 2000, **how})

    def plot(self, name: str, layer: int | str | None = None, images: int = 300) -> "Figure":
        """One of the figures of `plasticity plot`, by its name.

        Raises:
            UserError: no such figure, or one that this run cannot have.
        """
        if name == "all":
            raise UserError("name one figure at a time, such as 'losses'")
        (name,) = plots.chosen((name,))
        index = None if layer is None else inspection.step.index_of(self.state, layer, blocks=True)
        stored = lifecycle.stored_at(runs.checkpoint_of(self.folder))
        look = plots.Look(self.folder, stored, self.state, index, images=images)
        plots.fit(name, look)
        return plots.PLOTS[name](look)

    def train(self, steps: int, **options: Any) -> "Run":
        """Train on to a step, as `plasticity run --resume`: this run, opened anew."""
        return run(resume=self.folder, steps=steps, **options)

    def __repr__(self) -> str:
        return (
            f"<Run {self.folder}: {self.state.rule_name} on {self.network.name}, step {self.step}>"
        )

    def _repr_html_(self) -> str:
        state, last = self.state, summary.outcome(self.state)
        layers = [{"layer": la.name, "neurons": la.outputs} for la in state.network.layers]
        told = [
            f"<h3>{escape(state.rule_name)} on {escape(state.network.name)}</h3>",
            f"<p>{escape(f'{self.folder}, step {self.step}: ' + state.said('equation'))}</p>",
            html(layers),
        ]
        shown = [n for n in ("loss_first", "loss_last", "open_gates_last") if n in last]
        rows = zip(state.names, *(last[n] for n in shown), strict=True)
        if shown:
            told.append(html([dict(zip(["module", *shown], row, strict=True)) for row in rows]))
        return "".join(told) + (_image(self.plot("losses")) if "loss_last" in last else "")


def _image(figure: "Figure") -> str:
    content = BytesIO()
    figure.savefig(content, format="png")
    return (
        f'<img alt="losses" src="data:image/png;base64,{b64encode(content.getvalue()).decode()}">'
    )


def open(
    folder: str | PathLike,
    *,
    checkpoint: str | PathLike | None = None,
    device: str | None = None,
    data_dir: str | None = None,
    trusted: bool = False,
) -> Run:
    """Open a run's folder.

    Args:
        checkpoint: another file of it, such as one of `checkpoints/`, or `weights.h5/100`, which
            is without the optimiser's moments; device: `cpu`, `cuda`,
            `cuda:N` or `auto`, by default the run's; data_dir: where data sets are now.
        trusted: let a rule or network file that came with the folder be executed.

    Raises:
        UserError: no run there, or a damaged one.
    """
    place = Path(folder).expanduser()
    where = None if checkpoint is None else Path(checkpoint).expanduser()
    how = {"device": device, "data_dir": data_dir, "trusted": trusted}
    moments = where is None or not runs.is_record(where)
    return Run(place, lifecycle.reopen(place, where, moments=moments, **how))


def run(
    *,
    out: str | PathLike | None = None,
    resume: str | PathLike | None = None,
    preset: str | None = None,
    report: Callable[[training.Progress], None] = lambda progress: None,
    **options: Any,
) -> Run:
    """Train a network by a rule, or train a run on, as `plasticity run` does.

    Args:
        out: folder of a new run, by default `runs/...`; resume: a run to go on with.
        preset: options of this name; report: called with `training.Progress` after every step.
        options: those of the command, by its names.

    Raises:
        UserError: as the command.
        KeyboardInterrupt: it was interrupted, and saved before: go on by `resume`.
    """
    known = RunOptions.__dataclass_fields__
    for name in options:
        if name not in known or name == "identity":
            near = get_close_matches(name, [*known, "out", "resume", "preset"], n=1)
            raise UserError(
                f"unknown option '{name}'" + (f": did you mean '{near[0]}'?" if near else "")
            )
    options = {n: str(v) if isinstance(v, PathLike) else v for n, v in options.items()}
    if resume is not None:
        if out is not None or preset is not None:
            raise UserError("resume goes on in its own folder, with its own options")
        folder = Path(resume).expanduser()
        runs.checkpoint_of(folder)
        with claims.held(folder):
            state = lifecycle.resume(folder, options, free())
            lifecycle.complete(state, folder)
            recorder = inspection.open_recorder(state, folder)
            return _trained(state, folder, report, recorder, state.options)
    if preset is not None and preset not in PRESETS:
        raise UserError(f"unknown preset '{preset}': expected {', '.join(PRESETS)}")
    chosen = RunOptions(**{**PRESETS.get(preset or "", {}), **options})
    trust.named(chosen)
    place = None if out is None else str(Path(out).expanduser())
    with lifecycle.folder_of(chosen, place) as folder:
        state = lifecycle.plan(chosen)
        recorder = inspection.open_recorder(state, folder)
        lifecycle.make(state, folder)
        probing = state.options.changed(**chosen.first_look(options))
        return _trained(state, folder, report, recorder, probing)


def _trained(
    state: State,
    folder: Path,
    report: Callable,
    recorder: inspection.Recorder | None,
    probing: RunOptions,
) -> Run:
    """Train to the end, probe as `probing` says, and write what a run ends with."""
    try:
        ended = training.train(state, folder, report, recorder)
    finally:
        if recorder is not None:
            recorder.close()
    if not ended:
        raise KeyboardInterrupt(f"interrupted after step {state.step}, and saved to {folder}")
    probed = None
    if probing.probe:
        sizes = probing.probe_train, probing.probe_test
        try:
            probed = probe_run(state, train_images=sizes[0], test_images=sizes[1])
        except UserError as error:  # without labels, for example; the run is whole without it
            warnings.warn(f"no probe: {error}", stacklevel=3)
    over = kept.at_end(state, folder)
    best = None if over is None else vars(over[1])
    summary.finish(state, folder, None if probed is None else probed.as_dict(), best=best)
    plots.draw_end(state, folder, probed)
    if over is not None:
        plots.draw_kept(*over, folder)
    return Run(folder, state)
