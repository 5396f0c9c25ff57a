"""Data sets as they lie on disk."""

from plasticity.data.image_set import ImageSet
from plasticity.data.images import DamagedError
from plasticity.data.sets import (
    SETS,
    absolute,
    damaged,
    data_folder,
    described,
    open_set,
    open_splits,
)

__all__ = [
    "SETS",
    "DamagedError",
    "ImageSet",
    "absolute",
    "damaged",
    "data_folder",
    "described",
    "open_set",
    "open_splits",
]
