"""Under which names published programs keep their weights, and which place each name is.

The names are those of the state dicts of the CLAPP vision code and the CLAPP video code (Illing et
al. 2021) and of GIM's code for images and for sound (Loewe et al. 2019).
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

PREDICTION = {"loss": "W_pred", "loss_mirror": "W_retro", "W": "W_pred", "predictor": "W_pred"}
"""What they call prediction matrices."""

OF_A_NORM = {"weight": "gain", "bias": "shift"}


@dataclass(frozen=True)
class Place:
    """Where an array belongs.

    Attributes:
        module: counted from 0; within: sorts the layers of a module from below, empty for a
            prediction matrix, which belongs to the whole module.
        conv: which convolution of a residual block it is, empty for other layers.
        parameter: by our name; step: of a prediction matrix, from 0; None where all are in one.
    """

    module: int
    within: tuple[int, ...]
    conv: str
    parameter: str
    step: int | None = None


@dataclass(frozen=True)
class Naming:
    """The names of one program.

    Attributes:
        name: of the program; example: one of its names.
        patterns: of names. Their groups are `module` (from 0) or `number` (from 1), `layer`,
            `block`, `conv`, `parameter`, `matrix` and `k`.
        turned: from a prediction matrix as it is kept, for z of so many neurons, to W_pred.
        by_layer: whether every layer is counted as a module, even below one loss for all of them.
    """

    name: str
    example: str
    patterns: tuple[str, ...]
    turned: Callable[[np.ndarray, int], np.ndarray]
    by_layer: bool = False

    def place(self, name: str) -> Place | None:
        """The place of a name, None if it has none here."""
        for pattern in self.patterns:
            if found := re.fullmatch(pattern, name):
                return _place(found.groupdict())
        return None


def _place(said: dict[str, str | None]) -> Place:
    number = said.get("number")
    module = int(number) - 1 if number else int(said["module"])
    if matrix := said.get("matrix"):
        step = None if said.get("k") is None else int(said["k"])
        return Place(module, (), "", PREDICTION[matrix], step)
    parameter, layer = said["parameter"], said.get("layer") or "0"
    if said.get("part") in ("norm", "layers.2"):
        parameter = OF_A_NORM.get(parameter, parameter)
    order = {"Conv1": -1, "gru": 10**6}  # below and above all others
    within = order[layer] if layer in order else int(layer)
    return Place(module, (within, int(said.get("block") or 0)), said.get("conv") or "", parameter)


def _kept_by_contexts(matrix: np.ndarray, targets: int) -> np.ndarray:
    """`u = c^T W z`, W a 1x1 convolution `(C, D, 1, 1)`: W_pred is its transpose."""
    return matrix.reshape(matrix.shape[:2]).T


def _kept_by_targets(matrix: np.ndarray, targets: int) -> np.ndarray:
    """`u = z^T W c`, W a 1x1x1 convolution `(D, C, 1, 1, 1)`."""
    return matrix.reshape(matrix.shape[:2])


def _kept_in_one(matrix: np.ndarray, targets: int) -> np.ndarray:
    """All K in one linear layer `(K D, C)`."""
    if not targets or len(matrix) % targets:
        return matrix
    return matrix.reshape(-1, targets, matrix.shape[1])


_ENCODER = r"(?:model\.0|encoder)\.(?P<module>\d+)"
_OWN = r"(?P<parameter>weight|bias)"
_BLOCK = r"(?P<part>conv|norm|layers\.0|layers\.2)\.(?P<parameter>weight|bias|running_\w+)"

NAMINGS: Sequence[Naming] = (
    Naming(
        "the CLAPP vision code",
        "encoder.0.model.0.weight",
        (
            rf"{_ENCODER}\.model\.(?P<layer>\d+)\.{_OWN}",
            rf"{_ENCODER}\.(?P<matrix>loss|loss_mirror)\.W_k\.(?P<k>\d+)\.weight",
        ),
        _kept_by_contexts,
    ),
    Naming(
        "GIM's vision code",
        "encoder.0.model.layer 0.0.conv1.weight",
        (
            rf"{_ENCODER}\.model\.(?P<layer>Conv1)\.{_OWN}",
            rf"{_ENCODER}\.model\.layer (?P<layer>\d+)\.(?P<block>\d+)\."
            rf"(?P<conv>conv\d|shortcut)(?:\.0)?\.{_OWN}",
            rf"{_ENCODER}\.(?P<matrix>loss)\.W_k\.(?P<k>\d+)\.weight",
        ),
        _kept_by_contexts,
    ),
    Naming(
        "GIM's audio code",
        "fullmodel.0.encoder.model.layer 0.0.weight",
        (
            rf"fullmodel\.(?P<module>\d+)\.encoder\.model\.layer (?P<layer>\d+)\.0\.{_OWN}",
            r"fullmodel\.(?P<module>\d+)\.autoregressor\.(?P<layer>gru)\."
            r"(?P<parameter>(?:weight|bias)_[ih]h)(?:_l0)?",
            r"fullmodel\.(?P<module>\d+)\.loss\.(?P<matrix>predictor)\.weight",
        ),
        _kept_in_one,
    ),
    Naming(
        "the CLAPP video code",
        "blocks.0.0.conv.weight",
        (
            rf"(?:conv|block)(?P<number>\d+)\.(?:0\.)?{_BLOCK}",
            rf"blocks\.(?P<module>\d+)\.0\.{_BLOCK}",
            r"losses\.(?P<module>\d+)\.(?P<matrix>W)\.(?P<k>\d+)\.weight",
        ),
        _kept_by_targets,
        by_layer=True,
    ),
)

ONE_MODULE = re.compile(r"model\.(\d+\.(weight|bias)$|Conv1\.|layer )|loss(_mirror)?\.")
"""Names in the file of one module: the vision codes write a file for each."""

PASSED_OVER = re.compile(r".*\.num_batches_tracked")
"""What says nothing of a network that is no part of it."""
