"""CUDA kernels on the CPU: the same source, compiled by g++ with a small header, run by ctypes.

`cuda.hpp` beside this file supplies what CUDA gives a kernel (threads, blocks, barriers, shared
memory, shuffles). Slow, and exact about what it can see: types of arguments, barriers that some
threads never reach, threads that race for a place of memory (`races.hpp`) and, with the sanitizers
instead of that, every read and write outside an array. No atomics and no dynamic shared memory: our
kernels do without.
"""

import atexit
import ctypes
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
COMPILER = shutil.which("g++") or shutil.which("c++")
MISSING = "" if COMPILER else "kernels are emulated by a C++ compiler (g++), and there is none here"
FOLDER = "PLASTICITY_EMULATION"  # of built libraries, shared with processes that a test starts
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-O0")
# Calls what races.cpp defines, of numbers that are read at once a single time.
RACES = ("-fsanitize=thread", "-fno-threadsafe-statics", "-fno-tree-sra")

FAULTS = {
    1: "some threads wait at a barrier that others never reach",
    2: "a warp's mask names other lanes than those that take part",
    3: "threads race: two meet one place of memory, one writes, and no barrier is between them",
    4: "a copy or an access begins or ends at an address that its size does not divide",
}

Launch = Callable[..., None]
"""`launch(grid, block, args, shared_mem=0)`, as a CuPy kernel is called."""

_CODES = {
    "f": np.float32,
    "d": np.float64,
    "b": np.bool_,
    "h": np.uint8,
    "i": np.int32,
    "j": np.uint32,
    "l": np.int64,
    "x": np.int64,
}


def build(code: str, names: Sequence[str], sanitize: bool = False) -> dict[str, Launch]:
    """Compile CUDA C++ for the CPU.

    Args:
        code: the whole source, unchanged; names: the kernels wanted, template instances with
            their arguments, such as `scores<float>`.
        sanitize: with the address and undefined-behaviour sanitizers: only in a process that
            was started with `sanitized_environment()`.

    Returns:
        For each name a function `launch(grid, block, args, shared_mem=0, only=None)`: `grid` and
        `block` are tuples of one to three numbers; `only` is the one block (x, y) of the grid that
        is to run, instead of all of them; `args` holds C-contiguous NumPy arrays for pointers
        and NumPy scalars of exactly the parameter's type for values (Python's `int`, `float` and
        `bool` count as int64, float64 and bool, as CuPy passes them).

    Raises:
        RuntimeError: no compiler, or code that it refuses (with what it said).
    """
    return _build(code, tuple(names), sanitize)


@cache
def _build(code: str, names: tuple[str, ...], sanitize: bool) -> dict[str, Launch]:
    if not COMPILER:
        raise RuntimeError(MISSING)
    entries = "".join(
        f"EXPORTED int launch_{i}(const unsigned* shape, void** args) {{\n"
        f"    return emulation::launch<&{name}>(&{name}, shape, args);\n}}\n"
        f"EXPORTED const char* parameters_{i}() {{ return emulation::parameters(&{name}); }}\n"
        for i, name in enumerate(names)
    )
    text = f'#include "cuda.hpp"\n{code}\n{entries}'
    flags = ["-std=c++17", "-O1", "-fPIC", "-Wall", "-Wextra", "-Wconversion", "-Werror"]
    flags += ["-ffp-contract=off", "-Wno-unknown-pragmas", f"-I{HERE}", "-fvisibility=hidden"]
    watched, linked = (SANITIZERS, SANITIZERS) if sanitize else (RACES, ())
    beside = [(HERE / name).read_text() for name in ("cuda.hpp", "races.hpp", "races.cpp")]
    key = hashlib.sha256("\0".join([text, *beside, *flags, *watched]).encode()).hexdigest()[:24]
    library = folder() / f"{key}.so"
    if not library.exists():
        with tempfile.TemporaryDirectory(dir=library.parent) as scratch:
            source, built = Path(scratch, "kernels.cpp"), Path(scratch, "kernels.so")
            source.write_text(text)
            objects = [str(Path(scratch, name)) for name in ("kernels.o", "races.o")]
            compile_with(*flags, *watched, "-c", str(source), "-o", objects[0])
            compile_with(*flags, "-c", str(HERE / "races.cpp"), "-o", objects[1])
            compile_with("-shared", *linked, *objects, "-o", str(built))
            built.rename(library)
    loaded = ctypes.CDLL(str(library))
    bounds = launch_bounds(code)
    return {
        name: _launcher(loaded, i, name, bounds.get(name.partition("<")[0], 1024))
        for i, name in enumerate(names)
    }


def compile_with(*command: str) -> None:
    plain = {k: v for k, v in os.environ.items() if k != "LD_PRELOAD"}
    run = subprocess.run([COMPILER, *command], capture_output=True, text=True, env=plain)
    if run.returncode:
        raise RuntimeError(f"{COMPILER} refuses the kernels:\n{run.stderr[:5000]}")


def launch_bounds(code: str) -> dict[str, int]:
    """The threads that the blocks of kernels may have, where the source says so."""
    bound = r"__launch_bounds__\((\d+)[^)]*\)"
    macros = {m[1]: m[2] for m in re.finditer(rf"#define (\w+) .*{bound}", code)}
    for macro, most in macros.items():
        code = re.sub(rf"\b{macro}\b", f"__launch_bounds__({most})", code)
    return {m[2]: int(m[1]) for m in re.finditer(rf"{bound}\s+(\w+)\s*\(", code)}


@cache
def folder() -> Path:
    """Where built libraries lie: a folder that goes with the process that made it."""
    if FOLDER in os.environ:
        return Path(os.environ[FOLDER])
    folder = tempfile.mkdtemp(prefix="plasticity-emulation-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def sanitized_environment() -> dict[str, str]:
    """The environment for a process that runs sanitized kernels and shares what was built.

    Raises:
        RuntimeError: the compiler comes without the sanitizers' libraries.
    """
    libraries = []
    for name in ("libasan.so", "libubsan.so"):
        command = [COMPILER, f"-print-file-name={name}"]
        found = subprocess.run(command, capture_output=True, text=True).stdout.strip()
        if not Path(found).is_absolute():
            raise RuntimeError(f"{COMPILER} comes without {name}")
        libraries.append(found)
    return os.environ | {
        FOLDER: str(folder()),
        "LD_PRELOAD": " ".join(libraries),
        # Python itself leaks; what counts is what kernels do with arrays.
        "ASAN_OPTIONS": "detect_leaks=0",
        # Every array an allocation of its own, or a neighbour hides an access outside.
        "PYTHONMALLOC": "malloc",
    }


def _launcher(library: ctypes.CDLL, number: int, name: str, most: int) -> Launch:
    describe, entry = (getattr(library, f"{p}_{number}") for p in ("parameters", "launch"))
    describe.restype = ctypes.c_char_p
    parameters = describe().decode().split()

    def launch(grid, block, args, shared_mem: int = 0, only: tuple[int, int] | None = None) -> None:
        if shared_mem:
            raise TypeError("the emulation has no dynamic shared memory")
        if len(args) != len(parameters):
            raise TypeError(f"{name} takes {len(parameters)} arguments, got {len(args)}")
        shape = [int(n) for part in (grid, block) for n in (*part, 1, 1)[:3]]
        limits = [2**31 - 1, 65535, 65535, 1024, 1024, 64]
        if any(not 1 <= n <= most for n, most in zip(shape, limits, strict=True)):
            raise ValueError(f"{name}: CUDA refuses grid {tuple(grid)} and block {tuple(block)}")
        if np.prod(shape[3:]) > most:
            raise ValueError(f"{name}: a block holds at most {most} threads, got {tuple(block)}")
        held = [
            _argument(f"argument {i} of {name}", p, a)
            for i, (p, a) in enumerate(zip(parameters, args, strict=True))
        ]
        pointers = (ctypes.c_void_p * len(held))(*(h.ctypes.data for h in held))
        first = (*only, 0) if only else (0, 0, 0)
        last = (*only, 0) if only else [n - 1 for n in shape[:3]]
        if fault := entry((ctypes.c_uint * 12)(*shape, *first, *last), pointers):
            raise RuntimeError(f"{name}: {FAULTS[fault]}")

    return launch


def _argument(what: str, parameter: str, given: object) -> np.ndarray:
    """The parameter's bytes, as an array of one element."""
    pointer = parameter.startswith("P")
    dtype = np.dtype(_CODES[parameter.removeprefix("P").removeprefix("K")])
    found = given.dtype if isinstance(given, np.ndarray | np.generic) else np.asarray(given).dtype
    if isinstance(given, np.ndarray) != pointer or found != dtype:
        wanted = f"an array of {dtype}" if pointer else f"a {dtype}"
        raise TypeError(f"{what} must be {wanted}, got {type(given).__name__} of {found}")
    if not pointer:
        return np.array([given], dtype)
    if not given.flags.c_contiguous:
        raise TypeError(f"{what} must be C-contiguous")
    return np.array([given.ctypes.data], np.uintp)
