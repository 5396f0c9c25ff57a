"""Runs: their options, their training, and the folder that keeps them.

`options` decides what a run computes, `training` computes it, `folder` writes and reads it, and
`lifecycle` begins, resumes and ends it.
"""

from plasticity.runs.folder import (
    MEASURES,
    NAME,
    Checkpoint,
    check_finite,
    checkpoint_of,
    checkpoint_path,
    head,
    probes,
    read_json,
    read_summary,
    save,
    write_config,
    write_json,
    write_summary,
    write_text,
)
from plasticity.runs.keeping import is_record, kept, kept_path, load, record_path

__all__ = [
    "MEASURES",
    "NAME",
    "Checkpoint",
    "check_finite",
    "checkpoint_of",
    "checkpoint_path",
    "head",
    "is_record",
    "kept",
    "kept_path",
    "load",
    "probes",
    "read_json",
    "read_summary",
    "record_path",
    "save",
    "write_config",
    "write_json",
    "write_summary",
    "write_text",
]
