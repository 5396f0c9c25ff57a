"""The page on e-prop: its block of code runs, and prints what the page says."""

import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parent.parent / "docs/eprop.md"


def test_its_code_prints_what_it_says():
    blocks = dict(re.findall(r"^```(\w+)\n(.*?)^```", PAGE.read_text("utf-8"), re.M | re.S))
    run = subprocess.run([sys.executable, "-c", blocks["python"]], capture_output=True, text=True)
    assert run.stdout == blocks["text"], run.stderr
    assert run.stdout.count("equal to 1e-12: True") == 4
