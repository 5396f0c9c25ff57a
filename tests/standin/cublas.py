"""cuBLAS of the stand-in, called past CuPy: a library with functions as its header has them."""

import ctypes
from functools import cache
from pathlib import Path

from tests.kernels import emulation
from tests.standin import machine

SUCCESS, NOT_INITIALIZED, INVALID_VALUE, INTERNAL_ERROR = 0, 1, 7, 14


@cache
def library() -> str:
    """Where the functions of cuBLAS lie that are called past CuPy."""
    path = emulation.folder() / "libcublas.so"
    source = str(Path(__file__).with_suffix(".c"))
    emulation.compile_with("-shared", "-fPIC", "-x", "c", source, "-o", str(path))
    integer, wide, place = ctypes.c_int, ctypes.c_longlong, ctypes.c_void_p
    kinds = [place, *[integer] * 5, place, *[place, integer, integer, wide] * 2, place, place]
    kinds += [integer, integer, wide, *[integer] * 3]
    functions = (
        ctypes.CFUNCTYPE(integer, *kinds)(_gemm),
        ctypes.CFUNCTYPE(integer, place, place)(_set_stream),
        ctypes.CFUNCTYPE(integer, place, place, ctypes.c_size_t)(_set_workspace),
    )
    ctypes.CDLL(str(path)).install(*functions)
    library.kept = functions
    return str(path)


def _set_stream(handle, stream) -> int:
    now = machine.Machine.now
    now.cublas_stream, now.workspace = stream or 0, 0  # cuBLAS takes its own workspace then
    return SUCCESS if handle else NOT_INITIALIZED


def _set_workspace(handle, workspace, size) -> int:
    if not handle or not workspace:
        return INVALID_VALUE
    machine.Machine.now.workspace = size
    return SUCCESS


def _gemm(handle, *args) -> int:
    now = machine.Machine.now
    if not handle:
        return NOT_INITIALIZED
    if now.capture and not now.workspace:
        return INTERNAL_ERROR
    machine.counted("gemm")
    try:
        work = machine.product(*args)
    except machine.CUDARuntimeError:
        return INVALID_VALUE
    if now.cublas_stream == now.stream.ptr:
        machine.done(work)
    else:
        work()
    return SUCCESS
