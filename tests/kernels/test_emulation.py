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

__device__ void words_of(const float* a, const float* b, unsigned (&of_a)[4], unsigned (&of_b)[2]) {
    int g = int(threadIdx.x) % 32 / 4, t = int(threadIdx.x) % 4;
    for (int e = 0; e < 4; ++e)
        of_a[e] = __float_as_uint(a[(g + e % 2 * 8) * 8 + t + e / 2 * 4]);
    for (int e = 0; e < 2; ++e) of_b[e] = __float_as_uint(b[(t + e * 4) * 8 + g]);
}

__global__ void by_units(const float* a, const float* b, float* d, int times, bool bf16) {
    unsigned of_a[4], of_b[2];
    float own[4] = {};
    words_of(a, b, of_a, of_b);
    for (int i = 0; i < times; ++i)
        if (bf16) multiply_bf16(own, of_a, of_b);
        else multiply_tf32(own, of_a, of_b);
    int g = int(threadIdx.x) % 32 / 4, t = int(threadIdx.x) % 4;
    for (int e = 0; e < 4; ++e) d[(g + e / 2 * 8) * 8 + 2 * t + e % 2] = own[e];
}

__global__ void copied_late(const unsigned* from, unsigned* to) {
    __shared__ unsigned block[3][32];
    for (int i = 0; i < 3; ++i) {
        block[i][threadIdx.x] = 7;
        copy_words<1>(&block[i][threadIdx.x], from + 32 * i + threadIdx.x, threadIdx.x != 5);
        close_group();
    }
    for (int i = 0; i < 3; ++i) to[32 * i + threadIdx.x] = block[i][threadIdx.x];
    copied<1>();
    for (int i = 0; i < 3; ++i) to[96 + 32 * i + threadIdx.x] = block[i][threadIdx.x];
}

__global__ void copied_by_four(const unsigned* from, unsigned* to, int first) {
    alignas(16) __shared__ unsigned block[32];
    copy_words<4>(block + 4 * threadIdx.x, from + first, true);
    close_group();
    copied<0>();
    to[threadIdx.x] = block[4 * threadIdx.x + 3];
}

__global__ void copied_by_others(const unsigned* from, unsigned* to, bool meet) {
    __shared__ unsigned block[32];
    copy_words<1>(&block[threadIdx.x], from + threadIdx.x, true);
    close_group();
    copied<0>();
    if (meet) __syncthreads();
    to[threadIdx.x] = block[31 - threadIdx.x];
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
    "by_units",
    "copied_by_four",
    "copied_late",
    "copied_by_others",
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
    transforms = {name.partition("<")[0] for name in launch.names("convolution")}
    assert set(emulation.launch_bounds(source)) == transforms


def test_every_thread_of_every_block_runs_once(kernels):
    found = np.zeros(2 * 3 * 2 * 4 * 2 * 3, np.int64)
    kernels["places"]((2, 3, 2), (4, 2, 3), (found,))
    assert found.tolist() == [b * 1000 + t for b in range(12) for t in range(24)]


def test_a_barrier_that_some_never_reach_is_an_error(kernels):
    with pytest.raises(RuntimeError, match="barrier"):
        kernels["divergent"]((1,), (32,), (np.zeros(1, np.float32),))


RACES = """
template <typename T>
__global__ void equal(T* to) { to[threadIdx.x / 2] = T(1); }  // the same value, twice

template <typename T>
__global__ void ahead(T* a) { a[threadIdx.x] = a[(threadIdx.x + 1) % blockDim.x] + T(1); }

template <typename T>
__global__ void everywhere(T* to) { to[threadIdx.x] = T(1); }  // in every block

template <typename T>
__global__ void early(const T* from, T* to) {
    __shared__ T block[64];
    block[threadIdx.x] = from[threadIdx.x];
    to[threadIdx.x] = block[blockDim.x - 1 - threadIdx.x];
}

template <typename T>
__global__ void met(const T* from, T* to) {
    __shared__ T block[64];
    block[threadIdx.x] = from[threadIdx.x];
    __syncwarp();
    const T beside = block[threadIdx.x ^ 1];
    __syncthreads();
    to[blockIdx.x * blockDim.x + threadIdx.x] = beside + block[blockDim.x - 1 - threadIdx.x];
}
"""


@pytest.mark.parametrize("name", ["equal", "ahead", "early", "met"])
@pytest.mark.parametrize("dtype", ["float", "unsigned char"])
def test_threads_that_meet_one_place_without_a_barrier_race(name, dtype):
    kernel = emulation.build(RACES, [f"{name}<{dtype}>"])[f"{name}<{dtype}>"]
    numbers = np.ones(64, np.float32 if dtype == "float" else np.uint8)
    args = (numbers, np.zeros_like(numbers)) if name in ("early", "met") else (numbers,)
    if name == "met":
        kernel((1,), (64,), args)
        return
    with pytest.raises(RuntimeError, match="race"):
        kernel((1,), (64,), args)


def test_blocks_have_no_barrier_between_them_and_shared_memory_of_their_own():
    kernels = emulation.build(RACES, ["everywhere<float>", "met<float>"])
    numbers = np.ones(64, np.float32)
    kernels["everywhere<float>"]((1,), (64,), (numbers,))
    with pytest.raises(RuntimeError, match="race"):
        kernels["everywhere<float>"]((2,), (64,), (numbers,))
    found = np.zeros(128, np.float32)
    kernels["met<float>"]((2,), (64,), (numbers, found))
    assert (found == 2).all()


def test_two_rows_of_threads_that_write_an_error_twice_race():
    """Equal values, so that no result tells."""
    source = launch.source("convolution").partition("KERNEL errors")
    right = "i64(blockIdx.y) * blockDim.y + threadIdx.y"
    assert source[0].count(right) == 1  # ALONG_Y
    wrong = source[0].replace(right, "i64(blockIdx.y) * blockDim.y") + "".join(source[1:])
    M, sizes = np.ones((36, 4, 3), np.float32), map(np.int32, (4, 4, 3, 4))
    one, out = launch.reciprocal(1), np.empty((4, 4, 4, 3), np.float32)
    args, name = (M, *sizes, one, one), "errors<float, Tile4, 1>"
    emulation.build(source[0] + "".join(source[1:]), [name])[name]((1, 1), (32, 4), (*args, out))
    with pytest.raises(RuntimeError, match="race"):
        emulation.build(wrong, [name])[name]((1, 1), (32, 4), (*args, out))


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


def test_matrix_units_multiply_what_the_lanes_of_a_warp_hold(kernels):
    """The layout of PTX's mma.m16n8k8: the product is NumPy's, of what ten bits hold."""
    rng = np.random.default_rng(0)
    a, b = (rng.integers(-9, 10, s).astype(np.float32) for s in ((16, 8), (8, 8)))
    d = np.empty((16, 8), np.float32)
    kernels["by_units"]((1,), (32,), (a, b, d, np.int32(3), np.bool_(False)))
    np.testing.assert_array_equal(d, 3 * (a @ b))
    more = a * np.float32(1 + 2**-12)  # bits that the units do not see
    kernels["by_units"]((1,), (32,), (more, b, d, np.int32(1), np.bool_(False)))
    np.testing.assert_array_equal(d, a @ b)


def test_matrix_units_take_two_numbers_of_bfloat16_from_a_word(kernels):
    rng = np.random.default_rng(1)
    a, b = (rng.integers(-9, 10, s).astype(np.float32) for s in ((16, 16), (16, 8)))
    halves = (
        (a.view(np.uint32) >> 16).astype(np.uint16),
        (b.view(np.uint32) >> 16).astype(np.uint16),
    )
    words = halves[0].view(np.uint32), np.ascontiguousarray(halves[1].T).view(np.uint32).T
    words = [np.ascontiguousarray(w).view(np.float32) for w in words]
    d = np.empty((16, 8), np.float32)
    kernels["by_units"]((1,), (32,), (*words, d, np.int32(2), np.bool_(True)))
    np.testing.assert_array_equal(d, 2 * (a @ b))


def test_matrix_units_want_a_whole_warp(kernels):
    a, b, d = np.zeros((16, 8), "f"), np.zeros((8, 8), "f"), np.zeros((16, 8), "f")
    with pytest.raises(RuntimeError, match="mask"):
        kernels["by_units"]((1,), (20,), (a, b, d, np.int32(1), np.bool_(False)))


def test_copies_arrive_as_late_as_their_thread_waits_for_them(kernels):
    numbers, found = np.arange(100, 196, dtype=np.uint32), np.zeros(192, np.uint32)
    kernels["copied_late"]((1,), (32,), (numbers, found))
    assert (found[:96] == 7).all()
    wanted = numbers.reshape(3, 32).copy()
    wanted[:, 5] = 0  # nothing there
    wanted[2] = 7  # one group may still be on its way
    np.testing.assert_array_equal(found[96:].reshape(3, 32), wanted)


def test_what_others_have_copied_wants_a_barrier(kernels):
    numbers, found = np.arange(32, dtype=np.uint32), np.zeros(32, np.uint32)
    kernels["copied_by_others"]((1,), (32,), (numbers, found, np.bool_(True)))
    np.testing.assert_array_equal(found, numbers[::-1])
    with pytest.raises(RuntimeError, match="race"):
        kernels["copied_by_others"]((1,), (32,), (numbers, found, np.bool_(False)))


def test_a_copy_of_four_words_begins_where_16_bytes_divide(kernels):
    numbers, found = np.arange(64, dtype=np.uint32), np.zeros(8, np.uint32)
    start = -numbers.ctypes.data // 4 % 4
    numbers = numbers[start : start + 40]
    kernels["copied_by_four"]((1,), (8,), (numbers, found, np.int32(4)))
    assert (found == numbers[7]).all()
    with pytest.raises(RuntimeError, match="its size does not divide"):
        kernels["copied_by_four"]((1,), (8,), (numbers, found, np.int32(5)))


WIDE = """
struct alignas(8) Two { float at[2]; };
__global__ void halves(float* a) {
    if (threadIdx.x) a[1] = 3;
    else *reinterpret_cast<Two*>(a) = {{1, 2}};
}
__global__ void shifted(const float* a, float* b, int by) {
    *reinterpret_cast<Two*>(b) = *reinterpret_cast<const Two*>(a + by);
}
"""


def test_a_wide_access_meets_all_of_its_numbers():
    kernel = emulation.build(WIDE, ["halves"])["halves"]
    kernel((1,), (1,), (np.zeros(2, np.float32),))
    with pytest.raises(RuntimeError, match="threads race"):
        kernel((1,), (2,), (np.zeros(2, np.float32),))


def test_a_wide_access_begins_where_its_size_divides():
    kernel, a, b = emulation.build(WIDE, ["shifted"])["shifted"], np.arange(4.0), np.zeros(2)
    a, b = a.astype(np.float32), b.astype(np.float32)
    kernel((1,), (1,), (a, b, np.int32(2)))
    assert b.tolist() == [2, 3]
    with pytest.raises(RuntimeError, match="its size does not divide"):
        kernel((1,), (1,), (a, b, np.int32(1)))
