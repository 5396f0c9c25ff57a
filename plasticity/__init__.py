"""Deep networks that learn by local rules, each update computed from its factors.

    import plasticity as pl

    run = pl.run(rule="clapp", net="vgg6", width=0.1, steps=20)
    run = pl.open("runs/mine")
    run.weights, run.metrics, run.encode("test"), run.updates(), run.inspect(4), run.probe()

`arrays`, `events`, `fields`, `network` and `rule` are what a rule or a network of one's own
imports. All else is imported when it is first asked for.
"""

from importlib import import_module as _import_module
from pathlib import Path as _Path
from typing import TYPE_CHECKING as _TYPE_CHECKING

if _TYPE_CHECKING:
    from plasticity.api import Run, open, run
    from plasticity.errors import UserError

__version__ = "0.1.0"

# In a source tree `rules/`, `networks/` and `cli/` stand beside this folder, not in it.
_root = _Path(__file__).parent.parent
if (_root / "pyproject.toml").is_file():
    __path__.append(str(_root))

_HERE = {"Run": "api", "open": "api", "run": "api", "UserError": "errors"}
_MODULES = ("arrays", "events", "fields", "network", "rule")

__all__ = ["Run", "UserError", "arrays", "events", "fields", "network", "open", "rule", "run"]


def __getattr__(name: str) -> object:
    """What users need, imported when it is asked for."""
    if name in _HERE:
        return getattr(_import_module(f"plasticity.{_HERE[name]}"), name)
    if name in _MODULES:
        return _import_module(f"plasticity.{name}")
    raise AttributeError(f"module 'plasticity' has no attribute '{name}'")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
