"""HDF5 files that others may have made: checked before they are read, sealed by checksums."""

import json
import zlib
from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np

from plasticity.errors import UserError

SEAL = "crc32"
PACKED = 2000  # bytes that one stored byte may stand for, at most: gzip's best is about 1,000
SMALL = 2**16  # bytes that are read however they are stored
TEXT = 2**22  # characters of an attribute, at most


def seal(dataset: h5py.Dataset, values: np.ndarray) -> None:
    """Keep the checksum of what was written."""
    dataset.attrs[SEAL] = np.uint32(zlib.crc32(np.ascontiguousarray(values).data))


def members(group: h5py.Group) -> Iterator[tuple[str, h5py.Group | h5py.Dataset]]:
    """What a group holds, by name.

    Raises:
        UserError: a link that may lead out of the file.
    """
    for name in group:
        where = f"{group.name.rstrip('/')}/{name}".lstrip("/")
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise UserError(f"{where} leads out of the file or to another place in it: no links")
        yield name, group[name]


def datasets(group: h5py.Group, depth: int) -> Iterator[tuple[str, h5py.Dataset]]:
    """All arrays of a group and of those in it, by path, the groups `depth` deep at most.

    Raises:
        UserError: groups that lie deeper, such as one that holds itself.
    """
    for _, item in members(group):
        if isinstance(item, h5py.Dataset):
            yield item.name.lstrip("/"), item
        elif depth > 1:
            yield from datasets(item, depth - 1)
        else:
            raise UserError(f"{item.name.lstrip('/')} is a group where arrays are expected")


def tree(group: h5py.Group, depth: int, kinds: str = "f", *, finite: bool = False) -> dict:
    """Groups as dicts, `depth` of them one in another, with arrays in the last.

    Raises:
        UserError: other depths, or what `array` refuses.
    """
    found = {}
    for name, item in members(group):
        if isinstance(item, h5py.Group) != (depth > 1):
            raise UserError(f"{item.name.lstrip('/')} is no {'group' if depth > 1 else 'array'}")
        if depth > 1:
            found[name] = tree(item, depth - 1, kinds, finite=finite)
        else:
            found[name] = array(item, kinds, finite=finite)
    return found


def array(dataset: h5py.Dataset, kinds: str = "f", *, finite: bool = False) -> np.ndarray:
    """A dataset's values.

    Args:
        kinds: of numbers that are expected, as NumPy names them; finite: no others.

    Raises:
        UserError: another kind, more values than the file can hold, values that lie elsewhere, do
            not have their checksum, or are not finite.
    """
    where = dataset.name.lstrip("/")
    if dataset.is_virtual or dataset.external:
        raise UserError(f"{where} leads out of the file: its values lie elsewhere")
    if dataset.dtype.kind not in kinds or dataset.shape is None:
        raise UserError(f"{where} holds {dataset.dtype}, expected numbers of kind {kinds}")
    size = dataset.size * dataset.dtype.itemsize
    stored = dataset.id.get_storage_size()
    packed = PACKED if dataset.chunks else 1
    if size > max(stored * packed, SMALL):
        raise UserError(
            f"{where} declares {dataset.size:,} values, of which the file holds {stored:,} bytes"
        )
    values = dataset[()]
    sealed = dataset.attrs.get(SEAL)
    if sealed is not None and int(sealed) != zlib.crc32(np.ascontiguousarray(values).data):
        raise UserError(f"{where} does not have the checksum that it was written with")
    if finite and not np.isfinite(values).all():
        raise UserError(f"{where} holds values that are not finite")
    return values


def text(attributes: h5py.AttributeManager, name: str) -> str:
    """An attribute that is a text.

    Raises:
        UserError: it is missing, or no text of a sensible length.
    """
    value = attributes.get(name)
    if not isinstance(value, str) or len(value) > TEXT:
        raise UserError(f"the attribute {name} is no text of at most {TEXT:,} characters")
    return value


def whole(attributes: h5py.AttributeManager, name: str, most: int = 2**62) -> int:
    """An attribute that is a whole number, not negative.

    Raises:
        UserError: it is missing, or no such number.
    """
    value = attributes.get(name)
    if not isinstance(value, int | np.integer) or not 0 <= value <= most:
        raise UserError(f"the attribute {name} is no whole number from 0 to {most}: {value!r:.60}")
    return int(value)


def json_of(attributes: h5py.AttributeManager, name: str, kind: type) -> Any:
    """An attribute that is JSON of this kind.

    Raises:
        UserError: it is missing, or something else.
    """
    try:
        value = json.loads(text(attributes, name))
    except (ValueError, RecursionError) as error:
        raise UserError(f"the attribute {name} is no JSON ({error})") from error
    if not isinstance(value, kind):
        raise UserError(f"the attribute {name} holds {type(value).__name__}, not {kind.__name__}")
    return value
