"""What a run was and what came of it, in numbers: `summary.json`."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from plasticity import runs
from plasticity.device import peak_bytes
from plasticity.runs.run import State, versions


def outcome(state: State) -> dict[str, object]:
    """First and last losses, if any, last gates or accuracies, speed; empty before the first step.

    Last ones are means over 20 steps, `images_per_second` is that of the median step; `measures`
    are those of the layers in the last step that was measured. A module whose rule has no such
    measure has None.
    """
    metrics = {name: np.array(values) for name, values in state.metrics.items()}
    measures = state.measures
    seconds = metrics["seconds"]
    if not len(seconds):
        return {}
    return {
        **ends(metrics),
        "images_per_second": state.options.batch / float(np.median(seconds)),
        "seconds": float(seconds.sum()),
        **({"measures": {"step": measures.steps[-1], **measures.last}} if measures.steps else {}),
    }


def ends(metrics: Mapping[str, np.ndarray]) -> dict[str, list[float | None]]:
    """The first losses, if any, and the mean of every measure over the last 20 steps, by module."""
    first = {"loss_first": _told(metrics["loss"][0])} if "loss" in metrics else {}
    return first | {
        f"{name}_last": _told(values[-20:].mean(axis=0))
        for name, values in metrics.items()
        if name != "seconds"
    }


def _told(values: np.ndarray) -> list[float | None]:
    """Numbers for JSON, which knows no NaN: None where a module's rule has no such measure."""
    return [None if np.isnan(value) else value for value in values.tolist()]


def beside(found: Mapping[str, Sequence[float | None]]) -> str:
    """What is shown beside the losses: the accuracy of readouts, if all modules have one, or gates.

    Args:
        found: measures by name, None or NaN where a module has none.
    """
    accuracy = found.get("accuracy", ())
    known = len(accuracy) and all(v is not None and np.isfinite(v) for v in accuracy)
    return "accuracy" if known else "open_gates"


def finish(
    state: State,
    folder: Path,
    probe: dict[str, object] | None = None,
    foresight: dict[str, object] | None = None,
    best: dict[str, object] | None = None,
) -> dict[str, object]:
    """Write `summary.json`; returns what it holds.

    Args:
        probe: the result of a probe, see `probes.probe.Probed.as_dict`.
        best: the best of what was kept, see `probes.kept.Best`.
        foresight: what a first look found on batches to come, see `inspection.Learned.as_dict`.
    """
    summary: dict[str, object] = {
        "rule": state.rule_name,
        "equation": state.said("equation"),
        "network": state.network.name,
        "options": state.options.as_dict(),
        "versions": versions(state.device),
        "steps": state.step,
        "layers": state.names,
        **({"damaged": state.damaged} if state.damaged else {}),
    }
    found = outcome(state)
    if found:
        summary |= {**found, "seconds_waited_for_data": state.waited}
        if state.device != "cpu":
            summary["peak_device_bytes"] = peak_bytes(state.device)
        if state.replay is not None:
            summary["graph"] = {"steps": state.replay.count, "refused": state.replay.refused}
    if probe is not None:
        summary["probe"] = probe
    if foresight is not None:
        summary["foresight"] = foresight
    if best is not None:
        summary["best"] = best
    summary["written"] = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    runs.write_summary(folder, summary)
    return summary
