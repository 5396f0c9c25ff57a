"""The list of modules in docs/api.md becomes a page for each, made of its docstrings.

On a code host its links lead to the sources; here they lead to the pages, which are written to
docs/api/ when the site is built and belong to no version. A package that says what it exports, in
`__all__`, is shown as that, another one file by file.
"""

import re
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from sphinx.application import Sphinx

LISTED = re.compile(r"^\* \[`(?P<module>[\w.]+)`\]\((?P<path>[^)]+)\)", re.M)


def page(name: str) -> str:
    """The page of a module, in reStructuredText."""
    module = import_module(name)
    package = hasattr(module, "__path__") and not hasattr(module, "__all__")
    files = [f"{name}.{file.name}" for file in iter_modules(module.__path__)] if package else []
    text = f"{name}\n{'=' * len(name)}\n\n{shown(name, hasattr(module, '__path__'))}"
    return text + "".join(f"{file}\n{'-' * len(file)}\n\n{shown(file)}" for file in files)


def shown(name: str, exports: bool = False) -> str:
    """`exports`: what it has imported counts as its own."""
    own = "" if exports else "   :ignore-module-all:\n"
    return f".. automodule:: {name}\n   :members:\n   :show-inheritance:\n{own}\n"


def write_pages(app: Sphinx) -> None:
    folder = Path(app.srcdir) / "docs" / "api"
    folder.mkdir(exist_ok=True)
    for name, _ in LISTED.findall((folder.parent / "api.md").read_text(encoding="utf-8")):
        path, text = folder / f"{name}.rst", page(name)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def link_pages(app: Sphinx, name: str, source: list[str]) -> None:
    if name == "docs/api":
        pages = "\n".join(f"api/{module}" for module, _ in LISTED.findall(source[0]))
        source[0] = LISTED.sub(r"* [`\g<module>`](api/\g<module>.rst)", source[0])
        source[0] += f"\n```{{toctree}}\n:hidden:\n\n{pages}\n```\n"


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("builder-inited", write_pages)
    app.connect("source-read", link_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
