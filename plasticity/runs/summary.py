"""What a run was and what came of it, in numbers: `summary.json`."""

import time
from pathlib import Path

import numpy as np

from plasticity import runs
from plasticity.device import peak_bytes
from plasticity.runs.run import State, versions


def outcome(state: State) -> dict[str, object]:
    """First and last losses, if any, last gates or accuracies, speed; empty before the first step.

    Last ones are means over 20 steps, `images_per_second` is that of the median step; `measures`
    are those of the layers in the last step that was measured.
    """
    metrics = {name: np.array(values) for name, values in state.metrics.items()}
    measures = state.measures
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
        **({"measures": {"step": measures.steps[-1], **measures.last}} if measures.steps else {}),
    }


def finish(state: State, folder: Path, probe: dict[str, object] | None = None) -> dict[str, object]:
    """Write `summary.json`; returns what it holds.

    Args:
        probe: the result of a probe, see `probes.probe.Probed.as_dict`.
    """
    summary: dict[str, object] = {
        "rule": state.rule.name,
        "equation": state.rule.equation,
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
    if probe is not None:
        summary["probe"] = probe
    summary["written"] = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    runs.write_summary(folder, summary)
    return summary
