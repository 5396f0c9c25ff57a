"""Runs carried out by joblib: processes that are killed, errors of the program, Dask's workers."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from plasticity import sweeps
from plasticity.errors import UserError
from plasticity.sweeps import work

RUN = '[run]\ndata = "sample"\nwidth = 0.03\nlayers = 1\nsteps = 2\nbatch = 4\nprobe = false\n'


def runs_of(text):
    return sweeps.parse(RUN + text, "mine").experiments()


def silent(*told):
    pass


def test_an_error_of_the_program_ends_that_run_alone_and_is_kept(tmp_path, monkeypatch):
    def broken(wanted, *others):
        if wanted.options.rule == "oja":
            (tmp_path / wanted.name).mkdir()
            raise ZeroDivisionError("by nothing")
        return carry_out(wanted, *others)

    carry_out = work.carry_out
    monkeypatch.setattr(work, "carry_out", broken)
    failed = sweeps.carry_out_all(runs_of('[grid]\nrule = ["oja", "random"]'), tmp_path, 1, silent)
    assert list(failed) == ["oja,seed=0"]
    assert failed["oja,seed=0"].startswith("ZeroDivisionError: by nothing (in full: ")
    assert "Traceback" in (tmp_path / "oja,seed=0" / "error.txt").read_text()
    assert (tmp_path / "random,seed=0" / "summary.json").is_file()


KILLS_ITSELF = """
import os
from dataclasses import dataclass
from multiprocessing import current_process

from plasticity.arrays import array_module
from plasticity.rule import Learning, Rule

@dataclass(frozen=True)
class Deadly(Rule):
    name = "deadly"
    equation = "dW = 0"

    def learn(self, z, own, draw, layout):
        if current_process().name.startswith("Loky"):
            os.kill(os.getpid(), 9)
        xp = array_module(z)
        return Learning(drive=z / len(z), loss=xp.zeros(()), open_gates=xp.ones(()))
"""


def test_a_run_whose_process_is_killed_fails_alone(tmp_path):
    (tmp_path / "deadly.py").write_text(KILLS_ITSELF)
    text = f'[grid]\nrule = ["{tmp_path}/deadly.py", "oja", "random"]'
    wanted = sweeps.parse(RUN + text, "mine", trusted=True).experiments()
    told = []
    failed = sweeps.carry_out_all(wanted, tmp_path, 2, lambda *what: told.append(what))
    assert failed == {"deadly,seed=0": "its process was killed, for want of memory perhaps"}
    ended = {name for name, what, *_ in told if what == sweeps.DONE}
    assert ended == {e.name for e in wanted} - set(failed)


def test_nothing_is_left_of_the_bench(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    left = tmp_path / f"{work.MARK}{gone.pid}"
    left.mkdir()
    assert sweeps.carry_out_all(runs_of('[grid]\nrule = ["random"]'), tmp_path, 1, silent) == {}
    assert [path.name for path in tmp_path.iterdir()] == ["random,seed=0"]


def test_who_carries_out_a_run_stops_when_it_is_asked_to(tmp_path):
    bench = work.Bench(tmp_path, os.getpid())
    link = work._Link(bench, "x")
    assert not link.stopped()
    bench.stop()
    time.sleep(work.EVERY)
    assert link.stopped() and link.stopped()
    (wanted,) = runs_of("")
    assert work._carried_out(wanted, tmp_path, bench) == ("clapp,seed=0", False, "")
    away = work.Bench(tmp_path / "nowhere", os.getpid())
    assert "all machines must see it" in work._carried_out(wanted, tmp_path, away)[2]


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory):
    """A Dask scheduler with two workers, in processes of their own on loopback."""
    pytest.importorskip("distributed", reason="distributed is not installed")
    with dask(tmp_path_factory.mktemp("dask"), 2) as (address, _):
        yield address


@contextmanager
def dask(folder, workers):
    """A scheduler's address, and the processes of its workers."""
    cli = [sys.executable, "-m", "distributed.cli"]
    python = {**os.environ, "PYTHONPATH": os.getcwd(), "OMP_NUM_THREADS": "1"}
    how = {"cwd": folder, "env": python, "stdout": subprocess.DEVNULL, "stderr": subprocess.STDOUT}
    address, started = folder / "scheduler.json", []
    try:
        for part in (
            ["scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"],
            *workers * [["worker", "--nthreads", "1", "--no-dashboard", "--no-nanny"]],
        ):
            command = [cli[0], "-m", f"distributed.cli.dask_{part[0]}", *part[1:]]
            command += ["--scheduler-file", str(address)]
            started.append(subprocess.Popen(command, **how))
        from distributed import Client

        with Client(scheduler_file=str(address), timeout=60) as client:
            client.wait_for_workers(workers, timeout=60)
            yield client.scheduler.address, started[1:]
    finally:
        for process in started:
            process.kill()
        for process in started:
            process.wait(30)


def test_dasks_workers_carry_out_runs_and_the_failed_is_named(scheduler, tmp_path):
    wanted = runs_of('[grid]\nrule = ["oja", "random"]\n[[variant]]\nname = "a"\n')
    bad = runs_of('[[variant]]\nname = "bad"\nrule = "clapp_s"\nlr = 1e30\nlonger = 9')
    told = []
    failed = sweeps.carry_out_all(
        [*bad, *wanted], tmp_path, 1, lambda *what: told.append(what), on=scheduler
    )
    assert list(failed) == ["bad,seed=0"] and "is not finite" in failed["bad,seed=0"]
    assert {name for name, what, *_ in told if what == sweeps.DONE} == {e.name for e in wanted}
    assert all(e.complete(tmp_path) for e in wanted)


def test_dasks_workers_save_when_they_are_asked_to_stop(scheduler, tmp_path):
    wanted = runs_of('[[variant]]\nname = "long"\nlonger = 100000')

    def interrupt(name, what, done, total):
        if done > 0:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        sweeps.carry_out_all(wanted, tmp_path, 1, interrupt, on=scheduler)
    from plasticity import runs

    stored = runs.load(tmp_path / "long,seed=0" / "checkpoint.h5")
    assert 0 < stored.step < 200000
    assert not list(tmp_path.glob(f"{work.MARK}*"))


def test_workers_that_are_gone_are_not_waited_for_for_ever(tmp_path, monkeypatch):
    pytest.importorskip("distributed", reason="distributed is not installed")
    monkeypatch.setattr(work, "PATIENCE", 1)
    (tmp_path / "dask").mkdir()
    wanted = runs_of('[[variant]]\nname = "long"\nlonger = 100000')
    with dask(tmp_path / "dask", 1) as (address, (worker,)):

        def kill(name, what, done, total):
            if done > 0:
                worker.kill()

        with pytest.raises(UserError, match="its last worker is gone, and none has come"):
            sweeps.carry_out_all(wanted, tmp_path / "runs", 1, kill, on=address)
    assert not list((tmp_path / "runs").glob(f"{work.MARK}*"))
