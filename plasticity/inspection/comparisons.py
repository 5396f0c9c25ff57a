"""The comparisons that a run's modules make, and the matrices that they make them by, as arrays."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from plasticity.arrays import to_host
from plasticity.errors import MissingError
from plasticity.inspection.layer import cosine_by_step, open_gates
from plasticity.inspection.step import role_on_host
from plasticity.learning import Watched
from plasticity.network import Parameters
from plasticity.rule import reads_labels
from plasticity.runs.run import State


@dataclass(frozen=True)
class ModuleEvents:
    """The comparisons that a module makes in some batches.

    Attributes:
        layer: the top of the module, where its scores are taken.
        score: u; label: y; open: whether the gate is open; each `(E,)`.
        gates: fraction of open gates by role, prediction step and sign, as `open_gates`.
        hinged: whether the rule says that Eq. (3) is its loss.
    """

    layer: str
    score: np.ndarray
    label: np.ndarray
    open: np.ndarray
    gates: list[dict[str, object]]
    hinged: bool = False


def events(
    state: State, images: int, report: Callable[[int], None] = lambda done: None
) -> list[ModuleEvents]:
    """The events of the batches that training would take next, with at least so many images.

    Raises:
        MissingError: a rule that makes no comparisons.
    """
    if all(map(reads_labels, state.assigned.learn)):
        raise MissingError(
            f"the rule {state.rule_name} learns from labels: it has no positive and negative "
            "samples, and no gates"
        )
    batch = state.options.batch
    count = max(1, -(-images // batch))
    parts: dict[str, list[ModuleEvents]] = {name: [] for name in state.tops}

    def watch(watched: Watched) -> None:
        if (made := _events(state, watched)) is not None:
            parts[made.layer].append(made)

    for further in range(count):
        with np.errstate(over="ignore", invalid="ignore"):
            for _ in state.next(watch, further)[1]:
                pass
        if not any(parts.values()):
            raise MissingError(
                f"the rule {state.rule_name} compares nothing: it has no scores and no gates"
            )
        report(min((further + 1) * batch, images))
    return [_together(own) for own in parts.values() if own]


def _events(state: State, watched: Watched) -> ModuleEvents | None:
    """The events of one module in one batch; scores that two roles share are counted once."""
    if reads_labels(watched.rule):
        return None
    roles, own, last = [], [], None
    for role in (role for scored in watched.predicted for role in scored.roles):
        if role.score is not last:
            own.append(len(roles))
        last = role.score
        roles.append(role_on_host(role))
    if not roles:
        return None
    scored = [roles[i] for i in own]
    return ModuleEvents(
        state.tops[watched.module],
        np.concatenate([role.score for role in scored]),
        np.concatenate([role.events.label for role in scored]),
        np.concatenate([role.gamma != 0 for role in scored]),
        open_gates(roles),
        getattr(watched.rule, "hinge", False),
    )


def _together(parts: list[ModuleEvents]) -> ModuleEvents:
    """The events of several batches as one."""
    table: dict[tuple, list[tuple[int, float]]] = {}
    for part in parts:
        for row in part.gates:
            key = row["role"], row["k"], row["sign"]
            table.setdefault(key, []).append((row["events"], row["events"] * row["open"]))
    gates = []
    for (role, k, sign), counts in sorted(table.items(), key=lambda item: _order(item[0])):
        total, opened = (sum(values) for values in zip(*counts, strict=True))
        row = {"role": role, "k": k, "sign": sign, "events": total, "open": opened / total}
        gates.append(row)
    arrays = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("score", "label", "open")
    )
    return ModuleEvents(parts[0].layer, *arrays, gates, parts[0].hinged)


def _order(key: tuple) -> tuple:
    role, k, sign = key
    return role != "target", role, k, -sign


@dataclass(frozen=True)
class Prediction:
    """The prediction matrices of one layer, by prediction step.

    Attributes:
        norm: Frobenius norm of W_pred[k], `(K,)`; spectrum: its singular values, the largest
            first, `(K, D)`.
        retro_norm, cosine: of W_retro[k], and between W_pred[k] and W_retro[k] transposed, `(K,)`,
            or None where the rule keeps W_pred alone.
    """

    layer: str
    norm: np.ndarray
    spectrum: np.ndarray
    retro_norm: np.ndarray | None
    cosine: np.ndarray | None


def predictions(weights: Parameters) -> Iterator[Prediction]:
    """Norm, spectrum and alignment of W_pred and W_retro, for every layer that has them."""
    for layer, own in weights.items():
        if "W_pred" not in own:
            continue
        W_pred = to_host(own["W_pred"]).astype(float)
        spectrum = np.linalg.svd(W_pred, compute_uv=False)
        retro_norm = cosine = None
        if "W_retro" in own:
            W_retro = to_host(own["W_retro"]).astype(float)
            retro_norm = np.linalg.norm(W_retro, axis=(1, 2))
            cosine = cosine_by_step(W_pred, W_retro)
        norm = np.linalg.norm(W_pred, axis=(1, 2))
        yield Prediction(layer, norm, spectrum, retro_norm, cosine)
