"""The one door to the explicit computations. Which form runs is chosen here, never by a rule.

Each operation has a readable definition in array operations (any dtype, NumPy or CuPy), in
`definition`. Float32 arrays on the CPU take compiled forms (`cpu`), and CuPy arrays CUDA's
(`cuda`); they compute the same and are tested against it. `forms.FORMS` is the table.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

from plasticity.arrays import Array, array_module
from plasticity.kernels.by_row import ByRow
from plasticity.kernels.cpu import memory, threads
from plasticity.kernels.cpu.threads import own as own_threads
from plasticity.kernels.definition.convolution import (
    at_winners,
    convolve,
    post_factor,
    pre_factor,
)
from plasticity.kernels.definition.eprop import eligibility
from plasticity.kernels.definition.gru import CREDITS, before, slopes
from plasticity.kernels.forms import Call, call_with, form
from plasticity.kernels.geometry import PRECISIONS, SILENT, Geometry, Pool, roundoff

__all__ = [
    "CREDITS",
    "PRECISIONS",
    "SILENT",
    "ByRow",
    "Geometry",
    "Pool",
    "adam",
    "add_rows",
    "add_skip",
    "add_stack",
    "at_winners",
    "back",
    "before",
    "coactivity",
    "convolve",
    "correlate",
    "eligibility",
    "empty_like",
    "extract_patches",
    "forward",
    "gru_forward",
    "gru_learn",
    "hinge",
    "hinge_pairs",
    "infonce",
    "multiply",
    "norm_back",
    "norm_forward",
    "norm_statistics",
    "own_threads",
    "post_factor",
    "pre_factor",
    "product",
    "products",
    "rectified",
    "rectify",
    "rounded",
    "roundoff",
    "scores",
    "slopes",
]


def extract_patches(
    pixels: Array,
    top: Array,
    left: Array,
    flip: Array,
    *,
    crop: int,
    patch: int,
    mean: float,
    std: float,
    dtype: np.dtype,
) -> Array:
    """Crop, flip, normalise and cut into patches that overlap by half.

    See `definition.patches.extract_patches`.
    """
    host = array_module(pixels, top, left, flip) is np
    dtypes = {np.dtype(dtype).char if pixels.dtype == np.uint8 else pixels.dtype.char}
    cut = form("extract_patches", Call(host, frozenset(dtypes), True))
    return cut(pixels, top, left, flip, crop=crop, patch=patch, mean=mean, std=std, dtype=dtype)


def forward(
    x: Array, weight: Array, bias: Array, geometry: Geometry, winners: bool = True
) -> tuple[Array, Array | None, Array]:
    """Convolution, ReLU, MaxPool as lateral inhibition, and the mean over positions.

    See `definition.convolution.forward`; of operands that are rounded as `geometry` says.
    """
    call = call_with(x, weight, bias, geometry=geometry, channels=x.shape[-1])
    x, weight = operands(call, x, weight)
    return form("forward", call)(x, weight, bias, geometry, winners)


def correlate(
    x: Array, winner: Array | None, drive: Array, geometry: Geometry
) -> tuple[Array, Array]:
    """The pre x post correlation, `dW (O, C, *kernel)` and `db (O,)`.

    See `definition.convolution.correlate`; of operands that are rounded as `geometry` says.
    """
    array_module(x, winner, drive)
    drive = drive.astype(x.dtype, copy=False)
    winner, drive, geometry = _posts(winner, drive, geometry.output(x.shape[1:-1]), geometry)
    call = call_with(x, drive, geometry=geometry, channels=x.shape[-1])
    x, drive = operands(call, x, drive)
    return form("correlate", call)(x, winner, drive, geometry)


def back(
    winner: Array | None,
    drive: Array,
    weight: Array,
    space: tuple[int, ...],
    geometry: Geometry,
) -> Array:
    """The error at a layer's input `(N, *space, C)`: see `definition.convolution.back`.

    Of operands that are rounded as `geometry` says.
    """
    array_module(winner, drive, weight)
    drive = drive.astype(weight.dtype, copy=False)
    winner, drive, geometry = _posts(winner, drive, geometry.output(space), geometry)
    call = call_with(drive, weight, geometry=geometry)
    drive, weight = operands(call, drive, weight)
    return form("back", call)(winner, drive, weight, space, geometry)


def rounded(a: Array, precision: str) -> Array:
    """Float32 numbers to the nearest of `precision`: see `definition.precision.rounded`."""
    return form("rounded", call_with(a))(a, precision)


def operands(call: Call, *arrays: Array) -> tuple[Array, ...]:
    """Arrays as the products of a form meet them: rounded, or themselves."""
    if not call.rounds:
        return arrays
    return tuple(rounded(a, call.geometry.precision) for a in arrays)


def _posts(
    winner: Array | None, drive: Array, space: tuple[int, ...], geometry: Geometry
) -> tuple[Array | None, Array, Geometry]:
    """The same post factor, where it is no sum: to round the drive is to round the factor.

    Where pools overlap it is a sum, and is given for a linear layer, which passes it on.
    """
    if not (geometry.rounds and geometry.overlaps and winner is not None):
        return winner, drive, geometry
    return None, post_factor(winner, drive, geometry, space), geometry.linear


def norm_statistics(a: Array, relu_first: bool) -> tuple[Array, Array]:
    """Mean and variance of every neuron `(O,)`: see `definition.norm`."""
    return form("norm_statistics", call_with(a))(a, relu_first)


def norm_forward(
    a: Array,
    gain: Array,
    shift: Array,
    mean: Array,
    var: Array,
    eps: float,
    geometry: Geometry,
    relu_first: bool,
) -> tuple[Array, Array]:
    """Normalised drives through ReLU and MaxPool, and the winners: see `definition.norm`."""
    call = call_with(a, gain, shift, mean, var, geometry=geometry)
    return form("norm_forward", call)(a, gain, shift, mean, var, eps, geometry, relu_first)


def norm_back(
    a: Array,
    winner: Array,
    drive: Array,
    gain: Array,
    mean: Array,
    var: Array,
    eps: float,
    geometry: Geometry,
    relu_first: bool,
    batch: bool,
    over: Callable[[Array], Array] | None = None,
) -> tuple[Array, Array, Array]:
    """The drive before a norm, by that behind it, and dgain and dshift: see `definition.norm`."""
    array_module(a, winner, drive)
    drive = drive.astype(a.dtype, copy=False)
    call = call_with(a, gain, mean, var, geometry=geometry)
    how = gain, mean, var, eps, geometry, relu_first, batch, over
    return form("norm_back", call)(a, winner, drive, *how)


def coactivity(
    x: Array,
    winner: Array,
    synapses: np.ndarray,
    geometry: Geometry,
    drive: Array | None = None,
) -> Array:
    """What post and pre of chosen synapses have in common, by input `(N, S)`.

    See `definition.pairs.coactivity`.
    """
    array_module(x, winner, drive)
    call = call_with(x, geometry=geometry, driven=drive is not None)
    return form("coactivity", call)(x, winner, synapses, geometry, drive)


def gru_forward(
    x: Array, weight_ih: Array, weight_hh: Array, bias_ih: Array, bias_hh: Array
) -> tuple[Array, Array]:
    """A gated recurrent unit: its states `h (M, T, H)`, and `gates (M, T, 4, H)` for learning.

    Args:
        x: `(M, T, I)`; weight_ih: `(3H, I)`; weight_hh: `(3H, H)`; bias_ih, bias_hh: `(3H,)`, in
            torch's order. See `definition.gru`.
    """
    drive = product(x.reshape(-1, x.shape[2]), weight_ih.T).reshape(*x.shape[:2], len(weight_ih))
    recurrent = drive, weight_hh, bias_ih, bias_hh
    return form("gru_states", call_with(*recurrent))(*recurrent)


def gru_learn(
    x: Array,
    h: Array,
    gates: Array,
    error: Array,
    weight_ih: Array,
    weight_hh: Array,
    credit: str,
    below: bool = False,
) -> tuple[dict[str, Array], Array, Array | None]:
    """dW of a gated recurrent unit: `sum over m and t of (lambda post) pre`.

    Args:
        x, h, gates: of `gru_forward`; error: what is wanted of h by what lies outside, L, of the
            shape of h.
        credit: how lambda is made of it, see `definition.gru.gru_posts`: `eprop` along the leak
            of each neuron (`lambda_t = L_t + z_{t+1} lambda_{t+1}`), `bptt` along all ways, whose
            sums are the gradient, and `none` (`lambda = L`).

    Returns:
        dW by parameter; lambda, of the shape of h; and, where it is wanted `below`, the error at
        the input, of the shape of x.

    Raises:
        ValueError: an unknown credit.
    """
    if credit not in CREDITS:
        raise ValueError(f"unknown credit '{credit}': expected {', '.join(CREDITS)}")
    xp = array_module(error, h)
    arrays = xp.ascontiguousarray(error, h.dtype), h, gates, weight_hh  # it may count frames first
    by_input, by_state, found = form("gru_posts", call_with(*arrays))(*arrays, credit)
    met, p, post_ih, post_hh = (
        a.reshape(-1, a.shape[2]) for a in (x, before(h), by_input, by_state)
    )
    dW_ih, dW_hh = products([(post_ih.T, met), (post_hh.T, p)])
    changes = {"weight_ih": dW_ih, "weight_hh": dW_hh}
    changes |= {"bias_ih": post_ih.sum(axis=0), "bias_hh": post_hh.sum(axis=0)}
    return changes, found, product(post_ih, weight_ih).reshape(x.shape) if below else None


def rectify(x: Array) -> Array:
    """rho(x) of maps: see `definition.residual.rectify`."""
    return form("rectify", call_with(x))(x)


def add_skip(y: Array, skip: Array) -> Array:
    """`y += skip` in place, and its mean: see `definition.residual.add_skip`."""
    return form("add_skip", call_with(y, skip))(y, skip)


def rectified(
    r: Array, error: Array, *, inside: Array | None = None, beside: Array | None = None
) -> Array:
    """The error before a ReLU: see `definition.residual.rectified`."""
    array_module(r, error, inside, beside)
    return form("rectified", call_with(r, error))(r, error, inside=inside, beside=beside)


def empty_like(a: Array) -> Array:
    """An array of the same shape and dtype, not cleared, for what every step makes anew."""
    xp = array_module(a)
    return memory.empty(a.shape, a.dtype) if xp is np else xp.empty_like(a)


def product(a: Array, b: Array) -> Array:
    """The matrix product `a @ b` of two matrices."""
    return products([(a, b)])[0]


def products(
    pairs: Sequence[tuple[Array, Array]], out: Array | Sequence[Array] | None = None
) -> Array | Sequence[Array]:
    """The matrix products `a @ b` of pairs of matrices, written to those of `out` if given."""
    xp = array_module(*(matrix for pair in pairs for matrix in pair))
    out = [xp.empty((len(a), b.shape[1]), a.dtype) for a, b in pairs] if out is None else out
    triples = [(a, b, c) for (a, b), c in zip(pairs, out, strict=True)]
    if xp is np and sum(a.size * b.shape[1] for a, b in pairs) > 2**21:
        # A share of the longer side for each thread: BLAS's own would linger and fight with ours.
        shares = [part for triple in triples for part in _shares(*triple)]
        threads.each(lambda part: np.matmul(part[0], part[1], out=part[2]), shares)
    else:
        for a, b, c in triples:
            multiply(a, b, c)
    return out


def multiply(a: Array, b: Array, out: Array | None = None, add: bool = False) -> Array:
    """`a @ b`, matrix by matrix of a stack: see `definition.products.multiply`."""
    if array_module(a, b) is np and not add:
        return np.matmul(a, b, out=out)
    return form("multiply", call_with(a, b))(a, b, out, add)


def _shares(a: Array, b: Array, c: Array) -> list[tuple[Array, Array, Array]]:
    """The product `c = a @ b` as one for each thread, of columns or of rows."""
    parts = [slice(*span) for span in threads.shares(max(c.shape))]
    if len(a) < b.shape[1]:
        return [(a, b[:, part], c[:, part]) for part in parts]
    return [(a[part], b, c[part]) for part in parts]


def scores(a: Array, b: Array, in_a: Array, in_b: Array) -> Array:
    """For each event e the scalar product of row `in_a[e]` of `a` and row `in_b[e]` of `b`."""
    array_module(a, b, in_a, in_b)
    return form("scores", call_with(a, b))(a, b, in_a, in_b)


def add_rows(
    out: Array,
    to: Array,
    factor: Array,
    values: Array,
    source: Array,
    by_row: ByRow | None = None,
) -> None:
    """For each event e, in order: `out[to[e]] += factor[e] * values[source[e]]`, in place.

    Args:
        by_row: the same events by their rows `to`, if somebody has listed them: a card sorts them
            otherwise. Where they are in segments a card takes a row's in the order of segments.
    """
    array_module(out, to, factor, values, source)
    form("add_rows", call_with(out, values))(out, to, factor, values, source, by_row)


def add_stack(out: Array, parts: Array) -> None:
    """`out += sum over k of parts[k]`, in place, of arrays `(...)` and `(K, ...)`.

    Raises:
        ValueError: parts of another shape.
    """
    if parts.shape[1:] != out.shape:
        raise ValueError(f"parts of shape {parts.shape} for an array of shape {out.shape}")
    form("add_stack", call_with(out, parts))(out, parts)


def hinge(u: Array, y: Array, weight: Array, share: Array) -> tuple[Array, Array, Array]:
    """Gate times sign, the loss and the open gates by Eq. (3): see `definition.rows.hinge`."""
    array_module(u, y, weight, share)
    return form("hinge", call_with(u, y, weight, share))(u, y, weight, share)


def hinge_pairs(
    u: Array, number: Array, true: Array, other: Array, share: Array
) -> tuple[Array, Array, Array]:
    """`hinge` of every context with every target: see `definition.rows.hinge_pairs`."""
    array_module(u, number, true, other, share)
    return form("hinge_pairs", call_with(u, true, other, share))(u, number, true, other, share)


def infonce(
    u: Array, number: Array, weight: Array, share: Array, epsilon: float
) -> tuple[Array, Array, Array]:
    """gamma, the loss and what is not 0 by InfoNCE, Eq. (9): see `definition.rows.infonce`."""
    array_module(u, number, weight, share)
    return form("infonce", call_with(u, weight, share))(u, number, weight, share, epsilon)


def adam(
    parameters: Sequence[Sequence[Array]],
    step: int,
    rate: float,
    *,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
) -> None:
    """One step of Adam (Kingma & Ba 2015) along the ascent direction `dW`, in place.

    Args:
        parameters: of each `(parameter, dW, m, v)`, where m and v are its moments; on a GPU those
            of a layer move in one launch.
        step: counts from 1.

    Raises:
        ValueError: a dW or a moment of another shape than its parameter.
    """
    adam_by(parameters, adam_pace(step, rate, beta1, beta2, epsilon), beta1=beta1, beta2=beta2)


def adam_pace(
    step: int, rate: float, beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8
) -> tuple[float, float]:
    """What changes in Adam from step to step: rate and epsilon, into which the two corrections for
    the start at zero are drawn.

    Args:
        step: counts from 1.
    """
    root = math.sqrt(1 - beta2**step)
    return rate * root / (1 - beta1**step), epsilon * root


def adam_by(
    parameters: Sequence[Sequence[Array]],
    pace: tuple[float, float] | Array,
    *,
    beta1: float = 0.9,
    beta2: float = 0.999,
) -> None:
    """One step of Adam, see `adam`, at a pace that is known.

    Args:
        pace: see `adam_pace`; of parameters on a GPU an array there `(2,)` of their dtype, too.
    """
    array_module(*(a for one in parameters for a in one))
    for parameter, *others in parameters:
        if any(a.shape != parameter.shape for a in others):
            shapes = ", ".join(str(a.shape) for a in others)
            raise ValueError(f"dW and moments of shapes {shapes} for a parameter {parameter.shape}")
    moved = [
        (p, array_module(p).asarray(dW, p.dtype, order="C"), m, v) for p, dW, m, v in parameters
    ]
    form("adam", call_with(*(a for one in moved for a in one)))(moved, pace, beta1, beta2)
