"""What a run shows: progress while it goes on, tables at its end."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from plasticity.cli.console import console, note, progress, quoted, say
from rich.console import Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from plasticity.inspection.foresight import Learned
    from plasticity.probes.kept import Best, Kept
    from plasticity.probes.probe import Probed
    from plasticity.runs.options import RunOptions
    from plasticity.runs.run import State
    from plasticity.runs.training import Onlooker

LARGE = 1e8  # bytes of a checkpoint that are told beforehand
LINE_SECONDS = 10.0  # where the output is no terminal, a line every so often


def _number(value: float | None, digits: int) -> str:
    """A measure as a table shows it; a dash where a module's rule has none."""
    return "–" if value is None or value != value else f"{value:.{digits}f}"


def _bar(*extra: str) -> Progress:
    shown = ("{task.description}", BarColumn(), MofNCompleteColumn(), *extra, TimeRemainingColumn())
    return progress(*shown, disable=not console.is_terminal)  # lines stand in for it there


def line_or_note(text: str) -> None:
    """How far a work is: for a terminal, which shows a bar, in the log alone."""
    (note if console.is_terminal else say)(text)


def data_set(state: "State") -> None:
    """The data set of a run: its classes, how many there are, and what was passed over."""
    options = state.options
    for line in state.stimulus.described(options.data, options.data_dir or None):
        say(line)


def by_layer(columns: dict[str, dict[str, float]], **how: object) -> Table:
    """A table with a row for each layer or module that any column has a number of."""
    rows = Table(**how)
    rows.add_column("layer")
    for name in columns:
        rows.add_column(name.replace("_", " "), justify="right")
    for name in dict.fromkeys(name for column in columns.values() for name in column):
        cells = (column.get(name) for column in columns.values())
        rows.add_row(name, *("" if value is None else _number(value, 4) for value in cells))
    return rows


def train(state: "State", folder: Path, onlooker: "Onlooker | None" = None) -> bool:
    """Train to the end, showing every module's loss and gates or accuracy. False if interrupted."""
    from plasticity import learning
    from plasticity.runs import run, training
    from plasticity.runs.summary import beside

    options = state.options
    rounds = "" if options.precision == "float32" else f", products of {options.precision}"
    about = (
        f", width {options.width:g}, data {options.data}, batch {options.batch}, "
        f"seed {options.seed}, {state.device}{rounds}; run folder "
    )
    title = (state.rule_name, "bold"), " on ", (state.network.name, "bold"), about
    say(Text.assemble(*title, (str(folder), "bold")))
    if options.init and not state.step:
        say(f"It begins with the weights of {options.init}.")
    if kept := learning.kept_by_synapses(state.weights):
        size = sum(kept.values()) / 2**20
        names = ", ".join(kept)
        say(f"{state.rule_name} keeps {names} for each synapse, which takes {size:,.1f} MiB.")
    if (size := run.saved_bytes(state)) > LARGE:
        say(f"Its checkpoint takes {size / 1e6:,.0f} MB: weights, and the optimiser's moments.")
    one, bar = state.stimulus.example, _bar("{task.fields[speed]}")
    task = bar.add_task("training", total=None, speed="", completed=state.step)
    last = -math.inf

    def line(now: training.Progress) -> str:
        name = "loss" if "loss" in now.means else beside(now.means)
        values = " ".join(_number(value, 3) for value in now.means[name])
        seconds = (now.steps - now.step) * options.batch / now.images_per_second
        return (
            f"step {now.step}/{now.steps}  {name.replace('_', ' ')} {values}  "
            f"{now.images_per_second:.1f} {one}s/s, {timedelta(seconds=round(seconds))} left"
        )

    def table(now: training.Progress) -> Table:
        shown = [name for name in ("loss", beside(now.means)) if name in now.means]
        found = {name: dict(zip(state.names, now.means[name], strict=True)) for name in shown}
        return by_layer(found | now.measures, box=None, pad_edge=False)

    with Live(bar, console=console, transient=True) as live:

        def report(now: training.Progress) -> None:
            nonlocal last
            bar.update(
                task,
                completed=now.step,
                total=now.steps,
                speed=f"{now.images_per_second:.1f} {one}s/s",
            )
            live.update(Group(bar, table(now)))
            if time.monotonic() - last >= LINE_SECONDS:
                last = time.monotonic()
                line_or_note(line(now))

        return training.train(state, folder, report, onlooker)


def probe(state: "State", folder: Path, options: "RunOptions") -> "Probed | None":
    """Probe the run and its random start as `options` say, showing how far it is."""
    from plasticity.errors import UserError
    from plasticity.runs.summary import finish

    try:
        sizes = {"train_images": options.probe_train, "test_images": options.probe_test}
        return probe_with_bar(state, **sizes)
    except UserError as error:
        say(f"No probe: {error}")
        return None
    except KeyboardInterrupt:
        say(f"Probe left out; make up for it with:  plasticity probe {quoted(folder)}")
        finish(state, folder)
        raise


def look_ahead(state: "State") -> "Learned | None":
    """What a first look has learned, on the batches that it would learn from next."""
    from plasticity.errors import UserError
    from plasticity.inspection import foresight

    try:
        with console.status("looking ahead"):
            return foresight.learned(state)
    except UserError as error:
        say(f"No look ahead: {error}")
        return None


def foresight_table(state: "State", learned: "Learned") -> Table:
    """Losses of batches to come, and futures told from other encodings: at the start, and now."""
    start, now = learned.start, learned.now
    one = state.stimulus.example
    caption = f"{now.examples} {one}s"
    table = Table(
        title=f"On {one}s that it has not learned from",
        title_justify="left",
        caption_justify="left",
    )
    columns = [start.loss, now.loss]
    heads = ["layer", "loss, random start", "loss now"]
    if now.told is not None:
        columns += [100 * start.told, 100 * now.told]
        heads += ["futures told, random start", "futures told now"]
        caption += "; told: percent of samples of which the score says whether they are the true "
        caption += "future, chance is 50"
    for head in heads:
        table.add_column(head, justify="left" if head == "layer" else "right")
    for name, *found in zip(state.names, *columns, strict=True):
        shown = [f"{value:.3f}" for value in found[:2]] + [f"{value:.1f}" for value in found[2:]]
        table.add_row(name, *shown)
    table.caption = caption
    return table


@contextmanager
def bars() -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar for each kind of work: called with what is done, how far, of how much.

    Where the output is no terminal, a line when a work ends, and every so often before.
    """
    with _bar() as bar:
        tasks: dict[str, int] = {}
        told = time.monotonic()

        def report(what: str, done: int, total: int) -> None:
            nonlocal told
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done)
            late = time.monotonic() - told >= LINE_SECONDS
            if total > 1 and (done == total or late):
                told = time.monotonic()
                line_or_note(f"{what}: {done}/{total}")

        yield report


def probe_with_bar(state: "State", **how: object) -> "Probed":
    """`probes.probe.probe_run` with a progress bar."""
    from plasticity.probes.probe import probe_run

    with bars() as report:
        return probe_run(state, report=report, **how)


def probe_table(probed: "Probed") -> Table:
    """Accuracy by layer, trained beside random."""
    of = "" if probed.task == "classes" else f" of {probed.task}"
    table = Table(
        title=f"Linear probe{of} ({probed.protocol}), accuracy in percent, {probed.data}",
        caption=f"{probed.train_images} training, {probed.test_images} test {probed.example}s, "
        f"{probed.classes} classes; one standard error: {100 * probed.error:.1f}",
        title_justify="left",
        caption_justify="left",
    )
    for head in ("layer", "trained", "random weights", "difference"):
        table.add_column(head, justify="left" if head == "layer" else "right")
    for name, trained, random in zip(probed.layers, probed.trained, probed.random, strict=True):
        table.add_row(
            name, f"{100 * trained:.1f}", f"{100 * random:.1f}", f"{100 * (trained - random):+.1f}"
        )
    return table


def kept_table(over: "Kept") -> Table:
    """Accuracy by checkpoint and layer; the best of each layer in its last row."""
    about = over.about
    table = Table(
        title=f"Linear probe ({about['protocol']}) of kept checkpoints, accuracy in percent, "
        f"{about['data']}",
        caption=f"{about['train_images']} training, {about['test_images']} test examples; one "
        f"standard error: {100 * over.error:.1f}",
        title_justify="left",
        caption_justify="left",
    )
    for head in ("step", *over.layers):
        table.add_column(head, justify="right")
    for step, row in zip(over.steps, over.trained, strict=True):
        table.add_row(
            str(step), *(f"{100 * value:.1f}" for value in row), end_section=step == over.steps[-1]
        )
    table.add_row("best at", *(str(over.best[name]) for name in over.layers))
    return table


def best(found: "Best", over: "Kept") -> None:
    """The best of what was kept, in a sentence."""
    by = {"mean": "the mean over layers", "any": f"the best layer, {found.layer}"}
    say(
        f"Best by {by.get(found.by, found.by)}: step {found.step}, {100 * found.accuracy:.1f} ± "
        f"{100 * over.error:.1f} percent, {quoted(found.checkpoint)}"
    )


def best_at_end(state: "State", folder: Path) -> "Best | None":
    """Probe what was kept, if --best-by asks for it: table, curves, and the best."""
    from plasticity.errors import UserError
    from plasticity.probes import kept
    from plasticity.reports.plots import draw_kept

    try:
        with bars() as report:
            found = kept.at_end(state, folder, report)
    except UserError as error:  # such as data without labels
        say(f"No best step: {error}")
        return None
    if found is None:
        return None
    console.print_whole(kept_table(found[0]))
    best(found[1], found[0])
    draw_kept(*found, folder)
    return found[1]


def _reading(found: dict[str, object]) -> str:
    """What a loss does as a run learns, in words."""
    if "loss_first" not in found:
        return "the rule descends no loss" if found else "learning lowers a loss"
    known = [loss for loss in found["loss_first"] if loss is not None]
    start = f"a loss starts near {sum(known) / len(known):.1f}"
    if "accuracy_last" in found:
        return f"{start}; learning lowers it. The accuracy is that on batches of training images"
    return f"{start}; learning lowers it and closes gates"


def left_out(state: "State") -> None:
    """The damaged images that a run met and left out."""
    if state.damaged:
        say(f"Damaged images that were left out: {len(state.damaged)}")
        for place, reason in state.damaged.items():
            say(f"  {place}: {reason}")


def summary(
    state: "State",
    folder: Path,
    probed: "Probed | None",
    learned: "Learned | None" = None,
    chosen: "Best | None" = None,
) -> None:
    """The end of a run: what happened, how to read it, how to go on."""
    from plasticity.reports.plots import draw_end
    from plasticity.runs.summary import beside, finish

    # Numbers come first: a disk that is full at the figures must not lose what was measured.
    one = state.stimulus.example
    results = (None if one is None else one.as_dict() for one in (probed, learned))
    found = finish(state, folder, *results, best=None if chosen is None else vars(chosen))
    draw_end(state, folder, probed)
    if "seconds" in found:
        table = Table(title="Training", title_justify="left")
        shown = beside({name.removesuffix("_last"): of for name, of in found.items()})
        columns = {"layer": "layers", "first loss": "loss_first", "last loss": "loss_last"}
        columns = {head: name for head, name in columns.items() if name in found}
        columns[shown.replace("_", " ")] = f"{shown}_last"
        if "agreement_last" in found:
            columns["gates as H"] = "agreement_last"
        for head in columns:
            table.add_column(head, justify="left" if head == "layer" else "right")
        for row in zip(*(found[name] for name in columns.values()), strict=True):
            table.add_row(row[0], *(_number(value, 3) for value in row[1:]))
        console.print_whole(table)
        if "measures" in found:
            own = {name: of for name, of in found["measures"].items() if name != "step"}
            title = f"Layers at step {found['measures']['step']}"
            console.print_whole(by_layer(own, title=title, title_justify="left"))
        say(
            f"{state.step} steps of {state.options.batch} {one}s, "
            f"{found['images_per_second']:.1f} {one}s/s"
        )
    if "peak_device_bytes" in found:
        say(f"Memory of {state.device}: {found['peak_device_bytes'] / 2**20:,.0f} MiB")
    if "graph" in found and (found["graph"]["refused"] or found["graph"]["steps"]):
        why = found["graph"]["refused"]
        say(
            f"Steps without a CUDA graph: {why}"
            if why
            else f"Steps that a CUDA graph took: {found['graph']['steps']:,}"
        )
    if learned is not None:
        console.print_whole(foresight_table(state, learned))
    if probed is not None:
        console.print_whole(probe_table(probed))
        better = sum(
            t - r > 2 * probed.error for t, r in zip(probed.trained, probed.random, strict=True)
        )
        say(
            f"{better} of {len(probed.layers)} layers stand above their random start by more than "
            "two standard errors."
        )
    if state.learns:
        images = len(state.stimulus.source)
        batch, speed = state.options.batch, found.get("images_per_second", 0)
        days = f", which takes {600 * 1e5 / speed / 86400:.0f} days at this speed" if speed else ""
        published = (
            f", the published one 600 over 100,000{days}. Early training lowers a linear probe "
            "below random weights before it climbs, the upper layers most"
        )
        say(
            f"How to read it: {_reading(found)}. This run saw "
            f"{state.step * batch / images:.2g} passes over {images} {one}s"
            f"{published if 'Illing' in state.said('citation') and one == 'image' else ''}."
        )
        further = max(10 * (images // batch), 2 * state.step)
        say(f"Train on:  plasticity run --resume {quoted(folder)} --steps {further}")
    left_out(state)
    files = ["checkpoint.h5", "summary.json", "metrics.csv", "log.txt"]
    files += ["losses.png", "losses.svg"] if "loss_last" in found else []
    files += ["measures.png", "measures.svg"] if "measures" in found else []
    files += ["probe.png", "probe.svg"] if probed is not None else []
    files += ["kept-probes.json", "kept-probes.png"] if chosen is not None else []
    say(f"Written to {folder}: {', '.join(files)}")
