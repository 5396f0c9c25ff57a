"""What the CUDA kernels ask of a card: registers, spills, shared memory. Needs no card.

    python benchmarks/cuda_resources.py [sm_90 ...]

NVRTC, the compiler that CuPy calls at run time, is called here through ctypes, from the wheel
`nvidia-cuda-nvrtc-cu12` (extra `test`); the figures are what its assembler says of each kernel.
"""

import ctypes
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from plasticity.kernels.cuda import launch

ARCHITECTURES = ("sm_75", "sm_80", "sm_90", "sm_100")
CUPYS = ("-ftz=true", "--device-as-default-execution-space")  # what CuPy adds to the options


@dataclass(frozen=True)
class Resources:
    """Of one kernel: registers and spilled bytes of a thread, shared bytes of a block; and its name
    in the CUBIN."""

    registers: int
    spilled: int
    stack: int
    shared: int
    symbol: str = ""


def architectures(file: str, among: Sequence[str] = ARCHITECTURES) -> list[str]:
    """Those that have what a file asks for."""
    least = launch.LEAST.get(file, 0)
    return [name for name in among if int(name.removeprefix("sm_")) >= least]


@cache
def library() -> ctypes.CDLL | None:
    """NVRTC from its wheel, or None where that is not installed."""
    try:
        spec = find_spec("nvidia.cuda_nvrtc")
    except ModuleNotFoundError:
        return None
    places = spec.submodule_search_locations if spec else ()
    found = [p for place in places for p in Path(place).glob("lib/libnvrtc.so.*")]
    return ctypes.CDLL(str(found[0])) if found else None


def compile_kernels(
    code: str, names: Sequence[str], architecture: str
) -> tuple[bytes, str, dict[str, Resources]]:
    """Compile for a real architecture (`sm_90`).

    Returns:
        The CUBIN; what the compiler said besides resources (nothing, if all is well); and the
        resources of each kernel by its name.

    Raises:
        RuntimeError: code that does not compile, with the compiler's log.
    """
    nvrtc, program = library(), ctypes.c_void_p()
    if nvrtc is None:
        raise RuntimeError("NVRTC is missing: pip install nvidia-cuda-nvrtc-cu12")
    options = [
        f"--gpu-architecture={architecture}",
        "--ptxas-options=--verbose",
        *launch.OPTIONS,
        *CUPYS,
    ]
    nvrtc.nvrtcCreateProgram(ctypes.byref(program), code.encode(), b"kernels.cu", 0, None, None)
    for name in names:
        nvrtc.nvrtcAddNameExpression(program, name.encode())
    given = (ctypes.c_char_p * len(options))(*(o.encode() for o in options))
    status = nvrtc.nvrtcCompileProgram(program, len(options), given)
    log = _read(program, "ProgramLog").rstrip(b"\0").decode()
    if status:
        raise RuntimeError(f"NVRTC refuses the kernels for {architecture}:\n{log}")
    lowered = {}
    for name in names:
        mangled = ctypes.c_char_p()
        nvrtc.nvrtcGetLoweredName(program, name.encode(), ctypes.byref(mangled))
        lowered[mangled.value.decode()] = name
    cubin = _read(program, "CUBIN")
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    remarks, resources = _split(log, lowered)
    return cubin, remarks, resources


def _read(program: ctypes.c_void_p, what: str) -> bytes:
    nvrtc, size = library(), ctypes.c_size_t()
    getattr(nvrtc, f"nvrtcGet{what}Size")(program, ctypes.byref(size))
    text = ctypes.create_string_buffer(size.value)
    getattr(nvrtc, f"nvrtcGet{what}")(program, text)
    return text.raw


def _split(log: str, lowered: dict[str, str]) -> tuple[str, dict[str, Resources]]:
    """The assembler's figures, and every other line of the log."""
    remarks, resources, symbol, frame = [], {}, "", (0, 0)
    for line in log.splitlines():
        if found := re.search(
            r"(?:Compiling entry function|Function properties for) '?(\w+)", line
        ):
            symbol = found[1]
        elif found := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores", line):
            frame = int(found[1]), int(found[2])
        elif found := re.search(r"Used (\d+) registers", line):
            shared = re.search(r"(\d+) bytes smem", line)
            shared = int(shared[1]) if shared else 0
            of = Resources(int(found[1]), frame[1], frame[0], shared, symbol)
            resources[lowered.get(symbol)] = of
        elif line.strip() and not re.search(r"bytes gmem|Compile time", line):
            remarks.append(line)
    return "\n".join(remarks), resources


def main(among: Sequence[str]) -> None:
    print(f"{'kernel':34} {'':8} {'registers':>9} {'spilled':>8} {'stack':>6} {'shared':>7}")
    for file in launch.FILES:
        for architecture in architectures(file, among):
            found = compile_kernels(launch.source(file), launch.names(file), architecture)[2]
            for name, r in found.items():
                print(
                    f"{name:34} {architecture:8} {r.registers:9} {r.spilled:8} {r.stack:6}"
                    f" {r.shared:7}"
                )


if __name__ == "__main__":
    main(sys.argv[1:] or ARCHITECTURES)
