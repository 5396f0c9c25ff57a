"""Every CUDA kernel, compiled by NVRTC for four generations of cards."""

import pytest

from benchmarks import cuda_resources
from plasticity.kernels.cuda import launch

pytestmark = pytest.mark.skipif(
    cuda_resources.library() is None, reason="NVRTC is missing: pip install nvidia-cuda-nvrtc-cu12"
)


@pytest.mark.parametrize(
    "file, architecture", [(f, a) for f in launch.FILES for a in cuda_resources.architectures(f)]
)
def test_every_kernel_compiles_without_a_remark(file, architecture):
    names = launch.names(file)
    cubin, remarks, resources = cuda_resources.compile_kernels(
        launch.source(file), names, architecture
    )
    assert cubin.startswith(b"\x7fELF")
    assert remarks == ""
    assert set(resources) == set(names)
    # Two blocks of 256 threads fill the registers of a multiprocessor, or one where a thread has 64
    # sums of matrix units, and none goes to memory.
    most = {name: 255 if "forward" in name and r.shared else 128 for name, r in resources.items()}
    assert all(r.registers <= most[name] for name, r in resources.items())
    if architecture == "sm_90":
        assert {name: r.spilled for name, r in resources.items()} == dict.fromkeys(names, 0)


def test_matrix_units_are_compiled_from_the_capability_on_that_a_run_asks_for():
    assert cuda_resources.architectures("matrix_units") == ["sm_80", "sm_90", "sm_100"]
    names = launch.names("matrix_units")
    with pytest.raises(RuntimeError, match="NVRTC refuses"):
        cuda_resources.compile_kernels(launch.source("matrix_units"), names, "sm_75")


def test_what_the_compiler_remarks_is_seen():
    code = "__global__ void idle(float* a) { int unused; a[0] = 1; }"
    assert "unused" in cuda_resources.compile_kernels(code, ["idle"], "sm_90")[1]


def test_code_that_is_wrong_is_refused_with_the_log():
    with pytest.raises(RuntimeError, match="undefined"):
        cuda_resources.compile_kernels("__global__ void f(float* a) { b; }", ["f"], "sm_90")


def test_every_kernel_in_the_sources_is_among_those_compiled():
    for file in launch.FILES:
        own = (cuda_resources.Path(launch.__file__).parent / f"{file}.cu").read_text("utf-8")
        lines = [line for line in own.splitlines() if "KERNEL " in line and line[0] != "#"]
        declared = {line.split()[1].split("(")[0] for line in lines}
        assert declared == {name.split("<")[0] for name in launch.names(file)}
