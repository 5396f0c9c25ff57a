"""Results as tables: columns of arrays, to the screen of a notebook and to files."""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

import h5py
import numpy as np

from plasticity.files import whole

Table = Mapping[str, np.ndarray]


def records(table: Table | Sequence[Mapping[str, object]]) -> list[dict[str, object]]:
    """A table as a list of rows."""
    if not isinstance(table, Mapping):
        return [dict(row) for row in table]
    return [
        dict(zip(table, row, strict=True))
        for row in zip(*(np.asarray(column).tolist() for column in table.values()), strict=True)
    ]


def blank(row: Mapping[str, object]) -> dict[str, object]:
    """A row for JSON, which has no NaN: None in its place."""
    return {name: None if value != value else value for name, value in row.items()}


def told(value: object) -> str:
    """A value for the screen: numbers with five digits."""
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def html(table: Table | Sequence[Mapping[str, object]]) -> str:
    """A table for a notebook."""
    rows = records(table)
    if not rows:
        return "<p>none</p>"
    head = "".join(f"<th>{escape(name)}</th>" for name in rows[0])
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(told(v))}</td>" for v in row.values()) + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def write_csv(path: Path, parts: Iterable[Table]) -> int:
    """Write a long table, a part at a time; returns its number of rows."""
    count = 0
    with whole(path) as part_path, open(part_path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        for number, part in enumerate(parts):
            if number == 0:
                writer.writerow(part)
            columns = [np.asarray(column).tolist() for column in part.values()]
            writer.writerows(zip(*columns, strict=True))
            count += len(columns[0])
    return count


def write_hdf5(path: Path, parts: Iterable[Table], attributes: Mapping[str, object]) -> int:
    """Write a long table as one compressed dataset for each column; returns its rows."""
    count, content = 0, io.BytesIO()  # composed in memory: HDF5 crashes on a full disk
    with h5py.File(content, "w") as file:
        for name, value in attributes.items():
            file.attrs[name] = value
        for part in parts:
            for name, column in part.items():
                column = np.asarray(column)
                if column.dtype.kind == "U":
                    column = np.char.encode(column)
                if name not in file:
                    kind = "S16" if column.dtype.kind == "S" else column.dtype
                    file.create_dataset(
                        name, (0,), kind, maxshape=(None,), chunks=(2**14,), compression="gzip"
                    )
                file[name].resize(count + len(column), axis=0)
                file[name][count:] = column
            count += len(column)
    with whole(path) as part_path:
        part_path.write_bytes(content.getbuffer())
    return count


def write_arrays(path: Path, arrays: Table, summary: Mapping[str, object]) -> None:
    """Write arrays to HDF5, compressed, and a summary as JSON in the attribute `inspection`."""
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file.attrs["inspection"] = json.dumps(summary)
        for name, array in arrays.items():
            packed = {"compression": "gzip"} if array.size else {}
            file.create_dataset(name, data=array, **packed)
    with whole(path) as part_path:
        part_path.write_bytes(content.getbuffer())
