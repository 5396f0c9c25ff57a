"""Deep networks that learn by local rules, each update computed from its factors."""

from pathlib import Path as _Path

__version__ = "0.1.0"

# In a source tree `rules/`, `networks/` and `cli/` stand beside this folder, not in it.
_root = _Path(__file__).parent.parent
if (_root / "pyproject.toml").is_file():
    __path__.append(str(_root))
