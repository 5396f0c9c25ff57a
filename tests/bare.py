"""A machine that lacks most of the project's dependencies, as one that is lent for minutes may.

    python -m tests.bare benchmarks/on_card.py --out FOLDER --rehearse

Only the project's own imports fail: other packages find what they need.
"""

import builtins
import os
import runpy
import sys

MISSING = {
    *("platformdirs", "rich", "mpi4py", "safetensors", "jinja2", "filelock", "click"),
    *("hypothesis", "xdist", "soundfile", "pooch"),
}
OWN = {"plasticity", "tests", "benchmarks", "conftest", "__main__"}


def hide() -> None:
    """From now on the project's own imports of `MISSING` fail."""
    real = builtins.__import__

    def without(name, globals=None, locals=None, fromlist=(), level=0):
        importer = (globals or {}).get("__name__", "").partition(".")[0]
        if not level and importer in OWN and name.partition(".")[0] in MISSING:
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)
        return real(name, globals, locals, fromlist, level)

    builtins.__import__ = without


if __name__ == "__main__":
    hide()
    sys.argv = sys.argv[1:]
    sys.path.insert(0, os.path.dirname(os.path.abspath(sys.argv[0])))
    runpy.run_path(sys.argv[0], run_name="__main__")
