"""A paragraph that is a link to a function is followed by the function's text.

On a code host the link leads to the file. Here

    [`Clapp.learn`](../rules/clapp.py), from `if pairs` to `else:`

brings these lines, as they are in the file when the site is built, and a name or a line that the
file does not have is a warning.
"""

import re

from sphinx.application import Sphinx

EXCERPT = re.compile(
    r"^\[`(?P<name>[\w.]+)`\]\((?P<path>\.\./[\w./]+\.py)\)"
    r"(?:, from `(?P<start>[^`]+)`)?(?:,? to `(?P<end>[^`]+)`)?$",
    re.M,
)


def directive(found: re.Match) -> str:
    lines = {"pyobject": found["name"], "start-at": found["start"], "end-at": found["end"]}
    options = "".join(f":{name}: {value}\n" for name, value in lines.items() if value)
    head = f"{found[0]}\n\n```{{literalinclude}} {found['path']}\n"
    return f"{head}:language: python\n:dedent:\n{options}```"


def add(app: Sphinx, page: str, source: list[str]) -> None:
    source[0] = EXCERPT.sub(directive, source[0])


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("source-read", add)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
