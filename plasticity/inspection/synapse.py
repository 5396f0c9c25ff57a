"""One parameter in one step: every event that moved it, and that they add up to its dW."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from plasticity import kernels, learning
from plasticity.errors import UserError
from plasticity.inspection.step import Step, moved
from plasticity.rule import Change, Role

TOLERANCE = {"float64": 1e-10, "float32": 1e-4}
"""Rounding that is let pass, relative to the sum of absolute values; where a run rounds operands,
theirs comes to it: both of a product."""

PREDICTIONS = {"W_pred": "target", "W_retro": "context"}  # with the role whose gate is theirs
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
        won, active: what post is made of, bool `(rows, positions)`: the neuron won its pool, and
            rho'(a) = 1; None where there is no pool to win.
        signal: the error from above `(rows, positions)`, in layers below the top of a module,
            where it takes the place of the dendritic signal; otherwise None. Its rows are those
            of post, or `signal_row` names that of each event.
        ways: the terms of pre, where a norm adds to it what comes by the whole batch.
        added: terms that are no sum over events, by name; where a rule makes something of its sums,
            `columns` have the factor `synapse` too, see `Rule.synapses`.
        constraint: by how much the rule's constraint moves the weight after the optimiser has.
        space: the map's shape, before pooling; factor: the post factor, see `Rule.post`.
        around: dW of the whole kernel that it belongs to `(*kernel)`, or its own.
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
    won: np.ndarray | None
    active: np.ndarray | None
    signal: np.ndarray | None
    space: tuple[int, ...]
    positions: int
    around: np.ndarray
    applied: float
    scale: float
    tolerance: float
    factor: str = "winner"
    added: dict[str, float] = field(default_factory=dict)
    constraint: float | None = None
    signal_row: np.ndarray | None = None
    ways: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.layer}.{self.parameter}[{', '.join(map(str, self.index))}]"

    @property
    def shares(self) -> np.ndarray:
        """What every event adds to dW, over all positions, float64 `(E,)`."""
        return self._shares(self.pre)

    def _shares(self, pre: np.ndarray, sizes: bool = False) -> np.ndarray:
        """The shares with this pre factor; as sums of absolute values if `sizes` are wanted."""
        c, post, signal = self.columns, self.post, self.signal
        factor = c["gate"] * c["weight"] / self.positions * c.get("synapse", 1.0)
        factor = factor * c["dendrite"] if signal is None else factor
        if sizes:
            post, pre, factor = np.abs(post), np.abs(pre), np.abs(factor)
            signal = signal if signal is None else np.abs(signal)
        if self.signal_row is not None:  # summed over positions once for each pair of rows
            return factor * ((post * pre) @ signal.T)[self.post_row, self.signal_row]
        post = post if signal is None else post * signal
        if self.pre_row is self.post_row:  # the same patch: summed over positions once for each
            return factor * (post * pre).sum(axis=1)[self.post_row]
        if post.shape[1] == 1:
            return factor * post[self.post_row, 0] * pre[self.pre_row, 0]
        return factor * (post @ pre.T)[self.post_row, self.pre_row]

    def by_way(self) -> dict[str, float]:
        """The sum of the shares by the ways in which a drive comes through a norm to the synapse:
        `direct`, its own, and by the `mean` and the `variance` of its neuron over the batch."""
        return {name: float(self._shares(pre).sum()) for name, pre in self.ways.items()}

    @property
    def total(self) -> float:
        """The sum over events, and what is added to it."""
        return float(self.shares.sum()) + sum(self.added.values())

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
                row = self.post_row if self.signal_row is None else self.signal_row
                found["dendrite"] = self.signal[row[event], position]
            if self.won is not None:
                found["won"] = self.won[self.post_row[event], position]
                found["active"] = self.active[self.post_row[event], position]
            found["post"], found["pre"] = post[at, position], pre[at, position]
            found["product"] = found["gate"] * found["dendrite"] * found["post"] * found["pre"]
            found["product"] = found["product"] * found.get("synapse", 1.0)
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
        for name, value in self.added.items():
            found.append({"role": name, "k": 0, "sign": 0, "events": 0, "open": 0, "share": value})
        return found

    def map(self) -> tuple[np.ndarray, tuple[int, int] | None]:
        """dW of its kernel as `(rows, columns)`, and its place there; its own dW if it has none."""
        if np.ndim(self.around) == 0:
            return np.reshape(self.around, (1, 1)), None
        *depth, column = self.index[2:]
        row = depth.pop() if depth else 0
        return np.atleast_2d(self.around[tuple(depth)]), (row, column)

    def inhibition(self) -> dict[str, float]:
        """What post was over all patches and positions, as fractions; empty if nothing competes."""
        if self.won is None:
            return {}
        return {
            "won its pool, active (post = 1)": float((self.won & self.active).mean()),
            "active, another of its pool won": float((self.active & ~self.won).mean()),
            "not active (rho' = 0)": float((~self.active).mean()),
        }

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
            "post": self.inhibition(),
            "by_role": self.by_role(),
            "constraint": self.constraint,
            **({"by_way": self.by_way()} if self.ways else {}),
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
    parts = (_prediction if parameter in _matrices(step) else _synaptic)(step, parameter, at)
    dtype = step.state.options.dtype
    made = Synapse(
        rule=step.rule.name,
        layer=step.layer.name,
        step=step.number,
        parameter=parameter,
        index=tuple(index),
        around=dW[at[:2]] if parameter == "weight" else dW[at],
        applied=float(dW[at]),
        scale=0.0,
        tolerance=TOLERANCE[dtype] + 2 * kernels.roundoff(step.state.options.precision),
        factor=step.factor,
        added={n: float(v[at]) for n, v in _settled(step, parameter).added.items()},
        constraint=_constraint(step, parameter, at),
        **parts,
    )
    pres = [made.pre]
    if parameter not in _matrices(step) and dtype == "float32":
        near = step.seen.around(parameter, at)
        if len(made.pre) == len(step.seen.x) or (
            made.signal_row is not None and step.decay is None
        ):
            pres = [_by_row(step, step.seen.pre(parameter, other)) for other in near]
        else:  # events with maps of their own, or what decays
            pres = [_synaptic(step, parameter, other)["pre"] for other in near]
    scale = max(float(made._shares(pre, sizes=True).sum()) for pre in pres)
    return replace(made, scale=scale + sum(map(abs, made.added.values())))


def _settled(step: Step, parameter: str) -> Change:
    return step.settled.get(parameter, Change())


def _constraint(step: Step, parameter: str, at: tuple[int, ...]) -> float | None:
    """By how much the rule's constraint moves a weight after the optimiser has."""
    if not (step.top and learning.constrains(step.rule) and parameter == step.layer.main):
        return None
    after, bound = moved(step, parameter)
    return float(bound[at]) - float(after[at])


def _matrices(step: Step) -> dict[str, str]:
    """The rule's own matrices that learn by Eq. (8), with the role whose gates are theirs."""
    own = getattr(step.rule, "parameters", {})
    return {name: parameter.role for name, parameter in own.items() if parameter.role}


def _change(step: Step, parameter: str) -> np.ndarray:
    layer, changes = step.layer.name, step.seen.changes
    known = [name for name in (*step.matrices, *_matrices(step)) if name in changes]
    if parameter in known:
        return changes[parameter]
    if parameter in changes:
        raise UserError(
            f"{parameter} is not taken apart: it is the rule's own, and no gate x dendritic signal "
            f"x post x pre; expected {', '.join(known)}"
        )
    if parameter in step.own:
        raise UserError(f"{parameter} of {layer} is frozen in this run: no event changes it")
    raise UserError(f"{layer} has no {parameter} here: it changes {', '.join(changes)}")


def _index(
    step: Step, parameter: str, index: tuple[int, ...], shape: tuple[int, ...]
) -> tuple[int, ...]:
    """The entry in the array; prediction steps are counted from 1, everything else from 0."""
    first = 1 if parameter in _matrices(step) else 0
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
        return np.concatenate([value(role) for role in roles])

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
    """Eq. (6) and (7): a weight or bias of the layer, learned in every role."""
    seen, roles, N = step.seen, list(step.roles), len(step.seen.x)
    j = seen.neuron(at)
    post, signal, positions = seen.through(j, np.ones((N, 1))), None, step.positions
    normalised = getattr(step.layer, "normalised", False)  # a layer of one's own may say nothing
    parts = seen.parts(parameter, at) if normalised else {}
    ways = {name: _by_row(step, pre) for name, pre in parts.items() if len(parts) > 1}
    pre = _by_row(step, sum(parts.values()) if parts else seen.pre(parameter, at))
    inhibition, space, signal_row = seen.inhibition(j, step.weights), seen.space, None
    if roles and step.timed:  # a row is one frame of one input
        post = _frames(seen.wins(j), step.layout.time)
        if inhibition["won"] is not None:
            inhibition = {"won": post != 0, "active": _by_row(step, inhibition["active"])}
        space, positions = post.shape[1:] if post.shape[1] > 1 else (), step.in_frame
    if roles:
        learner = [role.learner for role in roles]
        columns = _columns(step, roles, learner, [role.other for role in roles])
        if factors := _settled(step, parameter).factor:
            shape = step.weights[parameter].shape
            each = [np.broadcast_to(factors.get(role.name, 1.0), shape)[at] for role in roles]
            counts = [len(role.gamma) for role in roles]
            columns["synapse"] = np.repeat(np.array(each, float), counts)
        row = np.concatenate(learner)
        signals = [role.dendrite[..., j : j + 1] for role in roles]
        if signals[0].ndim == 2:
            found = np.concatenate([a[r.source] for a, r in zip(signals, roles, strict=True)])
            columns["dendrite"] = found[:, 0].astype(float)
        elif step.timed:  # a signal for every position: rows of their own
            columns["dendrite"], positions = np.full(len(row), np.nan), 1
            firsts = np.cumsum([0, *(len(a) for a in signals[:-1])])
            signal_row = np.concatenate(
                [first + role.source for first, role in zip(firsts, roles, strict=True)]
            )
            signal = np.concatenate([a.reshape(len(a), -1) for a in signals]).astype(float)
            signal = np.repeat(signal, post.shape[1] // signal.shape[1], axis=1)
        else:  # each event has a map of its own
            columns["dendrite"], positions = np.full(len(row), np.nan), 1
            found = np.concatenate([a[r.source] for a, r in zip(signals, roles, strict=True)])
            passed = seen.through(j, found, row)
            post, pre, ways = post[row], pre[row], {n: way[row] for n, way in ways.items()}
            signal = _without(passed, post)
            inhibition = {n: None if a is None else a[row] for n, a in inhibition.items()}
            row = np.arange(len(row))
    else:  # an error from above, or a drive without events; the mean over P is in it already
        row, positions = np.arange(N), 1
        # So that post times the signal is what training makes of the error.
        signal = _without(seen.through(j, seen.error[..., j : j + 1]), post)
        one, zero = np.ones(N), np.zeros(N, int)
        columns = {"role": np.full(N, "drive" if step.top else "error"), "k": zero, "sign": zero}
        where = {step.state.stimulus.example: step.batch.index[row]} if step.timed else None
        columns |= {
            **(where or step.places(row)),
            "gate": one,
            "weight": one,
            "dendrite": np.full(N, np.nan),
        }
    parts = {
        "columns": columns,
        "post": post,
        "pre": pre,
        "post_row": row,
        "pre_row": row,
        **inhibition,
        "signal": signal,
        "space": space,
        "positions": positions,
        "signal_row": signal_row,
        "ways": ways,
    }
    if step.decay is None:
        return parts
    return _with_decay(step, parts, step.decay[:, j], parameter, at)


def _without(passed: np.ndarray, post: np.ndarray) -> np.ndarray:
    """A signal without the post factor that it went through; 0 where that is."""
    return np.divide(passed, post, out=np.zeros_like(passed), where=post != 0)


def _by_row(step: Step, values: np.ndarray) -> np.ndarray:
    """Values at the places of inputs `(M, places)`, as the rows and places of events have them."""
    if not (step.roles and step.timed):
        return values
    return _frames(step.seen.windows(values), step.layout.time)


def _frames(values: np.ndarray, time: int) -> np.ndarray:
    """Values of inputs and positions `(M, T P, competitors)`, whose first axis is time, as rows of
    encodings, frames first: `(T M, P competitors)`."""
    by_frame = values.reshape(len(values), time, -1)
    return by_frame.swapaxes(0, 1).reshape(-1, by_frame.shape[2])


def _with_decay(
    step: Step, parts: dict[str, Any], taken: np.ndarray, parameter: str, at: tuple[int, ...]
) -> dict[str, Any]:
    """The events, and for each patch one more: what it takes from the weight, `-decay_nj W_ji`.

    It has no position; the table shows it at the first one, with post the decay and pre W_ji.
    """
    N = len(taken)
    W = float(step.weights[parameter][at])
    post, pre = np.zeros((2, N, parts["post"].shape[1]))
    post[:, 0], pre[:, 0] = taken, W
    row = np.concatenate([parts["post_row"], len(parts["post"]) + np.arange(N)])
    place, columns = step.places(np.arange(N)), {}
    more = {"role": "decay", "gate": 1.0, "weight": float(parts["positions"]), "dendrite": -1.0}
    more["synapse"] = 1.0
    for name, column in parts["columns"].items():
        new = place.get(name.removeprefix("other_"), np.full(N, more.get(name, 0)))
        columns[name] = np.concatenate([column, new])
    signal = parts["signal"]
    signal_row = parts["signal_row"]
    if signal_row is not None:
        signal_row = np.concatenate([signal_row, len(signal) + np.arange(N)])
    if signal is not None:
        signal = np.concatenate([signal, -np.ones((N, signal.shape[1]))])
    nowhere = np.zeros(post.shape, bool)
    inhibited = {
        name: parts[name] if parts[name] is None else np.concatenate([parts[name], nowhere])
        for name in ("won", "active")
    }
    return {
        **parts,
        **inhibited,
        "columns": columns,
        "post": np.concatenate([parts["post"], post]),
        "pre": np.concatenate([parts["pre"], pre]),
        "post_row": row,
        "pre_row": row,
        "signal": signal,
        "signal_row": signal_row,
        "ways": {name: np.concatenate([way, 0 * pre]) for name, way in parts["ways"].items()},
    }


def _prediction(step: Step, parameter: str, at: tuple[int, ...]) -> dict[str, object]:
    """Eq. (8): an entry of W_pred or W_retro, by the events that its own score gates."""
    name = _matrices(step)[parameter]
    scored = next(s for s in step.losses if parameter in s.learning.changes)
    roles = [r for r in scored.roles if r.name == name and r.events.k == at[0] + 1]
    post_row = np.concatenate([role.learner for role in roles])
    pre_row = np.concatenate([role.other for role in roles])
    post, pre = (scored.z, scored.context) if name == "target" else (scored.context, scored.z)
    columns = _columns(step, roles, [post_row], [pre_row])
    columns["dendrite"] = np.ones(len(post_row))
    return {
        "columns": columns,
        "post": post[..., at[1]].reshape(len(post), -1).astype(float),
        "pre": pre[..., at[2]].reshape(len(pre), -1).astype(float),
        "post_row": post_row,
        "pre_row": pre_row,
        "won": None,
        "active": None,
        "signal": None,
        "space": post.shape[1:-1],
        "positions": 1,
    }
