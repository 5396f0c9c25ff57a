"""The benchmark of a card, on the stand-in: what it counts, and that it runs at all."""

import re

import numpy as np
import pytest

from benchmarks import gpu
from tests import standin
from tests.kernels import emulation

pytestmark = pytest.mark.skipif(bool(emulation.MISSING), reason=emulation.MISSING)


def test_the_benchmark_prints_every_kernel_of_a_step_and_its_rate(monkeypatch, capsys):
    for name, small in {"COVER": 8, "COPY": 2**10, "PRODUCT": 64}.items():
        monkeypatch.setattr(gpu, name, small)
    with standin.installed() as machine:
        gpu.report("clapp", 2, 0.02, 1)
    told = capsys.readouterr().out
    assert re.search(r"batch 2, width 0.02, float32: \d+\.\d images/s, .* ms a step", told)
    launches = dict(re.findall(r"^(\w+(?: \w+)?) +(\d+) ", told, re.MULTILINE))
    assert {"adam": "6", "extract_patches": "1", "scores": "6"}.items() <= launches.items()
    assert {"activities", "posts", "gradients", "first_forward", "matrix products"} < set(launches)
    assert sum(pinned for _, pinned in machine.sent) <= 6  # a batch crosses at once


def test_a_step_by_matrix_units_is_counted_too(monkeypatch, capsys):
    for name, small in {"COVER": 8, "COPY": 2**10, "PRODUCT": 64}.items():
        monkeypatch.setattr(gpu, name, small)
    with standin.installed():
        small = {"layers": 2, "patch": 4, "crop": 10, "prediction_steps": 2}
        gpu.report("clapp", 2, 0.05, 1, precision="bfloat16", **small)
    told = capsys.readouterr().out
    launches = dict(re.findall(r"^(\w+, matrix units) +(\d+) ", told, re.MULTILINE))
    assert launches == {"forward, matrix units": "1", "correlate, matrix units": "1"}


def test_products_of_matrix_units_are_counted():
    """3 inputs of 4x4, 5 words of channels, 7 neurons, a kernel of 3x3: two numbers in a word."""
    x, w = np.zeros((3, 4, 4, 5)), np.zeros((9, 7, 5))
    args = x, w, None, 3, 4, 4, 5, 7, 3, 3, 1, 1
    assert gpu.by_units("forward<Bfloat16, 1>", args) == 2 * 3 * 16 * 9 * 10 * 7
    post, met = np.zeros((3, 4, 4, 7)), np.zeros((3, 4, 4, 5))
    args = post, met, 3, 4, 4, 5, 7, 3, 3
    assert gpu.by_units("correlate<Tf32, 1>", args) == 2 * 3 * 16 * 9 * 5 * 7


def test_adam_moves_each_number_seven_times(monkeypatch):
    """dW is read, the parameter and its moments read and written."""
    monkeypatch.setattr(gpu, "COVER", 8)
    with standin.installed():
        import cupy

        from plasticity import kernels

        parts = [[cupy.zeros(n, np.float32) for _ in range(4)] for n in (100, 20)]
        with gpu.Clock() as clock:
            kernels.adam(parts, 1, 1e-3)
            assert clock.timings()["adam"].bytes == 7 * 4 * 120 + 8  # and the pace


def test_a_recurrent_units_products_are_counted():
    """2 sequences of 3 times and 4 neurons: three gates, a product and a sum for each weight."""
    drive, weight, bias = np.zeros((2, 3, 12)), np.zeros((4, 12)), np.zeros(12)
    states = (drive, weight, bias, bias, *map(np.int64, (2, 3, 4)), drive, drive)
    assert gpu.recurrent("gru_states", states) == 2 * 3 * 12 * 4 * 2
    posts = (drive, drive, drive, weight, *map(np.int64, (2, 3, 4)), np.True_)
    assert gpu.recurrent("gru_posts", (*posts, np.True_)) == 2 * 3 * 12 * 4 * 2
    assert gpu.recurrent("gru_posts", (*posts, np.False_)) == 0
    assert gpu.recurrent("adam", ()) == 0


def test_convolutions_are_timed_with_less_of_their_tiles_at_a_time(monkeypatch, capsys):
    monkeypatch.setattr(gpu, "COVER", 8)
    usual = gpu.launch.CHUNK_BYTES
    with standin.installed():
        gpu.by_chunks(0.02, 3, 8, (1, 2))
    lines = capsys.readouterr().out.splitlines()[1:]
    assert [line.split()[:2] for line in lines] == [
        [f"conv{n}", size] for n in range(2, 7) for size in "12"
    ]
    assert usual == gpu.launch.CHUNK_BYTES
