"""The weights of a run in its course, without moments: `weights.h5` of its folder.

weights.h5
    /step                   after which steps (time,), 0 for the start
    /weights/LAYER/NAME     every parameter then, (time, *its axes)

`plasticity run --keep-weights N` appends a record of every N steps, compressed, one at a time: a
killed run leaves those that are whole. A record is named as if the file were a folder,
`RUN/weights.h5/100`, wherever a checkpoint is named.
"""

import json
import shutil
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import h5py
import numpy as np

from plasticity import growing, hdf5
from plasticity.arrays import to_host
from plasticity.errors import UserError
from plasticity.files import whole
from plasticity.runs.folder import AXES, FORMAT, check_finite
from plasticity.runs.keeping import NAME, opened
from plasticity.runs.run import State, versions

CHUNK = 2**20  # bytes: of one parameter so many lie together, of one step
ROOM = 2**16


@dataclass
class Course:
    """Appends the weights of a run to its file; `course_of` makes one."""

    state: State
    path: Path
    _file: h5py.File | None = None

    def stepped(self) -> None:
        """Keep the weights as they are now, if this step is one of those kept and is not there.

        Raises:
            UserError: weights that are not finite, or a full disk.
        """
        state = self.state
        every = state.options.keep_weights
        if not every or state.step % every or not state.writes:
            return
        if self._file is None:
            if not self.path.is_file():
                _create(state, self.path)
            self._file = growing.appended(self.path)
        done = self._file["step"]
        if len(done) and done[-1] >= state.step:
            return
        record = _stored(state)
        room = sum(w.nbytes for w in record.values()) + ROOM
        growing.reserve(self.path, self._file.id.get_filesize(), room)
        record["step"] = np.array(state.step)
        growing.append(self._file, {name: w[None] for name, w in record.items()})

    def __enter__(self) -> "Course":
        return self

    def __exit__(self, *how: object) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def course_of(state: State, folder: Path) -> Course:
    """Who keeps the weights of a run; where it was resumed, from its checkpoint on.

    What lies after the checkpoint goes, and is taken again.

    Raises:
        UserError: a file that is not of this run, or is damaged; no room on the disk.
    """
    options, path = state.options, Path(folder) / NAME
    if state.writes and options.keep_weights:
        record = _stored(state)
        steps = options.total_steps(len(state.stimulus.source))
        count = max(0, steps - state.step) // options.keep_weights + 1
        needed = count * sum(w.nbytes for w in record.values())
        free = shutil.disk_usage(folder).free
        if needed > free:
            raise UserError(
                f"--keep-weights may take {needed:,} bytes for {count:,} steps, and {folder} has "
                f"{free:,} free: take a larger number, or --keep-dtype float16"
            )
        if path.is_file():
            _go_on(state, path, record)
    return Course(state, path)


def _go_on(state: State, path: Path, record: dict[str, np.ndarray]) -> None:
    with opened(path) as file:
        there = {name: (w.shape[1:], str(w.dtype)) for name, w in hdf5.datasets(file, 3)}
    there.pop("step")
    for name in sorted(there.keys() | record.keys()):
        w = record.get(name)
        ours = None if w is None else (w.shape, str(w.dtype))
        if ours != there.get(name):
            told = ["nothing" if one is None else f"{one[1]} of shape {one[0]}"
                    for one in (there.get(name), ours)]  # fmt: skip
            raise UserError(
                f"{path} holds for {name} {told[0]}, and the run keeps {told[1]}: move the file "
                "away, or leave --keep-dtype as it was"
            )
    growing.copy(path, state.step, opened)
    with h5py.File(path, "r+", libver="latest") as file:
        _tell(file, state)


def _stored(state: State) -> dict[str, np.ndarray]:
    """The weights as they are stored, by path.

    Raises:
        UserError: weights that are not finite, also where float16 cannot hold them.
    """
    dtype = np.dtype(state.options.keep_dtype or state.options.dtype)
    found, large = {}, np.finfo(dtype).max
    params = {la: {n: to_host(w) for n, w in own.items()} for la, own in state.weights.items()}
    check_finite(params)
    for layer, own in params.items():
        for name, w in own.items():
            if w.size and np.abs(w).max() > large:
                raise UserError(
                    f"{layer}.{name} holds {np.abs(w).max():.3g}, more than --keep-dtype {dtype} "
                    f"can, {large:.3g}: take float32"
                )
            found[f"weights/{layer}/{name}"] = w.astype(dtype)
    return found


def _create(state: State, path: Path) -> None:
    """An empty file with an array for each parameter."""
    content, record = BytesIO(), _stored(state)
    with h5py.File(content, "w", libver="latest") as file:
        _tell(file, state)
        own = {n: one.axes for rule in state.assigned.learn for n, one in rule.parameters.items()}
        for name, w in {"step": np.array(0), **record}.items():
            row = w[:1].nbytes if w.ndim else w.nbytes
            rows = (int(np.clip(CHUNK // max(row, 1), 1, len(w))), *w.shape[1:]) if w.ndim else ()
            made = file.create_dataset(
                name,
                (0, *w.shape),
                w.dtype,
                maxshape=(None, *w.shape),
                chunks=(1 if w.ndim else 1024, *rows),
                fletcher32=True,
                **growing.PACKED,
            )
            axes = {**AXES, **own}.get(name.rpartition("/")[2], "")
            made.attrs["axes"] = f"(time), {axes}" if axes else "(time)"
    with whole(path) as part:
        part.write_bytes(content.getbuffer())


def _tell(file: h5py.File, state: State) -> None:
    """Of what run the weights are."""
    file.attrs["format"] = FORMAT
    file.attrs["options"] = json.dumps(state.options.as_dict())
    file.attrs["versions"] = json.dumps(versions(state.device))
    file.attrs["rule"] = state.rule_name
    for name in ("equation", "citation"):
        file.attrs[name] = state.said(name)
