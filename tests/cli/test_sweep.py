"""`plasticity sweep` and `plasticity run --seeds`, as a user sees them."""

import csv
import os
import signal
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner
from plasticity.cli import main

from plasticity import runs

FILE = """
seeds = 2

[run]
data = "sample"
width = 0.03
layers = 1
steps = 2
batch = 4

[probe]
train = 40
test = 30

[[variant]]
name = "An Oja, of 1982"
rule = "oja"

[[variant]]
name = "random"
rule = "random"
"""
KEPT = ("sweep.toml", "table.md", "table.csv", "table.tex", "differences.csv", "table.png",
        "table.svg", "layers.png", "layers.svg", ".lock")  # fmt: skip


def call(*args):
    return CliRunner().invoke(main, [*map(str, args)], env={"COLUMNS": "200"})


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A sweep that nothing interrupted: its file, its folder, its output."""
    folder = tmp_path_factory.mktemp("sweep")
    (folder / "mine.toml").write_text(FILE)
    done = call("sweep", folder / "mine.toml", "--jobs", 1, "--out", folder / "out")
    assert done.exit_code == 0, done.output
    return folder / "mine.toml", folder / "out", done.output


def test_every_row_has_its_runs_and_stands_in_the_table(whole):
    _, out, output = whole
    assert {path.name for path in out.iterdir() if path.is_file()} == set(KEPT)
    places = [path for path in out.iterdir() if path.is_dir()]
    names = ("An Oja,of 1982", "random")
    assert {p.name for p in places} == {f"{name},seed={seed}" for name in names for seed in (0, 1)}
    for place in places:
        assert runs.read_summary(place)["steps"] == (0 if "random" in place.name else 2)
    with open(out / "table.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["row"] for row in rows] == ["An Oja, of 1982", "random"]
    probed = runs.read_json(out / "random,seed=1" / "probe-regularised-sample.json")
    assert float(rows[1]["regularised_probe_seed1"]) == 100 * probed["trained"][-1]
    for part in ("run 4 of 4", "An Oja, of 1982", "±", "Written to"):
        assert part in output


def test_the_file_again_and_its_folder_run_nothing_more(whole):
    file, out, _ = whole
    before = (out / "table.csv").read_bytes()
    for again in (("sweep", file, "--out", out), ("sweep", out)):
        done = call(*again)
        assert done.exit_code == 0 and "All 4 runs are done already" in done.output, done.output
    assert (out / "table.csv").read_bytes() == before
    shown = call("sweep", out, "--show", "--seeds", 3)
    assert shown.exit_code == 0 and "| random" in shown.output
    assert not (out / "random,seed=2").exists()


def test_the_list_says_what_would_run(whole, tmp_path):
    file, _, _ = whole
    done = call("sweep", file, "--list", "--seeds", 5, "--out", tmp_path / "none")
    assert "10 runs: 2 rows, seeds 0, 1, 2, 3, 4" in done.output and "rule=oja" in done.output
    assert not (tmp_path / "none").exists()


def test_a_run_that_fails_is_named_and_the_others_go_on(tmp_path):
    text = FILE.replace("seeds = 2", "seeds = 1").replace(
        'rule = "oja"', 'rule = "clapp_s"\nlr=1e30'
    )
    (tmp_path / "mine.toml").write_text(text.replace("steps = 2", "steps = 9"))
    for jobs in (1, 2):
        done = call("sweep", tmp_path / "mine.toml", "--jobs", jobs, "--out", tmp_path / f"{jobs}")
        assert done.exit_code == 1, done.output
        assert "An Oja,of 1982,seed=0: the loss of conv1 is not finite at step" in done.output
        assert (tmp_path / f"{jobs}" / "random,seed=0" / "summary.json").is_file()


def test_another_sweep_in_the_folder_is_refused(whole, tmp_path):
    _, out, _ = whole
    for text, sentence in (
        (FILE.replace("steps = 2", "steps = 3"), "was made with steps 2, this sweep asks for 3"),
        (FILE.replace("random", "bcm"), "holds another sweep, with 'random'"),
    ):
        (tmp_path / "mine.toml").write_text(text)
        done = call("sweep", tmp_path / "mine.toml", "--out", out)
        assert done.exit_code == 2 and sentence in done.output, done.output


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["none.toml"], "none.toml cannot be read: No such file"),
        (["."], "holds no sweep.toml: it is no folder of a sweep"),
        (["mine.toml", "--seeds", "0"], "0 is not in the range"),
        (["mine.toml", "--on", "tcp://127.0.0.1:1"], "no Dask scheduler answers there"),
        (["mine.toml", "--on", "nonsense://x"], "no Dask scheduler answers there"),
        (["mine.toml", "--show"], "nothing of this sweep has been run"),
        (["mine.toml", "--device", "gpu"], "gpu"),
        (["empty.toml", "--out", "mine.toml"], "is a file"),
    ],
)
def test_bad_input_is_one_sentence_and_status_2(args, sentence, tmp_path, monkeypatch):
    if "--on" in args:
        pytest.importorskip("distributed", reason="distributed is not installed")
        monkeypatch.setattr("plasticity.sweeps.work.PATIENCE", 0.5)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").write_text(FILE)
    (tmp_path / "empty.toml").write_text("")
    done = call("sweep", *args)
    assert done.exit_code == 2 and sentence in done.output.replace("\n", " "), done.output
    assert "Traceback" not in done.output


def test_seeds_of_a_run_are_a_sweep_of_one_row(tmp_path):
    how = ("--rule", "oja", "--width", 0.03, "--layers", 1, "--steps", 2, "--batch", 4)
    how += ("--probe-train", 40, "--probe-test", 30, "--out", tmp_path / "out")
    done = call("run", *how, "--seed", 4, "--seeds", 2)
    assert done.exit_code == 0, done.output
    assert "| oja |" in done.output and "±" in done.output
    seeds = [runs.load(p).options["seed"] for p in sorted(tmp_path.glob("out/*/checkpoint.h5"))]
    assert seeds == [4, 5]
    again = call("sweep", tmp_path / "out")
    assert again.exit_code == 0 and "All 2 runs are done already" in again.output
    for args, sentence in (
        ((*how[2:], "--rule", "ojaa"), "Error: unknown rule 'ojaa': did you mean 'oja'?"),
        (("--resume", tmp_path), "it does not go with --resume"),
        ((*how, "--gate", "shared"), "Error: --gate has no meaning for the rule oja"),
    ):
        done = call("run", *args, "--seeds", 2)
        assert done.exit_code == 2 and sentence in done.output, done.output


def test_interrupted_alone_it_saves_and_goes_on(tmp_path):
    text = FILE.replace("steps = 2", "steps = 4000").replace('"random"\n\n', '"x"\n')
    (tmp_path / "mine.toml").write_text(text.replace("seeds = 2", "seeds = 1"))
    command = [sys.executable, "-m", "plasticity", "sweep", str(tmp_path / "mine.toml")]
    process = subprocess.Popen(
        [*command, "--jobs", "1", "--out", str(tmp_path / "out")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "out" / "An Oja,of 1982,seed=0" / "checkpoint.h5").is_file():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[0]
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 130 and "Traceback" not in output, output
    assert f"go on with:  plasticity sweep {tmp_path}/out" in output
    assert not (tmp_path / "out" / "random,seed=0").exists()
    assert not list(tmp_path.glob("out/.carrying-out-*"))


def test_fewer_seeds_on_a_later_call_leave_the_list_of_seeds_as_it_was(whole):
    file, out, _ = whole
    before = (out / "sweep.toml").read_text()
    done = call("sweep", file, "--seeds", 1, "--jobs", 1, "--out", out)
    assert done.exit_code == 0, done.output
    from plasticity import sweeps

    assert sweeps.read(out / "sweep.toml").seeds == (0, 1)
    done = call("sweep", out, "--jobs", 1)
    assert done.exit_code == 0 and "All 4 runs are done already" in done.output, done.output
    assert (out / "sweep.toml").read_text().count("variant") == before.count("variant")


def test_probe_figures_of_a_sweep_have_the_data_set_and_the_level_of_chance(whole):
    _, out, _ = whole
    for name in ("table", "layers"):
        text = (out / f"{name}.svg").read_text()
        assert "chance, 1 of 10" in text and "sample" in text
