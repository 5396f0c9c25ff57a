"""matplotlib, imported so that neither a display nor the environment decides how we draw.

Figures here are drawn into files. A backend that `MPLBACKEND` names, for windows or a notebook,
plays no part, and where it is missing it must not end the import. A folder for settings that cannot
be written is none of our business either: matplotlib takes a temporary one and warns.
"""

import logging
import os

_named, _log = os.environ.pop("MPLBACKEND", None), logging.getLogger("matplotlib")
_level = _log.level
_log.setLevel(logging.ERROR)
try:
    import matplotlib
finally:
    _log.setLevel(_level)
    if _named is not None:
        os.environ["MPLBACKEND"] = _named

__all__ = ["matplotlib"]
