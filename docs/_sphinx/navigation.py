"""The lists of links in docs/index.md are the navigation: a page is entered there alone.

On a code host they are links; here each list also becomes a hidden toctree, under its heading and
with its words. Sphinx warns of a page that is in none of them, and `-W` makes that an error.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

SECTION = re.compile(r"^## (?P<title>.+)\n(?P<text>(?:(?!## ).*\n?)*)", re.M)
PAGE = re.compile(r"^\* \[(?P<words>[^]]+)\]\((?P<path>[^)#]+)\.md\)", re.M)


def sections(index: str) -> dict[str, list[tuple[str, str]]]:
    """Of each section of the index its pages: the words of the link, and its path without `.md`."""
    return {found["title"]: PAGE.findall(found["text"]) for found in SECTION.finditer(index)}


def add_toctrees(app: Sphinx, page: str, source: list[str]) -> None:
    if page != app.config.root_doc:
        return
    for title, pages in sections(source[0]).items():
        listed = "\n".join(f"{words} <{path}>" for words, path in pages)
        if pages:
            source[0] += f"\n\n```{{toctree}}\n:hidden:\n:caption: {title}\n\n{listed}\n```\n"


def write_first_page(app: Sphinx, error: Exception | None) -> None:
    """The folder of the site opens its first page, which lies where it lies in the sources."""
    if error is None and app.builder.format == "html":
        first = f"{app.config.root_doc}.html"
        page = f'<!DOCTYPE html><meta http-equiv="refresh" content="0; url={first}">\n'
        (app.outdir / "index.html").write_text(page, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("source-read", add_toctrees)
    app.connect("build-finished", write_first_page)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
