"""Supervised learning: a readout of the classes on top of a module, and backpropagation below."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from plasticity import kernels
from plasticity.arrays import Array, array_module
from plasticity.errors import UserError
from plasticity.events import Events, Layout
from plasticity.rule import Draw, Learning, Role, Rule


@dataclass(frozen=True)
class Supervised(Rule):
    """Classic supervised learning, end to end (Illing et al. 2021, appendix B.1, tables 1 and 4).

    A fully connected layer with an output for each class reads the mean over the patch encodings
    of an image, as the published code and the linear probe do. With `pi = softmax(W_readout z + b)`
    the loss is the cross entropy `-log pi_label`, averaged over images. With
    `gamma_c = [c is the label] - pi_c`

        encoding:  dW_ji = sum over c of gamma_c W_readout,cj  rho'(a_j) x_i
        readout:   dW_readout,cj = gamma_c z_j,  db_readout,c = gamma_c

    The error goes down by the transpose of `W_readout` and through the layers of the module: the
    rule is not local, and it reads labels, so it learns from the labelled training images.

    Attributes:
        classes: how many classes the readout tells apart, those of the data set.
    """

    classes: int = 10

    name: ClassVar[str] = "supervised"
    labels: ClassVar[bool] = True  # it learns from labelled images
    modules: ClassVar[str] = "1"
    locality: ClassVar[str] = "module"
    equation: ClassVar[str] = "dW = grad log softmax(W_readout z + b)_label through the module"
    citation: ClassVar[str] = "Illing, Ventura, Bellec & Gerstner, NeurIPS 2021, appendix B.1"

    def __post_init__(self) -> None:
        if self.classes < 2:
            raise UserError(f"{self.name} needs images of at least 2 classes, got {self.classes}")

    def prepare(self, neurons: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """`W_readout (C, D)` and `b_readout (C,)`, uniform within 1/sqrt(D) as torch's Linear."""
        bound = neurons**-0.5
        return {
            "W_readout": rng.uniform(-bound, bound, (self.classes, neurons)),
            "b_readout": rng.uniform(-bound, bound, self.classes),
        }

    def draw(self, layout: Layout, rng: np.random.Generator) -> Draw:
        """It draws nothing; the labels come with the step."""
        return Draw(())

    def readout(self, z: Array, own: dict[str, Array], layout: Layout) -> Array:
        """The scores of the classes `(B, C)`, from the mean over the patches of each image."""
        of_image = z.reshape(*layout.shape, -1).mean(axis=(0, 2))
        return kernels.product(of_image, own["W_readout"].T) + own["b_readout"]

    def roles(self, z: Array, own: dict[str, Array], draw: Draw, layout: Layout) -> Iterator[Role]:
        """Every patch has an event with every class: its dendritic signal is a row of W_readout."""
        if draw.labels is None:
            raise UserError(f"{self.name} learns from labels, and the step has none")
        xp, C = array_module(z), self.classes
        scores = self.readout(z, own, layout)
        right = draw.labels[:, None] == xp.arange(C)
        gamma = right - xp.exp(_log_softmax(scores))
        patch, image = xp.arange(len(z)), layout.sample(xp.arange(len(z)))
        patches, weight = xp.repeat(patch, C), xp.full(len(z) * C, 1 / len(z), z.dtype)
        label = xp.where(right, 1, -1).astype(z.dtype)[image].reshape(-1)
        yield Role(
            "label",
            Events(0, patches, patches, label, weight),
            scores[image].reshape(-1),
            gamma[image].reshape(-1) * weight,
            own["W_readout"],
            xp.tile(xp.arange(C), len(z)),
        )

    def objective(
        self, z: Array, held: Array, own: dict[str, Array], draw: Draw, layout: Layout
    ) -> Array:
        """The cross entropy, averaged over images."""
        return _cross_entropy(self.readout(z, own, layout), draw.labels)

    def learn(self, z: Array, own: dict[str, Array], draw: Draw, layout: Layout) -> Learning:
        """Sum the events: the drive `(N, D)`, and the changes of the readout.

        Raises:
            UserError: a step without labels.
        """
        (role,) = self.roles(z, own, draw, layout)
        gamma = role.gamma.reshape(len(z), self.classes)
        of_patch = role.score.reshape(*layout.shape, self.classes)
        scores = of_patch[0, :, 0]  # the readout, which all patches of an image share
        return Learning(
            kernels.product(gamma, own["W_readout"]),
            _cross_entropy(scores, draw.labels),
            (gamma != 0).mean(),
            {"W_readout": kernels.product(gamma.T, z), "b_readout": gamma.sum(axis=0)},
            measures={"accuracy": (scores.argmax(axis=1) == draw.labels).mean()},
            roles=(role,),
        )


def _cross_entropy(scores: Array, labels: Array) -> Array:
    """`-log pi_label`, averaged over images."""
    return -_log_softmax(scores)[array_module(scores).arange(len(labels)), labels].mean()


def _log_softmax(scores: Array) -> Array:
    """`log softmax` of each row; large scores do not overflow."""
    xp = array_module(scores)
    scores = scores - scores.max(axis=1, keepdims=True)
    return scores - xp.log(xp.exp(scores).sum(axis=1, keepdims=True))
