"""A run as one HTML page: figures inlined, nothing fetched, readable offline and printable."""

import base64
import io
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import plasticity
from plasticity import runs
from plasticity.errors import MissingError, UserError, installs
from plasticity.figures import Figure
from plasticity.figures.style import styled
from plasticity.files import whole
from plasticity.probes.kept import Kept
from plasticity.reports import plots
from plasticity.reports.plots import Look
from plasticity.runs import summary
from plasticity.runs.options import RunOptions

if TYPE_CHECKING:
    import jinja2

DPI, SHOWN = 200, 120  # pixels for an inch of a figure: in the file, and on the page
Rows = list[dict[str, object]]


@dataclass(frozen=True)
class Image:
    """A picture to be inlined; it is shown smaller than its pixels, sharp also on fine screens."""

    base64: str
    width: int
    height: int
    alt: str


@dataclass(frozen=True)
class Part:
    """A section of the page."""

    id: str
    title: str
    text: str = ""
    tables: list[tuple[str, Rows]] = field(default_factory=list)
    images: list[Image] = field(default_factory=list)
    note: str = ""


# What each figure is called, and how to read it.
READING = {
    "losses": (
        "Losses",
        "Loss of every module over training, and beside it the fraction of its events whose gate "
        "is open (or the accuracy of a readout). Faint: single steps; dark: their running mean.",
    ),
    "measures": (
        "Activity and weights",
        "Of every layer over training: mean output; sparsity, 1 - a of Treves & Rolls (1991), 0 "
        "where all neurons of a place answer alike; neurons that answer no input in the measured "
        "steps of the last 100; the mean norm of the weights onto a neuron; the distance of the "
        "weights from their start, relative to the norm of the start.",
    ),
    "hinge": (
        "Scores",
        "Scores u of positive samples (the true future) and negative ones (another image). In "
        "brackets: open gates of positive and of negative events.",
    ),
    "gates": (
        "Open gates",
        "Fraction of open gates by prediction step: what is still surprising. Target and context "
        "are the two roles in which a patch learns.",
    ),
    "history": (
        "Gates over training",
        "As recorded while training, at the top of the last module: open gates by role, sign and "
        "prediction step, and the alignment of W_pred and W_retro.",
    ),
    "predictions": (
        "Prediction matrices",
        "Norm of W_pred and W_retro beside their random start; alignment of the two, which "
        "learning brings together though neither sees the other; singular values of W_pred.",
    ),
    "kernels": ("First-layer kernels", "Trained beside the random start, on one scale."),
    "patches": (
        "Preferred patches",
        "For neurons drawn at random (rows), the patches of test images that excite them most, one "
        "from an image, the strongest on the left.",
    ),
    "clips": (
        "Preferred clips",
        "For neurons drawn at random, the test clip with the frame that excites them most, boxed "
        "where their map is strongest at the time, and below it their activity over time.",
    ),
    "spectrum": (
        "Dimensionality",
        "Eigenvalues of the covariance of encodings of test examples, layer by layer, as parts of "
        "their sum; below, the participation ratio, (sum of eigenvalues)^2 / sum of their squares: "
        "how many dimensions the encodings fill.",
    ),
    "tsne": (
        "Encodings",
        "t-SNE of the encodings of test images, layer by layer: near points have similar "
        "encodings; colours are classes. Of sound, frames by the kind of phone.",
    ),
    "utterance": (
        "An utterance",
        "A test utterance as a spectrogram with its phones, the activity of the highest layer, the "
        "gates of a recurrent one, and the fraction of the rule's gates that are open for each "
        "context: what surprises.",
    ),
    "confusions": (
        "Confusions of phones",
        "What a linear reader of the highest layer takes the frames of each phone for.",
    ),
    "traces": (
        "Eligibility traces",
        "Of one synapse of each gate of the recurrent layer: post x pre now, the trace that a "
        "synapse keeps of it, and the signal that reads the trace (Eq. 18 to 21).",
    ),
}


@dataclass(frozen=True)
class Report:
    """A page, and what is not on it: by title, why."""

    html: str
    left_out: dict[str, str]


def report(look: Look) -> Report:
    """A run as one page.

    Whatever cannot be shown, for want of data or because the rule does not have it, is left out
    with a word.

    Raises:
        UserError: Jinja is missing.
    """
    left_out: dict[str, str] = {}
    parts = list(_parts(look, left_out))
    state, stored = look.state, look.stored
    defaults = RunOptions().as_dict()
    return page(
        title=look.title,
        lead=_lead(look),
        rule=stored.rule,
        parts=parts,
        settings=[
            {"option": name, "value": _set(name, value), "changed": value != defaults[name]}
            for name, value in state.options.as_dict().items()
        ],
        learning=_learning(look),
        network=_network(look),
        versions=[{"of": name, "version": value} for name, value in stored.versions.items()],
        left_out=left_out,
        source=f"{look.folder}, as it was saved after step {state.step}",
    )


def page(
    *,
    title: str,
    lead: str,
    parts: Sequence[Part],
    left_out: dict[str, str],
    source: str,
    rule: Mapping[str, str] | None = None,
    settings: Rows = (),
    **more: Rows,
) -> Report:
    """A page of sections; with `rule` and `settings`, and their tables `more`, that of one run.

    Args:
        source: from what the page is written.

    Raises:
        UserError: Jinja is missing.
    """
    html = _template().render(
        title=title, lead=lead, parts=parts, rule=rule, settings=settings, left_out=left_out,
        source=source, written=time.strftime("%Y-%m-%d %H:%M"), version=plasticity.__version__,
        **more,
    )  # fmt: skip
    return Report(html, left_out)


def write(made: Report, path: Path) -> None:
    """Write a page, whole.

    Raises:
        UserError: a full disk, or a folder that cannot be written to.
    """
    with whole(path) as part:
        # A path that is not UTF-8 must not stop the report.
        part.write_text(made.html, encoding="utf-8", errors="backslashreplace")


def _template() -> "jinja2.Template":
    try:
        import jinja2
    except ImportError as error:
        raise UserError(f"a report needs Jinja: {installs('plot')}") from error
    text = resources.files("plasticity.reports").joinpath("report.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters |= {"told": told, "numeric_columns": numeric_columns}
    return environment.from_string(text)


def told(value: object) -> str:
    """A value in a table: numbers with four digits, nothing for what is empty."""
    if isinstance(value, dict):
        return ", ".join(f"{name} = {own}" for name, own in value.items())
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _set(name: str, value: object) -> str:
    """An option's value; where it is left to the rule, the network or the data, a dash."""
    counts = isinstance(value, bool) or name in ("seed", "circuit_noise")
    return told(value) if value or counts else "–"


def numeric_columns(rows: Rows) -> set[str]:
    """The columns that hold numbers alone: they stand to the right."""
    numeric = re.compile(r"[+-]?[\d,]+(\.\d+)?(e[+-]?\d+)?")
    return {name for name in rows[0] if all(numeric.fullmatch(told(row[name])) for row in rows)}


def _lead(look: Look) -> str:
    state = look.state
    seen, one = state.step * state.options.batch, state.options.unfed.example
    return (
        f"{len(state.network.layers)} layers, {len(state.modules)} modules, width "
        f"{state.options.width:g}; {state.step:,} steps of {state.options.batch} {one}s, "
        f"{seen:,} {one}s seen; seed {state.options.seed}."
    )


def _parts(look: Look, left_out: dict[str, str]) -> Iterator[Part]:
    """The sections in their order; what is missing goes to `left_out`."""
    can_be = plots.of(look)
    first, *others = (name for name in READING if name in can_be)
    names = [first, "probe", *others]
    for number, name in enumerate(names):
        look.report("report", number, len(names))
        try:
            part = _probe(look) if name == "probe" else _drawn(look, name)
        except UserError as error:
            left_out["Linear probe" if name == "probe" else READING[name][0]] = str(error)
        else:
            yield part
    look.report("report", len(names), len(names))


HINGED = (
    " Lines: the loss that each sign has, Eq. (3). Learning drives the two apart; an event beyond "
    "its hinge no longer changes a synapse."
)


def _drawn(look: Look, name: str) -> Part:
    title, text = READING[name]
    if name == "hinge" and any(getattr(r, "hinge", False) for r in look.state.assigned.learn):
        text += HINGED
    image = picture(plots.PLOTS[name](look), f"{title} of {look.title}. {text}")
    tables, note = [], ""
    if name == "losses":
        tables, note = [("", _training(look))], _speed(look)
    if name == "measures":
        tables = [("", _measured(look))]
        if "loss" not in look.state.metrics:  # there is no section of losses to stand in
            tables, note = [("", _training(look)), *tables], _speed(look)
    return Part(name, title, text, tables, [image], note)


@styled
def picture(figure: Figure, alt: str) -> Image:
    """A figure as PNG for the page."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=DPI)
    width, height = (round(SHOWN * inches) for inches in figure.get_size_inches())
    return Image(base64.b64encode(content.getvalue()).decode("ascii"), width, height, alt)


def _training(look: Look) -> Rows:
    """First and last loss of every module, and its gates or accuracy."""
    found = summary.outcome(look.state)
    beside = summary.beside({n.removesuffix("_last"): of for n, of in found.items()})
    columns = {
        "module": look.state.names,
        **{
            f"{which} loss": [number(loss, 3) for loss in found[f"loss_{which}"]]
            for which in ("first", "last")
            if f"loss_{which}" in found
        },
        f"{beside.replace('_', ' ')} (%)": [number(v, 1, 100) for v in found[f"{beside}_last"]],
    }
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _measured(look: Look) -> Rows:
    """The measures of every layer at the first and the last step that was measured."""
    measures, names = look.state.measures, [layer.name for layer in look.state.network.layers]
    ends = {f"at step {measures.steps[i]}": i for i in (0, -1)}
    return [
        {"layer": name, **{
            f"{plots.LABELS[of]}, {when}": f"{values[at][i] * (100 if of == 'dead' else 1):.3g}"
            for of, values in measures.values.items() for when, at in ends.items()
        }}
        for i, name in enumerate(names)
    ]  # fmt: skip


def number(value: float | None, digits: int, scale: float = 1) -> str:
    """A measure as a table shows it; a dash where a module's rule has none."""
    return "–" if value is None else f"{scale * value:.{digits}f}"


def _speed(look: Look) -> str:
    found = summary.outcome(look.state)
    spent = time.strftime("%H:%M:%S", time.gmtime(found["seconds"] % 86400))
    days = int(found["seconds"] // 86400)
    one = look.state.options.unfed.example
    return (
        f"Last values are means over 20 steps. Training took {f'{days} d ' * (days > 0)}"
        f"{spent} (hours, minutes, seconds), {found['images_per_second']:.3g} {one}s/s in the "
        f"median step, on {look.stored.versions.get('device', 'an unknown device')}."
    )


def _probe(look: Look) -> Part:
    """The probes that the run's folder holds, each with its table and figure.

    Raises:
        MissingError: there is none.
    """
    tables, images = [], []
    for what, found in probes(look.folder):
        layers, trained, random = (found[name] for name in ("layers", "trained", "random"))
        rows: Rows = [
            {
                "layer": name,
                "trained (%)": f"{100 * t:.1f}",
                "random weights (%)": f"{100 * r:.1f}",
                "difference": f"{100 * (t - r):+.1f}",
            }
            for name, t, r in zip(layers, trained, random, strict=True)
        ]
        tables.append((what, rows))
        figure = plots.probe_bars(found)
        images.append(picture(figure, f"Probe accuracy by layer, {what}, with one standard error"))
    if (over := Kept.read(look.folder)) is not None:
        images.append(picture(plots.kept_probes(over), "Probe accuracy of every layer over steps"))
    if not images:
        raise MissingError(f"no probe was taken: 'plasticity probe {look.folder}' does")
    text = (
        "How much of the classes a linear reader finds in the encodings of a layer, beside the "
        "same network at its random start. Bars: one standard error; dotted: guessing."
    )
    return Part("probe", "Linear probe", text, tables, images)


def probes(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The probes that a run's folder holds, with a name for each: that of its end, then others.

    Raises:
        UserError: a file that cannot be read.
    """
    for _, found in runs.probes(folder):
        step = f", step {found['step']}" if "step" in found else ""
        about = f"{found['protocol']}, {found['data']}, {found['test_images']} test images{step}"
        yield about, found


def _learning(look: Look) -> Rows:
    """How the layers learn, see `_rules`, and the schedule of their rates."""
    schedule, found = look.state.optimiser.schedule, _rules(look)
    if schedule.kind != "constant" or schedule.warm_up:
        told_by = {"step": f" at {list(schedule.at)}, times {schedule.factor:g}",
                   "cosine": f", 0 at step {schedule.steps}"}  # fmt: skip
        ramp = f", rising over {schedule.warm_up} steps" if schedule.warm_up else ""
        value = schedule.kind + told_by.get(schedule.kind, "") + ramp
        found.append({"of": "schedule", "value": value})
    return found


def _rules(look: Look) -> Rows:
    """The fields of the rule as they were used, and how weights move.

    Where modules have rules of their own, those of each, with the name of its top.
    """
    state, found = look.state, []
    own = state.mixed or state.assigned.plastic
    same = len(set(state.optimiser.paces.values())) == 1 and not own
    for module, top, rule in zip(state.modules, state.tops, state.rules, strict=True):
        of = "" if same else f"{top}: "
        if rule is None:
            found.append({"of": f"{top}: frozen", "value": "its weights never change"})
            continue
        if state.mixed:
            found.append({"of": f"{of}rule", "value": rule.name})
        found += [{"of": of + f.name, "value": told(getattr(rule, f.name))} for f in fields(rule)]
        if state.modules.index(module) in state.assigned.plastic:
            found.append({"of": f"{top}: plastic", "value": "always, while it is tested too"})
        for layer in [state.network.layers[i] for i in module]:
            pace = state.optimiser.paces[layer.convolutions[-1].name]
            of = "" if same else f"{layer.name}: "
            found.append({"of": f"{of}optimiser", "value": pace.name})
            found.append({"of": f"{of}learning rate", "value": told(pace.rate)})
            if pace.weight_decay:
                found.append({"of": f"{of}weight decay", "value": told(pace.weight_decay)})
            if same:
                return found
    return found


def _network(look: Look) -> Rows:
    """The layers, and the module of each."""
    module = {i: number for number, own in enumerate(look.state.modules, 1) for i in own}
    return [
        {
            "layer": conv.name,
            "neurons": str(conv.outputs),
            "kernel": "x".join(map(str, conv.kernel)) or conv.formula,
            "pool": str(getattr(conv, "pool", "")),
            "module": str(module[i]),
        }
        for i, layer in enumerate(look.state.network.layers)
        for conv in layer.convolutions
    ]
