"""Data sets, and the loader that runs ahead of the training."""

from plasticity.data.image_set import ImageSet
from plasticity.data.images import DamagedError
from plasticity.data.loader import Batch, Batches, batches, crops, in_order
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
    "Batch",
    "Batches",
    "DamagedError",
    "ImageSet",
    "absolute",
    "batches",
    "crops",
    "damaged",
    "data_folder",
    "described",
    "in_order",
    "open_set",
    "open_splits",
]
