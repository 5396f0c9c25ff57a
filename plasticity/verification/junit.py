"""Verdicts as JUnit XML, which continuous integration shows."""

from collections.abc import Sequence
from xml.etree import ElementTree


def document(suite: str, cases: Sequence[tuple[str, str, str]]) -> str:
    """A test suite.

    Args:
        cases: of each its group, its name, and why it fails, or nothing where it holds.
    """
    failures = sum(bool(why) for *_, why in cases)
    root = ElementTree.Element(
        "testsuite", name=suite, tests=str(len(cases)), failures=str(failures), errors="0"
    )
    for group, name, why in cases:
        case = ElementTree.SubElement(root, "testcase", classname=f"{suite}.{group}", name=name)
        if why:
            ElementTree.SubElement(case, "failure", message=why).text = why
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"
