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
from plasticity.errors import UserError

CTYPES = {np.dtype(np.float32): "float", np.dtype(np.float64): "double"}
OF_TILES, OF_POOLS = ("inputs", "errors"), ("post_inputs", "posts", "activities")
# Neighbouring channels of a tile that a thread has, as far as registers go.
AT_ONCE = {("float", "Tile4"): 2, ("float", "Tile2"): 4,
           ("double", "Tile4"): 1, ("double", "Tile2"): 2}  # fmt: skip
POOLS = (1, 2)
VOLUMES = ("windows", "compete", "posts", "errors")
NORM = ("moments", "normalised", "driven", "undone")
UNITS = ("Tf32", "Bfloat16")  # whose numbers matrix units multiply
# First layers, of a type and so many channels: neighbouring neurons that a thread has, and places
# of a row that it meets at once, forwards and for dW. Doubles of images in colour would not fit.
FIRST = {("float", 1): {"forward": (4, 4), "correlate": (4, 4)},
         ("float", 3): {"forward": (4, 4), "correlate": (2, 2)},
         ("double", 1): {"forward": (2, 4), "correlate": (2, 4)}}  # fmt: skip
ROWS = (
    "scores<{}>",
    "scores<{}, int>",
    "add_rows<{}>",
    "add_rows<{}, int>",
    "add_stack<{}>",
    "adam<{}, 1>",
    "adam<float, 4>",
    "adam<double, 2>",
    "hinge<{}>",
)
PAIRS = ("hinge_pairs", "infonce")

NARROW = 2**31  # numbers that an index of 32 bits does not count


def _by_index(kernels: tuple[str, ...]) -> tuple[str, ...]:
    """Instances of kernels for narrow indices and for wide ones."""
    return tuple(f"{k}<{{}}, {index}>" for k, index in product(kernels, ("int", "i64")))


def _transforms() -> Iterator[str]:
    """Instances of the transforms to tiles and back."""
    for (ctype, tile), most in AT_ONCE.items():
        of = f"{ctype}, {tile}"
        yield from (f"{k}<{of}>" for k in ("weights", "gradients"))
        for n in sorted({1, most}):
            yield from (f"{k}<{of}, {n}>" for k in OF_TILES)
            yield from (f"{k}<{of}, {n}, {pool}>" for k, pool in product(OF_POOLS, POOLS))


def _first() -> Iterator[str]:
    """Instances of the first layer's kernels."""
    for (ctype, channels), kernels in FIRST.items():
        for name, (most, places) in kernels.items():
            for n in sorted({1, most}):
                yield f"first_{name}<{ctype}, {channels}, {n}, {places}>"


# File -> what stands in front of it, and its kernels for a type.
FILES = {
    "patches": (("common.cuh",), ("extract_patches<{}>",)),
    "rows": (("common.cuh",), (*ROWS, *_by_index(PAIRS))),
    "pairs": (("common.cuh",), ("coactivity<{}>",)),
    "gru": (("common.cuh",), ("gru_states<{}>", "gru_posts<{}>")),
    "volumes": (("common.cuh", "volumes.cuh"), _by_index(VOLUMES)),
    "norm": (("common.cuh", "volumes.cuh"), _by_index(NORM)),
    "matrix_units": (
        ("common.cuh",),
        (
            *(f"rounded<{unit}>" for unit in UNITS),
            *(f"{k}<{u}, {n}>" for k, u, n in product(("forward", "correlate"), UNITS, (1, 4))),
            *(
                f"{k}<{unit}, {n}, {by_input}>"
                for k, unit, n, by_input in product(
                    ("inputs", "posts"), UNITS, (1, 4), ("false", "true")
                )
            ),
        ),
    ),
    "convolution": (("common.cuh", "tiles.cuh"), tuple(_transforms())),
    "first": (("common.cuh",), tuple(_first())),
}
LEAST = {"matrix_units": 80}  # the compute capability that a file needs, where not all have it
OPTIONS = ("--std=c++17",)
CHUNK_BYTES = 2**30  # of transformed tiles or windows at a time
BLOCK = 256  # threads, the most that the kernels are compiled for
MOST_BLOCKS = 2**31 - 1  # of a grid
MOST_BYTES = 2**32  # of an example's map, see `after` in common.cuh


def source(file: str) -> str:
    """The whole CUDA C++ of a file, with what stands in front of it."""
    folder = Path(__file__).parent
    parts = (*FILES[file][0], f"{file}.cu")
    return "".join(f'#line 1 "{p}"\n{(folder / p).read_text("utf-8")}\n' for p in parts)


def names(file: str, ctype: str = "") -> list[str]:
    """The kernels of a file: every template instance that is used, of one type or of all."""
    named = [kernel.format(c) for kernel in FILES[file][1] for c in CTYPES.values()]
    return [name for name in dict.fromkeys(named) if ctype in name]


@cache
def _kernels(file: str, ctype: str) -> dict[str, Callable]:
    """A file's kernels for a type; CuPy compiles them for a card when they first run on it."""
    import cupy

    wanted = names(file, ctype)
    module = cupy.RawModule(code=source(file), options=OPTIONS, name_expressions=wanted)
    return {name: module.get_function(name) for name in wanted}


def _kernel(file: str, name: str) -> Callable:
    return _kernels(file, next((c for c in CTYPES.values() if c in name), ""))[name]


def run(file: str, name: str, columns: int, rows: int, *args: Array) -> None:
    """Run a kernel with a thread for each of `columns` x `rows`, as far as a grid goes."""
    if not columns or not rows:
        return
    grid, block = grid_of(columns, rows)
    _kernel(file, name)(grid, block, args)


def run_blocks(file: str, name: str, blocks: int, threads: int, *args: Array) -> None:
    """Run a kernel whose threads work together, in blocks of just so many of them."""
    if blocks:
        _kernel(file, name)((min(blocks, MOST_BLOCKS),), (threads,), args)


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


def reciprocal(divisor: int) -> np.int64:
    """What a kernel multiplies by in order to divide numbers below 2**31: `Reciprocal`, in
    `common.cuh`. Where 2**p is the next power of two from d on, the factor is 2**(31 + p) / d
    rounded up, which is too large by less than a 2**31st of itself.

    Source: Granlund & Montgomery, Division by invariant integers using multiplication, PLDI 1994.
    """
    places = (max(divisor, 1) - 1).bit_length()
    return np.int64(-(-(1 << 31 + places) // max(divisor, 1)) | places << 32)


def check_map(H: int, W: int, channels: int, dtype: np.dtype) -> None:
    """Kernels count the bytes from the start of an example's map in 32 bits.

    Raises:
        UserError: a map of more.
    """
    if (size := H * W * channels * dtype.itemsize) >= MOST_BYTES:
        told = f"a map of {H}x{W}x{channels} takes {size} bytes"
        raise UserError(f"{told}, and a GPU's kernels expect less than {MOST_BYTES}")


def address(a: Array) -> int:
    return a.data.ptr


def at_once(most: int, channels: int, *arrays: Array) -> int:
    """How many neighbouring channels a thread may have: `most`, where that divides their number and
    the addresses of the arrays, or one."""
    lying = (address(a) % (most * a.itemsize) == 0 for a in arrays if a.size)
    return most if channels % most == 0 and all(lying) else 1
