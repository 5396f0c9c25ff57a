"""The array module: NumPy on the CPU, CuPy on the GPU, and the way between the two."""

import sys
from typing import Any

import numpy as np

from plasticity.errors import UserError, installs

Array = Any  # numpy.ndarray or cupy.ndarray


def array_module(*arrays: Array) -> Any:
    """`numpy` or `cupy`, whichever all `arrays` belong to; None among them does not count.

    It is `torch` for tensors, which a rule's `objective` meets in the reference and nothing else.

    Raises:
        TypeError: arrays of both kinds; nothing is ever copied from one side to the other silently.
    """
    cupy = sys.modules.get("cupy")
    on_device = [cupy is not None and isinstance(a, cupy.ndarray) for a in arrays if a is not None]
    if any(on_device):
        if not all(on_device):
            raise TypeError("arrays of the CPU and of the GPU meet in one operation")
        return cupy
    torch = sys.modules.get("torch")
    if torch is not None and any(isinstance(a, torch.Tensor) for a in arrays):
        return torch
    return np


def to_host(array: Array) -> np.ndarray:
    """The array as a NumPy array (the same one if it is one already)."""
    return array if isinstance(array, np.ndarray) else array.get()


def to_device(array: np.ndarray, device: str) -> Array:
    """A host array as an array of `device` (`cpu`, `cuda:N`)."""
    if device == "cpu":
        return array
    import cupy

    with cupy.cuda.Device(int(device.partition(":")[2])):
        return cupy.asarray(array, order="C")


def resolve_device(name: str) -> str:
    """`cpu` or `cuda:N` for what a user asked for: `auto`, `cpu`, `cuda` or `cuda:N`.

    `auto` takes the first GPU if CuPy and a GPU are there, otherwise the CPU.

    Raises:
        UserError: an unknown name, or a GPU asked for by name that cannot be had.
    """
    if name == "cpu":
        return "cpu"
    kind, _, index = name.partition(":")
    if name != "auto" and (kind != "cuda" or not (index.isdigit() or name == "cuda")):
        raise UserError(f"unknown device '{name}': expected auto, cpu, cuda or cuda:N")
    count, missing = gpus()
    if name == "auto":
        return "cuda:0" if count else "cpu"
    if missing:
        raise UserError(f"--device {name} {missing}")
    wanted = int(index or 0)
    if wanted >= count:
        raise UserError(f"--device {name}: this machine has {count} GPU(s), numbered from 0")
    return f"cuda:{wanted}"


def gpus() -> tuple[int, str]:
    """How many GPUs can be used, and, if none, what is missing."""
    try:
        import cupy
    except ImportError:
        return 0, f"needs CuPy: {installs('gpu')}"
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        return 0, f"needs a GPU, and CUDA finds none here ({error})"
    if not count:
        return 0, "needs a GPU, and CUDA finds none here"
    try:  # the wheel brings neither; CuPy looks for them when they are first needed
        cupy.cuda.nvrtc.getVersion(), cupy.cuda.cublas
    except (ImportError, RuntimeError) as error:
        return 0, (
            f"needs CUDA's libraries, and CuPy does not find them: {installs('gpu')} "
            f"({str(error).splitlines()[0]})"
        )
    return count, ""
