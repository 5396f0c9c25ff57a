"""Checkpoints, recordings and configurations that are damaged: a sentence, whatever the damage.

Seeds are fixed. `FUZZ=500 pytest tests/test_damaged.py` tries more of each.
"""

import json
import os
import random
import shutil

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from plasticity.cli import main

from plasticity import inspection, runs
from plasticity.errors import UserError
from plasticity.runs import lifecycle, training
from plasticity.runs.options import RunOptions

COUNT = int(os.environ.get("FUZZ", "25"))
SMALL = {"width": 0.03, "batch": 4, "layers": 2, "steps": 2, "dtype": "float64"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A small run with a recording."""
    folder = tmp_path_factory.mktemp("damaged") / "run"
    call = ["run", *(str(w) for n, v in SMALL.items() for w in (f"--{n}", v)), "--no-probe"]
    call += ["--record", "layer=1,random=3;layer=2,neurons=0:1", "--record-every", "1"]
    assert CliRunner().invoke(main, [*call, "--out", str(folder)]).exit_code == 0
    return folder


@pytest.fixture
def copy(made, tmp_path):
    return shutil.copytree(made, tmp_path / "run")


def datasets(file):
    found = []
    file.visititems(lambda n, o: found.append(n) if isinstance(o, h5py.Dataset) else None)
    return sorted(found)


def cut(path, rng):
    content = path.read_bytes()
    path.write_bytes(content[: rng.randrange(len(content))])


def flipped(path, rng):
    content = bytearray(path.read_bytes())
    for _ in range(rng.choice([1, 1, 20])):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def without(path, rng):
    with h5py.File(path, "r+") as file:
        del file[rng.choice(datasets(file))]


def shaped(path, rng):
    with h5py.File(path, "r+") as file:
        name = rng.choice(datasets(file))
        del file[name]
        shape = rng.choice([(), (0,), (1,), (3, 2), (2, 2, 2), (10**9,), (1, 10**6, 10**6)])
        large = np.prod(shape, dtype=float) > 1e6
        file.create_dataset(name, shape, "f8", chunks=(1,) * len(shape) if large else None)


def typed(path, rng):
    with h5py.File(path, "r+") as file:
        name = rng.choice(datasets(file))
        shape = file[name].shape
        del file[name]
        kind = rng.choice(["i4", "c16", "S3", h5py.string_dtype(), h5py.special_dtype(vlen=float)])
        file.create_dataset(name, shape, kind)


def grouped(path, rng):
    with h5py.File(path, "r+") as file:
        name = rng.choice(datasets(file))
        del file[name]
        file.create_group(name)


def not_finite(path, rng):
    with h5py.File(path, "r+") as file:
        name = rng.choice([n for n in datasets(file) if file[n].dtype.kind == "f"])
        values = file[name][()]
        values[...] = rng.choice([np.nan, np.inf])
        del file[name]
        file[name] = values


def told(path, rng):
    odd = ["", "{", "[]", "null", -1, 2.5, 2**63, "x" * 10, np.zeros(3), "[" * 9999, b"\xff"]
    with h5py.File(path, "r+") as file:
        file.attrs[rng.choice(sorted(file.attrs))] = rng.choice(odd)


def untold(path, rng):
    with h5py.File(path, "r+") as file:
        del file.attrs[rng.choice(sorted(file.attrs))]


def optional(path, rng):
    """An option of another type or out of all bounds."""
    odd = [None, -1, 0, 1e308, 10**30, "", "x", [], {}, {"a": 1}, True, float("nan"), "../.."]
    with h5py.File(path, "r+") as file:
        if "options" in file.attrs:
            options = json.loads(file.attrs["options"])
            options[rng.choice([*options, "unknown"])] = rng.choice(odd)
            file.attrs["options"] = json.dumps(options)


DAMAGES = [cut, flipped, without, shaped, typed, grouped, not_finite, told, untold, optional]
READERS = {
    "checkpoint.h5": [
        lambda run: lifecycle.resume(run, {}, set()),
        lambda run: inspection.open_run(run),
        lambda run: lifecycle.reopen(run),
    ],
    "record.h5": [
        lambda run: {n: a for n, a in inspection.read(run).items()},
        lambda run: inspection.read(run).overview(),
        lambda run: inspection.read(run).trace("conv1", (0, 0, 0, 0)),
    ],
}


@pytest.mark.parametrize("file", READERS)
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_file_is_a_sentence_or_the_numbers_that_were_written(damage, file, copy, made):
    """And it never takes memory that the file's own size does not warrant."""
    path, whole = copy / file, (made / file).read_bytes()
    for seed in range(max(1, COUNT // len(DAMAGES))):
        for reader in READERS[file]:
            path.write_bytes(whole)
            damage(path, random.Random(f"{damage.__name__} {seed}"))
            try:
                reader(copy)
            except UserError as error:
                assert str(error) and "\n" not in str(error).strip()


def test_every_flipped_bit_of_an_array_is_noticed(copy):
    path, rng = copy / "checkpoint.h5", random.Random(0)
    whole = path.read_bytes()
    with h5py.File(path) as file:
        places = [
            (file[name].id.get_offset(), file[name].nbytes)
            for name in datasets(file)
            if file[name].id.get_offset() is not None
        ]
    for _ in range(3 * COUNT):
        start, size = rng.choice(places)
        content = bytearray(whole)
        content[start + rng.randrange(size)] ^= 1 << rng.randrange(8)
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"checksum|not finite"):
            runs.load(path)


def test_a_step_that_was_changed_is_noticed(copy):
    with h5py.File(copy / "checkpoint.h5", "r+") as file:
        file.attrs["citation"] = "somebody else"
    with pytest.raises(UserError, match="attributes do not have the checksum"):
        runs.load(copy / "checkpoint.h5")


def test_a_checkpoint_without_checksums_opens(copy):
    """Version 0.1.0 wrote none."""
    path = copy / "checkpoint.h5"
    with h5py.File(path, "r+") as file:
        del file.attrs["attributes_crc32"]
        for name in datasets(file):
            del file[name].attrs["crc32"]
    assert runs.load(path).step == 2


def test_moments_of_another_shape_never_reach_the_kernels(copy):
    path = copy / "checkpoint.h5"
    stored = runs.load(path)
    stored.moments["conv1"]["weight"]["m"] = np.zeros(1)
    runs.save(path, stored)
    with pytest.raises(UserError, match=r"optimiser/conv1/weight/m holds shape \(1,\), expected"):
        lifecycle.resume(copy, {}, set())


VALUES = [None, -1, 0, 1e308, 10**30, "", "x", True, "nan", "clapp", [1], {"a": 1}, "\x00", "~"]


@pytest.mark.parametrize("part", range(5))
def test_a_damaged_configuration_is_a_sentence(part, tmp_path, made):
    text = (made / "config.toml").read_text()
    for seed in range(part, COUNT, 5):
        rng = random.Random(f"toml {seed}")
        lines = text.splitlines()
        at = rng.randrange(len(lines))
        kind = rng.choice(["cut", "value", "name", "flip", "twice"])
        if kind == "cut":
            damaged = text[: rng.randrange(len(text))]
        elif kind == "flip":
            content = bytearray(text.encode())
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
            damaged = bytes(content)
        else:
            name = lines[at].split(" = ")[0]
            lines[at] = {
                "value": f"{name} = {json.dumps(rng.choice(VALUES))}",
                "name": "".join(rng.sample(name, len(name))) + " = 1",
                "twice": f"{lines[at]}\n{lines[at]}",
            }[kind]
            damaged = "\n".join(lines)
        path = tmp_path / "config.toml"
        path.write_bytes(damaged if isinstance(damaged, bytes) else damaged.encode())
        # Everything that can be wrong is said before the first step.
        call = ["run", "--config", str(path), "--steps", "1", "--out", str(tmp_path / "out")]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(training, "train", lambda *args, **how: True)
            done = CliRunner().invoke(main, [*call, "--no-probe"])
        assert done.exit_code in (0, 2), (damaged, done.output, done.exc_info)
        assert done.exception is None or isinstance(done.exception, SystemExit), damaged
        shutil.rmtree(tmp_path / "out", ignore_errors=True)


def test_options_of_another_type_are_named():
    for name, value, sentence in (
        ("steps", 2.5, "steps should be a whole number"),
        ("lr", "fast", "lr should be a finite number"),
        ("coin", 1, "coin should be true or false"),
        ("set", {"a": [1]}, "set should be texts by name"),
        ("seed", True, "seed should be a whole number"),
    ):
        with pytest.raises(UserError, match=sentence):
            RunOptions.from_dict({name: value})
