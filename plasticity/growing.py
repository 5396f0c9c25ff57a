"""HDF5 files that grow by one record at a time: arrays with time as their first axis.

Written in HDF5's mode of a single writer with many readers, so that they can be read while they
grow and after their writer was killed. `/step` names the step of each record; it is the last array
of a record to be written, and the shortest array tells the length of all.
"""

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import h5py
import numpy as np

from plasticity import hdf5
from plasticity.errors import UserError
from plasticity.files import FULL, whole

PACKED = {"compression": "gzip", "compression_opts": 1, "shuffle": True}


def opened(path: Path) -> h5py.File:
    """A file to read, also while it grows or after its writer was killed.

    Raises:
        OSError: it is no HDF5 file.
    """
    try:
        return h5py.File(path, "r", libver="latest")
    except OSError as error:  # it grows, or its writer was killed
        if not any(word in str(error) for word in ("consistency flags", "unable to lock")):
            raise
        return h5py.File(path, "r", libver="latest", swmr=True)


def appended(path: Path) -> h5py.File:
    """A file to append to, as its only writer."""
    file = h5py.File(path, "r+", libver="latest")
    file.swmr_mode = True
    return file


def append(file: h5py.File, records: Mapping[str, np.ndarray]) -> None:
    """Add records to a file of `appended`, `/step` last.

    Args:
        records: by path, with time as the first axis; `step` among them.
    """
    start = len(file["step"])
    for name, rows in records.items():
        file[name].resize(start + len(rows), axis=0)
        file[name][start:] = rows
    for name in sorted(records, key="step".__eq__):
        file[name].flush()


def datasets(file: h5py.File) -> list[str]:
    """The paths of all arrays."""
    return [name for name, _ in hdf5.datasets(file, depth=3)]


def length(file: h5py.File) -> int:
    """The records that are complete: a killed writer may have begun another."""
    return min(len(file[name]) for name in datasets(file) if not name.endswith("/index"))


def reserve(path: Path, end: int, room: int) -> None:
    """Make sure that a file can grow from `end` by `room` bytes: HDF5 crashes on a full disk.

    Raises:
        UserError: the disk is full; the file is as it was.
    """
    size = path.stat().st_size
    try:
        with open(path, "rb+") as file:
            os.posix_fallocate(file.fileno(), end, room)
    except AttributeError:  # not POSIX
        if shutil.disk_usage(path.parent).free >= room:
            return
    except OSError as error:
        if error.errno not in FULL:
            return  # a file system that cannot tell
        os.truncate(path, max(size, end))
    else:
        return
    raise UserError(
        f"{path} cannot grow by {room:,} bytes: the disk is full, make room there; what was "
        "written before can be read"
    )


def copy(path: Path, step: int, opened: Callable[[Path], h5py.File] = opened) -> None:
    """Write the file anew without the records after `step`, which a resumed run takes again.

    A file whose writer was killed is made whole by this too.

    Args:
        opened: opens the file to read, and says what is wrong with it.

    Raises:
        UserError: no room for a copy.
    """
    size, free = path.stat().st_size, shutil.disk_usage(path.parent).free
    if free < size + 2**20:
        raise UserError(f"{path} needs {size:,} bytes more to go on, {free:,} are free there")
    with (
        whole(path) as part,
        opened(path) as old,
        h5py.File(part, "w", libver="latest") as new,
    ):
        new.flush()
        reserve(part, new.id.get_filesize(), size + 2**20)
        new.attrs.update(old.attrs)
        stop_at = int(np.searchsorted(old["step"][: length(old)], step, side="right"))
        for name in datasets(old):
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
                fletcher32=one.fletcher32,
                **PACKED,
            )
            made.attrs.update(one.attrs)
            for start in range(0, stop_at, one.chunks[0]):
                stop = min(start + one.chunks[0], stop_at)
                made[start:stop] = one[start:stop]
