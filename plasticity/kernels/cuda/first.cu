// The first layer: C input channels, so few that the work is writing the maps, not products.
// 3x3 kernels, no pooling. A thread has a patch and a neuron, whose weights stay in registers.

// What lies at (r, s) of patch n, zero outside: an activity,
template <typename T>
struct FirstMap {
    const T* x;
    int H, W;
    i64 C;
    __device__ __forceinline__ T at(i64 n, int r, int s, i64 c) const {
        return r >= 0 && s >= 0 && r < H && s < W ? x[((n * H + r) * W + s) * C + c] : T(0);
    }
};

template <typename T, int C>
KERNEL first_forward(const T* __restrict__ x, const T* __restrict__ w, const T* __restrict__ bias,
                     i64 patches, i64 H, i64 W, i64 O, bool keep, T* __restrict__ y,
                     u8* __restrict__ winner, T* __restrict__ encoding) {
    const FirstMap<T> map{x, int(H), int(W), C};
    ALONG_X(o, O) {
        ALONG_Y(n, patches) {
            T own[C][9], total = 0;
#pragma unroll
            for (int c = 0; c < C; ++c)
#pragma unroll
                for (int k = 0; k < 9; ++k) own[c][k] = w[(o * C + c) * 9 + k];
            const T start = bias[o];
            for (int r = 0; r < map.H; ++r)
                for (int s = 0; s < map.W; ++s) {
                    T a = start;
#pragma unroll
                    for (int k = 0; k < 9; ++k)
#pragma unroll
                        for (int c = 0; c < C; ++c)
                            a += map.at(n, r + k / 3 - 1, s + k % 3 - 1, c) * own[c][k];
                    const T value = a > T(0) ? a : T(0);
                    const i64 at = ((n * H + r) * W + s) * O + o;
                    total += value;
                    y[at] = value;
                    if (keep) winner[at] = a > T(0) ? 0 : SILENT;
                }
            encoding[n * O + o] = total / T(H * W);
        }
    }
}

// Each patch's share of dW and, in the last row, of db: (patches, 9 * C + 1, O).
template <typename T, int C>
KERNEL first_correlate(const T* __restrict__ x, const u8* __restrict__ winner,
                       const T* __restrict__ drive, bool shared, i64 patches, i64 H, i64 W, i64 O,
                       T* __restrict__ shares) {
    const FirstMap<T> map{x, int(H), int(W), C};
    ALONG_X(o, O) {
        ALONG_Y(n, patches) {
            T own[C][9] = {}, sum = 0;
            for (int r = 0; r < map.H; ++r)
                for (int s = 0; s < map.W; ++s) {
                    const i64 at = ((n * H + r) * W + s) * O + o;
                    const T p = winner[at] ? T(0) : drive[shared ? n * O + o : at];
                    sum += p;
#pragma unroll
                    for (int k = 0; k < 9; ++k)
#pragma unroll
                        for (int c = 0; c < C; ++c)
                            own[c][k] += p * map.at(n, r + k / 3 - 1, s + k % 3 - 1, c);
                }
            T* to = shares + n * (9 * C + 1) * O + o;
#pragma unroll
            for (int c = 0; c < C; ++c)
#pragma unroll
                for (int k = 0; k < 9; ++k) to[(c * 9 + k) * O] = own[c][k];
            to[9 * C * O] = sum;
        }
    }
}
