"""Equations as MathML, which browsers show without a script, in a font that the site brings."""

import re
from xml.etree import ElementTree

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

NUMBER = re.compile(r"\\tag\{(?P<number>[^}]*)\}")


def mathml(node: nodes.Element, display: str) -> str:
    """The equation of a node; one that is not understood is a warning."""
    latex = NUMBER.sub("", node.astext())
    found = convert(latex, display=display)
    try:
        understood = "\\" not in "".join(ElementTree.fromstring(found).itertext())
    except ElementTree.ParseError:
        understood = False
    if not understood:
        logging.getLogger(__name__).warning("no MathML for %s", latex, location=node)
    return found


def inline(self: HTML5Translator, node: nodes.math) -> None:
    self.body.append(mathml(node, "inline"))
    raise nodes.SkipNode


def block(self: HTML5Translator, node: nodes.math_block) -> None:
    number = NUMBER.search(node.astext())
    told = f'<span class="number">({number["number"]})</span>' if number else ""
    self.body.append(f'<div class="equation">{mathml(node, "block")}{told}</div>\n')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
