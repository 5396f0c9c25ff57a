"""One layer in one step: how dW, its factors and its gates are distributed, and what moved most."""

from dataclasses import dataclass

import numpy as np

from plasticity import learning
from plasticity.arrays import Array, array_module, to_host
from plasticity.inspection.step import Step, moved

QUANTILES = {"min": 0.0, "25%": 0.25, "median": 0.5, "75%": 0.75, "max": 1.0}
SAMPLE = 2**22  # values at most, evenly spaced, that quartiles are taken of
Rows = list[dict[str, object]]


@dataclass(frozen=True)
class LayerView:
    """What one step does to a layer.

    Attributes:
        distributions: of dW by parameter and of each factor: quantiles, mean, std, a row each.
        gates: fraction of open gates by role, prediction step and sign.
        silenced: fractions of neurons that no update reaches, at their positions.
        synapses, neurons, patches: what changed most, and what changed it; no patches where the
            rule makes something of its sums over them, see `Rule.synapses`.
        optimiser: dW beside the step of the optimiser, by parameter.
        alignment: cosine of W_pred and W_retro transposed, by prediction step.
        arrays: dW by parameter, and the factors as images: `gate (roles, N)`, mean of gamma over
            the events in which a patch learns; `drive (N, D)`, the dendritic signals summed with
            their gates; `post (N, D)` and `pre (N, C)`, means over positions.
        roles: role and prediction step of the rows of `gate`.
    """

    rule: str
    layer: str
    step: int
    distributions: Rows
    gates: Rows
    silenced: dict[str, float]
    synapses: Rows
    neurons: Rows
    patches: Rows
    optimiser: Rows
    alignment: Rows
    arrays: dict[str, np.ndarray]
    roles: Rows

    def as_dict(self) -> dict[str, object]:
        """The tables, for JSON."""
        return {name: value for name, value in self.__dict__.items() if name != "arrays"}

    def long_table(self) -> dict[str, list]:
        """All tables in one: section, row, quantity, value; as `pandas.DataFrame` takes it."""
        found: dict[str, list] = {"section": [], "row": [], "quantity": [], "value": []}
        silenced = [{"fraction": name, "value": value} for name, value in self.silenced.items()]
        for section, rows in {**self.as_dict(), "silenced": silenced}.items():
            for number, row in enumerate(rows if isinstance(rows, list) else []):
                words = [str(value) for value in row.values() if isinstance(value, str | int)]
                for quantity, value in row.items():
                    if isinstance(value, float):
                        name = " ".join(words) or str(number)
                        for column, entry in zip(
                            found.values(), (section, name, quantity, value), strict=True
                        ):
                            column.append(entry)
        return found

    def _repr_html_(self) -> str:
        from plasticity.inspection.tables import html

        parts = [f"<p><b>{self.layer}</b>, {self.rule}, step {self.step}</p>"]
        parts += [
            f"<p>{name}</p>{html(getattr(self, name))}"
            for name in ("distributions", "gates", "neurons", "optimiser", "alignment")
        ]
        return "".join(parts)


def inspect_layer(step: Step, top: int = 10) -> LayerView:
    """Everything that one step does to a layer.

    Args:
        top: how many synapses, neurons and patches are listed.
    """
    dW, rows = step.seen.changes, []
    for name, change in dW.items():
        rows.append(_distribution(f"dW {name}", change))
    gate = [
        role.gamma / np.where(role.events.weight == 0, 1, role.events.weight) for role in step.roles
    ]
    if gate:
        rows.append(_distribution("gate", np.concatenate(gate)))
        signals = [role.signals for role in step.roles]
        rows.append(_distribution("dendritic signal", np.concatenate([s.ravel() for s in signals])))
    for parameter, change in step.settled.items():
        parts = [(f"factor of {role}", value) for role, value in change.factor.items()]
        for name, value in parts + list(change.added.items()):
            rows.append(_distribution(f"{name}, {parameter}", value))
    name = "drive / P" if step.shared else "drive" if step.top else "error"
    rows.append(_distribution(name, step.seen.error))
    factors = _factors(step)
    if step.factor != "none":
        rows.append(_distribution("post (mean over positions)", factors["post"]))
    rows.append(_distribution("pre", step.seen.x))
    return LayerView(
        rule=step.rule.name,
        layer=step.layer.name,
        step=step.number,
        distributions=rows,
        gates=open_gates(step.roles),
        silenced=step.seen.silenced(),
        synapses=_synapses(dW[step.layer.main], top),
        neurons=_neurons(step, factors, top),
        patches=[] if step.settled else _patches(step, top),
        optimiser=_optimiser(step),
        alignment=alignment(step.own),
        arrays={**{f"dW_{name}": change for name, change in dW.items()}, **factors},
        roles=[{"role": role.name, "k": int(role.events.k)} for role in step.roles],
    )


def _distribution(name: str, values: np.ndarray) -> dict[str, object]:
    values = np.asarray(values).ravel()
    some = values[:: -(-values.size // SAMPLE) or 1]
    found = np.quantile(some, list(QUANTILES.values())) if values.size else [np.nan] * 5
    ends = {"min": float(values.min()), "max": float(values.max())} if values.size else {}
    return {
        "quantity": name,
        **{n: float(v) for n, v in zip(QUANTILES, found, strict=True)},
        **ends,  # of all values, not of some
        "mean": float(values.mean(dtype=float)) if values.size else np.nan,
        "std": float(values.std(dtype=float)) if values.size else np.nan,
    }


def open_gates(roles) -> Rows:
    """Fraction of open gates by role, prediction step and sign; signs that nobody drew are out."""
    return [
        {
            "role": role.name,
            "k": int(role.events.k),
            "sign": sign,
            "events": int(here.sum()),
            "open": float((role.gamma[here] != 0).mean()),
        }
        for role in roles
        for sign in (1, -1)
        for here in [role.events.label == sign]
        if here.any()
    ]


def alignment(own: dict[str, np.ndarray]) -> Rows:
    """Cosine of W_pred[k] and W_retro[k] transposed, where a rule keeps both."""
    if not {"W_pred", "W_retro"} <= set(own):
        return []
    cosines = cosine_by_step(own["W_pred"], own["W_retro"])
    return [{"k": k, "cosine": float(value)} for k, value in enumerate(cosines, 1)]


def cosine_by_step(W_pred: Array, W_retro: Array) -> Array:
    """`<W_pred[k], W_retro[k]^T> / (|W_pred[k]| |W_retro[k]|)`, `(K,)`, where the matrices are."""
    xp = array_module(W_pred, W_retro)
    found = xp.empty(len(W_pred))
    # In blocks that fit the cache of a CPU, since one of the two is read by columns.
    rows = 64 if xp is np else W_pred.shape[1]
    for k, (pred, retro) in enumerate(zip(W_pred, W_retro, strict=True)):
        inner = sum(
            xp.einsum("jk,kj->", pred[a : a + rows], retro[:, a : a + rows])
            for a in range(0, len(pred), rows)
        )
        norms = xp.vdot(pred, pred).astype(float) * xp.vdot(retro, retro)
        found[k] = inner / xp.sqrt(xp.maximum(norms, np.finfo(float).tiny))
    return found


def _factors(step: Step) -> dict[str, np.ndarray]:
    """The four factors as images over patches."""
    seen, N = step.seen, step.layout.rows if step.timed else len(step.seen.x)
    spatial = tuple(range(1, seen.x.ndim - 1))
    drive = seen.error if seen.error.ndim == 2 else seen.error.sum(axis=spatial)
    if step.shared:
        drive = drive * step.positions
    gate = np.zeros((len(step.roles), N))
    for row, role in zip(gate, step.roles, strict=True):
        weight = np.where(role.events.weight == 0, 1, role.events.weight)
        counts = np.maximum(np.bincount(role.learner, minlength=N), 1)
        row[:] = np.bincount(role.learner, role.gamma / weight, minlength=N) / counts
    return {
        "gate": gate,
        "drive": drive,
        "post": seen.activity(),
        "pre": seen.x.mean(axis=spatial),
    }


def _synapses(dW: np.ndarray, top: int) -> Rows:
    order = np.argsort(-np.abs(dW), axis=None)[:top]
    return [
        {"synapse (post, pre, row, col)": ",".join(map(str, at)), "dW": float(dW[at])}
        for at in (tuple(int(i) for i in np.unravel_index(flat, dW.shape)) for flat in order)
    ]


def _neurons(step: Step, factors: dict[str, np.ndarray], top: int) -> Rows:
    dW = step.seen.changes
    change = dW[step.layer.main]
    parts = np.sqrt((change**2).sum(axis=tuple(range(1, change.ndim))))
    norm = np.sqrt((parts.reshape(-1, step.layer.outputs) ** 2).sum(axis=0))  # a GRU has 3 gates
    return [
        {
            "neuron": int(j),
            "norm of dW": float(norm[j]),
            **({"db": float(dW["bias"][j])} if "bias" in dW else {}),
            "mean |drive|": float(np.abs(factors["drive"][:, j]).mean()),
            "active": float(factors["post"][:, j].mean()),
        }
        for j in np.argsort(-norm)[:top]
    ]


def _patches(step: Step, top: int) -> Rows:
    """The patches with the largest part in dW.

    A patch adds dW_n, and `<dW_n, dW> / |dW|^2` is its part: over patches they sum to 1.
    """
    change = step.seen.changes[step.layer.main]
    part = step.seen.along(change)
    if step.decay is not None:
        spent = (
            (step.weights[step.layer.main].astype(float) * change)
            .reshape(len(change), -1)
            .sum(axis=1)
        )
        part = part - step.decay @ spent
    part = part / (float((change.astype(float) ** 2).sum()) or 1.0)
    order = np.argsort(-np.abs(part))[:top]
    one = step.state.stimulus.example
    places = {one: step.batch.index[order]} if step.timed else step.places(order)
    return [
        {**{name: int(values[at]) for name, values in places.items()}, "part of dW": float(part[n])}
        for at, n in enumerate(order)
    ]


def _optimiser(step: Step) -> Rows:
    """dW, what the optimiser makes of it, and the rule's constraint: all on copies."""
    state, name = step.state, step.layer.name
    found = []
    for parameter, dW in step.seen.changes.items():
        before = to_host(state.weights[name][parameter])
        after, bound = moved(step, parameter)
        by = (after - before).astype(float)
        norms = np.linalg.norm(dW), np.linalg.norm(by), np.linalg.norm(before)
        scale = float(norms[0] * norms[1]) or 1.0
        found.append(
            {
                "parameter": parameter,
                "norm of dW (rule)": float(norms[0]),
                f"norm of the step ({state.optimiser.paces[name].name})": float(norms[1]),
                "step / weights": float(norms[1] / (norms[2] or 1.0)),
                "largest step": float(np.abs(by).max()),
                "cosine of both": float((dW * by).sum() / scale),
                "weight decay": float(state.optimiser.paces[name].weight_decay * norms[2]),
            }
        )
        if learning.constrains(step.rule):
            found[-1]["norm of the constraint"] = float(np.linalg.norm((bound - after).ravel()))
    return found
