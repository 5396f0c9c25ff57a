"""Odd names, numbers, rights, encodings and terminals: a sentence or the right thing."""

import errno
import os
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from plasticity.cli import in_words, main
from plasticity.cli.console import quoted

from plasticity.errors import UserError
from plasticity.runs.options import RunOptions

SMALL = ["--width", "0.03", "--layers", "2", "--images", "16", "--batch", "4", "--steps", "2"]


def call(*args, charset="utf-8", columns="80"):
    runner = CliRunner(charset=charset)
    return runner.invoke(main, [str(a) for a in args], env={"COLUMNS": columns})


def images(folder, *classes):
    rng = np.random.default_rng(0)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for i in range(6):
            pixels = rng.integers(0, 255, (70, 70), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run in a folder whose name holds blanks, brackets and a code of an emoji."""
    folder = tmp_path_factory.mktemp("odd") / "a b[/b] [bold]:smile:"
    data = images(folder.parent / "[images]", "é", "[/c]")
    out = folder / "run"
    done = call("run", *SMALL, "--data", data, "--out", out, "--no-probe", columns="20")
    assert done.exit_code == 0, done.output
    return out, done.output


def test_a_printed_command_holds_the_path_as_a_shell_takes_it(made):
    folder, output = made
    line = next(line for line in output.splitlines() if line.startswith("Train on:"))
    assert shlex.split(line.split("Train on:")[1])[:4] == [
        "plasticity", "run", "--resume", str(folder),
    ]  # fmt: skip
    assert quoted("-x") == "./-x"


def test_a_narrow_terminal_cuts_no_number(made):
    done = call("probe", made[0], "--train", 4, "--test", 4, columns="20")
    table = done.output[done.output.index("Linear probe") :]
    assert "…" not in table and "conv2" in table and "random weights" in table


def test_no_path_loses_its_brackets(made):
    folder, output = made
    assert f"run folder {folder}" in output and f"Written to {folder}" in output
    for args in (
        ["probe", folder, "--train", 4, "--test", 4],
        ["plot", folder, "losses"],
        ["export", folder],
        ["inspect", folder, "--layer", 1, "--csv", folder / "t.csv"],
    ):
        done = call(*args, columns="20")
        assert done.exit_code == 0, done.output
        assert f"Written to {folder}/" in done.output


def test_figures_are_drawn_of_names_with_dollars_and_without_letters(tmp_path):
    folder = tmp_path / os.fsdecode(b"\xff $x$ $\\frac$")
    data = images(folder / "data", "$a$", "z")
    run = [*SMALL, "--data", data, "--out", folder / "run", "--no-probe"]
    for args in (["run", *run], ["plot", folder / "run", "losses", "--format", "svg"]):
        done = call(*args)
        assert done.exit_code == 0, done.output
    drawn = (folder / "run/figures/losses.svg").read_text(encoding="utf-8")
    letters = re.sub(r"<[^>]*>|\s", "", drawn)  # a long title has several lines
    assert r"\udcff$x$$\frac$" in letters or r"\xff$x$$\frac$" in letters


@pytest.mark.parametrize("what", ["--layer", "--rule", "--device"])
def test_markup_in_an_option_is_text(made, what):
    done = call("inspect", made[0], *([] if what == "--layer" else ["--layer", 1]), what, "[/b]")
    assert done.exit_code == 2 and "[/b]" in done.output


def test_accented_classes_are_told_in_ascii(tmp_path):
    done = call("data", images(tmp_path / "ä", "é", "z"), charset="ascii")
    assert done.exit_code == 0, done.output
    assert r"\xe9" in done.output


def test_names_that_are_not_utf_8_are_told(tmp_path):
    images(tmp_path / os.fsdecode(b"\xff"), os.fsdecode(b"\xe9"), "z")
    done = call("data", tmp_path / os.fsdecode(b"\xff"))
    assert done.exit_code == 0, done.output


def test_a_reader_that_has_seen_enough_does_not_end_a_run(tmp_path):
    command = [sys.executable, "-m", "plasticity", "run", *SMALL, "--no-probe", "--out"]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [*command, str(tmp_path / "run")],
        stdout=writer,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        timeout=120,
    )
    os.close(writer)
    assert done.returncode == 0 and done.stderr == b""
    assert (tmp_path / "run" / "summary.json").is_file()


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "/a/b"), "/a/b cannot be used: Perm"),
        (OSError(errno.EXDEV, "Across", "a", None, "b"), "a and b cannot be used: Across"),
        (OSError("no number"), "no number"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "odd"), "cannot be read or written"),
        (MemoryError("3 TiB"), "not enough memory (3 TiB)"),
    ],
)
def test_errors_of_the_machine_are_told_in_one_place(error, sentence, monkeypatch, tmp_path):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr("plasticity.runs.lifecycle.folder_of", fail)
    done = call("run", "--out", tmp_path / "a")
    assert done.exit_code == 2 and done.output.startswith("Error: ")
    assert sentence in done.output and len(done.output.splitlines()) == 1


def test_an_error_of_the_program_is_no_sentence():
    assert in_words(KeyError("x")) is None and in_words(BrokenPipeError(errno.EPIPE, "x")) is None


def test_ctrl_c_is_a_word_and_status_130(monkeypatch, tmp_path):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("plasticity.runs.lifecycle.folder_of", interrupt)
    done = call("run", "--out", tmp_path / "a")
    assert (done.exit_code, done.output) == (130, "Interrupted.\n")


@pytest.mark.parametrize(
    "args",
    [
        ("run", "--seed", 2**64),
        ("run", "--steps", 2**60),
        ("run", "--width", "inf"),
        ("run", "--width", "1e9"),
        ("run", "--lr", "nan"),
        ("run", "--checkpoint-minutes", "nan"),
        ("run", "--config", ""),
        ("run", "--out", ""),
        ("probe", "RUN", "--train", -1),
        ("probe", "RUN", "--views", 0),
        ("plot", "RUN", "hinge", "--seed", -1),
        ("plot", "RUN", "hinge", "--images", -1),
        ("plot", "RUN", "hinge", "--out", ""),
        ("verify", "--gain", "nan"),
        ("verify", "--tolerance", "nan"),
        ("inspect", "--layer", 1, "--gain", 0),
        ("inspect", "RUN", "--layer", 1, "--top", -1),
        ("analyse", "cpc-gradient", "--gain", "inf"),
        ("data", "make", "speech", "--hours", "nan"),
        ("data", "make", "speech", "--seed", 2**64),
    ],
)
def test_numbers_beyond_sense_and_empty_paths_are_status_2(made, args):
    done = call(*(made[0] if arg == "RUN" else arg for arg in args))
    assert done.exit_code == 2 and isinstance(done.exception, SystemExit)
    assert args[-2].removeprefix("--").replace("-", "_") in done.output.replace("-", "_")


def test_a_large_seed_draws_a_plot(made):
    pytest.importorskip("sklearn")
    done = call("plot", made[0], "hinge", "kernels", "--seed", 2**32, "--images", 4)
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize(
    "line",
    [
        "seed = true",
        "seed = 1.5",
        'seed = "1"',
        'lr = "a"',
        'probe = "yes"',
        "coin = 7",
        "net = true",
        "data = 1979-05-27",
        'data = "a\\u0000"',
        'out = "a\\u0000"',
        'out = ""',
        "set = 3",
    ],
)
def test_a_configuration_of_other_types_is_a_sentence(line, tmp_path):
    (tmp_path / "c.toml").write_text(line)
    done = call("run", *SMALL, "--config", tmp_path / "c.toml")
    assert done.exit_code == 2 and isinstance(done.exception, SystemExit), done.output
    assert line.split()[0] in done.output


def test_a_configuration_cannot_ask_for_its_own_trust(tmp_path):
    for line in ('trusted = "yes"', "trusted = true", "trust = true"):
        (tmp_path / "c.toml").write_text(f'rule = "{tmp_path}/x.py"\n{line}\n')
        done = call("run", *SMALL, "--config", tmp_path / "c.toml")
        assert done.exit_code == 2 and "unknown key 'trust" in done.output


def test_options_of_other_types_are_refused_wherever_they_come_from():
    for name, value in (("seed", True), ("lr", "a"), ("set", 3), ("net", True), ("batch", 2.0)):
        with pytest.raises(UserError, match=f"the option {name} should be"):
            RunOptions(**{name: value})
    assert RunOptions(width=1, batch=np.int64(3)).batch == 3


def test_the_home_is_known_in_a_configuration(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "c.toml").write_text('out = "~/run"\nprobe = false\n')
    done = call("run", *SMALL, "--config", tmp_path / "c.toml")
    assert done.exit_code == 0 and (tmp_path / "run" / "checkpoint.h5").is_file(), done.output
