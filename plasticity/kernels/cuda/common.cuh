// What every kernel shares. Compiled in front of each .cu file.
//
// Launches: x runs over channels (or plain elements), so that neighbouring threads touch
// neighbouring addresses; y runs over the rest. Every loop strides by the grid, so any launch
// configuration computes the same, bit for bit: each number has one thread, or one warp, that sums
// it in a fixed order. No atomics. Indices are 64 bits wide.

typedef long long i64;
typedef unsigned char u8;

#define ALONG_X(i, n) \
    for (i64 i = i64(blockIdx.x) * blockDim.x + threadIdx.x; i < (n); i += i64(gridDim.x) * blockDim.x)
#define ALONG_Y(i, n) \
    for (i64 i = i64(blockIdx.y) * blockDim.y + threadIdx.y; i < (n); i += i64(gridDim.y) * blockDim.y)

// A block has 256 threads at most and two are to fit a multiprocessor: 128 registers for each
// thread, so that nothing is spilled.
#define KERNEL __global__ void __launch_bounds__(256, 2)

// The winner's code where no neuron of a pool is active.
constexpr u8 SILENT = 255;
