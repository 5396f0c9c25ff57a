"""A layer's geometry: kernel, stride, padding and pool, the same for every form of a kernel."""

import math
from dataclasses import dataclass, replace
from functools import cached_property

from plasticity.errors import UserError

Sizes = int | tuple[int, ...]
"""One number for every dimension, or one for each."""

SILENT = 255
"""The winner's code where no neuron of a pool is active (rho'(a) = 0 for all of them)."""

PRECISIONS = {"float32": 23, "tf32": 10, "bfloat16": 7}
"""Bits of mantissa, behind the first, of the operands of products that are summed in float32."""


def roundoff(precision: str) -> float:
    """The largest relative error of an operand; 0 in float32, where operands are as they are."""
    return 0.0 if precision == "float32" else 2.0 ** -(PRECISIONS[precision] + 1)


@dataclass(frozen=True)
class Pool:
    """A MaxPool's window and how far it moves; windows overlap where it moves by less."""

    size: Sizes
    stride: Sizes | None = None  # by its size


@dataclass(frozen=True)
class Geometry:
    """A convolution's kernel, stride and padding, and the pool behind it, for each dimension.

    Attributes:
        pool, pool_stride: a window's size, 1 where nothing is pooled, and its steps. Where they
            overlap, a neuron may win several windows, and its drives add up.
        rectified: whether ReLU and pool follow; a linear convolution has neither.
        precision: of `PRECISIONS`: what operands are rounded to before they are multiplied; as
            they are where it is float32, which stands for float64 too.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    pool: tuple[int, ...]
    pool_stride: tuple[int, ...]
    rectified: bool = True
    precision: str = "float32"

    @classmethod
    def of(
        cls,
        kernel: tuple[int, ...],
        stride: Sizes = 1,
        padding: Sizes = 1,
        pool: Sizes | Pool = 1,
        linear: bool = False,
        precision: str = "float32",
    ) -> "Geometry":
        """A geometry in which one number stands for all dimensions.

        Raises:
            UserError: numbers that are no sizes, or not one for each dimension.
        """
        pool = pool if isinstance(pool, Pool) else Pool(pool)
        by = pool.size if pool.stride is None else pool.stride
        kernel, dims = tuple(kernel), len(tuple(kernel))
        if not 1 <= dims <= 3:
            raise UserError(f"a kernel has one to three dimensions, got {kernel}")
        least = {"kernel": kernel, "stride": stride, "padding": padding, "pool": pool.size}
        found = {}
        for name, sizes in {**least, "pool_stride": by}.items():
            each = tuple(sizes) if isinstance(sizes, tuple | list) else (sizes,) * dims
            low = 0 if name == "padding" else 1
            if len(each) != dims or any(not isinstance(n, int) or n < low for n in each):
                raise UserError(
                    f"{name} {sizes} does not fit a kernel of {dims} dimensions: expected a whole "
                    f"number from {low} on, or {dims} of them"
                )
            found[name] = each
        if math.prod(found["pool"]) >= SILENT:
            raise UserError(f"a pool of {found['pool']} is too large: at most {SILENT - 1} neurons")
        if linear and math.prod(found["pool"]) > 1:
            raise UserError("a linear convolution has no pool behind it")
        if precision not in PRECISIONS:
            raise UserError(f"precision '{precision}': expected {', '.join(PRECISIONS)}")
        return cls(**found, rectified=not linear, precision=precision)

    @cached_property
    def linear(self) -> "Geometry":
        """The convolution alone, without ReLU and pool."""
        one = (1,) * self.dims
        return replace(self, pool=one, pool_stride=one, rectified=False)

    @property
    def dims(self) -> int:
        return len(self.kernel)

    @property
    def rounds(self) -> bool:
        """Whether operands are rounded before they are multiplied."""
        return self.precision != "float32"

    @property
    def pools(self) -> bool:
        """Whether neurons compete in pools."""
        return max(self.pool) > 1

    @property
    def overlaps(self) -> bool:
        """Whether a neuron may be in several windows."""
        return any(p > s for p, s in zip(self.pool, self.pool_stride, strict=True))

    @property
    def competitors(self) -> int:
        """Neurons of a window."""
        return math.prod(self.pool)

    def output(self, space: tuple[int, ...]) -> tuple[int, ...]:
        """The spatial shape of the convolution's output, before pooling."""
        sizes = zip(space, self.kernel, self.stride, self.padding, strict=True)
        return tuple((n + 2 * p - k) // s + 1 for n, k, s, p in sizes)

    def pooled(self, space: tuple[int, ...]) -> tuple[int, ...]:
        """The spatial shape after pooling; what fills no whole window is dropped."""
        sizes = zip(space, self.pool, self.pool_stride, strict=True)
        return tuple((n - p) // s + 1 if n >= p else 0 for n, p, s in sizes)

    def space(self, space: tuple[int, ...]) -> tuple[int, ...]:
        """The spatial shape after convolution and pooling."""
        return self.pooled(self.output(space))
