"""Encodings of arrays that a user hands over, and of a data set into a file."""

import errno
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np

from plasticity import hdf5
from plasticity.arrays import Array, array_module, received, to_device, to_host
from plasticity.data import ImageSet
from plasticity.data.clips import ClipSet
from plasticity.data.utterances import Speech
from plasticity.errors import UserError
from plasticity.files import whole
from plasticity.probes import plastic
from plasticity.probes.encodings import means
from plasticity.probes.probe import chosen
from plasticity.runs import sets
from plasticity.runs.run import State
from plasticity.stimuli import Stimulus


def stimulus_of(state: State, examples: Array) -> Stimulus:
    """The stimulus of a run, its examples an array in the place of its data set.

    Args:
        examples: as they lie on disk: images uint8 `(B, h, w)`, or `(B, h, w, 3)` in colour;
            utterances int16 `(B, samples)` at 16 kHz; clips uint8 `(B, frames, h, w, 3)`. They are
            normalised and cropped in their middle as the run's own.

    Raises:
        UserError: another shape or dtype, or examples that are too small for a crop.
    """
    kind, count = state.options.unfed, len(examples)
    colour = () if kind.channels == 1 else (kind.channels,)
    axes, dtype, said = {
        1: (2, "int16", "(B, samples)"),
        2: (3 + len(colour), "uint8", f"(B, h, w{', 3' if colour else ''}) with h = w"),
        3: (5, "uint8", "(B, frames, h, w, 3) with h = w"),
    }[kind.dims]
    sides = examples.shape[kind.dims - 1 : kind.dims + 1] if kind.dims > 1 else (0,)
    channels = examples.shape[-1:] if kind.dims == 3 else examples.shape[3:]
    fits = examples.ndim == axes and examples.dtype == dtype and count and len({*sides}) == 1
    if not fits or (kind.dims > 1 and channels != colour):
        raise UserError(
            f"examples of shape {examples.shape}, {examples.dtype}: expected {kind.example}s "
            f"{said}, {dtype}, or the network's inputs (M, "
            f"{', '.join(map(str, kind.space))}, {kind.channels}) as normalised floats"
        )
    of = {"name": "an array", "place": Path(), "labels": None, "classes": ()}
    zeros = np.zeros(count, np.int64)
    if kind.dims == 1:
        length = examples.shape[1]
        if length < kind.samples:
            raise UserError(
                f"utterances of {length} samples are shorter than the run's crop of {kind.samples}"
            )
        source = Speech(
            "an array", Path(), tuple(map(str, range(count))), (), None,
            length * np.arange(count), np.full(count, length), to_host(examples).reshape(-1),
            zeros, zeros, np.zeros(0, np.uint8), (), np.zeros(count, bool),
        )  # fmt: skip
    elif kind.dims == 2:
        own = state.stimulus.source  # what normalises is the run's

        def read(at: np.ndarray) -> Array:  # in a row, and so without a copy
            return examples[int(at[0]) : int(at[-1]) + 1]

        normal = {"mean": own.mean, "std": own.std}
        source = ImageSet(split="", count=count, side=sides[0], read=read, **of, **normal)
    else:
        own, clips = state.stimulus.source, to_host(examples)
        if sides[0] < kind.side:
            raise UserError(f"clips of {sides[0]} pixels are smaller than the run's, {kind.side}")
        source = ClipSet(
            split="", lengths=np.full(count, examples.shape[1]), side=sides[0],
            read=lambda i, start, frames: clips[i, start : start + frames],
            mean=own.mean, std=own.std, **of,
        )  # fmt: skip
    return sets.stimulus(state.options, source)


def encode_arrays(
    state: State, examples: object, size: int = 0, report: Callable[[int], None] = lambda done: None
) -> dict[str, Array]:
    """What every layer makes of examples, by its name: `(B, D)`, as a probe reads it.

    Args:
        examples: see `stimulus_of`; or floats, the network's inputs `(M, *space, C)` as they are:
            normalised patches, waves or clips. Of NumPy, CuPy or torch, see `arrays.received`.
        size: examples in a batch, by default the run's.

    Returns:
        The mean over time and positions (of film positions are kept), on the host; on the GPU where
        the examples lie there.

    Raises:
        UserError: what cannot be encoded.
    """
    x = received(examples, state.device)
    if not x.ndim or not len(x):
        raise UserError(f"there is nothing to encode in an array of shape {x.shape}")
    stays = not isinstance(x, np.ndarray)
    batches = _of_inputs if x.dtype.kind == "f" else _of_examples
    found, done = [], 0
    for layers in batches(state, x, size or state.options.batch):
        found.append(layers if stays else [to_host(z) for z in layers])
        done += len(layers[0])
        report(done)
    names, xp = [layer.name for layer in state.network.layers], array_module(found[0][0])
    joined = (xp.concatenate(layer) for layer in zip(*found, strict=True))
    return dict(zip(names, joined, strict=True))


def _of_examples(state: State, x: Array, size: int) -> Iterator[list[Array]]:
    stimulus = stimulus_of(state, x)
    stream = plastic.of(state, state.weights)
    yield from means(state.network, stream, stimulus, np.arange(len(x)), size, state.device)


def _of_inputs(state: State, x: Array, size: int) -> Iterator[list[Array]]:
    """Of inputs of the network: each is read as one example."""
    kind, dtype = state.options.unfed, np.dtype(state.options.dtype)
    space = kind.space if kind.dims > 1 else x.shape[1:2]  # sound has any length
    if x.shape[1:] != (*space, kind.channels):
        wanted = ", ".join(["M", *(map(str, space) if kind.dims > 1 else ["samples"])])
        raise UserError(
            f"floats of shape {x.shape}: expected inputs of the network ({wanted}, "
            f"{kind.channels}), or whole {kind.example}s as whole numbers"
        )
    state.network.shapes(space)  # says if nothing reaches a layer
    one = replace(kind.read_out, time="inputs")
    for at in range(0, len(x), size):
        part = array_module(x).ascontiguousarray(x[at : at + size], dtype)
        part = to_device(part, state.device) if isinstance(part, np.ndarray) else part
        read = (one.read(y, mean) for y, mean in state.network.maps(part, state.weights))
        yield [z.reshape(len(part), -1) for z in read]


def splits(state: State, name: str | None = None) -> list[str]:
    """The splits that the run's data set, or another one, has."""
    options = state.options
    return list(options.unfed.open_splits(name or options.data, options.data_dir or None))


def encode_split(
    state: State, split: str = "test", name: str | None = None, most: int = 0
) -> tuple[int, np.ndarray | None, tuple[str, ...], np.ndarray, Iterator[list[Array]]]:
    """A split of a data set, to encode: how many, labels, classes, indices, and batch by batch.

    Raises:
        UserError: a split that is not there (with those that are).
    """
    there = splits(state, name)
    if split not in there:
        raise UserError(f"no split '{split}' of {name or state.options.data}: expected "
                        f"{', '.join(there)}")  # fmt: skip
    source = sets.split(state.options, split, name)
    picked = chosen(source, most)
    labels = source.speaker if isinstance(source, Speech) else source.labels
    classes = source.speakers if isinstance(source, Speech) else source.classes
    how = sets.stimulus(state.options, source), picked, state.options.batch, state.device
    batches = means(state.network, plastic.of(state, state.weights), *how)
    return len(picked), None if labels is None else labels[picked], classes, picked, batches


def write_split(
    state: State,
    path: Path,
    split: str = "test",
    name: str | None = None,
    most: int = 0,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, int]:
    """Encode a split into an HDF5 file, whole, a batch at a time.

    It holds `encodings/LAYER` `(count, D)`, `labels` `(count,)` where there are any, and `index`,
    which example of its set each is.

    Returns:
        The neurons of each layer.

    Raises:
        UserError: as `encode_split`, or a disk without room.
    """
    count, labels, classes, picked, batches = encode_split(state, split, name, most)
    names, done, sizes = [layer.name for layer in state.network.layers], 0, {}
    with whole(path) as part, h5py.File(part, "w") as file:
        group = file.create_group("encodings")
        for layers in batches:
            if not done:
                sizes = {n: int(z.shape[1]) for n, z in zip(names, layers, strict=True)}
                needed = count * sum(sizes.values()) * layers[0].dtype.itemsize
                if needed > shutil.disk_usage(part.parent).free:  # HDF5 crashes on a full disk
                    raise OSError(errno.ENOSPC, "the disk is full")
                for n, D in sizes.items():
                    made = group.create_dataset(n, (count, D), layers[0].dtype)
                    made.attrs["axes"] = "(example, neuron)"
            for n, z in zip(names, layers, strict=True):
                group[n][done : done + len(z)] = to_host(z)
            done += len(layers[0])
            report(done, count)
        file["index"] = picked
        if labels is not None:
            file["labels"] = labels
        told = {"split": split, "data": name or state.options.data, "classes": list(classes)}
        file.attrs["encoded"] = json.dumps({**told, "step": state.step, "rule": state.rule_name})
        for stored in (file["index"], *([file["labels"]] if labels is not None else [])):
            hdf5.seal(stored, stored[()])
    return sizes
