"""The published probe of film: batch normalisation, dropout, a linear layer and softmax, by Adam.

Of the video code of Illing et al. (2021): rate 1e-4, a tenth of it from epoch 60 of 200 on and a
hundredth from epoch 80, weight decay 1e-5, dropout 0.5.
"""

import math
from collections.abc import Callable

import numpy as np

from plasticity import kernels, seeds
from plasticity.probes.linear import ProbeResult, check

EPSILON, MOMENTUM = 1e-5, 0.1
FALLS = ((0.3, 0.1), (0.4, 0.01))  # from these parts of training on, the rate times so much

Readout = dict[str, np.ndarray]
"""`gain`, `shift` `(D,)`, `weight` `(D, C)`, `bias` `(C,)`."""


def softmax(scores: np.ndarray) -> np.ndarray:
    """Probabilities of classes `(n, C)`."""
    p = np.exp(scores - scores.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


def slopes(
    own: Readout, x: np.ndarray, hot: np.ndarray, kept: np.ndarray
) -> tuple[Readout, np.ndarray, np.ndarray]:
    """The gradient of the mean of `-log p(class)`, for a batch normalised by its own statistics.

    `y = (x - mean) / sqrt(variance + epsilon)`, `h = kept (gain y + shift)`,
    `p = softmax(h weight + bias)`.

    Args:
        x: encodings `(n, D)`; hot: `(n, C)`, one 1 in each row.
        kept: `(n, D)`, 0 where dropout silences a neuron, 1 / (1 - dropout) elsewhere.

    Returns:
        A slope for each array of `own`; the mean and the variance over the batch `(D,)`.
    """
    mean, variance = x.mean(axis=0), x.var(axis=0)
    y = (x - mean) / np.sqrt(variance + EPSILON)
    h = kept * (own["gain"] * y + own["shift"])
    error = (softmax(h @ own["weight"] + own["bias"]) - hot) / len(x)
    drive = kept * (error @ own["weight"].T)
    found = {
        "gain": (drive * y).sum(axis=0),
        "shift": drive.sum(axis=0),
        "weight": h.T @ error,
        "bias": error.sum(axis=0),
    }
    return found, mean, variance


def fit(
    train_x: np.ndarray | Callable[[int], np.ndarray],
    train_y: np.ndarray,
    test_x: np.ndarray,
    test_y: np.ndarray,
    classes: int,
    *,
    epochs: int = 200,
    batch: int = 32,
    lr: float = 1e-4,
    decay: float = 1e-5,
    dropout: float = 0.5,
    seed: int = 0,
) -> ProbeResult:
    """Train the published probe, and test it with the running statistics.

    Encodings that do not fill a batch are left out of an epoch, which has them in a new order.

    Args:
        train_x: encodings `(n, D)`, or a function that gives them for an epoch (whose crops and
            flips differ); decay: pulls every parameter towards 0, as a part of its slope.

    Raises:
        UserError: as `linear.logistic`.
    """
    views = train_x if callable(train_x) else lambda epoch: train_x
    first = views(0)
    check(first, train_y, test_x, test_y, classes)
    rng, dtype, (n, D) = seeds.generator(seed, seeds.PROBE, 1), first.dtype, first.shape
    bound = 1 / math.sqrt(D)  # the default of torch's Linear
    own = {
        "gain": np.ones(D, dtype),
        "shift": np.zeros(D, dtype),
        "weight": rng.uniform(-bound, bound, (D, classes)).astype(dtype),
        "bias": rng.uniform(-bound, bound, classes).astype(dtype),
    }
    moments = {name: (np.zeros_like(w), np.zeros_like(w)) for name, w in own.items()}
    running_mean, running_variance = np.zeros(D, dtype), np.ones(D, dtype)
    hot, size, step = np.eye(classes, dtype=dtype)[train_y], min(batch, n), 0
    for epoch in range(epochs):
        x, order = views(epoch) if epoch else first, rng.permutation(n)
        rate = lr * min([1.0, *(part for at, part in FALLS if epoch >= at * epochs)])
        for at in range(0, n - size + 1, size):
            pick, step = order[at : at + size], step + 1
            kept = (rng.random((size, D), dtype=np.float32) >= dropout) / dtype.type(1 - dropout)
            found, mean, variance = slopes(own, x[pick], hot[pick], kept)
            kernels.adam(
                [(w, -(found[name] + decay * w), *moments[name]) for name, w in own.items()],
                step,
                rate,
            )
            running_mean += MOMENTUM * (mean - running_mean)
            running_variance += MOMENTUM * (variance * size / max(size - 1, 1) - running_variance)
    y = (test_x - running_mean) / np.sqrt(running_variance + EPSILON)
    scores = (own["gain"] * y + own["shift"]) @ own["weight"] + own["bias"]
    found = scores.argmax(axis=1)
    return ProbeResult(float((found == test_y).mean()), 0.0, step, found)
