"""Files are written whole or not at all."""

import errno
import subprocess
import sys

import pytest

from plasticity.errors import UserError
from plasticity.files import whole


def test_a_failed_writing_leaves_what_was_there(tmp_path):
    path = tmp_path / "result"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), whole(path) as part:
        part.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    with whole(path) as part:
        part.write_text("new")
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_said_and_nothing_is_lost(tmp_path):
    path = tmp_path / "result"
    path.write_text("old")
    full = pytest.raises(UserError, match="the disk is full; the file that stood there before")
    with full, whole(path) as part:
        part.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_left_is_swept_by_the_next(tmp_path):
    code = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom plasticity.files import whole\n"
        "with whole(Path(sys.argv[1])) as part:\n"
        "    part.write_text('half')\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    path = tmp_path / "result"
    subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert len(list(tmp_path.glob("*.writing"))) == 1
    with whole(path) as part:
        part.write_text("new")
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_not_there_is_named(tmp_path):
    missing = pytest.raises(UserError, match="no/result could not be written: No such file")
    with missing, whole(tmp_path / "no" / "result") as part:
        part.write_text("x")
