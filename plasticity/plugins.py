"""Rules and networks that are not of this package: in a file, or of an installed package.

A file is named by its path, `./my_rule.py`, or `./my_rule.py:MyRule` where it holds several. An
installed package names its own by the entry points `plasticity.rules` and `plasticity.networks`.
"""

import hashlib
import inspect
import sys
import traceback
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

from plasticity import trust
from plasticity.errors import UserError


def is_file(name: str) -> bool:
    """Whether `name` is a file's: a path that ends in `.py`, with or without `:Name` after it."""
    return name.endswith(".py") or ".py:" in name


def split(name: str) -> tuple[Path, str]:
    """`./my_rule.py:MyRule` as path and what to take of it (nothing: the only one there is)."""
    path, mark, wanted = name.rpartition(".py:")
    return (Path(path + ".py"), wanted) if mark else (Path(name), "")


def absolute(name: str) -> str:
    """The same file by its absolute path."""
    path, wanted = split(name)
    return f"{path.expanduser().resolve()}{':' if wanted else ''}{wanted}"


def short(name: str) -> str:
    """The name for titles and folders: that of the file, without its folder and suffix."""
    return split(name)[0].stem if is_file(name) else name


def read(name: str) -> bytes:
    """The file's text.

    Raises:
        UserError: a file that is not there or cannot be read.
    """
    path = split(name)[0]
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error


def digest(name: str) -> str:
    """SHA-256 of the file: a run is bound to it."""
    return hashlib.sha256(read(name)).hexdigest()


def check_agreed(name: str, kind: str, where: str, trusted: bool) -> None:
    """Refuse a file that a configuration names as its `rule` or `net`, and its reader has not.

    Raises:
        UserError: code that is not known here; `where` is the configuration that names it.
    """
    found = digest(absolute(name))
    if not (trusted or trust.agreed(found)):
        raise UserError(
            f"{where} names the code {name}, which is not known here (SHA-256 {found}): "
            f"read it, and if it may run, name it by --{kind}, or call again with --trust"
        )


def load(name: str, bound: str = "") -> ModuleType:
    """The file as a module.

    Args:
        bound: the SHA-256 that the file must have; nothing is executed if it has another.

    Raises:
        UserError: a file that is not there, has changed, that the user has not agreed to (see
            `trust`), or that fails when it is imported.
    """
    path, text = split(name)[0], read(name)
    found = hashlib.sha256(text).hexdigest()
    if bound and found != bound:
        raise UserError(f"{path} has changed since this run began: put back the text that it had")
    if bound and not trust.agreed(found):  # without, the caller names it now
        raise UserError(
            f"{path} is code that came with a run, and it is not known here (SHA-256 {found}): "
            "read it, and if it may run on this machine, call again with --trust"
        )
    known = f"plasticity_file_{found[:16]}"  # the same text is the same module
    if known in sys.modules:
        return sys.modules[known]
    module = ModuleType(known)
    module.__file__ = str(path)
    sys.modules[known] = module  # dataclasses look their module up there
    try:
        exec(compile(text, str(path), "exec"), module.__dict__)
    except Exception as error:
        del sys.modules[known]
        missing = getattr(error, "name", None)
        if isinstance(error, ModuleNotFoundError) and path.with_name(f"{missing}.py").is_file():
            raise UserError(
                f"{path} imports its neighbour {missing}.py: a run keeps the one file that it "
                f"names, so put both into one, or install {missing} as a package"
            ) from error
        raise UserError(f"{path} cannot be imported: {told(error, path)}") from error
    return module


def told(error: BaseException, path: Path | str) -> str:
    """An error in words, with the last line of `path` that it passed through."""
    line = error.lineno if isinstance(error, SyntaxError) else None
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename == str(path):
            line = frame.lineno
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{type(error).__name__}: {text}" + (f" (line {line})" if line else "")


def class_in(name: str, bound: str, method: str, like: str) -> type:
    """The class with `method` that the file `name` holds.

    Args:
        like: how such a class begins, for the error.

    Raises:
        UserError: none, or several and none named.
    """
    path, wanted = split(name)
    module = load(name, bound)
    classes = {
        key: cls
        for key, cls in vars(module).items()
        if inspect.isclass(cls) and cls.__module__ == module.__name__ and hasattr(cls, method)
    }
    if wanted:
        if wanted not in classes:
            raise UserError(f"{path} holds no class {wanted} with a method {method}")
        return classes[wanted]
    if not classes:
        raise UserError(f"{path} holds no rule: expected a class, such as {like}")
    if len(classes) > 1:
        first = next(iter(classes))
        raise UserError(
            f"{path} holds {' and '.join(classes)}: name one of them, such as {path.name}:{first}"
        )
    return next(iter(classes.values()))


def function_in(name: str, bound: str, wanted: str) -> Any:
    """The function `wanted` (or the one named after the path) of the file `name`.

    Raises:
        UserError: it is not there.
    """
    path, named = split(name)
    found = getattr(load(name, bound), named or wanted, None)
    if not callable(found):
        raise UserError(f"{path} holds no function {named or wanted}")
    return found


def installed(kind: str, name: str, group: str, known: Iterable[str]) -> Any:
    """What an installed package offers under `name` by its entry points.

    Args:
        kind: `rule` or `network`; known: names of this package's own, for the hint.

    Raises:
        UserError: nobody offers it (with the nearest name), or its import fails.
    """
    from importlib.metadata import entry_points

    offered = entry_points(group=group)
    if name in offered.names:
        entry = offered[name]
        try:
            return entry.load()
        except Exception as error:
            package = entry.dist.name if entry.dist else entry.value
            raise UserError(
                f"the {kind} {name} of {package} cannot be imported: {type(error).__name__}: "
                f"{error}"
            ) from error
    names = [*known, *sorted(offered.names)]
    spelled = {n.replace("-", "").replace("_", ""): n for n in names}
    near = get_close_matches(name.lower().replace("-", "").replace("_", ""), spelled, n=1)
    hint = (
        f"did you mean '{spelled[near[0]]}'?"
        if near
        else f"known are {', '.join(names)}, or a file such as ./my_{kind}.py"
    )
    raise UserError(f"unknown {kind} '{name}': {hint}")
