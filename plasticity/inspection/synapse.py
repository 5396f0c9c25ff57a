"""One parameter in one step: every event that moved it, and that they add up to its dW."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from plasticity import kernels
from plasticity.errors import UserError
from plasticity.inspection.step import Step
from plasticity.rule import Role

TOLERANCE = {"float64": 1e-10, "float32": 1e-4}
"""Rounding that is let pass, relative to the sum of absolute values."""

AXES = ("frame", "y", "x")  # of a map; sound has x alone
ROWS = 2**20  # rows of a long table made at a time


@dataclass(frozen=True)
class Synapse:
    """What changed one parameter in one step, event by event.

    Event e at position p of the map adds

        share = gate * weight * dendrite * post * pre / P

    to dW, where the gate is `gamma = y H`, the weight makes the average over events, and P is the
    number of positions that the encoding is a mean over. For `W_pred` and `W_retro`, Eq. (8), post
    and pre are two encodings, and there are no positions and no dendritic signal (it stands as 1).

    Attributes:
        parameter: `weight`, `bias`, `W_pred` or `W_retro`; index: its entry.
        columns: of every event `(E,)`: role, k (0: no prediction), sign, image, row, column (of
            the patch that learns), other_image, other_row, other_column (of the patch that it is
            compared with), score, gate, weight, and dendrite where positions share it.
        post, pre: `(rows, positions)`; post_row, pre_row: the rows of an event `(E,)`.
        signal: the error from above `(rows, positions)`, in layers below the top of a module,
            where it takes the place of the dendritic signal; otherwise None.
        space: the map's shape, before pooling.
        applied: dW as the training step computes it; scale: the sum of absolute shares, in
            float32 the largest among the entries of the kernel, which fast convolutions compute
            together.
    """

    rule: str
    layer: str
    step: int
    parameter: str
    index: tuple[int, ...]
    columns: dict[str, np.ndarray]
    post: np.ndarray
    pre: np.ndarray
    post_row: np.ndarray
    pre_row: np.ndarray
    signal: np.ndarray | None
    space: tuple[int, ...]
    positions: int
    applied: float
    scale: float
    tolerance: float

    @property
    def name(self) -> str:
        return f"{self.layer}.{self.parameter}[{', '.join(map(str, self.index))}]"

    @property
    def shares(self) -> np.ndarray:
        """What every event adds to dW, over all positions, float64 `(E,)`."""
        post = self.post if self.signal is None else self.post * self.signal
        if self.post_row is self.pre_row:
            activity = (post * self.pre).sum(axis=1)[self.post_row]
        else:
            activity = (post[self.post_row] * self.pre[self.pre_row]).sum(axis=1)
        c = self.columns
        signal = c["dendrite"] if self.signal is None else 1.0
        return c["gate"] * c["weight"] * signal * activity / self.positions

    @property
    def total(self) -> float:
        """The sum over events."""
        return float(self.shares.sum())

    @property
    def difference(self) -> float:
        """The sum over events minus dW as it was applied."""
        return self.total - self.applied

    @property
    def agrees(self) -> bool:
        """Whether the two differ by rounding at most."""
        return bool(abs(self.difference) <= self.tolerance * self.scale)

    def rows(self, *, all_events: bool = False) -> Iterator[dict[str, np.ndarray]]:
        """The long table in parts, one row for each event and position, as columns.

        Args:
            all_events: also those that change nothing: closed gates, silent neurons, no input.
        """
        each = max(1, ROWS // self.post.shape[1])
        for start in range(0, len(self.post_row), each):
            events = np.arange(start, min(start + each, len(self.post_row)))
            if not all_events:
                events = events[self.columns["gate"][events] != 0]
            post, pre = self.post[self.post_row[events]], self.pre[self.pre_row[events]]
            at, position = np.nonzero((post != 0) & (pre != 0) | all_events)
            event = events[at]
            found = {name: column[event] for name, column in self.columns.items()}
            names = AXES[len(AXES) - len(self.space) :]
            place = np.unravel_index(position, self.space) if self.space else ()
            found |= dict(zip(names, place, strict=True))
            if self.signal is not None:
                found["dendrite"] = self.signal[self.post_row[event], position]
            found["post"], found["pre"] = post[at, position], pre[at, position]
            found["product"] = found["gate"] * found["dendrite"] * found["post"] * found["pre"]
            found["share"] = found["product"] * found["weight"] / self.positions
            yield found

    def table(self, *, all_events: bool = False) -> dict[str, np.ndarray]:
        """The whole long table, as `pandas.DataFrame` takes it."""
        parts = list(self.rows(all_events=all_events))
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def largest(self, count: int = 12) -> dict[str, np.ndarray]:
        """The rows of the long table that moved the parameter most."""
        kept: dict[str, np.ndarray] = {}
        for part in self.rows():
            if kept:
                part = {name: np.concatenate([kept[name], part[name]]) for name in part}
            order = np.argsort(-np.abs(part["share"]), kind="stable")[:count]
            kept = {name: column[order] for name, column in part.items()}
        return kept

    def by_role(self) -> list[dict[str, object]]:
        """Events, open gates and share for each role, prediction step and sign."""
        shares, c, found = self.shares, self.columns, []
        keys = sorted({*zip(c["role"], c["k"], c["sign"], strict=True)})
        for role, k, sign in keys:
            here = (c["role"] == role) & (c["k"] == k) & (c["sign"] == sign)
            found.append(
                {
                    "role": str(role),
                    "k": int(k),
                    "sign": int(sign),
                    "events": int(here.sum()),
                    "open": int((c["gate"][here] != 0).sum()),
                    "share": float(shares[here].sum()),
                }
            )
        return found

    def as_dict(self) -> dict[str, object]:
        """The result without its events, for JSON."""
        return {
            "parameter": self.name,
            "rule": self.rule,
            "step": self.step,
            "sum": self.total,
            "applied": self.applied,
            "difference": self.difference,
            "scale": self.scale,
            "tolerance": self.tolerance,
            "agrees": self.agrees,
            "by_role": self.by_role(),
        }

    def _repr_html_(self) -> str:
        from plasticity.inspection.tables import html

        verdict = "agrees" if self.agrees else "DIFFERS"
        return (
            f"<p><b>{self.name}</b>, {self.rule}, step {self.step}: sum over events "
            f"{self.total:.9g}, dW applied {self.applied:.9g}, {verdict}</p>"
            + html(self.by_role())
            + html(self.largest())
        )


def inspect(step: Step, parameter: str, index: tuple[int, ...]) -> Synapse:
    """Take the change of one parameter apart.

    Args:
        parameter: `weight` (index: post, pre, kernel row, column), `bias` (post), `W_pred` (k from
            1, target neuron, context neuron) or `W_retro` (k, context neuron, target neuron).

    Raises:
        UserError: a parameter that the layer does not have or does not change, or an index that is
            out of its shape.
    """
    dW = _change(step, parameter)
    at = _index(step, parameter, tuple(index), dW.shape)
    if parameter in ("W_pred", "W_retro"):
        parts = _prediction(step, parameter, at)
    elif parameter in ("weight", "bias"):
        parts = _synaptic(step, parameter, at)
    else:
        raise UserError(f"{parameter} is not taken apart: expected weight, bias, W_pred or W_retro")
    made = Synapse(
        rule=step.state.rule.name,
        layer=step.layer.name,
        step=step.number,
        parameter=parameter,
        index=tuple(index),
        applied=float(dW[at]),
        scale=0.0,
        tolerance=TOLERANCE[step.state.options.dtype],
        **parts,
    )
    return _scaled(made, step, at)


def _change(step: Step, parameter: str) -> np.ndarray:
    if parameter in step.seen.changes:
        return step.seen.changes[parameter]
    layer = step.layer.name
    if parameter in step.own:
        raise UserError(f"{parameter} of {layer} is frozen in this run: no event changes it")
    raise UserError(f"{layer} has no {parameter} here: it changes {', '.join(step.seen.changes)}")


def _index(
    step: Step, parameter: str, index: tuple[int, ...], shape: tuple[int, ...]
) -> tuple[int, ...]:
    """The entry in the array; prediction steps are counted from 1, everything else from 0."""
    first = 1 if parameter in ("W_pred", "W_retro") else 0
    at = tuple(i - first * (d == 0) for d, i in enumerate(index))
    if len(at) != len(shape) or any(not 0 <= i < n for i, n in zip(at, shape, strict=True)):
        low = ", ".join(str(first * (d == 0)) for d in range(len(shape)))
        high = ", ".join(str(n - 1 + first * (d == 0)) for d, n in enumerate(shape))
        raise UserError(
            f"{parameter} of {step.layer.name} has no entry {','.join(map(str, index))}: expected "
            f"{len(shape)} numbers from ({low}) to ({high})"
        )
    return at


def _columns(step: Step, roles: list[Role], learner: list[np.ndarray], other: list[np.ndarray]):
    """The columns that events of all kinds share."""

    def each(value) -> np.ndarray:
        return np.concatenate([value(role) for role in roles]) if roles else np.zeros(0)

    found = {
        "role": np.concatenate([np.full(len(role.gamma), role.name) for role in roles]),
        "k": np.concatenate([np.full(len(role.gamma), role.events.k) for role in roles]),
        "sign": each(lambda role: role.events.label).astype(int),
        **step.places(np.concatenate(learner)),
    }
    found |= {f"other_{n}": v for n, v in step.places(np.concatenate(other)).items()}
    weight = each(lambda role: role.events.weight).astype(float)
    gamma = each(lambda role: role.gamma).astype(float)
    found["score"] = each(lambda role: role.score).astype(float)
    found["gate"] = np.divide(gamma, weight, out=np.zeros_like(gamma), where=weight != 0)
    found["weight"] = weight
    return found


def _synaptic(step: Step, parameter: str, at: tuple[int, ...]) -> dict[str, object]:
    """Eq. (6) and (7): a weight or bias of the layer, learned in both roles."""
    seen, layer, j = step.seen, step.layer, at[0]
    N, space = len(seen.x), step_space(step)
    winner = seen.winner[..., j : j + 1]
    post = kernels.post_factor(winner, np.ones((N, 1)), layer.pool, space).reshape(N, -1)
    if parameter == "bias":
        pre = np.ones_like(post)
    else:
        pre = pre_of(step, at[1], at[2:]).reshape(N, -1).astype(float)
    signal, positions = None, step.positions
    if step.top:
        roles = list(step.roles)
        learner = [role.learner for role in roles]
        other = [
            role.events.context if role.name == "target" else role.events.target for role in roles
        ]
        if not roles:
            raise UserError(f"the rule {step.state.rule.name} has no events: dW is 0 everywhere")
        columns = _columns(step, roles, learner, other)
        columns["dendrite"] = np.concatenate(
            [role.dendrite[role.source, j] for role in roles]
        ).astype(float)
        row = np.concatenate(learner)
    else:
        row, positions = np.arange(N), 1  # the mean at the top is in the error already
        error = kernels.post_factor(winner, seen.error[..., j : j + 1], layer.pool, space)
        signal = error.reshape(N, -1).astype(float)
        one = np.ones(N)
        columns = {"role": np.full(N, "error"), "k": np.zeros(N, int), "sign": np.zeros(N, int)}
        columns |= {**step.places(row), "gate": one, "weight": one, "dendrite": np.full(N, np.nan)}
    return {
        "columns": columns,
        "post": post,
        "pre": pre,
        "post_row": row,
        "pre_row": row,
        "signal": signal,
        "space": space,
        "positions": positions,
    }


def _prediction(step: Step, parameter: str, at: tuple[int, ...]) -> dict[str, object]:
    """Eq. (8): an entry of W_pred or W_retro, by the events that its own score gates."""
    name = "target" if parameter == "W_pred" else "context"
    roles = [r for r in step.roles if r.name == name and r.events.k == at[0] + 1]
    post_row, pre_row = (
        np.concatenate([role.events.target for role in roles]),
        np.concatenate([role.events.context for role in roles]),
    )
    if parameter == "W_retro":
        post_row, pre_row = pre_row, post_row
    columns = _columns(step, roles, [post_row], [pre_row])
    columns["dendrite"] = np.ones(len(post_row))
    return {
        "columns": columns,
        "post": step.z[:, at[1] : at[1] + 1].astype(float),
        "pre": step.z[:, at[2] : at[2] + 1].astype(float),
        "post_row": post_row,
        "pre_row": pre_row,
        "signal": None,
        "space": (),
        "positions": 1,
    }


def step_space(step: Step) -> tuple[int, ...]:
    """The shape of the layer's map before pooling."""
    layer = step.layer
    return kernels.output_space(step.seen.x.shape[1:-1], layer.kernel, layer.stride, layer.padding)


def pre_of(step: Step, i: int, offset: tuple[int, ...]) -> np.ndarray:
    """The pre factor of input neuron i at a kernel offset, `(N, *space)`."""
    layer = step.layer
    x = step.seen.x[..., i : i + 1]
    return kernels.pre_factor(x, offset, layer.kernel, layer.stride, layer.padding)[..., 0]


def _scaled(made: Synapse, step: Step, at: tuple[int, ...]) -> Synapse:
    """The same with its scale: what rounding is measured by."""
    from dataclasses import replace

    def absolute(pre: np.ndarray) -> float:
        parts = {n: np.abs(v) for n, v in made.columns.items() if n in ("gate", "dendrite")}
        signal = None if made.signal is None else np.abs(made.signal)
        return replace(
            made, columns={**made.columns, **parts}, pre=np.abs(pre), signal=signal
        ).total

    pres = [made.pre]
    if made.parameter == "weight" and step.state.options.dtype == "float32":
        pres = [
            pre_of(step, at[1], offset).reshape(len(made.pre), -1).astype(float)
            for offset in np.ndindex(*step.layer.kernel)
        ]
    return replace(made, scale=max(absolute(pre) for pre in pres))
