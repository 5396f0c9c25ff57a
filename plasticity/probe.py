"""Linear probes: how much of the classes a linear reader finds in a layer's encodings."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from plasticity import kernels, seeds
from plasticity.errors import UserError

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)


@dataclass(frozen=True)
class ProbeResult:
    """Accuracies as fractions; `penalty` is the one chosen, 0 where there is none."""

    accuracy: float
    train_accuracy: float
    penalty: float


def _check(train_x: np.ndarray, train_y: np.ndarray, test_x: np.ndarray, classes: int) -> None:
    if len(np.unique(train_y)) < 2:
        raise UserError("a probe needs training images of at least two classes")
    if classes <= int(train_y.max()):
        raise UserError(f"labels go up to {train_y.max()}, but there are {classes} classes")
    if not (np.isfinite(train_x).all() and np.isfinite(test_x).all()):
        raise UserError("the encodings hold values that are not finite")


def cross_entropy(
    flat: np.ndarray, x: np.ndarray, hot: np.ndarray, penalty: float
) -> tuple[float, np.ndarray]:
    """Softmax regression: mean `-log p(class)` + penalty/2 |W|^2, and its gradient.

    `flat` holds W `(D, C)` and then b `(C,)`; x `(n, D)`; hot `(n, C)`, one 1 in each row.
    """
    n, D = x.shape
    W, b = flat[: -hot.shape[1]].reshape(D, -1), flat[-hot.shape[1] :]
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


def _fit(x: np.ndarray, hot: np.ndarray, penalty: float, start: np.ndarray) -> np.ndarray:
    found = minimize(
        cross_entropy,
        start,
        (x, hot, penalty),
        method="L-BFGS-B",
        jac=True,
        options={"maxiter": 200, "ftol": 1e-6, "gtol": 1e-4, "maxcor": 10},
    )
    return found.x


def logistic(
    train_x: np.ndarray,
    train_y: np.ndarray,
    test_x: np.ndarray,
    test_y: np.ndarray,
    classes: int,
    penalties: tuple[float, ...] = PENALTIES,
) -> ProbeResult:
    """Multinomial logistic regression on standardised encodings, by L-BFGS, deterministic.

    The penalty is chosen on every fifth training image, held out, and the fit repeated on all.

    Args:
        train_x, test_x: encodings `(n, D)`; train_y, test_y: labels from 0 `(n,)`.

    Raises:
        UserError: fewer than two classes, labels out of range, encodings that are not finite.
    """
    _check(train_x, train_y, test_x, classes)
    mean, std = train_x.mean(axis=0, dtype=np.float64), train_x.std(axis=0, dtype=np.float64)
    std[std <= 1e-12] = 1  # a neuron that never changes tells nothing
    x, test = ((a - mean) / std for a in (train_x, test_x))
    # The fit depends on x through its products alone: keep to the space that x spans.
    if x.shape[1] > len(x):
        _, _, basis = np.linalg.svd(x, full_matrices=False)
        x, test = x @ basis.T, test @ basis.T
    hot = np.eye(classes)[train_y]
    held = np.arange(len(x)) % 5 == 4
    fitted = np.zeros((x.shape[1] + 1) * classes)
    best, chosen = -1.0, penalties[-1]
    for penalty in sorted(penalties, reverse=True):
        if not held.any() or len(np.unique(train_y[~held])) < 2:
            break
        fitted = _fit(x[~held], hot[~held], penalty, fitted)
        accuracy = _accuracy(fitted, x[held], train_y[held], classes)
        if accuracy > best:
            best, chosen = accuracy, penalty
    fitted = _fit(x, hot, chosen, np.zeros_like(fitted))
    return ProbeResult(
        _accuracy(fitted, test, test_y, classes), _accuracy(fitted, x, train_y, classes), chosen
    )


def _accuracy(flat: np.ndarray, x: np.ndarray, y: np.ndarray, classes: int) -> float:
    W, b = flat[:-classes].reshape(-1, classes), flat[-classes:]
    return float(((x @ W + b).argmax(axis=1) == y).mean())


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
            flips differ).

    Raises:
        UserError: as `logistic`.
    """
    views = train_x if callable(train_x) else lambda epoch: train_x
    first = views(0)
    _check(first, train_y, test_x, classes)
    rng = seeds.generator(seed, seeds.PROBE, 1)
    bound = 1 / math.sqrt(first.shape[1])  # the default of torch's Linear
    flat = rng.uniform(-bound, bound, (first.shape[1] + 1) * classes).astype(first.dtype)
    m, v = np.zeros_like(flat), np.zeros_like(flat)
    hot = np.eye(classes, dtype=first.dtype)[train_y]
    step = 0
    for epoch in range(epochs):
        x = views(epoch)
        order = rng.permutation(len(x))
        for at in range(0, len(x), batch):
            pick, step = order[at : at + batch], step + 1
            _, gradient = cross_entropy(flat, x[pick], hot[pick], 0)
            kernels.adam(flat, -gradient.astype(flat.dtype, copy=False), m, v, step, lr)
    return ProbeResult(
        _accuracy(flat, test_x, test_y, classes), _accuracy(flat, first, train_y, classes), 0.0
    )
