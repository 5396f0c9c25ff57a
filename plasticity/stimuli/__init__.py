"""Stimuli: how the examples of a data set meet a network. A file for each kind."""

from plasticity.stimuli.batches import Batches
from plasticity.stimuli.film import Film
from plasticity.stimuli.images import Images
from plasticity.stimuli.sound import Sound
from plasticity.stimuli.stimulus import Batch, Stimulus

STIMULI: dict[int, type[Stimulus]] = {2: Images, 1: Sound, 3: Film}
"""By the dimensions of the networks that they are for."""

__all__ = ["STIMULI", "Batch", "Batches", "Film", "Images", "Sound", "Stimulus"]
