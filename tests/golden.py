"""Losses and gradients that the published code computed, in the project's layouts.

In the files Wk is (context, target), u = context^T Wk target: its transpose is W_pred. Time is the
row of a patch, axis 2 of an encoding `(image, channel, row, column)`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from plasticity.events import Layout, events, same_place
from plasticity.network import Conv, Network, Parameters
from plasticity.rule import Draw
from plasticity.verification.autograd import Groups

FIXTURES = Path(__file__).parent / "fixtures"
POOLS = (1, 2, 1, 2, 2, 2)
LAYOUT = Layout(7, 6, 7)
STEPS = 5

File = dict[str, np.ndarray]


@dataclass
class Golden:
    """A step of the published code: what went in and what came out.

    `dW` is minus the stored gradients; `encodings` are `(N, D)`, one for each module.
    """

    network: Network
    modules: list[list[int]]
    layout: Layout
    patches: np.ndarray
    params: Parameters
    draws: list[Draw]
    losses: np.ndarray
    dW: Parameters
    encodings: list[np.ndarray]


def load_clapp() -> Golden:
    """Six modules of one layer, hinge, a coin for each image, symmetric W."""
    return _load("clapp_symmetric", 1, _coin)


def load_gim() -> Golden:
    """Three modules of two layers, InfoNCE, 16 negatives of the batch, symmetric W."""
    return _load("gim_3", 2, _groups)


clapp_symmetric = load_clapp  # by the name of its file


def _load(name: str, depth: int, halves: Callable[[File, str], tuple]) -> Golden:
    """The file `name`, whose modules have `depth` layers each."""
    with np.load(FIXTURES / f"{name}.npz") as stored:
        file = dict(stored)
    layers, params, dW = [], {}, {}
    inputs = 1
    for i, pool in enumerate(POOLS):
        layer, at = f"conv{i + 1}", f"module{i // depth}.conv{i % depth}."
        weight = file[at + "weight"]
        layers.append(Conv(layer, inputs, len(weight), pool=pool))
        inputs = len(weight)
        params[layer] = {n: file[at + n] for n in ("weight", "bias")}
        dW[layer] = {n: -file[f"{at}{n}.grad"] for n in ("weight", "bias")}
    modules = [list(range(m, m + depth)) for m in range(0, len(POOLS), depth)]
    draws, encodings = [], []
    for m, module in enumerate(modules):
        top, at = layers[module[-1]].name, f"module{m}.loss."
        ks = range(1, STEPS + 1)
        params[top]["W_pred"] = np.stack([file[f"{at}W{k}"].T for k in ks])
        dW[top]["W_pred"] = -np.stack([file[f"{at}W{k}.grad"].T for k in ks])
        draws.append(Draw(halves(file, at)))
        z = file[f"module{m}.encoding"].transpose(2, 0, 3, 1)
        encodings.append(z.reshape(LAYOUT.rows, -1))
    return Golden(
        Network(name, tuple(layers)),
        modules,
        LAYOUT,
        patches_of(file["images"]),
        params,
        draws,
        file["loss"],
        dW,
        encodings,
    )


def _coin(file: File, at: str) -> tuple:
    """Signs, and negatives `(images,)`: another image's patch at the same place."""
    fixation = file[at + "sign"] > 0
    found = []
    for k in range(1, STEPS + 1):
        others = file[f"{at}neg{k}"].reshape(LAYOUT.samples, 1)
        who = same_place(LAYOUT, k, others)
        found.append(events(LAYOUT, k, STEPS, fixation, ~fixation, who))
    return tuple(found)


def _groups(file: File, at: str) -> tuple:
    """Negatives for each (row, column, image, negative), counted over (row, column, image)."""
    found = []
    for k in range(1, STEPS + 1):
        contexts = LAYOUT.contexts(k)
        rows = LAYOUT.time - k - 1
        drawn = file[f"{at}neg{k}"].reshape(rows, LAYOUT.lanes, LAYOUT.samples, -1)
        drawn = drawn.transpose(0, 2, 1, 3).reshape(contexts, -1)  # contexts in our order
        row, column, image = np.unravel_index(drawn, (rows, LAYOUT.lanes, LAYOUT.samples))
        # Row 0 of the targets is row k + 1 of the patches.
        negatives = ((row + k + 1) * LAYOUT.samples + image) * LAYOUT.lanes + column
        context = np.arange(contexts)
        weight = np.full(contexts, 1 / contexts / STEPS)
        found.append(Groups(k, context, context + LAYOUT.offset(k), negatives, weight))
    return tuple(found)


def patches_of(images: np.ndarray) -> np.ndarray:
    """Normalised images `(B, 1, 64, 64)` cut into patches as the loader's are."""
    windows = np.lib.stride_tricks.sliding_window_view(images[:, 0], (16, 16), axis=(1, 2))
    return windows[:, ::8, ::8].transpose(1, 0, 2, 3, 4).reshape(-1, 16, 16, 1).copy()
