"""The documentation as a site: built strictly, whole in itself, every link and anchor there."""

import html
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from filelock import FileLock

from tests import browser

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs" / "_sphinx"))

from navigation import sections  # noqa: E402

LOADED = {
    ("img", "src"),
    ("script", "src"),
    ("link", "href"),
    ("source", "src"),
    ("object", "data"),
}

PHONE = 390
# Every page in a frame as wide as a phone, and a script that looks into them.
FRAMES = """<!DOCTYPE html><meta charset="utf-8">{frames}<pre id="found"></pre>
<script>
onload = () => {{
  document.querySelector("#found").textContent = JSON.stringify(
    [...document.querySelectorAll("iframe")].map(frame => ({{
      page: frame.getAttribute("src"),
      width: frame.contentDocument.documentElement.scrollWidth,
      fetched: frame.contentWindow.performance.getEntriesByType("resource").map(e => e.name),
    }})));
}};
</script>"""


class Page(HTMLParser):
    """What a page links to, what it loads by itself, and the anchors that it has."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links, self.loads, self.anchors = [], [], {"", "top"}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id":
                self.anchors.add(value)
            elif (tag, name) in LOADED:
                self.loads.append(value)
            elif (tag, name) == ("a", "href"):
                self.links.append(value)


def test_every_page_is_in_the_index_once():
    """Without Sphinx; with it an unlisted page does not build."""
    index = (ROOT / "docs/index.md").read_text(encoding="utf-8")
    listed = [path for pages in sections(index).values() for _, path in pages]
    pages = {path.stem for path in ROOT.glob("docs/*.md")} - {"index"}
    assert sorted(listed) == sorted({*pages, "../README", "../CONTRIBUTING", "../CHANGELOG"})


@pytest.fixture(scope="module")
def site(tmp_path_factory, request) -> Path:
    """Built once, where several workers test side by side too."""
    pytest.importorskip("furo", reason="no Sphinx here: pip install -e '.[docs]' lets it be built")
    place = tmp_path_factory.getbasetemp()
    place = place.parent if hasattr(request.config, "workerinput") else place
    with FileLock(place / "site.lock"):
        if not (place / "site" / "index.html").exists():  # it is written last
            call = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-c", "docs", "."]
            done = subprocess.run([*call, place / "site"], cwd=ROOT, capture_output=True, text=True)
            if done.returncode:
                shutil.rmtree(place / "site", ignore_errors=True)
            assert done.returncode == 0, done.stderr
    return place / "site"


def test_it_builds_without_a_warning_and_all_that_it_names_is_there(site):
    pages = {path.resolve(): Page(path) for path in site.glob("**/*.html")}
    assert len(pages) > 30
    for path, page in pages.items():
        for link in page.loads:
            assert not urlsplit(link).netloc, f"{path.name} loads {link} from outside"
        for link in (*page.loads, *page.links):
            url = urlsplit(link)
            if url.scheme in ("http", "https", "mailto", "data"):
                continue
            there = (path.parent / unquote(url.path)).resolve() if url.path else path
            assert there.is_file(), f"{path.name} links to {link}"
            if there in pages:
                assert unquote(url.fragment) in pages[there].anchors, f"{path.name}: {link}"


def test_its_styles_load_nothing_from_outside(site):
    for path in site.glob("**/*.css"):
        for url in re.findall(r"url\(([^)]*)\)|@import ([^;]*)", path.read_text(encoding="utf-8")):
            assert "//" not in "".join(url).removeprefix("data:").split(",")[0], path


def test_its_pages_fit_a_phone_and_fetch_nothing_from_outside(site, tmp_path):
    pages = [path for path in site.glob("**/*.html") if "_modules" not in path.parts]
    style = f"width: {PHONE}px; height: 800px"
    frames = "".join(f'<iframe src="{path.as_uri()}" style="{style}"></iframe>' for path in pages)
    around = tmp_path / "around.html"
    around.write_text(FRAMES.format(frames=frames), encoding="utf-8")
    flags = ("--allow-file-access-from-files", "--virtual-time-budget=20000", "--dump-dom")
    dumped, told = browser.run(tmp_path, around, *flags)
    looked = json.loads(html.unescape(re.search(r'<pre id="found">(.+?)</pre>', dumped)[1]))
    assert len(looked) == len(pages) and not told
    for seen in looked:
        assert seen["width"] <= PHONE, f"{seen['page']} is {seen['width']} pixels wide"
        assert all(name.startswith(("file:", "data:")) for name in seen["fetched"]), seen
