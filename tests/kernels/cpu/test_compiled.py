"""Compiled loops are kept for the next process, and nothing hangs on it."""

import os
import subprocess
import sys

import pytest

from plasticity.kernels.cpu import compiled

CODE = """
import numpy as np
from plasticity.kernels.cpu import compiled

@compiled.njit()
def twice(x):
    return 2 * x

assert twice(21) == 42
print(sum(twice._cache_misses.values()), end="")
"""


def run(cache, **environment):
    """How many functions a process had to compile, and what it said."""
    environment = {**os.environ, "PLASTICITY_CACHE": str(cache), **environment}
    done = subprocess.run(
        [sys.executable, "-c", CODE], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def kept(cache):
    return sorted(cache.glob("kernels-*/*.bin"))


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def test_a_second_process_compiles_nothing(cache):
    assert run(cache) == ("1", "")
    (file,) = kept(cache)
    before = file.stat().st_mtime_ns
    assert run(cache) == ("0", "") and not list(cache.glob("**/*.part"))
    assert file.stat().st_mtime_ns == before
    assert os.name == "nt" or file.parent.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("damage", [lambda b: b"", lambda b: b[:50], lambda b: b[:-1] + b"x"])
def test_what_is_damaged_is_compiled_anew(cache, damage):
    run(cache)
    (file,) = kept(cache)
    content = file.read_bytes()
    file.write_bytes(damage(content))
    assert run(cache) == ("1", "")
    assert len(kept(cache)[0].read_bytes()) == len(content)


def test_where_no_folder_can_be_made_the_work_goes_on_after_one_line(cache):
    cache.write_text("a file in its place")
    found, said = run(cache)
    assert found == "1"
    assert (
        said.count("\n") == 1 and said.startswith("Compiled code is not kept") and "cache" in said
    )


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="users and rights as POSIX has them")
def test_a_folder_that_vanishes_is_told_once_for_all_functions(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(compiled, "folder", lambda: tmp_path / "gone")
    assert compiled.njit()(lambda x: x + 1)(2) == 3
    assert compiled.njit()(lambda x: x + 2)(2) == 4
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and str(tmp_path / "gone") in said


def test_code_that_others_could_have_written_is_not_loaded(cache):
    run(cache)
    kept(cache)[0].parent.chmod(0o777)
    found, said = run(cache)
    assert found == "1" and "can be written by other users" in said


def test_an_empty_name_means_no_cache():
    found, said = run("")
    assert (found, said) == ("1", "")


def test_the_folder_depends_on_every_source_of_compiled_loops(monkeypatch, tmp_path):
    """A function's own cache key would not see that one which it calls has changed."""
    sources = compiled.Path(compiled.__file__).parent
    copy = tmp_path / "kernels" / "cpu"
    copy.mkdir(parents=True)
    for source in sources.glob("*.py"):
        (copy / source.name).write_bytes(source.read_bytes())
    (copy.parent / "geometry.py").write_bytes((sources.parent / "geometry.py").read_bytes())
    monkeypatch.setattr(compiled, "__file__", str(copy / "compiled.py"))
    keys = {compiled.key()}
    for source in [*copy.glob("*.py"), copy.parent / "geometry.py"]:
        source.write_text(source.read_text() + "\n# changed\n")
        keys.add(compiled.key())
    assert len(keys) == 1 + len(list(copy.glob("*.py"))) + 1


def test_folders_that_nobody_has_used_for_long_are_deleted(cache):
    old, other = cache / "kernels-0.0.1-x", cache / "something-else"
    for folder in (old, other):
        folder.mkdir(parents=True)
        os.utime(folder, (0, 0))
    run(cache)
    assert not old.exists() and other.exists() and kept(cache)


def test_a_folder_that_another_process_deletes_first_stops_nothing(tmp_path):
    (tmp_path / "kernels-dangling").symlink_to(tmp_path / "gone")
    compiled._clean(tmp_path, tmp_path / "kernels-kept")
