"""Several processes, each with its share of every batch, learn what one would."""

import os
import shutil
import signal
import subprocess
import sys
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from plasticity.cli import main

from plasticity import runs
from plasticity.errors import UserError
from plasticity.events import Layout
from plasticity.learning import ranks
from plasticity.learning.ranks import Ranks
from tests import standin
from tests.kernels import emulation
from tests.processes import reached

SMALL = [
    "--width", "0.03", "--layers", "4", "--images", "80", "--batch", "8", "--dtype", "float64",
    "--no-probe", "--checkpoint-minutes", "0",
]  # fmt: skip
PLAIN = ("--optimiser", "plain", "--lr", "1e-4")


def _missing() -> str:
    beside = os.path.join(os.path.dirname(sys.executable), "mpiexec")
    if not (os.path.exists(beside) or shutil.which("mpiexec")):
        return "needs an MPI launcher: pip install mpi4py mpich"
    try:
        from mpi4py import MPI  # noqa: F401
    except (ImportError, RuntimeError) as error:
        return f"needs mpi4py and an MPI library: {str(error).splitlines()[0]}"
    return ""


def mpi(test):
    missing = _missing()
    return pytest.mark.skipif(bool(missing), reason=missing)(test)


def start(folder, *more, package="plasticity"):
    """A run by two ranks."""
    beside = os.path.join(os.path.dirname(sys.executable), "mpiexec")
    launcher = [beside if os.path.exists(beside) else "mpiexec", "-n", "2"]
    return subprocess.Popen(
        [*launcher, sys.executable, "-m", package, "run", *SMALL, "--out", str(folder),
         *map(str, more)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={
            **os.environ, "PYTHONPATH": os.getcwd(), "OMP_NUM_THREADS": "1",
            emulation.FOLDER: str(emulation.folder()),
        },
    )  # fmt: skip


def one_process(*options):
    """The same command in this process."""
    done = CliRunner().invoke(main, ["run", *map(str, options)])
    assert done.exit_code == 0, done.output


def ended(process):
    output = process.communicate(timeout=300)[0]
    return process.returncode, output


def weights(folder):
    found = runs.load(runs.checkpoint_path(folder))
    return {(la, n): w for la, own in found.params.items() for n, w in own.items()}


def largest_difference(a, b):
    a, b = weights(a), weights(b)
    assert a.keys() == b.keys()
    return max(np.abs(a[key] - b[key]).max() / np.abs(b[key]).max() for key in b)


@mpi
@pytest.mark.parametrize(
    "how",
    [
        (),
        ("--rule", "gim", "--modules", "2+2"),
        ("--rule", "oja", "--optimiser", "plain", "--lr", "0.01"),  # decays: taken by one rank
        ("--rule", "supervised"),
        ("--rule", "clapp_s", "--net", "audio", "--layers", "6", "--samples", "5120"),
        ("--rule", "supervised", "--net", "audio", "--layers", "6", "--samples", "5120"),
        ("--rule", "clapp_s", "--net", "vgg5_video", "--layers", "3", "--clip-frames", "7", *PLAIN),
    ],
    ids=["clapp", "gim", "oja", "supervised", "sound", "phones", "film"],
)
def test_two_ranks_learn_what_one_process_learns(tmp_path, how):
    """On film by the statistics of the whole batch, which travel."""
    process = start(tmp_path / "two", "--steps", 6, *how)
    one_process(*SMALL, "--steps", 6, "--out", tmp_path / "one", *how)
    code, output = ended(process)
    assert code == 0, output
    assert output.count("6 steps of 8 ") == 1, "one rank speaks"
    assert largest_difference(tmp_path / "two", tmp_path / "one") < 1e-12
    two, one = (runs.load(runs.checkpoint_path(tmp_path / name)).metrics for name in ("two", "one"))
    for name in one.keys() - {"seconds"}:
        np.testing.assert_allclose(two[name], one[name], rtol=1e-10, err_msg=name)


@mpi
def test_two_ranks_record_what_one_process_records(tmp_path):
    spec = "layer=1,random=3,prediction=2:1:0;layer=3,neurons=0:1,weights"
    how = ("--steps", 4, "--record", spec, "--record-every", 2)
    process = start(tmp_path / "two", *how)
    one_process(*SMALL, "--out", tmp_path / "one", *how)
    code, output = ended(process)
    assert code == 0, output
    with (
        h5py.File(tmp_path / "two" / "record.h5") as two,
        h5py.File(tmp_path / "one" / "record.h5") as one,
    ):
        names: list[str] = []
        one.visititems(lambda name, it: names.append(name) if hasattr(it, "shape") else None)
        assert len(names) > 10 and len(one[names[0]]) == 2
        for name in names:
            assert two[name].shape == one[name].shape
            if one[name].dtype.kind in "fiub":
                largest = np.abs(one[name][...]).max(initial=0)
                np.testing.assert_allclose(two[name], one[name], atol=1e-11 * largest, err_msg=name)


@mpi
@pytest.mark.skipif(bool(emulation.MISSING), reason=emulation.MISSING)
@pytest.mark.parametrize("how", [(), ("--rule", "gim", "--modules", "1+2")], ids=["clapp", "gim"])
def test_two_gpus_learn_what_one_learns(tmp_path, how):
    """By NCCL, on the stand-in for CuPy."""
    few = ("--layers", 3, "--batch", 4, "--crop", 40, "--prediction-steps", 2, "--steps", 3)
    how = ("--device", "cuda", *few, *how)
    process = start(tmp_path / "two", *how, package="tests.standin")
    with standin.installed():
        one_process(*SMALL, "--out", tmp_path / "one", *how)
    code, output = ended(process)
    assert code == 0, output
    assert largest_difference(tmp_path / "two", tmp_path / "one") < 1e-12


@mpi
@pytest.mark.skipif(bool(emulation.MISSING), reason=emulation.MISSING)
def test_two_ranks_with_one_gpu_are_told(tmp_path):
    how = ("--device", "cuda:1", "--steps", 1)
    code, output = ended(start(tmp_path / "run", *how, package="tests.standin"))
    assert code == 2, output
    assert "ranks 0 and 1 share a GPU, 0000:01:00.0 of " in output and "Traceback" not in output
    assert not (tmp_path / "run").exists()


@mpi
def test_ctrl_c_stops_all_ranks_at_the_same_step_and_one_process_can_go_on(tmp_path):
    folder = tmp_path / "run"
    process = start(folder, "--steps", 5000)
    reached(folder, 2, process)
    process.send_signal(signal.SIGINT)
    code, output = ended(process)
    assert code != 0 and "and saved" in output, output
    step = runs.load(runs.checkpoint_path(folder)).step
    assert step < 5000
    one_process("--resume", folder, "--steps", step + 1, "--no-probe")
    assert runs.load(runs.checkpoint_path(folder)).step == step + 1


@mpi
def test_a_rank_that_dies_ends_the_others_and_the_checkpoint_stays_whole(tmp_path):
    folder = tmp_path / "run"
    process = start(folder, "--steps", 5000)
    reached(folder, 2, process)
    children = subprocess.run(
        ["pgrep", "-f", f"plasticity run.*{folder}"], capture_output=True, text=True
    ).stdout.split()
    victims = [int(pid) for pid in children if int(pid) != process.pid and is_rank(int(pid), 1)]
    os.kill(victims[0], signal.SIGKILL)
    code, output = ended(process)
    assert code != 0
    # The launcher tells it, or MPI in a rank that met the dead one first.
    told = ("BAD TERMINATION", "KILLED", "FATAL ERROR")
    assert any(words in output.upper() for words in told), output
    assert runs.load(runs.checkpoint_path(folder)).step >= 2


@mpi
def test_what_is_wrong_on_all_ranks_is_said_once(tmp_path):
    code, output = ended(start(tmp_path / "run", "--steps", 2, "--batch", 7))
    assert code == 2
    assert output.count("--batch 7 cannot be shared by 2 processes: take a multiple of 2") == 1
    assert "Traceback" not in output
    assert not (tmp_path / "run").exists()


def is_rank(pid, rank):
    """Whether a process is this rank, by what its launcher told it."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            told = file.read().split(b"\0")
    except OSError:
        return False
    return any(b"%s=%d" % (name, rank) in told for name in (b"PMI_RANK", b"OMPI_COMM_WORLD_RANK"))


def test_shares_cover_a_batch_and_rows_find_their_way_there_and_back():
    layout = Layout(3, 6, 2)
    rows = np.arange(layout.rows * 5).reshape(layout.rows, 5)
    parts = []
    for rank in range(3):
        own = Ranks(SimpleNamespace(rank=rank, size=3))
        image = np.arange(6)[own.share(6)]
        mine = rows.reshape(3, 6, 2, 5)[:, image].reshape(-1, 5)
        np.testing.assert_array_equal(own.own(rows, layout), mine)
        parts.append(mine)

    def gathered(z, out):
        out[...] = np.stack(parts)

    one = Ranks(SimpleNamespace(rank=1, size=3, Allgather=gathered))
    np.testing.assert_array_equal(one.gather(parts[1], layout), rows)


def test_ranks_without_nccl_or_with_a_gpu_for_some_of_them_are_told(monkeypatch):
    comm = SimpleNamespace(rank=1, size=2, allgather=lambda card: [("here", "0000:00:00.0"), card])
    with pytest.raises(UserError, match="rank 1 computes on cpu and rank 0 does not"):
        Ranks(comm).connect("cpu")
    with standin.installed():
        import cupy

        monkeypatch.setattr(cupy.cuda.nccl, "available", False)
        with pytest.raises(UserError, match="pip install nvidia-nccl-cu12"):
            Ranks(comm).connect("cuda:0")


def test_weights_that_have_drifted_apart_are_named():
    weights = {"conv1": {"weight": np.zeros(3)}}
    comm = SimpleNamespace(rank=0, size=2)
    comm.allgather = lambda sums: [sums, {name: value + 1 for name, value in sums.items()}]
    with pytest.raises(UserError, match=r"conv1\.weight of rank 1 is not that of rank 0"):
        Ranks(comm).check_alike(weights)


def test_several_processes_without_mpi4py_are_told_what_to_install(monkeypatch):
    monkeypatch.setenv("PMI_SIZE", "2")
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    ranks.world.cache_clear()
    try:
        with pytest.raises(UserError, match=r"pip install '.\[mpi\]'"):
            ranks.world()
    finally:
        ranks.world.cache_clear()


@pytest.mark.parametrize("variable", ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"])
def test_processes_that_do_not_find_each_other_are_told(monkeypatch, variable):
    """A launcher of another MPI: each process would be the only one."""
    alone = SimpleNamespace(size=1, rank=0)
    library = SimpleNamespace(COMM_WORLD=alone, Get_library_version=lambda: "MPICH 5\nmore")
    monkeypatch.setattr(ranks, "_mpi", lambda: library)
    for name in ranks.SIZES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, "3")
    ranks.world.cache_clear()
    with pytest.raises(UserError, match="3 processes were started, but mpi4py's MPI counts 1"):
        ranks.world()
    ranks.world.cache_clear()
