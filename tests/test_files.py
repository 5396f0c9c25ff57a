"""Files are written whole or not at all."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from plasticity.errors import UserError
from plasticity.files import check_writable, whole


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
    full = pytest.raises(
        UserError, match=r"disk is full, more than 4 bytes .* file that stood there"
    )
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
    path = tmp_path / "result[1]"  # brackets stand for themselves
    subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert len(list(tmp_path.glob("*.writing"))) == 1
    with whole(path) as part:
        part.write_text("new")
    assert list(tmp_path.iterdir()) == [path]


def test_the_file_of_a_writer_that_lives_is_left_alone(tmp_path):
    other = tmp_path / f"result.{os.getppid()}.writing"
    other.write_text("half")
    with whole(tmp_path / "result") as part:
        part.write_text("new")
    assert other.read_text() == "half"


@pytest.mark.parametrize("place", ["no/result", "file/result", ""])
def test_a_place_that_cannot_be_written_to_is_named(tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("old")
    told = pytest.raises(UserError, match=rf"^{place or '.'} (could not be written|is no name)")
    with told, whole(Path(place)) as part:
        part.write_text("x")
    assert (tmp_path / "file").read_text() == "old"


def test_what_is_written_is_on_the_disk_before_it_takes_its_place(tmp_path, monkeypatch):
    done, flush, replace = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda n: (done.append(os.fstat(n).st_size), flush(n)))
    monkeypatch.setattr(os, "replace", lambda *a: (done.append("its place"), replace(*a)))
    with whole(tmp_path / "a") as part:
        part.write_bytes(b"twelve bytes")
    assert done == [12, "its place"] and (tmp_path / "a").read_bytes() == b"twelve bytes"


def test_a_file_that_cannot_be_written_is_refused_beforehand_and_nothing_is_made(tmp_path):
    (tmp_path / "file").write_text("")
    for place, told in {
        tmp_path: "is a folder",
        tmp_path / "none" / "a.csv": "is not there: make it first",
        tmp_path / "file" / "a.csv": "is no folder",
        Path("/proc/a.csv"): "could not be written: /proc",
    }.items():
        with pytest.raises(UserError, match=told):
            check_writable(place)
    check_writable(tmp_path / "a.csv")
    check_writable(tmp_path / "none" / "deeper" / "a.csv", makes=True)
    with pytest.raises(UserError, match="is no folder"):
        check_writable(tmp_path / "file" / "a.csv", makes=True)
    assert [one.name for one in tmp_path.iterdir()] == ["file"]
