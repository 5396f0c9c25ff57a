"""A stand-in for `cupy`, so that what runs on a GPU runs in tests without one.

    with standin.installed() as machine:
        ...  # `import cupy` finds the stand-in, and `machine` logs transfers and launches

Its arrays are not NumPy arrays and refuse to meet them, as CuPy's do. It offers what CuPy 14
offers and no more: `cupy14.json` lists the signatures of the real wheel, and a test compares.
Kernels of a `RawModule` run through the emulation (`tests/kernels/emulation`).
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import numpy as np

from plasticity.kernels.cuda import launch
from tests.standin import arrays, cublas, distributed, machine
from tests.standin.machine import Machine

FUNCTIONS = """array asarray ascontiguousarray asnumpy empty zeros ones full empty_like zeros_like
ones_like arange where nonzero concatenate stack broadcast_to pad argsort searchsorted bincount
repeat tile copyto matmul einsum vdot sum mean max"""
CUDA = """Stream Event Device alloc_pinned_memory get_current_stream get_elapsed_time is_available
MemoryPool Graph using_allocator"""
CUBLAS = """gemmStridedBatchedEx CUBLAS_COMPUTE_32F CUBLAS_COMPUTE_64F CUBLAS_GEMM_DEFAULT
CUBLAS_COMPUTE_32F_FAST_16BF CUBLAS_COMPUTE_32F_FAST_TF32"""
DTYPES = "float32 float64 int32 int64 uint8 bool_"
VERSION = "14"


def _module(name: str, **content: object) -> ModuleType:
    made = ModuleType(name)
    vars(made).update(content)
    return made


def _file(name: str) -> str:
    if name != "__file__":
        raise AttributeError(name)
    return cublas.library()


def cupy() -> ModuleType:
    """The module that stands in for `cupy`."""
    gpu = {name: getattr(machine, name) for name in CUDA.split()}
    gpu["runtime"] = _module(
        "cupy.cuda.runtime",
        getDeviceCount=machine.getDeviceCount,
        getDeviceProperties=machine.getDeviceProperties,
        CUDARuntimeError=machine.CUDARuntimeError,
        CUDA_R_32F=machine.CUDA_R_32F,
        CUDA_R_64F=machine.CUDA_R_64F,
    )
    gpu["nvrtc"] = _module("cupy.cuda.nvrtc", getVersion=machine.getVersion)
    gpu["cublas"] = _module(
        "cupy.cuda.cublas", **{name: getattr(machine, name) for name in CUBLAS.split()}
    )
    gpu["cublas"].__getattr__ = _file  # it is compiled when somebody asks
    gpu["device"] = _module("cupy.cuda.device", get_cublas_handle=machine.get_cublas_handle)
    gpu["nccl"] = _module(
        "cupy.cuda.nccl",
        available=True,
        groupStart=distributed.groupStart,
        groupEnd=distributed.groupEnd,
    )
    gpu["memory"] = _module("cupy.cuda.memory", OutOfMemoryError=machine.OutOfMemoryError)
    tricks = _module("stride_tricks", sliding_window_view=arrays.sliding_window_view)
    return _module(
        "cupy",
        __version__=VERSION,
        ndarray=arrays.ndarray,
        **{name: getattr(arrays, name) for name in FUNCTIONS.split()},
        **arrays.UFUNCS,
        abs=arrays.UFUNCS["absolute"],
        **{name: getattr(np, name) for name in DTYPES.split()},
        RawModule=machine.RawModule,
        get_default_memory_pool=machine.get_default_memory_pool,
        cuda=_module("cupy.cuda", **gpu),
        lib=_module("cupy.lib", stride_tricks=tricks),
    )


def cupyx() -> ModuleType:
    """The module that stands in for `cupyx`."""
    own = _module("cupyx.distributed", NCCLBackend=distributed.NCCLBackend)
    return _module("cupyx", distributed=own)


@contextmanager
def installed(devices: int = 1) -> Iterator[Machine]:
    """`import cupy` finds the stand-in; yields its machine."""
    Machine.now, made = Machine(devices), cupy()
    modules = {"cupy": made, "cupy.cuda": made.cuda, "cupyx": cupyx()}
    modules["cupyx.distributed"] = modules["cupyx"].distributed
    before = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    launch._kernels.cache_clear()
    try:
        yield Machine.now
    finally:
        launch._kernels.cache_clear()
        for name, module in before.items():
            del sys.modules[name]
            if module is not None:
                sys.modules[name] = module
