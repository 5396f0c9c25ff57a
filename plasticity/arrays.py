"""The array module: NumPy on the CPU, CuPy on the GPU, and the way between the two."""

import sys
from collections.abc import Sequence
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


def numbers(scalars: Sequence[Array | float]) -> list[float]:
    """Scalar arrays and numbers on the host: those of a GPU come in one copy."""
    away = [a for a in scalars if array_module(a) is not np]
    came = iter(to_host(array_module(*away).stack(away)).tolist()) if away else iter(())
    return [float(a) if array_module(a) is np else next(came) for a in scalars]


def to_device(array: np.ndarray, device: str) -> Array:
    """A host array as an array of `device` (`cpu`, `cuda:N`)."""
    if device == "cpu":
        return array
    import cupy

    with cupy.cuda.Device(int(device.partition(":")[2])):
        return cupy.asarray(array, order="C")


def received(value: Any, device: str = "cpu") -> Array:
    """An array of somebody else's, by DLPack and without a copy where it lies where it is needed.

    Args:
        value: of NumPy or CuPy, a tensor of torch or whatever has DLPack; or nested lists.

    Returns:
        A NumPy array, or a CuPy array of `device` for one that lies on a GPU.

    Raises:
        UserError: a tensor that requires grad, one on another device, or no array of numbers.
    """
    if getattr(value, "requires_grad", False):
        raise UserError("a tensor that requires grad cannot be handed over: take tensor.detach()")
    kind, cupy = type(value).__name__, sys.modules.get("cupy")
    try:
        if cupy is not None and isinstance(value, cupy.ndarray):
            where = (_GPUS[0], int(value.device.id))
        else:
            where = value.__dlpack_device__() if hasattr(value, "__dlpack_device__") else (1, 0)
        if where[0] in _GPUS:
            here = f"cuda:{where[1]}"
            if here != device:
                raise UserError(
                    f"the {kind} lies on {here} and the run on {device}: open the run with "
                    f'device="{here}", or move the {kind}'
                )
            import cupy

            return value if isinstance(value, cupy.ndarray) else cupy.from_dlpack(value)
        if not isinstance(value, np.ndarray) and hasattr(value, "__dlpack__"):
            return np.from_dlpack(value)
        found = np.asarray(value)
    except (TypeError, ValueError, RuntimeError, BufferError) as error:
        raise UserError(f"a {kind} cannot be taken as an array: {error}") from error
    if found.dtype.kind not in "uif":
        raise UserError(f"a {kind} of {found.dtype} is no array of real numbers")
    return found


_GPUS = (2, 13)  # CUDA, and memory that it shares with the host, as DLPack numbers them


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


def multiplies_rounded(device: str) -> str:
    """The compute capability that a GPU lacks for products of tf32 and bfloat16; empty if none."""
    if device == "cpu":
        return ""
    import cupy

    found = cupy.cuda.Device(int(device.partition(":")[2])).compute_capability  # such as "80"
    return "" if int(found) >= 80 else f"{found[:-1]}.{found[-1]}"


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
