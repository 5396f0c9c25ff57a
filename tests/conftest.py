"""Settings for all tests."""

import os
import signal
import tempfile

import torch

try:
    from hypothesis import settings
except ImportError:  # on a machine that is lent, the tests of a card run without it
    settings = None

# What tests agree to run must not stay with whoever runs them.
os.environ["PLASTICITY_STATE"] = tempfile.mkdtemp(prefix="plasticity-tests-")

# The same examples on every machine and in every run.
if settings:
    settings.register_profile("repeatable", derandomize=True, deadline=None)
    settings.load_profile("repeatable")

# A shell that starts the tests in the background has them ignore SIGINT, and so all they start;
# a handler of Python's is not inherited.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Layers as small as these lose more to threads that wait than they gain by them.
torch.set_num_threads(1)
