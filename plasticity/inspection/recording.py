"""Recording while training: `record.h5` in the run's folder, appended to and readable at any time.

record.h5
    /step                    the steps that were recorded, from 1 (time,)
    /LAYER/gates, alignment  of the top layer of every module
    /LAYER/synapses/index    which synapses, (synapse, post, pre, *kernel); NAME: see `measure.AXES`
    /LAYER/neurons/index     which neurons, (neuron,)
    /LAYER/W_pred/index      which entries, (entry, k from 1, post, pre), and those of every other
                             parameter that a rule keeps, (entry, *its axes)

Written in HDF5's mode of a single writer with many readers, so that it can be read while it grows
and after its writer was killed; `records` reads it.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import h5py
import numpy as np

from plasticity.errors import UserError
from plasticity.files import whole
from plasticity.growing import PACKED, append, appended, copy, datasets, reserve
from plasticity.inspection import measure
from plasticity.inspection.records import NAME, open_record
from plasticity.inspection.spec import Wish, parse
from plasticity.learning import Watched
from plasticity.runs.run import State

FORMAT = 1
BUFFER_BYTES = 2**26  # kept in memory at most, or one record
CHUNK_BYTES = 2**19
CHUNK_RECORDS = 32


@dataclass(frozen=True)
class Plan:
    """What is recorded of a run, and how often.

    Attributes:
        wishes: by layer name; roles, ks: of the rule, see `measure.kinds`.
        record: one record, as an example of all: the shapes of what is written.
    """

    spec: str
    every: int
    wishes: dict[str, Wish]
    roles: list[str]
    ks: list[int]
    record: dict[str, np.ndarray]

    @property
    def bytes(self) -> int:
        """The size of one record, before it is compressed."""
        return sum(array.nbytes for array in self.record.values())


def plan(state: State, spec: str, every: int) -> Plan:
    """Understand a SPEC, and measure what it takes by looking at a step of two images.

    Raises:
        UserError: a spec that is not understood.
    """
    if every < 1:
        raise UserError(f"--record-every must be at least 1, got {every}")
    names = [layer.name for layer in state.network.convolutions]
    wishes = {names[wish.layer]: wish for wish in parse(spec, state)}
    modules: list[Watched] = []
    for _ in state.small.next(modules.append)[1]:
        pass
    roles, ks = measure.kinds(modules)
    moved: dict[str, set[str]] = {name: set() for name in names}
    for scored in (scored for watched in modules for scored in watched.predicted):
        moved.setdefault(scored.name, set()).update(scored.learning.changes, scored.learning.state)
    for layer, wish in wishes.items():
        for name in wish.entries:
            if name not in moved[layer]:
                raise UserError(f"--record: {name} of {layer} is frozen in this run")
    record: dict[str, np.ndarray] = {}
    for watched in modules:
        record |= measure.measure(watched, wishes, state.weights, roles, ks)
    return Plan(spec, every, wishes, roles, ks, record)


def check_room(state: State, plan: Plan, folder: Path) -> None:
    """Refuse a recording that would not fit on the disk.

    Raises:
        UserError: what it would take, and what there is.
    """
    steps = state.options.total_steps(len(state.stimulus.source))
    records = max(0, -(-(steps - state.step) // plan.every))
    there = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.is_dir())
    free = shutil.disk_usage(there).free
    if records * plan.bytes > free:
        raise UserError(
            f"the recording may take {records * plan.bytes:,} bytes ({records:,} records of "
            f"{plan.bytes:,}), but {there} has {free:,} free: record less, or less often by a "
            "larger --record-every"
        )


def open_recorder(
    state: State, folder: Path, spec: str | None = None, every: int | None = None
) -> "Recorder | None":
    """The recorder of a run: a new one, or one that goes on where the run's checkpoint is.

    Nothing is written yet, so that a run that is refused here leaves nothing behind.

    Args:
        spec, every: what is recorded, see `spec.GRAMMAR`, and how often, by default as the run's
            options say; without a spec a recording that the folder holds goes on.

    Raises:
        UserError: a spec that is not understood, another recording in the folder, a full disk.
    """
    path, options = Path(folder) / NAME, state.options
    spec = options.record if spec is None else spec
    every = options.record_every if every is None else every
    if path.is_file():
        with open_record(path) as file:
            stored, interval = str(file.attrs["spec"]), int(file.attrs["every"])
        if spec and (spec, every) != (stored, interval):
            raise UserError(
                f"{path} was recorded by --record '{stored}' --record-every {interval}: leave both "
                "options away to go on with it, or move the file"
            )
        spec, every = stored, interval
    if not spec:
        return None
    planned = plan(state, spec, every)
    check_room(state, planned, Path(folder))
    if path.is_file():
        copy(path, state.step, open_record)
    return Recorder(state, path, planned)


@dataclass
class Recorder:
    """Watches training and writes what was asked for; `open_recorder` makes one.

    It changes nothing: the run is the same bit for bit with and without it.
    """

    state: State
    path: Path
    plan: Plan

    def __post_init__(self) -> None:
        self._file: h5py.File | None = None
        self._record: dict[str, np.ndarray] = {}
        self._buffer: list[tuple[int, dict[str, np.ndarray]]] = []
        self._bytes = 0

    def watching(self, step: int) -> Callable[[Watched], None] | None:
        """Who looks on at a step, counted from 1: nobody where it is not recorded."""
        return self._watch if (step - 1) % self.plan.every == 0 else None

    def _watch(self, watched: Watched) -> None:
        state, plan = self.state, self.plan
        self._record |= measure.measure(watched, plan.wishes, state.weights, plan.roles, plan.ks)

    def stepped(self, step: int) -> None:
        """The step, counted from 1, is over."""
        if not self._record:
            return
        self._buffer.append((step, self._record))
        self._bytes += sum(array.nbytes for array in self._record.values())
        self._record = {}
        if len(self._buffer) >= CHUNK_RECORDS or self._bytes >= BUFFER_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what is kept in memory.

        Raises:
            UserError: a disk that is full.
        """
        if not self._buffer:
            return
        if self._file is None:
            self._file = self._open()
        reserve(self.path, self._file.id.get_filesize(), 2 * self._bytes + 2**20)
        names = ["step", *self._buffer[0][1]]
        append(self._file, {
            name: np.array([step if name == "step" else made[name] for step, made in self._buffer])
            for name in names
        })  # fmt: skip
        self._buffer, self._bytes = [], 0

    def _open(self) -> h5py.File:
        """The file, made if it is not there, as its only writer."""
        if not self.path.is_file():
            _create(self.path, self.state, self.plan)
        return appended(self.path)

    def close(self) -> None:
        """Write the rest, close the file, and take out the gaps that growing left in it."""
        try:
            self.flush()
        finally:
            if self._file is not None:
                used = sum(self._file[n].id.get_storage_size() for n in datasets(self._file))
                self._file.close()
                self._file = None
                size = self.path.stat().st_size
                if size > 2 * used + 2**20 and shutil.disk_usage(self.path.parent).free > size:
                    copy(self.path, self.state.step, open_record)


def _create(path: Path, state: State, plan: Plan) -> None:
    """An empty file with a dataset for each array of a record."""
    content = BytesIO()
    with h5py.File(content, "w", libver="latest") as file:
        file.attrs["format"] = FORMAT
        file.attrs["spec"], file.attrs["every"] = plan.spec, plan.every
        file.attrs["rule"], file.attrs["equation"] = state.rule_name, state.said("equation")
        file.attrs["options"] = json.dumps(state.options.as_dict())
        file.attrs["roles"] = json.dumps(plan.roles)
        file.attrs["prediction_steps"] = json.dumps(plan.ks)
        file.attrs["layers"] = json.dumps([layer.name for layer in state.network.convolutions])
        file.attrs["dimensions"] = len(state.network.convolutions[0].kernel)
        file.attrs["own"] = json.dumps(
            {own: wish.roles.get(own, "") for wish in plan.wishes.values() for own in wish.entries}
        )
        for name, wish in plan.wishes.items():
            chosen = {"synapses": wish.synapses, "neurons": wish.neurons, **wish.entries}
            for kind, index in chosen.items():
                if len(index):
                    file[f"{name}/{kind}/index"] = index
        for name, array in {"step": np.array(0), **plan.record}.items():
            each = int(np.clip(CHUNK_BYTES // max(array.nbytes, 1), 1, CHUNK_RECORDS))
            made = file.create_dataset(
                name,
                (0, *array.shape),
                array.dtype,
                maxshape=(None, *array.shape),
                chunks=(each, *array.shape),
                **PACKED,
            )
            axes, meaning = measure.axes(name.partition("/")[2]) or ((), "from 1")
            made.attrs["axes"], made.attrs["meaning"] = ", ".join(("time", *axes)), meaning
    with whole(path) as part:
        part.write_bytes(content.getbuffer())
