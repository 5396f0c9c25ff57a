"""Data sets, and the loader that runs ahead of the training."""

from plasticity.data.loader import Batch, Batches, batches, crops, in_order
from plasticity.data.sets import ImageSet, data_folder, open_set

__all__ = [
    "Batch",
    "Batches",
    "ImageSet",
    "batches",
    "crops",
    "data_folder",
    "in_order",
    "open_set",
]
