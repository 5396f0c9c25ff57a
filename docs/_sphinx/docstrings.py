"""Docstrings are plain text with Markdown's backticks, and Sphinx reads reStructuredText.

A name in backticks becomes a link where the reference has it; anything else in backticks is code.
Lines indented after an empty one are an equation or an example, and stay as they are. Stars, bars
and underscores mean nothing.
"""

import re
import sys

from docutils import nodes
from sphinx.application import Sphinx

HEADER = re.compile(r"(Args|Returns|Raises|Attributes|Yields):$")
CODE_OR_MARK = re.compile(r"`(?P<code>[^`]*)`|(?P<mark>[*|\\]|(?<=\w)_(?!\w))")
NAME = re.compile(r"[A-Za-z_][\w.]*")


def as_rst(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    found, block, text = [], None, 0  # the indents of the block we are in, and of the text before
    for before, line in zip(["", *lines], lines, strict=False):
        indent = len(line) - len(line.lstrip())
        if line.strip() and block is not None and indent < block:
            block = None
        if line.strip() and block is None:
            if found and not before.strip() and indent > text:
                block = indent
                found += [" " * text + "::", ""]
            else:
                text = indent + 4 * bool(HEADER.match(line.strip()))
        found.append(line if block is not None else CODE_OR_MARK.sub(_marked, line))
    lines[:] = found


def _marked(found: re.Match) -> str:
    if found["mark"]:
        return "\\" + found["mark"]
    return f"`{found['code']}`" if NAME.fullmatch(found["code"]) else f"``{found['code']}``"


def with_arrays(
    app: Sphinx, what: str, name: str, obj: object, options: object, given: str, gives: str
) -> tuple[str, str] | None:
    """`Array` stands for NumPy's and CuPy's and is `Any` to Python: it is shown by its name."""
    module = vars(sys.modules.get(getattr(obj, "__module__", ""), object))
    if "Array" not in module or "Any" in module:
        return None
    return tuple(text and re.sub(r"\b(typing\.)?Any\b", "Array", text) for text in (given, gives))


def without_object(app: Sphinx, doctree: nodes.document) -> None:
    """That a class inherits from `object` says nothing."""
    for paragraph in list(doctree.findall(nodes.paragraph)):
        if paragraph.astext() == "Bases: object":
            paragraph.parent.remove(paragraph)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("autodoc-process-docstring", as_rst, priority=100)  # before napoleon
    app.connect("autodoc-process-signature", with_arrays)
    app.connect("doctree-read", without_object)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
