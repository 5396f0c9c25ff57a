"""Recording while training: `record.h5` in the run's folder, appended to and readable at any time.

record.h5
    /step                    the steps that were recorded, from 1 (time,)
    /LAYER/gates, alignment  of the top layer of every module
    /LAYER/synapses/index    which synapses, (synapse, post, pre, *kernel); NAME: see `measure.AXES`
    /LAYER/neurons/index     which neurons, (neuron,)

Written in HDF5's mode of a single writer with many readers, so that it can be read while it grows
and after its writer was killed.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from plasticity import training
from plasticity.errors import UserError
from plasticity.files import whole
from plasticity.inspection import measure
from plasticity.inspection.spec import Wish, parse
from plasticity.learning import Watched
from plasticity.options import RunOptions
from plasticity.rule import reads_labels
from plasticity.training import State

NAME = "record.h5"
FORMAT = 1
BUFFER_BYTES = 2**26  # kept in memory at most, or one record
CHUNK_BYTES = 2**19
CHUNK_RECORDS = 64
PACKED = {"compression": "gzip", "compression_opts": 1, "shuffle": True}


@dataclass
class Recorder:
    """Watches training and writes what was asked for; `open_recorder` makes one.

    It changes nothing: the run is the same bit for bit with and without it.
    """

    state: State
    path: Path
    spec: str
    every: int
    wishes: dict[str, Wish]

    def __post_init__(self) -> None:
        self._file: h5py.File | None = None
        self._record: dict[str, np.ndarray] = {}
        self._buffer: list[tuple[int, dict[str, np.ndarray]]] = []
        self._bytes = 0

    def watching(self, step: int) -> Callable[[Watched], None] | None:
        """Who looks on at a step, counted from 1: nobody where it is not recorded."""
        return self._watch if (step - 1) % self.every == 0 else None

    def _watch(self, watched: Watched) -> None:
        state = self.state
        self._record |= measure.measure(
            state.rule,
            watched,
            self.wishes,
            state.weights,
            measure.prediction_steps(state.rule),
        )

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
        free = shutil.disk_usage(self.path.parent).free
        if free < 2 * self._bytes + 2**20:  # HDF5 crashes on a full disk, so it must not meet one
            raise UserError(
                f"{self.path} cannot grow: {free:,} bytes are free, make room there; what was "
                "recorded before can be read"
            )
        if self._file is None:
            self._file = self._open()
        file, start = self._file, len(self._file["step"])
        stop = start + len(self._buffer)
        names = ["step", *self._buffer[0][1]]
        for name in names:
            rows = [step if name == "step" else made[name] for step, made in self._buffer]
            file[name].resize(stop, axis=0)
            file[name][start:stop] = np.array(rows)
        # Readers take /step as the length of all: it is the last to be written out.
        for name in reversed(names):
            file[name].flush()
        self._buffer, self._bytes = [], 0

    def _open(self) -> h5py.File:
        """The file, made if it is not there, as its only writer."""
        if not self.path.is_file():
            _create(self.path, self._buffer[0][1], self)
        file = h5py.File(self.path, "r+", libver="latest")
        file.swmr_mode = True
        return file

    def close(self) -> None:
        """Write the rest and close the file."""
        try:
            self.flush()
        finally:
            if self._file is not None:
                self._file.close()
                self._file = None


def _create(path: Path, record: dict[str, np.ndarray], of: Recorder) -> None:
    """An empty file with a dataset for each array of a record."""
    rule = of.state.rule
    with whole(path) as part, h5py.File(part, "w", libver="latest") as file:
        file.attrs["format"] = FORMAT
        file.attrs["spec"], file.attrs["every"] = of.spec, of.every
        file.attrs["rule"], file.attrs["equation"] = rule.name, rule.equation
        file.attrs["options"] = json.dumps(of.state.options.as_dict())
        file.attrs["roles"] = json.dumps(measure.ROLES)
        for name, wish in of.wishes.items():
            for kind, index in (("synapses", wish.synapses), ("neurons", wish.neurons)):
                if len(index):
                    file[f"{name}/{kind}/index"] = index
        for name, array in {"step": np.int64(0), **record}.items():
            array = np.asarray(array)
            each = int(np.clip(CHUNK_BYTES // max(array.nbytes, 1), 1, CHUNK_RECORDS))
            file.create_dataset(
                name,
                (0, *array.shape),
                array.dtype,
                maxshape=(None, *array.shape),
                chunks=(each, *array.shape),
                **PACKED,
            ).attrs["axes"] = measure.AXES.get(name.partition("/")[2], "(time)")


def record_bytes(state: State, wishes: dict[str, Wish]) -> int:
    """The bytes of one record, before it is compressed."""
    each = np.dtype(state.options.dtype).itemsize
    K, roles = measure.prediction_steps(state.rule), len(measure.ROLES)
    total = len(state.modules) * 4 * K * (2 * roles + 1)
    tops = {module[-1] for module in state.modules}
    for wish in wishes.values():
        layer = state.network.layers[wish.layer]
        fan, J, S = layer.inputs * int(np.prod(layer.kernel)), len(wish.neurons), len(wish.synapses)
        values = 2 if wish.weights else 1
        total += each * (S * values + J * (fan * values + 1))
        if wish.layer in tops:
            total += 4 * roles * K * (4 * S + 2 * J + (layer.inputs if J else 0))
        else:
            total += each * (S + J)
    return total


def check_room(state: State, wishes: dict[str, Wish], every: int, folder: Path) -> None:
    """Refuse a recording that would not fit on the disk.

    Raises:
        UserError: what it would take, and what there is.
    """
    steps = state.options.total_steps(len(state.options.learning_set()))
    records = max(0, -(-(steps - state.step) // every))
    one = record_bytes(state, wishes)
    there = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.is_dir())
    free = shutil.disk_usage(there).free
    if records * one > free:
        raise UserError(
            f"the recording may take {records * one:,} bytes ({records:,} records of {one:,}), but "
            f"{there} has {free:,} free: record less, or less often by a larger --record-every"
        )


def open_recorder(state: State, folder: Path, spec: str | None, every: int) -> Recorder | None:
    """The recorder of a run: a new one, or one that goes on where the run's checkpoint is.

    Args:
        spec: see `spec.GRAMMAR`; None goes on with the recording that the folder holds, if any.

    Raises:
        UserError: a spec that is not understood, another recording in the folder, a full disk.
    """
    path = folder / NAME
    if path.is_file():
        with open_record(path) as file:
            stored, interval = str(file.attrs["spec"]), int(file.attrs["every"])
        if spec is not None and (spec, every) != (stored, interval):
            raise UserError(
                f"{path} was recorded by --record '{stored}' --record-every {interval}: leave both "
                "options away to go on with it, or move the file"
            )
        spec, every = stored, interval
    if spec is None:
        return None
    check(state, every)
    names = [layer.name for layer in state.network.layers]
    wishes = {names[wish.layer]: wish for wish in parse(spec, state)}
    check_room(state, wishes, every, folder)
    if path.is_file():
        truncate(path, state.step)
    return Recorder(state, path, spec, every, wishes)


def check(state: State, every: int) -> None:
    """Refuse what cannot be recorded.

    Raises:
        UserError: an interval that is not positive, or a rule that predicts nothing.
    """
    if every < 1:
        raise UserError(f"--record-every must be at least 1, got {every}")
    if reads_labels(state.rule):
        raise UserError(
            f"--record keeps factors by prediction step, and {state.rule.name} predicts nothing: "
            "record clapp, clapp_s, hinge_cpc, cpc or gim"
        )


def plan(options: RunOptions, spec: str, every: int, folder: Path) -> None:
    """Say what is wrong with a recording before its run has a folder."""
    state = training.begin(options)
    check(state, every)
    names = [layer.name for layer in state.network.layers]
    check_room(state, {names[w.layer]: w for w in parse(spec, state)}, every, folder)


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
        file = h5py.File(path, "r", libver="latest", swmr=True)
        if "step" not in file or "spec" not in file.attrs:
            raise UserError(f"{path} is an HDF5 file, but no recording of this program")
        return file
    except (OSError, KeyError, RuntimeError) as error:
        raise UserError(f"{path} cannot be read: damaged, or no HDF5 file ({error})") from error


def read(path: Path) -> dict[str, np.ndarray]:
    """All arrays of a recording by path, cut to the steps that are complete."""
    with open_record(path) as file:
        count = _length(file)
        return {
            name: file[name][()] if name.endswith("/index") else file[name][:count]
            for name in _datasets(file)
        }


def _datasets(file: h5py.File) -> list[str]:
    found: list[str] = []
    file.visititems(lambda name, at: found.append(name) if isinstance(at, h5py.Dataset) else None)
    return found


def _length(file: h5py.File) -> int:
    """The records that are complete: a killed writer may have begun another."""
    return min(len(file[name]) for name in _datasets(file) if not name.endswith("/index"))


def truncate(path: Path, step: int) -> None:
    """Leave out what was recorded after `step`, which a resumed run takes anew.

    A file whose writer was killed is made whole by this too.
    """
    size, free = path.stat().st_size, shutil.disk_usage(path.parent).free
    if free < size + 2**20:
        raise UserError(f"{path} needs {size:,} bytes more to go on, {free:,} are free there")
    with (
        whole(path) as part,
        open_record(path) as old,
        h5py.File(part, "w", libver="latest") as new,
    ):
        for name, value in old.attrs.items():
            new.attrs[name] = value
        stop_at = int(np.searchsorted(old["step"][: _length(old)], step, side="right"))
        for name in _datasets(old):
            one = old[name]
            if name.endswith("/index"):
                new[name] = one[()]
                continue
            made = new.create_dataset(
                name,
                (stop_at, *one.shape[1:]),
                one.dtype,
                maxshape=one.maxshape,
                chunks=one.chunks,
                **PACKED,
            )
            made.attrs["axes"] = one.attrs["axes"]
            for start in range(0, stop_at, one.chunks[0]):
                stop = min(start + one.chunks[0], stop_at)
                made[start:stop] = one[start:stop]
