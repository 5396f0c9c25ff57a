"""Losses and gradients that the published code computed, in the project's layouts."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from plasticity.events import Layout, events, same_place
from plasticity.network import Conv, Network, Parameters
from plasticity.rule import Draw

FIXTURES = Path(__file__).parent / "fixtures"
POOLS = (1, 2, 1, 2, 2, 2)


@dataclass
class Golden:
    """A step of the published code: what went in and what came out."""

    network: Network
    modules: list[list[int]]
    layout: Layout
    patches: np.ndarray
    params: Parameters
    draws: list[Draw]
    losses: np.ndarray
    dW: Parameters
    encodings: list[np.ndarray]


def clapp_symmetric() -> Golden:
    """Six modules of one layer, hinge, a coin for each image, symmetric W."""
    with np.load(FIXTURES / "clapp_symmetric.npz") as stored:
        file = dict(stored)
    layout = Layout(7, 6, 7)
    layers, params, dW, draws, encodings = [], {}, {}, [], []
    inputs = 1
    for m, pool in enumerate(POOLS):
        name, at = f"conv{m + 1}", f"module{m}."
        weight = file[at + "conv0.weight"]
        layers.append(Conv(name, inputs, len(weight), pool=pool))
        inputs = len(weight)
        # Wk is (context, target), u = context^T Wk target: its transpose is W_pred.
        params[name] = {
            "weight": weight,
            "bias": file[at + "conv0.bias"],
            "W_pred": np.stack([file[f"{at}loss.W{k}"].T for k in range(1, 6)]),
        }
        dW[name] = {
            "weight": -file[at + "conv0.weight.grad"],
            "bias": -file[at + "conv0.bias.grad"],
            "W_pred": -np.stack([file[f"{at}loss.W{k}.grad"].T for k in range(1, 6)]),
        }
        fixation = file[at + "loss.sign"] > 0
        draws.append(
            Draw(
                tuple(
                    events(
                        layout,
                        k,
                        5,
                        fixation,
                        ~fixation,
                        same_place(layout, k, file[f"{at}loss.neg{k}"].reshape(6, 1)),
                    )
                    for k in range(1, 6)
                )
            )
        )
        encodings.append(file[at + "encoding"].transpose(2, 0, 3, 1).reshape(-1, inputs))
    return Golden(
        Network("golden", tuple(layers)),
        [[i] for i in range(6)],
        layout,
        patches_of(file["images"]),
        params,
        draws,
        file["loss"],
        dW,
        encodings,
    )


def patches_of(images: np.ndarray) -> np.ndarray:
    """Normalised images `(B, 1, 64, 64)` cut into patches as the loader's are."""
    windows = np.lib.stride_tricks.sliding_window_view(images[:, 0], (16, 16), axis=(1, 2))
    return windows[:, ::8, ::8].transpose(1, 0, 2, 3, 4).reshape(-1, 16, 16, 1).copy()
