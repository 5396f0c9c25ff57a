"""Faults planted one at a time, to see whether a test notices: `python -m tests.faults`.

A row of `faults.toml` is one wrong line and the tests that should fail with it. Each is planted in
a copy of the sources, never in the sources themselves. Nothing here runs in CI but a test that
every row still fits its file.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TABLE = Path(__file__).with_name("faults.toml")
INSIDE = ("rules", "networks", "cli")  # folders that are imported as parts of `plasticity`
LIMIT = 900  # seconds for the tests of one fault


@dataclass(frozen=True)
class Fault:
    """One wrong line.

    Attributes:
        name: what is wrong, in words; file: that it is in; old, new: text that occurs once in the
            file, and what takes its place; tests: files, folders or `file::test`s that should
            notice.
    """

    name: str
    file: str
    old: str
    new: str
    tests: str

    @property
    def room(self) -> str:
        """The folder that it is planted in."""
        parts = Path(self.file).parts
        return parts[1] if parts[0] == "plasticity" and len(parts) > 2 else parts[0]

    def fits(self) -> str:
        """Why it cannot be planted, in a sentence; empty if it can."""
        text = (ROOT / self.file).read_text(encoding="utf-8")
        if (count := text.count(self.old)) != 1:
            return f"{self.name}: {self.file} holds {self.old!r} {count} times, expected once"
        missing = [place for place in self.tests.split() if not _there(place)]
        return f"{self.name}: no tests {', '.join(missing)}" if missing else ""


def _there(place: str) -> bool:
    """Whether a file of tests is there, and in it the function that is named."""
    file, _, test = place.partition("::")
    path = ROOT / file
    return path.exists() and (not test or f"def {test}(" in path.read_text(encoding="utf-8"))


def table() -> list[Fault]:
    """The faults of `faults.toml`."""
    rows = tomllib.loads(TABLE.read_text(encoding="utf-8"))["fault"]
    return [Fault(**row) for row in rows]


def copied(where: Path) -> None:
    """The sources as an installed package has them, and the tests, in an empty folder."""
    skip = shutil.ignore_patterns("__pycache__", ".*", "*.pyc")
    for name in ("plasticity", "tests", "benchmarks", "docs"):
        shutil.copytree(ROOT / name, where / name, ignore=skip)
    for name in INSIDE:
        shutil.copytree(ROOT / name, where / "plasticity" / name, ignore=skip)
    for name in ("pyproject.toml", "README.md", "CHANGELOG.md", "CONTRIBUTING.md"):
        shutil.copy(ROOT / name, where)


def notices(fault: Fault | None, tests: str, where: Path) -> bool | None:
    """Whether tests fail with a fault in the copy `where`; None if they take too long."""
    place, text = None, ""
    if fault is not None:
        inside = fault.file.split("/")[0] in INSIDE
        place = where / ("plasticity" if inside else "") / fault.file
        text = place.read_text(encoding="utf-8")
        place.write_text(text.replace(fault.old, fault.new), encoding="utf-8")
    call = [sys.executable, "-m", "pytest", "-q", "-x", "-n", "0", "-p", "no:cacheprovider"]
    paths = {"PYTHONPATH": str(where), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            [*call, *tests.split()], cwd=where, env=os.environ | paths, capture_output=True,
            timeout=LIMIT, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return None
    finally:
        if place is not None:
            place.write_text(text, encoding="utf-8")
    if done.returncode > 2:  # 1: a test failed; 2: none could be collected; below 0: a crash
        raise SystemExit(f"the tests {tests} cannot be run:\n{done.stdout.decode()[-2000:]}")
    return done.returncode != 0


def chosen(only: str) -> Iterator[Fault]:
    """The faults whose name, file or room holds a text."""
    for fault in table():
        if only in fault.name or only in fault.file or only == fault.room:
            yield fault


def main() -> int:
    """Plant and tell; exit status 1 if a fault survives."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="a part of a fault's name or file, or a room")
    parser.add_argument("--list", action="store_true", help="name the faults, and plant none")
    asked = parser.parse_args()
    faults = list(chosen(asked.only))
    if not faults:
        parser.error(f"no fault holds '{asked.only}': --list names all")
    if unfit := list(filter(None, (fault.fits() for fault in faults))):
        parser.error("\n".join(unfit))
    if asked.list:
        for fault in faults:
            print(f"{fault.file}: {fault.name}")
        return 0
    planted, survived = Counter(), Counter()
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        where = Path(folder)
        copied(where)
        for number, fault in enumerate(faults, 1):
            start = time.perf_counter()
            noticed = notices(fault, fault.tests, where)
            planted[fault.room] += 1
            survived[fault.room] += noticed is False
            word = {True: "noticed", False: "SURVIVED", None: "noticed (never ends)"}[noticed]
            seconds = time.perf_counter() - start
            said = f"{number}/{len(faults)} {word}: {fault.name} ({fault.file}, {seconds:.0f} s)"
            print(said, flush=True)
    print("\n| room | planted | noticed |\n|---|---|---|")
    for room in planted:
        print(f"| `{room}` | {planted[room]} | {planted[room] - survived[room]} |")
    return int(survived.total() > 0)


if __name__ == "__main__":
    sys.exit(main())
