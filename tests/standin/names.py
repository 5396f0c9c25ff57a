"""What CuPy offers, by name and parameters: read from the real wheel, written to `cupy14.json`.

    pip install cupy-cuda12x && python -m tests.standin.names

`import cupy` needs no GPU, `cupyx.distributed` an MPI library. The list holds the names that the
stand-in has.
"""

import inspect
import json
import re
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from types import ModuleType

LIST = Path(__file__).with_name("cupy14.json")
CLASSES = ("ndarray", "cuda.Stream", "cuda.Event", "cuda.Device", "cuda.MemoryPool", "RawModule")
CLASSES += ("cuda.Graph", "cuda.using_allocator", "cupyx.distributed.NCCLBackend")
PYTHON = ("__init__", "__module__", "__doc__", "__dict__", "__weakref__", "__del__", "__getattr__")


def names(cupy: ModuleType, cupyx: ModuleType) -> dict[str, object]:
    """Every public name of the stand-in, dotted, with what it stands for; those of `cupyx` begin
    with it."""
    found: dict[str, object] = {}

    def walk(prefix: str, module: object) -> None:
        for name, value in vars(module).items():
            special = name.startswith("__") and prefix and name not in PYTHON
            if name.startswith("_") and not special:
                continue
            dotted = prefix + name
            if isinstance(value, ModuleType):
                walk(f"{dotted}.", value)
                continue
            found[dotted] = value
            if dotted in CLASSES:
                walk(f"{dotted}.", value)

    walk("", cupy)
    walk("cupyx.", cupyx)
    return found


def find(name: str) -> object:
    """What a dotted name stands for in the CuPy that is installed.

    Raises:
        ImportError: CuPy has no such name.
    """
    parts = name.split(".")
    value = import_module("cupyx" if parts[0] == "cupyx" else "cupy")
    for part in parts[parts[0] == "cupyx" :]:
        if not hasattr(value, part):
            import_module(f"{value.__name__}.{part}")
        value = getattr(value, part)
    return value


def read(wanted: Iterable[str]) -> dict[str, list[list[str]] | None]:
    """The parameters of these names; None for operators and for what is not called."""
    return {name: None if "__" in name else parameters(find(name)) for name in sorted(wanted)}


def parameters(value: object) -> list[list[str]] | None:
    """`[name, kind, default]` of every parameter, or None for what is not called.

    Compiled functions tell theirs in the first line of their docstring.
    """
    if not callable(value):
        return None
    text = inspect.getdoc(value) or ""
    line = text.split("\n")[0].replace("\\*", "*")
    if found := re.match(r"[\w.]+\((.*)\)(?:$| ->)", line):
        return [p for p in _parsed(found[1]) if p[0] != "self"]
    try:
        given = inspect.signature(value).parameters.values()
    except (TypeError, ValueError):
        return []
    default = lambda p: "" if p.default is p.empty else _plain(p.default)  # noqa: E731
    return [
        [p.name, KINDS[p.kind], default(p)]
        for p in given
        if p.name != "self" and not p.name.startswith("_")  # the stand-in's own
    ]


KINDS = {
    inspect.Parameter.POSITIONAL_ONLY: "",
    inspect.Parameter.POSITIONAL_OR_KEYWORD: "",
    inspect.Parameter.KEYWORD_ONLY: "keyword",
    inspect.Parameter.VAR_POSITIONAL: "*",
    inspect.Parameter.VAR_KEYWORD: "**",
}


def _plain(default: object) -> str:
    return default.__name__ if isinstance(default, type) else repr(default)


def _parsed(text: str) -> list[list[str]]:
    """Parameters as a docstring writes them, `str code=None, *, tuple options=()`."""
    found, kind = [], ""
    for part in re.split(r",\s*(?![^()]*\))", text):
        name, _, default = part.partition("=")
        if name.strip() == "*":
            kind = "keyword"
        elif name.strip().startswith("*"):
            found.append([name.strip("* "), "**" if "**" in name else "*", ""])
        elif name.strip() not in ("/", ""):
            default = default.strip().replace('"', "'")
            found.append([name.split()[-1], kind, default])
    return found


def main() -> None:
    """Write the list from the wheel that is installed."""
    import cupy as real

    from tests import standin

    listed = read(names(standin.cupy(), standin.cupyx()))
    content = {"version": real.__version__, "names": listed}
    lines = json.dumps(content).replace('], "', '],\n"').replace('null, "', 'null,\n"')
    LIST.write_text(lines + "\n")


if __name__ == "__main__":
    main()
