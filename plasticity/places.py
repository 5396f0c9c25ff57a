"""The folders of this user for what the package keeps."""

from pathlib import Path


def data() -> Path:
    """For data sets."""
    return _of("data", ".local/share")


def cache() -> Path:
    """For compiled code and decoded audio."""
    return _of("cache", ".cache")


def state() -> Path:
    """For what the user has agreed to."""
    return _of("state", ".local/state")


def _of(kind: str, usual: str) -> Path:
    try:
        import platformdirs
    except ImportError:  # a machine that is lent without it
        return Path("~").expanduser() / usual / "plasticity"
    return getattr(platformdirs, f"user_{kind}_path")("plasticity", appauthor=False)
