"""Runs in processes of their own."""

import time

from plasticity import runs


def reached(folder, step, process):
    """Wait until the run has saved this step."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[0]
        path = runs.checkpoint_path(folder)
        if path.is_file() and runs.load(path, moments=False).step >= step:
            return
        time.sleep(0.01)
    raise AssertionError(f"step {step} was never reached")
