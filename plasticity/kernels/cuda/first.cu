// The first layer: C input channels, so few that the work is writing the maps, not products.
// 3x3 kernels, no pooling. A block has a patch, its lanes N neighbouring neurons each, and its
// warps take rows in turns. Along a row a thread goes S places at a time, and keeps the columns of x
// that it meets again.

constexpr int WARPS = 8;  // of a block

// What the places s to s + S - 1 of row r meet of a patch x (H, W, C), zero outside.
template <typename T, int C, int S>
struct Window {
    const T* rows[3];  // from the next column on, s + S + 1
    bool there[3];
    int W;
    T at[C][3][S + 2];  // columns s - 1 to s + S

    __device__ __forceinline__ Window(const T* x, int H, int W, int r) : W(W) {
#pragma unroll
        for (int row = 0; row < 3; ++row) {
            there[row] = u32(r + row - 1) < u32(H) && W > 0;
            rows[row] = there[row] ? after(x, u32(r + row - 1) * u32(W * C)) : x;
#pragma unroll
            for (int c = 0; c < C; ++c) {
                at[c][row][S] = T(0);
                at[c][row][S + 1] = there[row] ? rows[row][c] : T(0);
            }
            rows[row] += C;
        }
    }
    // To the places from s on, from those before.
    __device__ __forceinline__ void go_on(int s) {
#pragma unroll
        for (int row = 0; row < 3; ++row) {
#pragma unroll
            for (int c = 0; c < C; ++c) {
#pragma unroll
                for (int e = 0; e < 2; ++e) at[c][row][e] = at[c][row][S + e];
#pragma unroll
                for (int e = 0; e < S; ++e)
                    at[c][row][e + 2] =
                        there[row] && s + e + 1 < W ? rows[row][e * C + c] : T(0);
            }
            rows[row] += S * C;
        }
    }
};

// The warps' numbers of a neuron, added one after the other, as `whole` takes the sum and the
// neuron's number in the block. Every thread of a block comes here.
template <typename T, int N, typename Whole>
__device__ __forceinline__ void add_warps(T (&sums)[WARPS][32 * N], const Pack<T, N>& own,
                                          Whole whole) {
    const int warp = int(threadIdx.x) / 32, lane = int(threadIdx.x) % 32;
    store(&sums[warp][lane * N], own);
    __syncthreads();
    if (threadIdx.x < 32 * N) {
        T sum = 0;
#pragma unroll
        for (int w = 0; w < WARPS; ++w) sum += sums[w][threadIdx.x];
        whole(sum, int(threadIdx.x));
    }
    __syncthreads();
}

// The weights lie in shared memory, and one that is read serves the S places of a thread.
template <typename T, int C, int N, int S>
KERNEL first_forward(const T* __restrict__ x, const T* __restrict__ w, const T* __restrict__ bias,
                     int patches, int H, int W, int O, bool keep, T* __restrict__ y,
                     u8* __restrict__ winner, T* __restrict__ encoding) {
    alignas(16) __shared__ T sums[WARPS][32 * N];
    alignas(16) __shared__ T weights[C * 9][32 * N];
    const int warp = int(threadIdx.x) / 32, lane = int(threadIdx.x) % 32;
    for (int first = 0; first < O; first += 32 * N) {
        const int o = first + lane * N;
        for (int i = int(threadIdx.x); i < C * 9 * 32 * N; i += 32 * WARPS) {
            const int neuron = i / (C * 9), tap = i % (C * 9);
            weights[tap][neuron] = first + neuron < O ? w[(first + neuron) * C * 9 + tap] : T(0);
        }
        __syncthreads();
        Pack<T, N> start(T(0));
        if (o < O) start = load<N>(bias + o);
        for (i64 n = blockIdx.x; n < patches; n += gridDim.x) {
            Pack<T, N> total(T(0));
            const i64 map = n * (H * W * O) + o;
            for (int r = warp; r < H; r += WARPS) {
                Window<T, C, S> window(x + n * (H * W * C), H, W, r);
#pragma unroll 1
                for (int s = 0; s < W; s += S) {
                    window.go_on(s);
                    __syncwarp();  // so that weights are read anew: registers do not hold them all
                    Pack<T, N> a[S];
#pragma unroll
                    for (int e = 0; e < S; ++e) a[e] = start;
#pragma unroll
                    for (int k = 0; k < 9; ++k)
#pragma unroll
                        for (int c = 0; c < C; ++c) {
                            const Pack<T, N> own = load<N>(&weights[c * 9 + k][lane * N]);
#pragma unroll
                            for (int e = 0; e < S; ++e)
                                a[e] = a[e] + Pack<T, N>(window.at[c][k / 3][e + k % 3]) * own;
                        }
#pragma unroll
                    for (int e = 0; e < S; ++e) {
                        if (s + e >= W || o >= O) break;
                        Pack<u8, N> code(0);
#pragma unroll
                        for (int k = 0; k < N; ++k) {
                            const bool active = a[e].at[k] > T(0);
                            if (!active) a[e].at[k] = T(0);
                            if (!active) code.at[k] = SILENT;
                        }
                        const u32 at = (u32(r) * u32(W) + u32(s + e)) * u32(O);
                        total = total + a[e];
                        store(after(y + map, at), a[e]);
                        if (keep) store(after(winner + map, at), code);
                    }
                }
            }
            add_warps<T, N>(sums, total, [&](T sum, int number) {
                if (first + number < O) encoding[n * O + first + number] = sum / T(H * W);
            });
        }
    }
}

// The share of dW and, in the last row, of db that each `span` of patches has, of which there are
// `spans`: (spans, 9 * C + 1, O).
template <typename T, int C, int N, int S>
KERNEL first_correlate(const T* __restrict__ x, const u8* __restrict__ winner,
                       const T* __restrict__ drive, bool shared, int patches, int H, int W, int O,
                       int span, int spans, T* __restrict__ shares) {
    alignas(16) __shared__ T sums[WARPS][32 * N];
    const int warp = int(threadIdx.x) / 32, lane = int(threadIdx.x) % 32;
    for (int first = 0; first < O; first += 32 * N) {
        const int o = first + lane * N;
        for (i64 number = blockIdx.x; number < spans; number += gridDim.x) {
            Pack<T, N> own[C][9], sum(T(0));
#pragma unroll
            for (int c = 0; c < C; ++c)
#pragma unroll
                for (int k = 0; k < 9; ++k) own[c][k] = sum;
            for (i64 n = number * span; n < number * span + span && n < patches && o < O; ++n) {
                const i64 map = n * (H * W * O) + o;
                Pack<T, N> same(T(0));
                if (shared) same = load<N>(drive + n * O + o);
                for (int r = warp; r < H; r += WARPS) {
                    Window<T, C, S> window(x + n * (H * W * C), H, W, r);
#pragma unroll 1
                    for (int s = 0; s < W; s += S) {
                        window.go_on(s);
#pragma unroll
                        for (int e = 0; e < S; ++e) {
                            if (s + e >= W) break;
                            const u32 at = (u32(r) * u32(W) + u32(s + e)) * u32(O);
                            const Pack<u8, N> won = load<N>(after(winner + map, at));
                            Pack<T, N> p = shared ? same : load<N>(after(drive + map, at));
#pragma unroll
                            for (int k = 0; k < N; ++k)
                                if (won.at[k]) p.at[k] = T(0);
                            sum = sum + p;
#pragma unroll
                            for (int k = 0; k < 9; ++k)
#pragma unroll
                                for (int c = 0; c < C; ++c)
                                    own[c][k] = own[c][k] +
                                                p * Pack<T, N>(window.at[c][k / 3][e + k % 3]);
                        }
                    }
                }
            }
            T* to = shares + number * (9 * C + 1) * O + first;
#pragma unroll
            for (int k = 0; k <= 9 * C; ++k)
                add_warps<T, N>(sums, k < 9 * C ? own[k / 9 % C][k % 9] : sum, [&](T all, int neuron) {
                    if (first + neuron < O) to[i64(k) * O + neuron] = all;
                });
        }
    }
}
