"""The page on e-prop: its block of code runs, and prints what the page says."""

import subprocess
import sys

from tests import pages


def test_its_code_prints_what_it_says():
    blocks = dict(pages.blocks("eprop.md"))
    run = subprocess.run([sys.executable, "-c", blocks["python"]], capture_output=True, text=True)
    assert run.stdout == blocks["text"], run.stderr
    assert run.stdout.count("equal to 1e-12: True") == 4
