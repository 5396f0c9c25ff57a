"""A newcomer's first hour as README and docs have it, narrow: one folder, commands and Python."""

import csv
import time
from itertools import pairwise

import numpy as np
import pytest
from click.testing import CliRunner
from plasticity.cli import main

import plasticity as pl
from plasticity import sweeps
from tests.sweeps.test_work import dask

torch = pytest.importorskip("torch")

SMALL = ["--width", "0.05", "--batch", "4", "--device", "cpu"]
SWEEP = """
seeds = 3

[run]
data = "sample"
width = 0.05
layers = 2
steps = 6
batch = 4
device = "cpu"

[grid]
rule = ["clapp", "hinge_cpc", "oja"]

[probe]
train = 60
test = 40
"""


def call(*args):
    done = CliRunner().invoke(main, [*map(str, args)], env={"COLUMNS": "160"})
    assert done.exit_code == 0, done.output
    return done.output


def published(width):
    """A state dict under the names of the published code: `nn.Conv2d`s and `W_k` in modules."""
    sizes = [1, *(max(1, round(width * n)) for n in (128, 256, 256, 512, 1024, 1024))]
    found, rng = {}, torch.Generator().manual_seed(0)
    for module, (inputs, outputs) in enumerate(pairwise(sizes)):
        name = f"encoder.{module}"
        conv = f"{name}.model.0"
        found[f"{conv}.weight"] = torch.randn(outputs, inputs, 3, 3, generator=rng) / 9
        found[f"{conv}.bias"] = torch.zeros(outputs)
        for k in range(5):
            w = torch.randn(outputs, outputs, 1, 1, generator=rng) / outputs
            found[f"{name}.loss.W_k.{k}.weight"] = w
    return found


def test_the_first_hour_goes_through_in_a_minute(tmp_path, monkeypatch):
    pytest.importorskip("distributed", reason="distributed is not installed")
    sklearn = pytest.importorskip("sklearn.pipeline")
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    from plasticity.sklearn import Encoder

    began = time.process_time()  # of the whole machine it says how busy others keep it
    monkeypatch.chdir(tmp_path)

    # A run, narrow, with what it leaves.
    output = call("run", "--rule", "clapp", *SMALL, "--steps", 12, "--out", "runs/first",
                  "--keep-weights", 4, "--probe-train", 60, "--probe-test", 40)  # fmt: skip
    assert "Train on:  plasticity run --resume runs/first" in output
    for name in ("checkpoint.h5", "summary.json", "losses.png", "probe.png", "weights.h5"):
        assert (tmp_path / "runs" / "first" / name).is_file()

    # Three rules by three seeds, on two Dask workers.
    (tmp_path / "rules.toml").write_text(SWEEP)
    (tmp_path / "dask").mkdir()
    with dask(tmp_path / "dask", 2) as (address, _):
        output = call("sweep", "rules.toml", "--on", address)
    assert "run 9 of 9" in output
    results = tmp_path / "sweeps" / "rules"
    rows = list(csv.DictReader((results / "table.csv").open()))
    assert {row["row"] for row in rows} == {"clapp", "hinge_cpc", "oja"}
    assert "p (Holm)" in (results / "table.md").read_text() or "Holm" in output
    assert (results / "table.png").stat().st_size > 10_000
    assert len(sweeps.read(results / "sweep.toml").experiments()) == 9

    # Weights of a state dict of torch, under the published names.
    weights = published(0.05)
    torch.save(weights, "published.pt")
    call("import", "published.pt", "--net", "vgg6", "--device", "cpu", "--out", "runs/published")
    imported = pl.open("runs/published").weights["conv2"]["weight"]
    assert np.array_equal(imported, weights["encoder.1.model.0.weight"].numpy())

    # Both beside each other on one page, and encodings in a pipeline of scikit-learn.
    call("report", "runs/first", "runs/published", "--out", "both.html")
    images = np.random.default_rng(0).integers(0, 256, (20, 64, 64), dtype=np.uint8)
    labels = np.arange(20) % 2
    steps = Encoder("runs/first"), StandardScaler(), LogisticRegression()
    told = sklearn.make_pipeline(*steps).fit(images, labels).predict(images)
    assert told.shape == labels.shape
    assert pl.open("runs/first").weights_at(8)["conv1"]["weight"].shape[1:] == (1, 3, 3)
    assert time.process_time() - began < 60
