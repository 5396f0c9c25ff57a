"""How the `.cu` files beside this one are compiled and launched.

CuPy compiles them when they are first called, for the card that is there, and keeps the result
on disk.
"""

from collections.abc import Callable, Iterator
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np

from plasticity.arrays import Array

CTYPES = {np.dtype(np.float32): "float", np.dtype(np.float64): "double"}
TRANSFORMS = ("inputs", "post_inputs", "weights", "activities", "errors", "posts", "gradients")
VOLUMES = ("windows", "compete", "posts", "errors")
NORM = ("moments", "normalised", "driven", "undone")
UNITS = ("Tf32", "Bfloat16")  # whose numbers matrix units multiply
FIRST_CHANNELS = (1, 3)  # of images and films, grey or in colour
ROWS = (
    "scores<{}>",
    "scores<{}, int>",
    "add_rows<{}>",
    "add_rows<{}, int>",
    "adam<{}>",
    "hinge<{}>",
)

NARROW = 2**31  # numbers that an index of 32 bits does not count


def _by_index(kernels: tuple[str, ...]) -> tuple[str, ...]:
    """Instances of kernels for narrow indices and for wide ones."""
    return tuple(f"{k}<{{}}, {index}>" for k, index in product(kernels, ("int", "i64")))


# File -> what stands in front of it, and its kernels for a type.
FILES = {
    "patches": (("common.cuh",), ("extract_patches<{}>",)),
    "rows": (("common.cuh",), ROWS),
    "pairs": (("common.cuh",), ("coactivity<{}>",)),
    "gru": (("common.cuh",), ("gru_states<{}>", "gru_posts<{}>")),
    "volumes": (("common.cuh", "volumes.cuh"), _by_index(VOLUMES)),
    "norm": (("common.cuh", "volumes.cuh"), _by_index(NORM)),
    "matrix_units": (
        ("common.cuh",),
        (
            *(f"{k}<{unit}>" for k, unit in product(("rounded", "inputs", "posts"), UNITS)),
            *(f"{k}<{u}, {n}>" for k, u, n in product(("forward", "correlate"), UNITS, (1, 4))),
        ),
    ),
    "convolution": (
        ("common.cuh", "tiles.cuh"),
        tuple(f"{k}<{{}}, {tile}>" for k, tile in product(TRANSFORMS, ("Tile4", "Tile2"))),
    ),
    "first": (
        ("common.cuh", "tiles.cuh", "convolution.cu"),
        tuple(
            f"first_{k}<{{}}, {C}>" for k, C in product(("forward", "correlate"), FIRST_CHANNELS)
        ),
    ),
}
LEAST = {"matrix_units": 80}  # the compute capability that a file needs, where not all have it
OPTIONS = ("--std=c++17",)
CHUNK_BYTES = 2**30  # of transformed tiles or windows at a time
BLOCK = 256  # threads, the most that the kernels are compiled for
MOST_BLOCKS = 2**31 - 1  # of a grid


def source(file: str) -> str:
    """The whole CUDA C++ of a file, with what stands in front of it."""
    folder = Path(__file__).parent
    parts = (*FILES[file][0], f"{file}.cu")
    return "".join(f'#line 1 "{p}"\n{(folder / p).read_text("utf-8")}\n' for p in parts)


def names(file: str) -> list[str]:
    """The kernels of a file: every template instance that is used."""
    named = [kernel.format(ctype) for kernel in FILES[file][1] for ctype in CTYPES.values()]
    return list(dict.fromkeys(named))


@cache
def _kernels(file: str) -> dict[str, Callable]:
    """A file's kernels; CuPy compiles them for a card when they first run on it."""
    import cupy

    module = cupy.RawModule(code=source(file), options=OPTIONS, name_expressions=names(file))
    return {name: module.get_function(name) for name in names(file)}


def run(file: str, name: str, columns: int, rows: int, *args: Array) -> None:
    """Run a kernel with a thread for each of `columns` x `rows`, as far as a grid goes."""
    if not columns or not rows:
        return
    grid, block = grid_of(columns, rows)
    _kernels(file)[name](grid, block, args)


def run_blocks(file: str, name: str, blocks: int, threads: int, *args: Array) -> None:
    """Run a kernel whose threads work together, in blocks of just so many of them."""
    if blocks:
        _kernels(file)[name]((min(blocks, MOST_BLOCKS),), (threads,), args)


def grid_of(columns: int, rows: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Grid and block: whole warps along the columns, up to `BLOCK` threads in all."""
    wide = min(BLOCK, max(32, 1 << (columns - 1).bit_length()))
    high = min(BLOCK // wide, rows)
    return (min(-(-columns // wide), 2**31 - 1), min(-(-rows // high), 65535)), (wide, high)


def chunks(examples: int, per: int, size: int) -> Iterator[tuple[slice, int]]:
    """Spans of examples of `per` tiles, of `size` bytes each, that fit; and the tiles of each."""
    most = max(1, CHUNK_BYTES // max(1, size * per))
    for start in range(0, examples, most):
        stop = min(start + most, examples)
        yield slice(start, stop), (stop - start) * per


def integers(*arrays: Array) -> list[Array]:
    import cupy

    return [cupy.ascontiguousarray(a, np.int64) for a in arrays]
