"""The documentation's pages, as a stranger follows them: files written, commands run, in order."""

import re
import shlex
import subprocess
from pathlib import Path

from click.testing import CliRunner
from plasticity.cli import main

DOCS = Path(__file__).parent.parent / "docs"


def blocks(page: str) -> list[tuple[str, str]]:
    """Language and text of every block of the page."""
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(r"^```(\w+)\n(.*?)^```", text, re.M | re.S)


def follow(page: str) -> list[tuple[str, int, int, str]]:
    """Every command of the page, run in the working folder, as `run` gives it."""
    done = []
    for language, text in blocks(page):
        if language == "python":
            Path(re.match(r"# (\w+\.py)\n", text)[1]).write_text(text)
        elif language == "sh":
            done += [run(line) for line in text.splitlines()]
    return done


def run(line: str) -> tuple[str, int, int, str]:
    """The command, the exit status that the page promises, the one that came, and the output."""
    command, _, promised = line.partition("  # exit status ")
    if not command.startswith("plasticity "):
        subprocess.run(command, shell=True, check=True)
        return command, 0, 0, ""
    words = shlex.split(command)[1:]
    result = CliRunner().invoke(main, words, env={"COLUMNS": "160"}, catch_exceptions=False)
    return command, int(promised or 0), result.exit_code, result.output
