"""Which form of an operation computes: one table, asked once at the door.

An operation has a definition in array operations, which takes everything, and faster forms of the
same name and arguments, which say what they take. The first form of a row that takes a call
computes it; all are tested against the definition.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module

import numpy as np

from plasticity.arrays import Array, array_module
from plasticity.kernels.geometry import Geometry


@dataclass(frozen=True)
class Call:
    """What a form is asked to compute with.

    Attributes:
        host: NumPy's arrays, CuPy's otherwise; dtypes: the characters of all of them.
        contiguous: whether all lie in C order; channels: of the input, where there is one.
    """

    host: bool
    dtypes: frozenset[str]
    contiguous: bool
    geometry: Geometry | None = None
    channels: int = 0
    driven: bool = False

    @property
    def compiled(self) -> bool:
        """Float32 on the CPU."""
        return self.host and self.dtypes == {"f"}

    @property
    def rounds(self) -> bool:
        """Whether operands are to be rounded before; matrix units are given them on the way."""
        return self.geometry.rounds and not MATRIX_UNITS(self)

    @property
    def on_device(self) -> bool:
        """Float32 or float64 on a GPU."""
        return not self.host and self.dtypes in ({"f"}, {"d"})


def _three_by_three(call: Call) -> bool:
    """The convolutions of VGG: 3x3, stride 1, padding 1, with a pool of 2x2 or none."""
    g = call.geometry
    return (
        (g.kernel, g.stride, g.padding) == ((3, 3), (1, 1), (1, 1))
        and g.pool in ((1, 1), (2, 2))
        and g.pool_stride == g.pool
        and g.rectified
    )


def _squares(call: Call) -> bool:
    """Two dimensions with the same numbers, and pools side by side."""
    g = call.geometry
    sizes = (g.stride, g.padding, g.pool)
    return g.dims == 2 and all(a == b for a, b in sizes) and g.pool_stride == g.pool


def _unit_steps(call: Call) -> bool:
    """Two dimensions, stride 1, padding less than the kernel, and a pool of 2x2 or none."""
    g = call.geometry
    inside = all(p < k for p, k in zip(g.padding, g.kernel, strict=True))
    pools = g.pool in ((1, 1), (2, 2)) and g.pool_stride == g.pool
    return g.dims == 2 and g.stride == (1, 1) and inside and pools


FEW_CHANNELS = 4

Takes = Callable[[Call], bool]
MATRIX_UNITS: Takes = lambda c: (  # noqa: E731
    c.on_device
    and c.dtypes == {"f"}
    and c.geometry.rounds
    and _unit_steps(c)
    and not 0 < c.channels <= FEW_CHANNELS  # of an image: its maps are the work, not products
)
CUDA_3X3: Takes = lambda c: c.on_device and _three_by_three(c)  # noqa: E731
FIRST: Takes = lambda c: (  # noqa: E731
    c.compiled and _three_by_three(c) and not c.geometry.pools and c.channels <= FEW_CHANNELS
)
WINOGRAD: Takes = lambda c: c.compiled and _three_by_three(c)  # noqa: E731
CPU_IN_TIME: Takes = lambda c: (  # noqa: E731
    c.compiled and c.geometry.dims == 1 and not c.geometry.pools
)
VOLUMES: Takes = lambda c: (  # noqa: E731
    c.compiled and c.geometry.dims == 3 and not c.geometry.pools and not c.geometry.rectified
)
COMPILED: Takes = lambda c: c.compiled  # noqa: E731
CONTIGUOUS: Takes = lambda c: c.compiled and c.contiguous  # noqa: E731
ON_DEVICE: Takes = lambda c: c.on_device  # noqa: E731
LYING_ON_DEVICE: Takes = lambda c: c.on_device and c.contiguous  # noqa: E731
ALWAYS: Takes = lambda c: True  # noqa: E731

BACK = (
    ("cuda.matrix_units", MATRIX_UNITS),
    ("cuda.convolution", CUDA_3X3),
    ("cuda.volumes", ON_DEVICE),
    ("cpu.winograd", WINOGRAD),
    ("cpu.windows", CPU_IN_TIME),
    ("cpu.volumes", VOLUMES),
    ("cpu.blocked", COMPILED),
    ("definition.convolution", ALWAYS),
)
CONVOLUTION = (
    *BACK[:3],
    ("cpu.few_channels", FIRST),
    *BACK[3:],
)  # nothing asks for the image's error
RESIDUAL = (("cpu.residual", lambda c: c.host), ("definition.residual", ALWAYS))
NORM = (
    ("cuda.norm", ON_DEVICE),
    ("cpu.norm", CONTIGUOUS),
    ("definition.norm", ALWAYS),
)
GRU = (
    ("cuda.gru", LYING_ON_DEVICE),
    ("cpu.gru", CONTIGUOUS),
    ("definition.gru", ALWAYS),
)

# Operation -> its forms, the fastest first: a file of this folder, and what it takes.
FORMS: dict[str, tuple[tuple[str, Takes], ...]] = {
    "forward": CONVOLUTION,
    "correlate": CONVOLUTION,
    "back": BACK,
    "coactivity": (
        ("cuda.pairs", lambda c: c.on_device and _squares(c)),
        ("cpu.pairs", lambda c: c.compiled and _squares(c) and not c.driven),
        ("definition.pairs", ALWAYS),
    ),
    "extract_patches": (
        ("cuda.patches", ON_DEVICE),
        ("definition.patches", ALWAYS),
    ),
    "scores": (
        ("cuda.rows", ON_DEVICE),
        ("cpu.rows", CONTIGUOUS),
        ("definition.rows", ALWAYS),
    ),
    "add_rows": (
        ("cuda.rows", LYING_ON_DEVICE),
        ("cpu.rows", CONTIGUOUS),
        ("definition.rows", ALWAYS),
    ),
    "add_stack": (
        ("cuda.rows", LYING_ON_DEVICE),
        ("definition.rows", ALWAYS),
    ),
    "hinge": (
        ("cuda.rows", LYING_ON_DEVICE),
        ("definition.rows", ALWAYS),
    ),
    "hinge_pairs": (
        ("cuda.rows", ON_DEVICE),
        ("definition.rows", ALWAYS),
    ),
    "infonce": (
        ("cuda.rows", ON_DEVICE),
        ("definition.rows", ALWAYS),
    ),
    "multiply": (
        ("cuda.products", ON_DEVICE),
        ("definition.products", ALWAYS),
    ),
    "adam": (
        ("cuda.rows", LYING_ON_DEVICE),
        ("cpu.rows", CONTIGUOUS),
        ("definition.rows", ALWAYS),
    ),
    "rounded": (
        ("cuda.matrix_units", lambda c: c.on_device and c.dtypes == {"f"}),
        ("cpu.precision", COMPILED),
        ("definition.precision", ALWAYS),
    ),
    "norm_statistics": NORM,
    "norm_forward": NORM,
    "norm_back": NORM,
    "gru_states": GRU,
    "gru_posts": GRU,
    "rectify": RESIDUAL,
    "add_skip": RESIDUAL,
    "rectified": RESIDUAL,
}


@cache
def form(operation: str, call: Call) -> Callable:
    """The first form of an operation that takes the call."""
    place = next(place for place, takes in FORMS[operation] if takes(call))
    return getattr(import_module(f"plasticity.kernels.{place}"), operation)


def call_with(
    *arrays: Array, geometry: Geometry | None = None, channels: int = 0, driven: bool = False
) -> Call:
    """What these arrays ask of a form.

    Raises:
        TypeError: arrays of several kinds, see `array_module`.
    """
    return Call(
        array_module(*arrays) is np,
        frozenset(a.dtype.char for a in arrays),
        all(a.flags.c_contiguous for a in arrays),
        geometry,
        channels,
        driven,
    )
