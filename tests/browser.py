"""A page in headless Chromium, where there is one."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--enable-logging=stderr",
    "--host-resolver-rules=MAP * ~NOTFOUND",  # nothing can be reached
)

# A frame of any width around the page, and a script that looks into it from outside.
AROUND = """<!DOCTYPE html><meta charset="utf-8"><style>body {{ margin: 0 }}</style>
<iframe style="border: 0; width: {width}px; height: 20000px" srcdoc="{page}"></iframe>
<pre id="found"></pre>
<script>
onload = () => {{
  const inner = document.querySelector("iframe"), page = inner.contentDocument;
  document.querySelector("#found").textContent = JSON.stringify({{
    title: page.title,
    images: [...page.images].map(image => [image.complete, image.naturalWidth, image.width]),
    width: page.documentElement.scrollWidth,
    height: page.documentElement.scrollHeight,
    fetched: inner.contentWindow.performance.getEntriesByType("resource").map(e => e.name),
  }});
}};
</script>"""


def chromium() -> str:
    """The browser, or the test is skipped."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no Chromium here: 'apt-get install chromium' lets this test open the page")
    return found


def run(folder: Path, path: Path, *flags: str) -> tuple[str, str]:
    """Open a file; what goes to standard output, and what the page wrote to its console."""
    done = subprocess.run(
        [chromium(), *FLAGS, f"--user-data-dir={folder / 'profile'}", *flags, path.as_uri()],
        capture_output=True,
        text=True,
        timeout=180,
        check=True,
    )
    return done.stdout, "\n".join(re.findall(r".*CONSOLE.*", done.stderr))


def look(folder: Path, page: str, width: int) -> dict[str, object]:
    """How a page lies in a window of this width: title, images, size, what it fetched."""
    around = folder / "around.html"
    around.write_text(
        AROUND.format(width=width, page=html.escape(page, quote=True)), encoding="utf-8"
    )
    dumped, told = run(folder, around, "--window-size=1400,900", "--dump-dom")
    found = re.search(r'<pre id="found">(.*?)</pre>', dumped, re.DOTALL)
    assert found and found[1], "the page was not loaded"
    return {**json.loads(html.unescape(found[1])), "console": told}
