"""Reading what was recorded: arrays by path, the trace of a synapse, and one long table of all."""

import json
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path

import h5py
import numpy as np

from plasticity import hdf5
from plasticity.errors import UserError
from plasticity.growing import datasets, length, opened
from plasticity.inspection import measure
from plasticity.inspection.measure import SIGNS
from plasticity.inspection.synapse import PREDICTIONS
from plasticity.inspection.tables import html

NAME = "record.h5"
ATTRIBUTES = (
    "rule", "equation", "spec", "every", "options", "roles", "prediction_steps", "layers",
    "dimensions",
)  # fmt: skip
ROWS = 2**20  # rows of a long table made at a time
OFFSETS = ("depth", "row", "col")  # of a kernel; that of sound has col alone
TRACE = ("dW", "weight", "share", "dendrite", "gate", "post", "pre", "error")


def open_record(path: Path) -> h5py.File:
    """A recording to read, also while it grows or after its writer was killed.

    Raises:
        UserError: no recording there, or a damaged one.
    """
    path = Path(path)
    path = path / NAME if path.is_dir() else path
    if not path.is_file():
        raise UserError(f"{path} is no file: 'plasticity run --record' makes one")
    try:
        file = opened(path)
        if "step" not in file or not set(ATTRIBUTES) <= set(file.attrs):
            raise UserError(f"{path} is an HDF5 file, but no recording of this version")
        _check(file)
        return file
    except UserError as error:
        raise UserError(f"{path} cannot be used: {error}") from error
    except Exception as error:  # HDF5 tells of damage by errors of many kinds
        raise UserError(f"{path} cannot be read: damaged, or no HDF5 file ({error})") from error


def _check(file: h5py.File) -> None:
    """See that a recording is what it says, before anything of it is read."""
    for name in ("spec", "rule", "equation"):
        hdf5.text(file.attrs, name)
    for name, kind in (("options", dict), ("roles", list), ("prediction_steps", list)):
        hdf5.json_of(file.attrs, name, kind)
    if "own" in file.attrs and not all(
        isinstance(role, str) for role in hdf5.json_of(file.attrs, "own", dict).values()
    ):
        raise UserError("the attribute own holds other things than names of roles")
    names = hdf5.json_of(file.attrs, "layers", list)
    if not all(isinstance(name, str) for name in names):
        raise UserError("the attribute layers holds other things than names")
    hdf5.whole(file.attrs, "every"), hdf5.whole(file.attrs, "dimensions", most=3)
    for name, item in hdf5.datasets(file, depth=3):
        if item.is_virtual or item.external or item.dtype.kind not in "fiu" or not item.shape:
            raise UserError(f"{name} holds no numbers over time, or its values lie elsewhere")


class Recording(Mapping[str, np.ndarray]):
    """A recording, by path of its arrays, such as `conv4/synapses/dW`; `measure.axes` tells theirs.

    An array is read when it is asked for, up to the step that was complete when the recording was
    opened. `pandas.DataFrame(recording.table())` has all numbers as one long table.

    Attributes:
        rule, equation, options: of the run; spec, every: what was asked for.
        roles, ks: names of the rule's roles and its prediction steps, axes of many arrays.
        own: the rule's parameters of which entries were recorded, with their roles.
        steps: the steps that were recorded, from 1, `(time,)`.
    """

    def __init__(self, path: Path) -> None:
        with open_record(path) as file:
            attrs = dict(file.attrs)
            self.path = Path(file.filename)
            self._names, self._count = datasets(file), length(file)
            self.steps: np.ndarray = file["step"][: self._count]
        self.rule, self.equation = str(attrs["rule"]), str(attrs["equation"])
        self.spec, self.every = str(attrs["spec"]), int(attrs["every"])
        self.options: dict[str, object] = json.loads(attrs["options"])
        self.roles: list[str] = json.loads(attrs["roles"])
        self.ks: list[int] = json.loads(attrs["prediction_steps"])
        self.own: dict[str, str] = (
            json.loads(attrs["own"])
            if "own" in attrs
            else {
                name: role
                for name, role in PREDICTIONS.items()  # a recording of 0.1.0 says nothing of it
                if any(f"/{name}/" in path for path in self._names)
            }
        )
        self._network: list[str] = json.loads(attrs["layers"])
        self._offsets = OFFSETS[len(OFFSETS) - int(attrs["dimensions"]) :]

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._names:
            raise KeyError(name)
        return self._read(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def _read(self, name: str, *rest: object, times: slice = slice(None)) -> np.ndarray:
        with open_record(self.path) as file:
            try:
                if name.endswith("/index"):
                    return file[name][()]
                return file[name][slice(*times.indices(self._count)), *rest]
            except (OSError, ValueError, IndexError, MemoryError) as error:
                raise UserError(f"{name} of {self.path} cannot be read ({error})") from error

    @property
    def layers(self) -> list[str]:
        """The layers of which anything was recorded."""
        return list(dict.fromkeys(name.partition("/")[0] for name in self if "/" in name))

    def name_of(self, number: int) -> str:
        """The name of a layer of the network, by its number from 1.

        Raises:
            UserError: no such layer.
        """
        if not 1 <= number <= len(self._network):
            raise UserError(f"--layer {number}: the run has the layers 1 to {len(self._network)}")
        return self._network[number - 1]

    def check(self, layer: str) -> None:
        """Say that nothing was recorded of a layer.

        Raises:
            UserError: what there is instead.
        """
        if layer not in self.layers:
            raise UserError(
                f"{self.path} holds nothing of {layer}: it was recorded by --record '{self.spec}'"
            )

    def trace(
        self, layer: str, index: tuple[int, ...], parameter: str = "weight"
    ) -> dict[str, np.ndarray]:
        """One synapse over time: `dW (time,)` and what there is of its factors.

        `share`, `dendrite`, `post` and `pre` are `(time, role, prediction step)`, `weight` and
        `error` `(time,)`. Of a synapse whose whole neuron was recorded there are no shares. Of an
        entry of a parameter of the rule's own, such as `W_pred` (index: prediction step from 1,
        post, pre), `share`, `gate`, `post` and `pre` are `(time, sign +1 and -1)`.

        Raises:
            UserError: a layer or a synapse that was not recorded.
        """
        self.check(layer)
        index = tuple(int(i) for i in index)
        if parameter != "weight":
            entries = self.get(
                f"{layer}/{parameter}/index", np.empty((0, len(index)), int)
            ).tolist()
            if list(index) not in entries:
                raise self._missing(layer, f"entry {','.join(map(str, index))} of {parameter}")
            names = {name: f"{layer}/{parameter}/{name}" for name in TRACE}
            at = entries.index(list(index))
            return {n: self._read(path, at) for n, path in names.items() if path in self}
        synapses = self.get(f"{layer}/synapses/index", np.empty((0, len(index)), int)).tolist()
        neurons = self.get(f"{layer}/neurons/index", np.empty(0, int)).tolist()
        if list(index) in synapses:
            kind, at = "synapses", dict.fromkeys(TRACE, (synapses.index(list(index)),))
        elif index[0] in neurons and len(index) == 2 + len(self._offsets):
            j = neurons.index(index[0])
            at = dict.fromkeys(TRACE, (j,)) | {"pre": (index[1],)}
            kind, at = "neurons", at | dict.fromkeys(("dW", "weight"), (j, *index[1:]))
        else:
            raise self._missing(layer, f"synapse {','.join(map(str, index))}")
        names = {name: f"{layer}/{kind}/{name}" for name in TRACE}
        return {n: self._read(path, *at[n]) for n, path in names.items() if path in self}

    def _missing(self, layer: str, what: str) -> UserError:
        return UserError(
            f"{self.path} does not hold the {what} of {layer}: it was recorded by "
            f"--record '{self.spec}'"
        )

    def rows(
        self,
        layer: str | None = None,
        index: tuple[int, ...] | None = None,
        parameter: str = "weight",
    ) -> Iterator[dict[str, np.ndarray]]:
        """One long table in parts: a row for each number that was recorded, as columns.

        step, layer, quantity (such as `synapses/share`), post, pre and the kernel's offsets (-1
        where a number belongs to no synapse), role (empty where to none), k (-1), sign (0), value.

        Args:
            layer: of this layer alone; index, parameter: of this synapse alone, see `trace`.
        """
        if layer is not None and index is not None:
            own = parameter in self.own
            places = _places(len(index)) if own else ("post", "pre", *self._offsets)
            fixed: dict[str, object] = dict(zip(places, index, strict=True))
            fixed |= {"role": self.own[parameter]} if own else {}
            for name, values in self.trace(layer, index, parameter).items():
                axes = (("sign",) if own else ("role", "k"))[: values.ndim - 1]
                found = self._columns(layer, name, values, axes, self.steps)
                yield found | {n: np.full(values.size, value) for n, value in fixed.items()}
            return
        if layer is not None:
            self.check(layer)
        for name in self:
            own, _, quantity = name.partition("/")
            axes = None if quantity.endswith("index") else measure.axes(quantity)
            if axes is None or layer not in (None, own):
                continue
            with open_record(self.path) as file:
                each = max(1, ROWS // max(1, int(np.prod(file[name].shape[1:]))))
            for start in range(0, self._count, each):
                times = slice(start, start + each)
                values = self._read(name, times=times)
                yield self._columns(own, quantity, values, axes[0], self.steps[times])

    def _columns(
        self,
        layer: str,
        quantity: str,
        values: np.ndarray,
        axes: tuple[str, ...],
        steps: np.ndarray,
    ) -> dict[str, np.ndarray]:
        """An array `(time, *axes)` as columns of the long table."""
        names = ["time", *axes]
        if "kernel" in names:
            names[names.index("kernel") :] = self._offsets
        at = {n: i.ravel() for n, i in zip(names, np.indices(values.shape), strict=True)}
        none = np.full(values.size, -1)
        found = {
            "step": steps[at["time"]],
            "layer": np.full(values.size, layer),
            "quantity": np.full(values.size, quantity),
            **dict.fromkeys(("post", "pre", *self._offsets), none),
            "role": np.array(self.roles)[at["role"]] if "role" in at else np.full(values.size, ""),
            "k": np.array(self.ks)[at["k"]] if "k" in at else none,
            "sign": np.array(SIGNS)[at["sign"]] if "sign" in at else np.zeros_like(none),
        }
        if "synapse" in at:
            index = self[f"{layer}/synapses/index"][at["synapse"]]
            found |= dict(zip(("post", "pre", *self._offsets), index.T, strict=True))
        if "entry" in at:
            matrix = quantity.partition("/")[0]
            index = self[f"{layer}/{matrix}/index"][at["entry"]]
            found |= dict(zip(_places(index.shape[1]), index.T, strict=True))
            found["role"] = np.full(values.size, self.own[matrix])
        if "neuron" in at:
            found["post"] = self[f"{layer}/neurons/index"][at["neuron"]]
        found |= {name: at[name] for name in ("pre", *self._offsets) if name in at}
        return found | {"value": values.ravel()}

    def table(
        self,
        layer: str | None = None,
        index: tuple[int, ...] | None = None,
        parameter: str = "weight",
    ) -> dict[str, np.ndarray]:
        """The whole long table of `rows`, as `pandas.DataFrame` takes it."""
        parts = list(self.rows(layer, index, parameter))
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def trace_rows(
        self, layer: str, index: tuple[int, ...], parameter: str = "weight"
    ) -> list[dict[str, object]]:
        """The trace of a synapse as a row for each step: shares and signals of each role, summed
        over prediction steps; of an entry of the rule's own parameters everything by sign."""
        trace, found = self.trace(layer, index, parameter), []
        for t, step in enumerate(self.steps):
            row: dict[str, object] = {"step": int(step)}
            for name, values in trace.items():
                if values.ndim == 1:
                    row[name] = float(values[t])
                elif parameter in self.own:
                    row |= {f"{name}, y = {y:+d}": float(values[t, s]) for s, y in enumerate(SIGNS)}
                elif name in ("share", "dendrite"):
                    totals = values[t].sum(axis=1)
                    row |= {
                        f"{name}, {r}": float(v) for r, v in zip(self.roles, totals, strict=True)
                    }
            found.append(row)
        return found

    def gates(self, layer: str) -> list[dict[str, object]]:
        """Open gates over training, by role, prediction step and sign: the fraction at the first
        and the last step that had such events, and the mean over all."""
        self.check(layer)
        gates, found = self.get(f"{layer}/gates", np.empty((0, 0, 0, 0))), []
        for r, i, s in np.ndindex(gates.shape[1:]):
            values = gates[np.isfinite(gates[:, r, i, s]), r, i, s]
            if len(values):
                found.append(
                    {
                        "role": self.roles[r],
                        "k": self.ks[i],
                        "sign": SIGNS[s],
                        "first": float(values[0]),
                        "last": float(values[-1]),
                        "mean": float(values.mean()),
                    }
                )
        return found

    def alignment(self, layer: str) -> list[dict[str, object]]:
        """Cosine of W_pred and W_retro at the first and the last recorded step, if there is any."""
        self.check(layer)
        cosines = self.get(f"{layer}/alignment", np.empty((0, 0)))
        if not cosines.size:
            return []
        return [
            {"k": k, "first": float(cosines[0, i]), "last": float(cosines[-1, i])}
            for i, k in enumerate(self.ks)
        ]

    def overview(self) -> list[dict[str, object]]:
        """What was recorded, a row for each layer."""
        return [
            {
                "layer": layer,
                "synapses": len(self.get(f"{layer}/synapses/index", ())),
                "whole neurons": len(self.get(f"{layer}/neurons/index", ())),
                **{name: len(self.get(f"{layer}/{name}/index", ())) for name in self.own},
                "gates": f"{layer}/gates" in self,
                "alignment": f"{layer}/alignment" in self,
            }
            for layer in self.layers
        ]

    def as_dict(self) -> dict[str, object]:
        """What the recording is, for JSON."""
        names = ("rule", "equation", "spec", "every", "roles", "ks")
        return {
            **{name: getattr(self, name) for name in names},
            "steps": self.steps.tolist(),
            "layers": self.overview(),
        }

    def _repr_html_(self) -> str:
        span = f"steps {self.steps[0]} to {self.steps[-1]}" if len(self.steps) else "no steps"
        return (
            f"<p><b>{escape(str(self.path))}</b>, {escape(self.rule)}: {len(self.steps)} records, "
            f"{span}, by <code>--record '{escape(self.spec)}'</code></p>{html(self.overview())}"
        )


def _places(dims: int) -> tuple[str, ...]:
    """The columns of the long table that an entry's numbers are put into, from the last."""
    if not 1 <= dims <= 3:
        raise UserError(f"a long table has columns for three numbers of an entry, not for {dims}")
    return ("post",) if dims == 1 else ("k", "post", "pre")[3 - dims :]


def read(path: Path) -> Recording:
    """Open a recording, `record.h5` or that of a run's folder, also while it grows.

    Raises:
        UserError: no recording there, or a damaged one.
    """
    return Recording(path)
