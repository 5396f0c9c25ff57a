"""The benchmark of a card, on the stand-in: what it counts, and that it runs at all."""

import re

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks import gpu
from tests import standin
from tests.kernels import emulation

pytestmark = pytest.mark.skipif(bool(emulation.MISSING), reason=emulation.MISSING)


def test_the_benchmark_prints_every_kernel_of_a_step_and_its_rate(monkeypatch):
    # Its own would copy 1 GiB.
    monkeypatch.setattr(gpu, "roofline", lambda: (gpu.bandwidth(2**10), gpu.speed(64)))
    with standin.installed():
        done = CliRunner().invoke(gpu.main, ["--batch", "2", "--width", "0.02", "--repeat", "1"])
    assert done.exit_code == 0, done.output
    assert re.search(r"plasticity +\d+\.\d images/s +1\.00 times our time", done.output)
    launches = dict(re.findall(r"^(\w+(?: \w+)?) +(\d+) ", done.output, re.MULTILINE))
    assert {"adam": "6", "extract_patches": "1", "scores": "60"}.items() <= launches.items()
    assert {"activities", "posts", "gradients", "first_forward", "matrix products"} < set(launches)


def test_adam_moves_each_number_seven_times():
    """dW is read, the parameter and its moments read and written."""
    with standin.installed():
        import cupy

        from plasticity import kernels

        parts = [[cupy.zeros(n, np.float32) for _ in range(4)] for n in (100, 20)]
        with gpu.Clock() as clock:
            kernels.adam(parts, 1, 1e-3)
            assert clock.timings()["adam"].bytes == 7 * 4 * 120
