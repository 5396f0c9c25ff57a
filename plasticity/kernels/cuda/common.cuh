// What every kernel shares. Compiled in front of each .cu file.
//
// Launches: x runs over channels (or plain elements), so that neighbouring threads touch
// neighbouring addresses; y runs over the rest. Every loop strides by the grid, so any launch
// configuration computes the same, bit for bit: each number has one thread, or one warp, that sums
// it in a fixed order. No atomics. Indices are 64 bits wide, or are counted from a place that is.
// A launch has a thread for each number, as far as a grid goes: most threads go through a loop once,
// and none is unrolled.

typedef long long i64;
typedef unsigned long long u64;
typedef unsigned u32;
typedef unsigned char u8;

#define ALONG_X(i, n) \
    _Pragma("unroll 1") for (i64 i = i64(blockIdx.x) * blockDim.x + threadIdx.x; i < (n); i += i64(gridDim.x) * blockDim.x)
#define ALONG_Y(i, n) \
    _Pragma("unroll 1") for (i64 i = i64(blockIdx.y) * blockDim.y + threadIdx.y; i < (n); i += i64(gridDim.y) * blockDim.y)

// A block has 256 threads at most and two are to fit a multiprocessor: 128 registers for each
// thread, so that nothing is spilled.
#define KERNEL __global__ void __launch_bounds__(256, 2)

// The winner's code where no neuron of a pool is active.
constexpr u8 SILENT = 255;

// The whole part of n / d for 0 <= n < 2**31, by a product with what `launch.reciprocal` makes of d.
struct Reciprocal {
    u32 factor;
    int places;

    __device__ __forceinline__ explicit Reciprocal(i64 packed)
        : factor(u32(packed)), places(int(packed >> 32)) {}
    __device__ __forceinline__ int of(int n) const {
        return int(u32(u64(u32(n) * 2u) * factor >> 32) >> places);
    }
};

// Numbers of N neighbouring channels: a thread reads and writes them at once, at addresses that the
// size of all divides (see `launch.at_once`), and computes with each.
template <typename T, int N>
struct alignas(N * sizeof(T)) Pack {
    T at[N];

    Pack() = default;
    __device__ __forceinline__ explicit Pack(T all) {
#pragma unroll
        for (int k = 0; k < N; ++k) at[k] = all;
    }
};

#define EACH(name)                                                                             \
    template <typename T, int N>                                                               \
    __device__ __forceinline__ Pack<T, N> operator name(const Pack<T, N>& a, const Pack<T, N>& b) { \
        Pack<T, N> c;                                                                          \
        _Pragma("unroll") for (int k = 0; k < N; ++k) c.at[k] = a.at[k] name b.at[k];          \
        return c;                                                                              \
    }
EACH(+)
EACH(-)
EACH(*)
#undef EACH

// The number `count` after a; in bytes this fits 32 bits, and it takes one addition.
template <typename T>
__device__ __forceinline__ T* after(T* a, u32 count) {
    return (T*)((const char*)a + count * u32(sizeof(T)));
}

template <int N, typename T>
__device__ __forceinline__ Pack<T, N> load(const T* from) {
    return *reinterpret_cast<const Pack<T, N>*>(from);
}
template <typename T, int N>
__device__ __forceinline__ void store(T* to, const Pack<T, N>& numbers) {
    *reinterpret_cast<Pack<T, N>*>(to) = numbers;
}

