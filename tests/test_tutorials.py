"""The tutorials and other pages with code, as a stranger follows them.

`own_rule.md` and `own_network.md` have tests of their own, which say more about what comes.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.pages import DOCS, FIGURE, TUTORIALS, blocks, follow, run

ELSEWHERE = {"own_rule.md": "test_tutorial.py", "own_network.md": "test_own_network.py"}

NOT_EXECUTED = {
    ("own_rule.md", "toml"): "the project file of a package that nobody has written",
}
"""Blocks of tutorials that nothing executes, and why."""


@pytest.mark.parametrize("page", [page for page in TUTORIALS if page not in ELSEWHERE])
def test_a_tutorial_ends_as_it_says_and_draws_what_it_shows(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for done in follow(page):
        assert done.came == done.promised, f"{done.command}: {done.output}"
    for path, name in FIGURE.findall((DOCS / page).read_text(encoding="utf-8")):
        with Image.open(name) as drawn, Image.open(DOCS / path) as shown:
            assert drawn.size == shown.size, f"{path}: draw it anew by 'python -m tests.pages'"


@pytest.mark.parametrize("page", TUTORIALS)
def test_nothing_of_a_tutorial_is_left_out(page):
    if page in ELSEWHERE:
        assert page in (Path(__file__).parent / ELSEWHERE[page]).read_text(encoding="utf-8")
    for language, _ in blocks(page):
        assert language in ("sh", "python", "text") or (page, language) in NOT_EXECUTED
    unmarked = re.findall(
        r"^ {4}(?:plasticity|python|pip|mpiexec) .*", (DOCS / page).read_text("utf-8"), re.M
    )
    assert not unmarked, "commands of a tutorial stand in blocks that are marked as sh"


TINY = "plasticity run --width 0.05 --layers 4 --batch 4 --steps 2 --no-probe --out runs/mine"


@pytest.mark.parametrize(
    "page, start",
    [
        ("../README.md", ""),
        ("batch_norm.md", ""),
        ("inspect.md", f"{TINY} --record layer=4,random=3"),
        ("figures.md", TINY),
    ],
)
def test_python_on_other_pages_runs(page, start, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if start:
        assert run(start).came == 0
    (code,) = [text for language, text in blocks(page) if language == "python"]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
