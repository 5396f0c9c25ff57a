"""Supervised learning: a readout of the classes on top of a module, and backpropagation below."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from plasticity import kernels
from plasticity.arrays import Array, array_module
from plasticity.errors import UserError
from plasticity.events import Events, Layout
from plasticity.rule import Draw, Learning, Parameter, Role, Rule


@dataclass(frozen=True)
class Supervised(Rule):
    """Classic supervised learning, end to end (Illing et al. 2021, appendix B.1, tables 1 and 4).

    A fully connected layer with an output for each class reads the mean over the patch encodings
    of an image, as the published code and the linear probe do, and of film the mean over frames and
    positions; of sound it reads every frame, whose
    class is its phone (Loewe et al. 2019), and averages over frames with a label. With
    `pi = softmax(W_readout z + b)` the loss is the cross entropy `-log pi_label`, averaged over
    images. With `gamma_c = [c is the label] - pi_c`

        encoding:  dW_ji = sum over c of gamma_c W_readout,cj  rho'(a_j) x_i
        readout:   dW_readout,cj = gamma_c z_j,  db_readout,c = gamma_c

    The error goes down by the transpose of `W_readout` and through the layers of the module: the
    rule is not local, and it reads labels, so it learns from the labelled training images.

    Attributes:
        classes: how many classes the readout tells apart, those of the data set.
    """

    classes: int = 10

    name: ClassVar[str] = "supervised"
    parameters: ClassVar[Mapping[str, Parameter]] = {
        "W_readout": Parameter("(class, neuron j)"),
        "b_readout": Parameter("(class)"),
    }
    labels: ClassVar[bool] = True  # it learns from labelled images
    modules: ClassVar[str] = "1"
    locality: ClassVar[str] = "module"
    equation: ClassVar[str] = "dW = grad log softmax(W_readout z + b)_label through the module"
    citation: ClassVar[str] = "Illing, Ventura, Bellec & Gerstner, NeurIPS 2021, appendix B.1"

    def __post_init__(self) -> None:
        if self.classes < 2:
            raise UserError(f"{self.name} needs at least 2 classes, got {self.classes}")

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

    def readout(
        self, z: Array, own: dict[str, Array], layout: Layout, by_frame: bool = False
    ) -> Array:
        """The scores of the classes `(B, C)`, from the mean over the patches of each image.

        Args:
            by_frame: read every row by itself, `(N, C)`.
        """
        read = z if by_frame else z.reshape(*layout.shape, -1).mean(axis=(0, 2))
        return kernels.product(read, own["W_readout"].T) + own["b_readout"]

    def roles(self, z: Array, own: dict[str, Array], draw: Draw, layout: Layout) -> Iterator[Role]:
        """Every patch has an event with every class: its dendritic signal is a row of W_readout."""
        if draw.labels is None:
            raise UserError(f"{self.name} learns from labels, and the step has none")
        xp, C, by_frame = array_module(z), self.classes, draw.labels.ndim == 2
        scores, labels = self.readout(z, own, layout, by_frame), draw.labels.reshape(-1)
        right = labels[:, None] == xp.arange(C)
        gamma = right - xp.exp(_log_softmax(scores))
        patch = xp.arange(len(z))
        read = patch if by_frame else layout.sample(patch)  # the row of `scores` that is its own
        known = (labels >= 0)[read]  # -1: a frame without a label
        each = (known / xp.maximum(known.sum(), 1)).astype(z.dtype)
        patches, weight = xp.repeat(patch, C), xp.repeat(each, C)
        label = xp.where(right, 1, -1).astype(z.dtype)[read].reshape(-1)
        yield Role(
            "label",
            Events(0, patches, patches, label, weight),
            scores[read].reshape(-1),
            gamma[read].reshape(-1) * weight,
            own["W_readout"],
            xp.tile(xp.arange(C), len(z)),
        )

    def objective(
        self, z: Array, held: Array, own: dict[str, Array], draw: Draw, layout: Layout
    ) -> Array:
        """The cross entropy, averaged over images or labelled frames."""
        by_frame = draw.labels.ndim == 2
        return _cross_entropy(self.readout(z, own, layout, by_frame), draw.labels.reshape(-1))

    def learn(self, z: Array, own: dict[str, Array], draw: Draw, layout: Layout) -> Learning:
        """Sum the events: the drive `(N, D)`, and the changes of the readout.

        Raises:
            UserError: a step without labels.
        """
        (role,) = self.roles(z, own, draw, layout)
        gamma = role.gamma.reshape(len(z), self.classes)
        scores, labels = role.score.reshape(len(z), self.classes), draw.labels.reshape(-1)
        if draw.labels.ndim == 1:  # the readout, which all patches of an image share
            scores = scores.reshape(*layout.shape, self.classes)[0, :, 0]
        xp, known, told = array_module(z), labels >= 0, scores.argmax(axis=1)
        return Learning(
            kernels.product(gamma, own["W_readout"]),
            _cross_entropy(scores, labels),
            (gamma != 0).mean(),
            {"W_readout": kernels.product(gamma.T, z), "b_readout": gamma.sum(axis=0)},
            measures={"accuracy": (told == labels).sum() / xp.maximum(known.sum(), 1)},
            roles=(role,),
        )


def _cross_entropy(scores: Array, labels: Array) -> Array:
    """`-log pi_label`, averaged over images or frames; those without a label, -1, are left out."""
    xp, known = array_module(scores), labels >= 0
    told = _log_softmax(scores)[xp.arange(len(labels)), xp.maximum(labels, 0)]
    return -(told * known).sum() / xp.maximum(known.sum(), 1)


def _log_softmax(scores: Array) -> Array:
    """`log softmax` of each row; large scores do not overflow."""
    xp = array_module(scores)
    scores = scores - scores.max(axis=1, keepdims=True)
    return scores - xp.log(xp.exp(scores).sum(axis=1, keepdims=True))
