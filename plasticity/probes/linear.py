"""Linear probes: how much of the classes a linear reader finds in a layer's encodings."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

from plasticity import kernels, seeds
from plasticity.errors import UserError

FEW = 1_000_000  # encodings times neurons: below it threads of BLAS wait longer than they work
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)


@dataclass(frozen=True)
class ProbeResult:
    """Accuracy on the test images, a fraction; the penalty that was chosen, 0 where there is none.

    `iterations` are those of the last fit: L-BFGS iterations, or steps of Adam. `told` is the class
    that every test image is taken for, int `(n,)`.
    """

    accuracy: float
    penalty: float
    iterations: int
    told: np.ndarray = field(repr=False, compare=False, default=None)


def check(
    train_x: np.ndarray, train_y: np.ndarray, test_x: np.ndarray, test_y: np.ndarray, classes: int
) -> None:
    """Refuse encodings and labels that no probe can be fitted to.

    Raises:
        UserError: as `logistic`.
    """
    if len(train_x) != len(train_y) or len(test_x) != len(test_y):
        raise UserError(
            f"a probe needs a label for each encoding, got {len(train_y)} for {len(train_x)} "
            f"training images and {len(test_y)} for {len(test_x)} test images"
        )
    if train_x.shape[1:] != test_x.shape[1:]:
        raise UserError(
            f"training encodings have {train_x.shape[1]} neurons, those of the test "
            f"{test_x.shape[1]}: take both from the same layer"
        )
    if len(np.unique(train_y)) < 2:
        raise UserError("a probe needs training images of at least two classes")
    if len(test_y) == 0:
        raise UserError("a probe needs at least one test image")
    labels = np.concatenate([train_y, test_y])
    if labels.min() < 0 or labels.max() >= classes:
        raise UserError(
            f"labels go from {labels.min()} to {labels.max()}, expected 0 to {classes - 1}: "
            "leave out images without a label"
        )
    if not (np.isfinite(train_x).all() and np.isfinite(test_x).all()):
        raise UserError("the encodings hold values that are not finite")


def cross_entropy(
    flat: np.ndarray, x: np.ndarray, hot: np.ndarray, penalty: float
) -> tuple[float, np.ndarray]:
    """Softmax regression: mean `-log p(class)` + penalty/2 |W|^2, and its gradient.

    `flat` holds W `(D, C)` and then b `(C,)`; x `(n, D)`; hot `(n, C)`, one 1 in each row.
    """
    (n, D), C = x.shape, hot.shape[1]
    W, b = flat[:-C].reshape(D, C), flat[-C:]
    scores = x @ W + b
    scores -= scores.max(axis=1, keepdims=True)
    p = np.exp(scores)
    total = p.sum(axis=1, keepdims=True)
    value = (np.log(total[:, 0]) - (scores * hot).sum(axis=1)).mean()
    p /= total
    p -= hot
    p /= n
    gradient = np.concatenate([(x.T @ p + penalty * W).ravel(), p.sum(axis=0)])
    return value + penalty / 2 * (W * W).sum(), gradient


def _fit(
    x: np.ndarray, hot: np.ndarray, penalty: float, start: np.ndarray, spread: np.ndarray
) -> tuple[np.ndarray, int]:
    """The minimum of `cross_entropy` and the iterations it took, by L-BFGS from `start`.

    At W = 0 every p is 1/C, and along a principal axis of x the loss curves by
    spread / C + penalty. In units of one over its root all axes curve alike, which takes L-BFGS
    a tenth of the iterations; the minimum stays where it is.

    Args:
        x: `(n, D)`, its columns the principal axes; spread: their variances `(D,)`.
    """
    C = hot.shape[1]
    unit = np.concatenate([np.repeat((spread / C + penalty) ** -0.5, C), np.full(C, C**0.5)])

    def scaled(u: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = cross_entropy(unit * u, x, hot, penalty)
        return value, unit * gradient

    with threadpool_limits(1 if x.size < FEW else None, user_api="blas"):
        found = minimize(
            scaled,
            start / unit,
            method="L-BFGS-B",
            jac=True,
            options={"maxiter": 500, "ftol": 1e-9, "gtol": 1e-4, "maxcor": 10},
        )
    return unit * found.x, found.nit


def _principal(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The axes `(D, R)` that x `(n, D)` spans, by the smaller Gram matrix, and their variances."""
    n, D = x.shape
    spread, axes = np.linalg.eigh((x.T @ x if n >= D else x @ x.T) / n)
    # W is 0 along what no training image has: there is nothing to fit.
    kept = spread > 1e-10 * spread[-1]
    spread, axes = spread[kept], axes[:, kept]
    return (axes if n >= D else x.T @ axes / np.sqrt(n * spread)), spread


def _split(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A fifth of the images, drawn whatever the order of their classes, and the others."""
    order = seeds.generator(seed, seeds.PROBE, 2).permutation(count)
    return order[: count // 5], order[count // 5 :]


def logistic(
    train_x: np.ndarray,
    train_y: np.ndarray,
    test_x: np.ndarray,
    test_y: np.ndarray,
    classes: int,
    seed: int = 0,
    penalties: tuple[float, ...] = PENALTIES,
) -> ProbeResult:
    """Multinomial logistic regression on standardised encodings, by L-BFGS, deterministic.

    The penalty is chosen on a fifth of the training images, drawn by `seed` and held out; from
    the largest to the smallest each fit starts where the last ended. The fit is then repeated on
    all.

    Args:
        train_x, test_x: encodings `(n, D)`; train_y, test_y: labels from 0 `(n,)`.
        penalties: one or more, positive.

    Raises:
        UserError: fewer than two classes, labels out of range or not one for each encoding,
            encodings that are not finite.
    """
    check(train_x, train_y, test_x, test_y, classes)
    mean, std = train_x.mean(axis=0, dtype=np.float64), train_x.std(axis=0, dtype=np.float64)
    std[std <= 1e-12 + 1e-10 * np.abs(mean)] = np.inf  # a neuron that never changes tells nothing
    x, test = ((a - mean) / std for a in (train_x, test_x))
    axes, spread = _principal(x)
    x, test = x @ axes, test @ axes
    hot = np.eye(classes)[train_y]
    held, kept = _split(len(x), seed)
    start = np.zeros((x.shape[1] + 1) * classes)
    chosen, best, fitted = max(penalties), -1.0, start
    if len(held) and len(np.unique(train_y[kept])) > 1:
        kept_x, kept_hot, held_x, held_y = x[kept], hot[kept], x[held], train_y[held]
        for penalty in sorted(penalties, reverse=True):
            fitted, _ = _fit(kept_x, kept_hot, penalty, fitted, spread)
            accuracy = float((told(fitted, held_x, classes) == held_y).mean())
            if accuracy > best:
                chosen, best, start = penalty, accuracy, fitted
    fitted, iterations = _fit(x, hot, chosen, start, spread)
    found = told(fitted, test, classes)
    return ProbeResult(float((found == test_y).mean()), chosen, iterations, found)


def told(flat: np.ndarray, x: np.ndarray, classes: int) -> np.ndarray:
    """The class `(n,)` that a reader, as `cross_entropy` has it, takes encodings `(n, D)` for."""
    W, b = flat[:-classes].reshape(-1, classes), flat[-classes:]
    return (x @ W + b).argmax(axis=1)


def adam(
    train_x: np.ndarray | Callable[[int], np.ndarray],
    train_y: np.ndarray,
    test_x: np.ndarray,
    test_y: np.ndarray,
    classes: int,
    *,
    epochs: int = 300,
    batch: int = 32,
    lr: float = 1e-3,
    seed: int = 0,
) -> ProbeResult:
    """The published probe: one linear layer with softmax on raw encodings, Adam, batches of 32.

    Args:
        train_x: encodings `(n, D)`, or a function that gives them for an epoch (whose crops and
            flips differ). The accuracy on the training images is that of epoch 0's.

    Raises:
        UserError: as `logistic`.
    """
    views = train_x if callable(train_x) else lambda epoch: train_x
    first = views(0)
    check(first, train_y, test_x, test_y, classes)
    rng = seeds.generator(seed, seeds.PROBE, 1)
    bound = 1 / math.sqrt(first.shape[1])  # the default of torch's Linear
    flat = rng.uniform(-bound, bound, (first.shape[1] + 1) * classes).astype(first.dtype)
    m, v = np.zeros_like(flat), np.zeros_like(flat)
    hot = np.eye(classes, dtype=first.dtype)[train_y]
    step = 0
    for epoch in range(epochs):
        x = views(epoch) if epoch else first
        order = rng.permutation(len(x))
        for at in range(0, len(x), batch):
            pick, step = order[at : at + batch], step + 1
            _, gradient = cross_entropy(flat, x[pick], hot[pick], 0)
            ascent = -gradient.astype(flat.dtype, copy=False)
            kernels.adam([(flat, ascent, m, v)], step, lr)
    found = told(flat, test_x, classes)
    return ProbeResult(float((found == test_y).mean()), 0.0, step, found)
