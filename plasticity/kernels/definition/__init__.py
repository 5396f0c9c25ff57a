"""What every kernel computes, in plain array operations: any dtype, NumPy or CuPy."""

from plasticity.kernels.definition import (
    convolution,
    eprop,
    gru,
    norm,
    pairs,
    patches,
    precision,
    products,
    residual,
    rows,
)

__all__ = [
    "convolution",
    "eprop",
    "gru",
    "norm",
    "pairs",
    "patches",
    "precision",
    "products",
    "residual",
    "rows",
]
