"""The documentation's pages, as a stranger follows them: files written, commands run, in order.

`python -m tests.pages` follows the tutorials and draws the figures that they show anew.
"""

import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner
from plasticity.cli import main

DOCS = Path(__file__).parent.parent / "docs"
sys.path.insert(0, str(DOCS / "_sphinx"))

from navigation import sections  # noqa: E402

TUTORIALS = [
    f"{path}.md"
    for _, path in sections((DOCS / "index.md").read_text(encoding="utf-8"))["Tutorials"]
]
FIGURE = re.compile(r"^!\[.+\]\((figures/tutorial/(\w+\.png))\)$", re.M)
NUMBER = re.compile(r"[-+]?\d[\d,]*\.?\d*(e[-+]\d+)?")


class Done(NamedTuple):
    """A command, the exit status that the page promises, the one that came, and the output."""

    command: str
    promised: int
    came: int
    output: str


def blocks(page: str) -> list[tuple[str, str]]:
    """Language and text of every block of the page."""
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(r"^```(\w+)\n(.*?)^```", text, re.M | re.S)


def follow(page: str) -> list[Done]:
    """Every command of the page, run in the working folder.

    Lines that the page shows are compared with the output of the commands before them.
    """
    done, output = [], ""
    for language, text in blocks(page):
        if language == "python":
            Path(re.match(r"# (\w+\.py)\n", text)[1]).write_text(text)
        elif language == "sh":
            now = [run(line) for line in text.splitlines()]
            output = " ".join(plain(one.output) for one in now)
            done += now
        elif language == "text":
            for line in text.splitlines():
                assert plain(line) in output, f"{page} shows '{line}', and there was: {output}"
    return done


def plain(text: str) -> str:
    """Output without what differs between machines: a mark for every number, single spaces."""
    return " ".join(NUMBER.sub("#", text).split())


def run(line: str) -> Done:
    command, _, promised = line.partition("  # exit status ")
    if command.startswith("plasticity "):
        words = shlex.split(command)[1:]
        result = CliRunner().invoke(main, words, env={"COLUMNS": "160"}, catch_exceptions=False)
        return Done(command, int(promised or 0), result.exit_code, result.output)
    words = re.sub(r"^python ", f"{sys.executable} ", command)
    output = subprocess.run(words, shell=True, check=True, capture_output=True, text=True).stdout
    return Done(command, 0, 0, output)


def draw() -> None:
    """Follow the tutorials, and put the figures that come of it where the pages show them."""
    for page in TUTORIALS:
        shown = FIGURE.findall((DOCS / page).read_text(encoding="utf-8"))
        with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            if shown:
                follow(page)
            for path, name in shown:
                shutil.copyfile(name, DOCS / path)


if __name__ == "__main__":
    draw()
