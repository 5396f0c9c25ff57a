"""Layers: what a network is made of. Each explains itself to those who look on."""

from plasticity.layers.block import Block
from plasticity.layers.conv import Conv, ConvSeen
from plasticity.layers.gru import Gru, GruSeen
from plasticity.layers.layer import Parameters, Peers, Seen
from plasticity.layers.norm import Norm, NormConv, NormSeen

Layer = Conv | Block | Gru
"""What a module is made of; its name, and what it does forward and when it learns."""

__all__ = [
    "Block",
    "Conv",
    "ConvSeen",
    "Gru",
    "GruSeen",
    "Layer",
    "Norm",
    "NormConv",
    "NormSeen",
    "Parameters",
    "Peers",
    "Seen",
]
