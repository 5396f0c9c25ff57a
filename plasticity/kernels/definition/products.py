"""Products of matrices, and of stacks of them."""

from plasticity.arrays import Array, array_module


def multiply(
    a: Array, b: Array, out: Array | None = None, add: bool = False, rounded: bool = False
) -> Array:
    """`a @ b`, matrix by matrix of a stack; a single one meets all of a stack.

    Args:
        a: `(n, k)` or `(P, n, k)`; b: `(k, m)` or `(P, k, m)`.
        out: where it is written, in C order; add: to what is there.
        rounded: whether all numbers have been rounded to tf32 or fewer bits, so that units which
            multiply such numbers alone lose nothing.
    """
    if add:
        out += a @ b
        return out
    return array_module(a, b).matmul(a, b, out=out)
