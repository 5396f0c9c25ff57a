"""Loops compiled by Numba, kept for the next process in a folder of the user's.

Numba's own cache lies beside the sources, where it outlives an installation, and does not see that
a function which another one calls has changed. Here the folder's name holds the package's version,
the processor and a digest of all sources of compiled loops, and every file its own digest: what is
damaged, or was made from other sources, is compiled anew. Where nothing can be kept, nothing is.
"""

import hashlib
import os
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import llvmlite
import numba
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

import plasticity
from plasticity import places
from plasticity.files import check_private

PLACE = "PLASTICITY_CACHE"  # environment variable: another folder, or none where it is empty
UNUSED_DAYS = 30  # after which a folder of other sources or another processor is deleted


def njit(**options: object) -> Callable[[Callable], Any]:
    """`numba.njit` without the GIL, whose machine code is kept."""

    def compiled(function: Callable) -> Any:
        made = numba.njit(nogil=True, **options)(function)
        made._cache = _Kept(function)
        return made

    return compiled


def root() -> Path | None:
    """The folder of all compiled code of this user; None where it is not wanted."""
    wanted = os.environ.get(PLACE)
    if wanted is not None:
        return Path(wanted).expanduser() if wanted else None
    return places.cache()


def key() -> str:
    """What compiled code depends on: version, Python, Numba, processor and sources."""
    from llvmlite.binding import get_host_cpu_name

    digest = hashlib.sha256()
    for source in sorted((*Path(__file__).parent.glob("*.py"), *_beside("geometry.py"))):
        digest.update(source.name.encode() + source.read_bytes())
    processor = numba.config.CPU_NAME or get_host_cpu_name()
    python = "{}.{}".format(*sys.version_info)
    parts = (plasticity.__version__, python, numba.__version__, llvmlite.__version__, processor)
    return "-".join(("kernels", *parts, digest.hexdigest()[:16]))


def _beside(*names: str) -> list[Path]:
    return [Path(__file__).parents[1] / name for name in names]


@cache
def folder() -> Path | None:
    """Where this process keeps compiled code; None, after one sentence, where it cannot."""
    try:
        if (top := root()) is None:
            return None
        made = top / key()
        made.mkdir(mode=0o700, parents=True, exist_ok=True)
        check_private(made)  # to load code is to run it
        os.utime(made)
        _clean(top, made)
        return made
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no home
        _without(_told(error))
        return None


def _clean(top: Path, kept: Path) -> None:
    """Delete folders that nobody has used for long."""
    for other in top.glob("kernels-*"):
        with suppress(OSError):  # another process deletes it at this moment
            if other != kept and time.time() - other.stat().st_mtime > 86400 * UNUSED_DAYS:
                shutil.rmtree(other, ignore_errors=True)


def _told(error: Exception) -> str:
    name, why = getattr(error, "filename", None), getattr(error, "strerror", None)
    return f"{name}: {why}" if name and why else str(error)


@cache
def _without(why: str) -> None:
    print(f"Compiled code is not kept, each start compiles it anew: {why}", file=sys.stderr)


class _Kept:
    """The cache of one function, as Numba's dispatcher asks for it."""

    def __init__(self, function: Callable) -> None:
        self._name = f"{function.__module__.rpartition('.')[2]}.{function.__qualname__}"

    @property
    def cache_path(self) -> str | None:
        return None if folder() is None else str(folder())

    def _path(self, signature: object, codegen: Any) -> Path | None:
        made = repr((signature, codegen.magic_tuple()))
        name = f"{self._name}.{hashlib.sha256(made.encode()).hexdigest()[:16]}.bin"
        return None if folder() is None else folder() / name

    def load_overload(self, signature: object, target: Any) -> CompileResult | None:
        """The compiled function, or None where it has to be compiled."""
        import pickle

        target.refresh()
        path = self._path(signature, target.codegen())
        try:
            content = b"" if path is None else path.read_bytes()
        except OSError:
            return None
        digest, code = content[:32], content[32:]
        if digest != hashlib.sha256(code).digest() or not code:
            return None
        return CompileResult._rebuild(target, *pickle.loads(code))

    def save_overload(self, signature: object, made: CompileResult) -> None:
        """Keep the compiled function, whole or not at all."""
        path = self._path(signature, made.codegen)
        if path is None:
            return
        code = dumps(made._reduce())
        part = path.with_name(f"{path.name}.{uuid4().hex[:8]}.part")
        try:
            part.write_bytes(hashlib.sha256(code).digest() + code)
            part.replace(path)
        except OSError as error:  # told by the folder: one line, however many functions
            _without(f"{path.parent}: {error.strerror or error}")
            with suppress(OSError):
                part.unlink(missing_ok=True)

    def flush(self) -> None:
        """Numba asks for it when a function is recompiled by hand: nothing to do."""

    enable = disable = flush
