"""The emulation of CUDA that the kernels' tests stand on."""

import numpy as np
import pytest

from plasticity.kernels.cuda import launch
from tests.kernels import emulation

pytestmark = pytest.mark.skipif(bool(emulation.MISSING), reason=emulation.MISSING)

CODE = """
template <typename T>
__global__ void reverse(const T* from, T* to) {
    __shared__ T block[64];
    block[threadIdx.x] = from[blockIdx.x * blockDim.x + threadIdx.x];
    __syncthreads();
    to[blockIdx.x * blockDim.x + threadIdx.x] = block[blockDim.x - 1 - threadIdx.x];
}

__global__ void warp_sums(const float* from, float* to) {
    float sum = from[threadIdx.x];
    for (int step = 16; step; step /= 2) sum += __shfl_down_sync(0xffffffffu, sum, step);
    if (threadIdx.x % 32 == 0) to[threadIdx.x / 32] = sum;
}

__global__ void half_a_warp(const float* from, float* to) {
    float sum = from[threadIdx.x];
    for (int step = 16; step; step /= 2) sum += __shfl_down_sync(0xffffu, sum, step);
    if (threadIdx.x == 0) to[0] = sum;
}

__global__ void __launch_bounds__(64, 2) bounded(float* to) { to[threadIdx.x] = 1; }

__global__ void divergent(float*) {
    if (threadIdx.x == 0) __syncthreads();
    else __syncwarp();
}

__global__ void places(long long* at) {
    long long block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
    long long thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
    at[block * blockDim.x * blockDim.y * blockDim.z + thread] += block * 1000 + thread;
}
"""
NAMES = [
    "reverse<float>",
    "reverse<double>",
    "warp_sums",
    "divergent",
    "places",
    "half_a_warp",
    "bounded",
]


@pytest.fixture(scope="module")
def kernels():
    return emulation.build(CODE, NAMES)


@pytest.mark.parametrize(("name", "dtype"), [(NAMES[0], np.float32), (NAMES[1], np.float64)])
def test_threads_of_a_block_meet_at_its_barrier(kernels, name, dtype):
    given = np.arange(96, dtype=dtype)
    found = np.zeros_like(given)
    kernels[name]((3,), (32,), (given, found))
    np.testing.assert_array_equal(found, given.reshape(3, 32)[:, ::-1].ravel())


def test_shuffles_stay_within_a_warp(kernels):
    given, found = np.arange(64, dtype=np.float32), np.zeros(2, np.float32)
    kernels["warp_sums"]((1,), (64,), (given, found))
    assert found.tolist() == [sum(range(32)), sum(range(32, 64))]


def test_a_mask_that_leaves_out_lanes_that_take_part_is_an_error(kernels):
    with pytest.raises(RuntimeError, match="mask"):
        kernels["half_a_warp"]((1,), (32,), (np.zeros(32, np.float32), np.zeros(1, np.float32)))


def test_a_block_of_more_threads_than_a_kernel_is_compiled_for_is_refused(kernels):
    to = np.zeros(128, np.float32)
    kernels["bounded"]((1,), (64,), (to,))
    assert to.sum() == 64
    with pytest.raises(ValueError, match="at most 64 threads"):
        kernels["bounded"]((1,), (65,), (to,))
    source = launch.source("convolution")
    assert set(emulation.launch_bounds(source)) == {*launch.TRANSFORMS}


def test_every_thread_of_every_block_runs_once(kernels):
    found = np.zeros(2 * 3 * 2 * 4 * 2 * 3, np.int64)
    kernels["places"]((2, 3, 2), (4, 2, 3), (found,))
    assert found.tolist() == [b * 1000 + t for b in range(12) for t in range(24)]


def test_a_barrier_that_some_never_reach_is_an_error(kernels):
    with pytest.raises(RuntimeError, match="barrier"):
        kernels["divergent"]((1,), (32,), (np.zeros(1, np.float32),))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((np.zeros(32, np.float32),), "takes 2 arguments"),
        ((np.zeros(32), np.zeros(32)), "must be an array of float32"),
        ((np.zeros((32, 2), np.float32)[:, 0], np.zeros(32, np.float32)), "C-contiguous"),
    ],
)
def test_arguments_of_another_type_are_refused(kernels, args, message):
    with pytest.raises(TypeError, match=message):
        kernels["reverse<float>"]((1,), (32,), args)


def test_launches_that_cuda_refuses_are_refused(kernels):
    for grid, block in [((0,), (32,)), ((1, 65536), (32,)), ((1,), (1025,))]:
        with pytest.raises(ValueError, match="reverse"):
            kernels["reverse<float>"](grid, block, (np.zeros(32, np.float32),) * 2)


def test_code_that_does_not_compile_says_so():
    with pytest.raises(RuntimeError, match="refuses"):
        emulation.build("__global__ void wrong(float* a) { b = 1; }", ["wrong"])


def test_an_index_that_is_cut_to_32_bits_is_refused():
    code = "template <typename T> __global__ void far(T* a, long long n) { int i = n; a[i] = 1; }"
    with pytest.raises(RuntimeError, match="conversion"):
        emulation.build(code, ["far<float>"])


def test_one_block_of_a_launch_may_run_alone():
    code = (
        "template <typename T> __global__ void mark(T* a) { a[blockIdx.x + 3 * blockIdx.y] = 1; }"
    )
    a = np.zeros(6, np.float32)
    emulation.build(code, ["mark<float>"])["mark<float>"]((3, 2), (1,), (a,), only=(1, 1))
    np.testing.assert_array_equal(a, [0, 0, 0, 0, 1, 0])
