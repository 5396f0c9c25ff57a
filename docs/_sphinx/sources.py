"""A link to a Python file of the project, which a code host shows, leads to a page of its text.

The pages are those of sphinx.ext.viewcode, which makes one of each module in `_viewcode_modules`.
"""

import re
from pathlib import PurePath

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer

PACKAGE = re.compile(r"(plasticity|rules|networks|cli)/.*\.py$")


def module(path: str) -> str:
    """`rules/clapp.py` is `plasticity.rules.clapp`, `plasticity/rule.py` is `plasticity.rule`."""
    parts = PurePath(path).with_suffix("").parts
    parts = parts if parts[0] == "plasticity" else ("plasticity", *parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def lead_to_pages(app: Sphinx, doctree: nodes.document, page: str) -> None:
    for link in list(doctree.findall(addnodes.download_reference)):
        if PACKAGE.match(link["reftarget"]):
            name = module(link["reftarget"])
            app.linked_modules.add(name)
            to = app.builder.get_relative_uri(page, f"_modules/{name.replace('.', '/')}")
            link.replace_self(nodes.reference("", "", *link.children, internal=True, refuri=to))


def add_pages(app: Sphinx) -> list:
    known = app.env._viewcode_modules
    for name in app.linked_modules - known.keys():
        analyzer = ModuleAnalyzer.for_module(name)
        analyzer.find_tags()
        known[name] = analyzer.code, analyzer.tags, {}, name
    for name in [name for name, found in known.items() if not found]:
        del known[name]  # what has no text, such as builtins, would be listed without a page
    return []


def setup(app: Sphinx) -> dict[str, bool]:
    app.linked_modules = set()
    app.connect("doctree-resolved", lead_to_pages)
    app.connect("html-collect-pages", add_pages, priority=100)  # before viewcode
    return {"parallel_read_safe": True, "parallel_write_safe": False}
