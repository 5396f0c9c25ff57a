"""Code that comes with a run is executed only where its user has agreed."""

import json
import os
import shutil

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from plasticity.cli import main

from plasticity import inspection, runs, trust
from plasticity.errors import UserError
from plasticity.reports import plots
from plasticity.runs import lifecycle
from tests.golden import FIXTURES

EARLIER = FIXTURES / "run_0_1_0" / "begun"  # somebody's run, with a rule and a network of its own
MARKED = "\nfrom pathlib import Path\nPath({!r}).touch()\n"


def call(*args):
    return CliRunner().invoke(main, [*map(str, args)])


@pytest.fixture(autouse=True)
def stranger(monkeypatch, tmp_path):
    """A user who has agreed to nothing yet."""
    monkeypatch.setenv(trust.PLACE, str(tmp_path / "state"))
    monkeypatch.setattr(trust, "_agreed", set())


@pytest.fixture
def theirs(tmp_path):
    """A run whose rule leaves a mark when it is executed."""
    folder, mark = tmp_path / "theirs", tmp_path / "mark"
    shutil.copytree(EARLIER, folder)
    with open(folder / "rule.py", "a") as file:
        file.write(MARKED.format(str(mark)))
    bind(folder, "rule.py")
    return folder, mark


def bind(folder, name):
    """Let the checkpoint name the text that the copy has now."""
    from plasticity import plugins

    change(folder, lambda o: o["files"].update({o[name[:-3]]: plugins.digest(str(folder / name))}))


def change(folder, how):
    with h5py.File(folder / "checkpoint.h5", "r+") as file:
        options = json.loads(file.attrs["options"])
        how(options)
        file.attrs["options"] = json.dumps(options)


COMMANDS = {
    "resume": ("run", "--resume", "RUN"),
    "probe": ("probe", "RUN"),
    "inspect": ("inspect", "RUN", "--layer", "1"),
    "plot": ("plot", "RUN", "losses"),
    "report": ("report", "RUN"),
    "verify": ("verify", "RUN"),
    "export": ("export", "RUN"),
    "analyse": ("analyse", "cpc-gradient", "RUN"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_executes_what_came_with_a_run(name, theirs):
    folder, mark = theirs
    done = call(*(folder if word == "RUN" else word for word in COMMANDS[name]))
    assert done.exit_code == 2 and not mark.exists()
    said = done.output.replace("\n", " ")
    assert "rule.py" in said or "net.py" in said
    assert "SHA-256" in said and "--trust" in said


def test_python_asks_too(theirs):
    folder, mark = theirs
    for opened in (lifecycle.reopen, inspection.open_run, plots.open_look):
        with pytest.raises(UserError, match="--trust"):
            opened(folder)
    assert not mark.exists()
    assert lifecycle.reopen(folder, trusted=True).rule.name == "mine" and mark.exists()


def test_who_agrees_runs_it_this_time_alone(theirs, monkeypatch):
    folder, mark = theirs
    assert call("export", folder, "--trust").exit_code == 0 and mark.exists()
    monkeypatch.setattr(trust, "_agreed", set())  # another process
    assert call("export", folder).exit_code == 2


def test_who_has_named_a_file_on_this_machine_is_not_asked_again(tmp_path, monkeypatch):
    for name in ("rule", "net"):
        shutil.copy(EARLIER / f"{name}.py", tmp_path / f"my_{name}.py")
    mine = ["--rule", tmp_path / "my_rule.py", "--net", tmp_path / "my_net.py"]
    small = ["--width", "0.05", "--batch", "4", "--steps", "1", "--no-probe"]
    assert call("run", *mine, *small, "--out", tmp_path / "run").exit_code == 0
    monkeypatch.setattr(trust, "_agreed", set())  # another process
    for name in ("rule", "net"):
        (tmp_path / f"my_{name}.py").unlink()
    assert call("export", tmp_path / "run").exit_code == 0
    assert call("run", "--config", tmp_path / "run" / "config.toml").exit_code == 2  # not there


@pytest.mark.parametrize("files", [{}, {"other.py": "0" * 64}])
def test_a_file_without_its_digest_is_refused_even_with_trust(theirs, files):
    folder, mark = theirs
    change(folder, lambda options: options.update(files=files))
    done = call("export", folder, "--trust")
    assert done.exit_code == 2 and "without the SHA-256" in done.output.replace("\n", " ")
    assert not mark.exists()


def test_a_path_outside_of_the_runs_folder_is_never_executed(theirs, tmp_path):
    folder, mark = theirs
    (folder / "rule.py").rename(tmp_path / "elsewhere.py")

    def elsewhere(options):
        path = str(tmp_path / "elsewhere.py")
        options["files"][path] = options["files"].pop(options["rule"])
        options["rule"] = path

    change(folder, elsewhere)
    done = call("export", folder, "--trust")
    assert done.exit_code == 2 and "lacks its rule.py" in done.output and not mark.exists()
    again = call("probe", folder, "--trust", "--rule", tmp_path / "elsewhere.py", "--train", "30",
                 "--test", "20")  # fmt: skip
    assert again.exit_code == 0, again.output


def test_a_copy_with_another_text_is_refused(theirs):
    folder, mark = theirs
    with open(folder / "rule.py", "a") as file:
        file.write("# changed\n")
    done = call("export", folder, "--trust")
    assert done.exit_code == 2 and "another text" in done.output and not mark.exists()


def test_a_configuration_of_somebody_elses_is_code_too(theirs, tmp_path):
    folder, mark = theirs
    config = tmp_path / "config.toml"
    config.write_text(f"rule = {json.dumps(str(folder / 'rule.py'))}\nsteps = 1\n")
    done = call("run", "--config", config, "--out", tmp_path / "run")
    assert done.exit_code == 2 and "--trust" in done.output and not mark.exists()


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="users and rights as POSIX has them")
def test_agreements_that_others_could_have_written_do_not_count(theirs):
    folder, mark = theirs
    with h5py.File(folder / "checkpoint.h5") as file:
        for path, digest in json.loads(file.attrs["options"])["files"].items():
            trust.remember(digest, path)
    trust.place().chmod(0o666)
    trust._agreed.clear()
    assert call("export", folder).exit_code == 2 and not mark.exists()
    trust.place().chmod(0o600)
    assert call("export", folder).exit_code == 0


@pytest.mark.parametrize("link", ["external", "soft", "virtual", "stored outside"])
def test_nothing_is_read_through_links_that_lead_out_of_the_file(theirs, tmp_path, link):
    folder, _ = theirs
    np.zeros((1,)).tofile(tmp_path / "outside.bin")
    with h5py.File(tmp_path / "outside.h5", "w") as other:
        other["w"] = np.zeros(1)
    with h5py.File(folder / "checkpoint.h5", "r+") as file:
        del file["weights/one/bias"]
        if link == "external":
            file["weights/one/bias"] = h5py.ExternalLink(str(tmp_path / "outside.h5"), "w")
        elif link == "soft":
            file["weights/one/bias"] = h5py.SoftLink("/weights/three/bias")
        elif link == "virtual":
            layout = h5py.VirtualLayout((1,), "f8")
            layout[:] = h5py.VirtualSource(str(tmp_path / "outside.h5"), "w", (1,))
            file["weights/one"].create_virtual_dataset("bias", layout)
        else:
            file["weights/one"].create_dataset(
                "bias", (1,), "f8", external=[(str(tmp_path / "outside.bin"), 0, 8)]
            )
    with pytest.raises(UserError, match=r"weights/one/bias.*leads out of the file|no link"):
        runs.load(folder / "checkpoint.h5")
