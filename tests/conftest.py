"""Settings for all tests."""

import torch
from hypothesis import settings

# The same examples on every machine and in every run.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

# Layers as small as these lose more to threads that wait than they gain by them.
torch.set_num_threads(1)
