// Convolutions of stride 1 by matrix units: products of tf32 or bfloat16, summed in float32.
//
//     forward     y[n, o] = sum over taps and channels of x w      then bias, ReLU, pool, mean
//     back        the same of the post factor, with the weights turned round, and nothing behind
//     correlate   dW[tap, o, c] = sum over places and inputs of post x
//
// No matrix of patches lies in memory: a block walks over the taps, and fetches of x what a tap
// meets. Its rows are 64 inputs at one place of the map, not neighbouring places, so that a tap on
// the padding is left out whole: of a 2x2 map that is five of nine.
//
// Operands come in words of 32 bits (`inputs`, `posts`): a number of tf32, or two of bfloat16,
// which are neighbours along what is summed over. A product of the units takes 8 words of each.

typedef unsigned u32;

constexpr int TILE = 64;   // of inputs or neurons, the sides of what a block sums
constexpr int DEPTH = 16;  // words that it fetches at a time
constexpr int THREADS = 128;
constexpr int ROOM = TILE * (DEPTH + 4);  // words of a tile, as it lies in shared memory
constexpr int AHEAD = 2;                  // tiles on their way while one is multiplied

#define MATRIX_KERNEL __global__ void __launch_bounds__(128, 3)

// d += a b, of a (16 x 8 words) and b (8 words x 8), by a warp. Lane 4 g + t has of a the rows g and
// g + 8, of b the column g, and of both the words t and t + 4; of d the rows g and g + 8 and the
// columns 2 t and 2 t + 1. The emulation has the same (tests/kernels/emulation).
#ifndef EMULATION
__device__ __forceinline__ void multiply_tf32(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
__device__ __forceinline__ void multiply_bf16(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// A copy of WORDS (1, or 4 at addresses that 16 bytes divide) to shared memory, or zeros where
// nothing is `there`, that goes on while others compute; `copied` waits until no more than so many groups of this thread are on their way.
template <int WORDS>
__device__ __forceinline__ void copy_words(u32* to, const u32* from, bool there) {
    const u32 at = u32(__cvta_generic_to_shared(to)), bytes = there ? 4 * WORDS : 0;
    if constexpr (WORDS == 4)
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(at), "l"(from), "r"(bytes));
    else
        asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(at), "l"(from), "r"(bytes));
}
__device__ __forceinline__ void close_group() { asm volatile("cp.async.commit_group;"); }
template <int GROUPS>
__device__ __forceinline__ void copied() {
    asm volatile("cp.async.wait_group %0;" ::"n"(GROUPS) : "memory");
}
#endif

// The bits of a float32 rounded to the nearest that lacks the last DROP, of two to the even one.
template <int DROP>
__device__ __forceinline__ u32 nearest(float a) {
    const u32 bits = __float_as_uint(a), infinite = 0x7f800000u;
    if ((bits & infinite) == infinite) return bits & 0x7fffffu ? bits | 0x400000u : bits;
    return (bits + ((1u << (DROP - 1)) - 1u) + (bits >> DROP & 1u)) & ~((1u << DROP) - 1u);
}

struct Tf32 {
    static constexpr int PACK = 1;  // numbers in a word
    static __device__ __forceinline__ u32 rounded(float a) { return nearest<13>(a); }
    static __device__ __forceinline__ u32 word(const u32 (&number)[1]) { return number[0]; }
    static __device__ __forceinline__ void multiply(float (&d)[4], const u32 (&a)[4],
                                                    const u32 (&b)[2]) {
        multiply_tf32(d, a, b);
    }
};

struct Bfloat16 {
    static constexpr int PACK = 2;
    static __device__ __forceinline__ u32 rounded(float a) { return nearest<16>(a); }
    static __device__ __forceinline__ u32 word(const u32 (&number)[2]) {
        return number[0] >> 16 | (number[1] & 0xffff0000u);  // the first is the lower half
    }
    static __device__ __forceinline__ void multiply(float (&d)[4], const u32 (&a)[4],
                                                    const u32 (&b)[2]) {
        multiply_bf16(d, a, b);
    }
};

// Numbers as they are rounded, for products elsewhere; see `definition.precision`.
template <typename P>
KERNEL rounded(const float* __restrict__ a, i64 size, float* __restrict__ out) {
    ALONG_X(i, size) out[i] = __uint_as_float(P::rounded(a[i]));
}

// Words of x (N, places, C): of its channels (N, places, words), or `by_input`, of inputs that
// follow each other (words, places, C). Zero beyond the last.
template <typename P>
KERNEL inputs(const float* __restrict__ x, i64 N, i64 places, i64 C, bool by_input,
              u32* __restrict__ words) {
    const i64 wide = by_input ? C : (C + P::PACK - 1) / P::PACK;
    const i64 groups = by_input ? (N + P::PACK - 1) / P::PACK : N;
    ALONG_X(w, wide) {
        ALONG_Y(row, groups * places) {
            u32 number[P::PACK];
#pragma unroll
            for (int k = 0; k < P::PACK; ++k) {
                const i64 n = by_input ? row / places * P::PACK + k : row / places;
                const i64 c = by_input ? w : w * P::PACK + k;
                const bool there = n < N && c < C;
                number[k] = there ? P::rounded(x[(n * places + row % places) * C + c]) : 0u;
            }
            words[row * wide + w] = P::word(number);
        }
    }
}

// The same of the post factor (N, H, W, O): the drive, where the neuron is active (rho') and has
// won its pool of QH x QW (inhibition), or everywhere in a layer that is not `rectified`. The drive
// is `shared` by the places of an input, or each winner has its own. `by_input`, its sums over a
// word's inputs and all places are written too, (words, O).
template <typename P>
KERNEL posts(const u8* __restrict__ winner, const float* __restrict__ drive, bool shared,
             bool rectified, i64 N, int H, int W, int QH, int QW, i64 O, bool by_input,
             u32* __restrict__ words, float* __restrict__ sums) {
    const i64 wide = by_input ? O : (O + P::PACK - 1) / P::PACK;
    const i64 groups = by_input ? (N + P::PACK - 1) / P::PACK : N;
    const int PH = H / QH, PW = W / QW;
    ALONG_X(w, wide) {
        ALONG_Y(group, groups) {
            float total = 0;
            for (int r = 0; r < H; ++r)
                for (int s = 0; s < W; ++s) {
                    const int pr = r / QH, ps = s / QW, code = r % QH * QW + s % QW;
                    u32 number[P::PACK];
#pragma unroll
                    for (int k = 0; k < P::PACK; ++k) {
                        const i64 n = by_input ? group * P::PACK + k : group;
                        const i64 o = by_input ? w : w * P::PACK + k;
                        number[k] = 0;
                        if (n >= N || o >= O || pr >= PH || ps >= PW) continue;
                        const i64 at = ((n * PH + pr) * PW + ps) * O + o;
                        if (rectified && winner[at] != code) continue;
                        number[k] = P::rounded(drive[shared ? n * O + o : at]);
                        total += __uint_as_float(number[k]);
                    }
                    words[((group * H + r) * W + s) * wide + w] = P::word(number);
                }
            if (by_input) sums[group * O + w] = total;
        }
    }
}

// What a thread sums of a block's 64 x 64: its warp has 32 x 32, in 2 x 4 products of the units.
typedef float Sums[2][4][4];

// Row and column, in the block's tile, of number e of product (i, j) of this thread's sums.
__device__ __forceinline__ int row_of(int i, int e) {
    const int warp = int(threadIdx.x) / 32, lane = int(threadIdx.x) % 32;
    return warp / 2 * 32 + i * 16 + e / 2 * 8 + lane / 4;
}
__device__ __forceinline__ int column_of(int j, int e) {
    const int warp = int(threadIdx.x) / 32, lane = int(threadIdx.x) % 32;
    return warp % 2 * 32 + j * 8 + lane % 4 * 2 + e % 2;
}

// sums += a b over a stage of `DEPTH` words. Word k of row (or column) m of a tile lies at
// m * SM + k * SK, so that the lanes of a warp meet all banks.
template <typename P, int SM, int SK>
__device__ __forceinline__ void multiply(const u32* a, const u32* b, Sums& sums) {
    const int warp = int(threadIdx.x) / 32, lane = int(threadIdx.x) % 32, g = lane / 4, t = lane % 4;
    const u32* rows = a + (warp / 2 * 32 + g) * SM + t * SK;
    const u32* columns = b + (warp % 2 * 32 + g) * SM + t * SK;
#pragma unroll
    for (int k = 0; k < DEPTH; k += 8) {
        u32 of_rows[2][4];
#pragma unroll
        for (int i = 0; i < 2; ++i)
#pragma unroll
            for (int e = 0; e < 4; ++e)
                of_rows[i][e] = rows[(i * 16 + e % 2 * 8) * SM + (k + e / 2 * 4) * SK];
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            const u32 of_columns[2] = {columns[j * 8 * SM + k * SK],
                                       columns[j * 8 * SM + (k + 4) * SK]};
#pragma unroll
            for (int i = 0; i < 2; ++i) P::multiply(sums[i][j], of_rows[i], of_columns);
        }
    }
}

typedef u32 Tiles[AHEAD + 1][2][ROOM];  // of both operands

// sums += a b over all stages; `fetch` begins the copies of one. Every thread of a block comes
// here, and those of warps that are `idle`, beyond the edge of the result, only fetch.
template <typename P, int SM, int SK, typename Fetch>
__device__ __forceinline__ void accumulate(const Fetch& fetch, int stages, bool idle,
                                           Tiles& tiles, Sums& sums) {
    for (int stage = 0; stage < AHEAD; ++stage) {
        if (stage < stages) fetch(stage, tiles[stage][0], tiles[stage][1]);
        close_group();
    }
    for (int stage = 0; stage < stages; ++stage) {
        copied<AHEAD - 1>();
        __syncthreads();  // all have this stage's words, and are done with those that go next
        const int later = stage + AHEAD, free = later % (AHEAD + 1), now = stage % (AHEAD + 1);
        if (later < stages) fetch(later, tiles[free][0], tiles[free][1]);
        close_group();
        if (!idle) multiply<P, SM, SK>(tiles[now][0], tiles[now][1], sums);
    }
    __syncthreads();
}

// y (N, PH, PW, O) of words x (N, H, W, C) and w (KH KW, O, C), `winner` if `keep`. A block has 64
// inputs, 64 neurons and a `span` of places of y, of which there are `spans`; it goes through the
// neurons of a pool one after the other, and sums y over its places for the mean:
// `means` (N, spans, O).
template <typename P, int WORDS>
MATRIX_KERNEL forward(const u32* __restrict__ x, const u32* __restrict__ w,
                      const float* __restrict__ bias, i64 N, int H, int W, int C, i64 O, int KH,
                      int KW, int up, int left, int QH, int QW, int span, int spans,
                      bool rectified, bool keep, float* __restrict__ y, u8* __restrict__ winner,
                      float* __restrict__ means) {
    alignas(16) __shared__ Tiles tiles;
    __shared__ float means_of[32][THREADS];  // of each thread's numbers, which nobody else meets
    const int PH = (H + 2 * up - KH + 1) / QH, PW = (W + 2 * left - KW + 1) / QW;
    const i64 across = (O + TILE - 1) / TILE, tasks = (N + TILE - 1) / TILE * spans * across;
    const int steps = (C + DEPTH - 1) / DEPTH;
    constexpr int WIDE = DEPTH / WORDS, HIGH = THREADS / WIDE;  // copies of a row, rows at a time
    const int k = int(threadIdx.x) % WIDE * WORDS, first = int(threadIdx.x) / WIDE;
    for (i64 task = blockIdx.x; task < tasks; task += gridDim.x) {
        const i64 o0 = task % across * TILE, n0 = task / across / spans * TILE;
        const int number = int(task / across % spans);
        const i64 n = n0 + first, o = o0 + first;
        const bool idle = n0 + row_of(0, 0) / 32 * 32 >= N || o0 + column_of(0, 0) / 32 * 32 >= O;
        for (int own = 0; own < 32; ++own) means_of[own][threadIdx.x] = 0;
        for (int place = number * span; place < (number + 1) * span && place < PH * PW; ++place) {
            const int pr = place / PW, ps = place % PW;
            Sums largest;
            u32 codes[2][4] = {};  // a byte for each number
            for (int code = 0; code < QH * QW; ++code) {
                const int top = pr * QH + code / QW - up, start = ps * QW + code % QW - left;
                const int dy0 = top < 0 ? -top : 0, dy1 = top + KH > H ? H - top : KH;
                const int dx0 = start < 0 ? -start : 0, dx1 = start + KW > W ? W - start : KW;
                auto fetch = [&](int stage, u32* a, u32* b) {
                    const int tap = stage / steps, c = stage % steps * DEPTH + k;
                    const int dy = dy0 + tap / (dx1 - dx0), dx = dx0 + tap % (dx1 - dx0);
                    const u32* of_x = x + ((n * H + top + dy) * W + start + dx) * C + c;
                    const u32* of_w = w + ((dy * KW + dx) * O + o) * C + c;
                    const i64 next_x = i64(H) * W * C * HIGH, next_w = i64(C) * HIGH;
#pragma unroll 2
                    for (int row = 0; row < TILE; row += HIGH, of_x += next_x, of_w += next_w) {
                        const int at = (first + row) * (DEPTH + 4) + k;
                        const bool of_a = c < C && n + row < N, of_b = c < C && o + row < O;
                        copy_words<WORDS>(a + at, of_a ? of_x : x, of_a);
                        copy_words<WORDS>(b + at, of_b ? of_w : w, of_b);
                    }
                };
                Sums found = {};
                const int stages = (dy1 - dy0) * (dx1 - dx0) * steps;
                accumulate<P, DEPTH + 4, 1>(fetch, stages, idle, tiles, found);
#pragma unroll
                for (int j = 0; j < 4; ++j)
#pragma unroll
                    for (int e = 0; e < 4; ++e) {
                        const i64 own = o0 + column_of(j, e);
                        const float b = own < O ? bias[own] : 0.f;
#pragma unroll
                        for (int i = 0; i < 2; ++i) {
                            const float a = found[i][j][e] + b;
                            if (code == 0 || a > largest[i][j][e] || a != a) {
                                largest[i][j][e] = a;
                                codes[i][j] &= ~(0xffu << 8 * e);
                                codes[i][j] |= u32(code) << 8 * e;
                            }
                        }
                    }
            }
#pragma unroll
            for (int i = 0; i < 2; ++i)
#pragma unroll
                for (int j = 0; j < 4; ++j)
#pragma unroll
                    for (int e = 0; e < 4; ++e) {
                        const i64 row = n0 + row_of(i, e), own = o0 + column_of(j, e);
                        if (row >= N || own >= O) continue;
                        const float a = largest[i][j][e];
                        const float value = rectified && a <= 0.f ? 0.f : a;
                        const i64 at = (row * PH * PW + place) * O + own;
                        means_of[(i * 4 + j) * 4 + e][threadIdx.x] += value;
                        y[at] = value;
                        if (keep) winner[at] = a > 0.f ? u8(codes[i][j] >> 8 * e) : SILENT;
                    }
        }
#pragma unroll
        for (int i = 0; i < 2; ++i)
#pragma unroll
            for (int j = 0; j < 4; ++j)
#pragma unroll
                for (int e = 0; e < 4; ++e) {
                    const i64 row = n0 + row_of(i, e), own = o0 + column_of(j, e);
                    if (row < N && own < O)
                        means[(row * spans + number) * O + own] =
                            means_of[(i * 4 + j) * 4 + e][threadIdx.x];
                }
    }
}

// Shares of dW (spans, KH KW, O, C), of words post (G, OH, OW, O) and x (G, H, W, C) by input. A
// block has one tap, 64 neurons, 64 channels and a `span` of places; the sum of each place is
// added to those before, so that no sum of the units is long.
template <typename P, int WORDS>
MATRIX_KERNEL correlate(const u32* __restrict__ post, const u32* __restrict__ x, int G, int H,
                        int W, i64 C, i64 O, int KH, int KW, int up, int left, int span,
                        int spans, float* __restrict__ shares) {
    alignas(16) __shared__ Tiles tiles;
    const int OH = H + 2 * up - KH + 1, OW = W + 2 * left - KW + 1, taps = KH * KW;
    const i64 across = (C + TILE - 1) / TILE, high = (O + TILE - 1) / TILE;
    const i64 tasks = i64(spans) * taps * high * across;
    const int stages = (G + DEPTH - 1) / DEPTH;
    constexpr int WIDE = TILE / WORDS, HIGH = THREADS / WIDE;  // copies of a row, rows at a time
    const int m = int(threadIdx.x) % WIDE * WORDS, first = int(threadIdx.x) / WIDE;
    for (i64 task = blockIdx.x; task < tasks; task += gridDim.x) {
        const i64 c0 = task % across * TILE, o0 = task / across % high * TILE;
        const int tap = int(task / across / high % taps);
        const int number = int(task / across / high / taps);
        const i64 o = o0 + m, c = c0 + m;
        const bool idle = o0 + row_of(0, 0) / 32 * 32 >= O || c0 + column_of(0, 0) / 32 * 32 >= C;
        Sums total = {};
        for (int place = number * span; place < (number + 1) * span && place < OH * OW; ++place) {
            const int r = place / OW + tap / KW - up, s = place % OW + tap % KW - left;
            if (r < 0 || s < 0 || r >= H || s >= W) continue;
            auto fetch = [&](int stage, u32* a, u32* b) {
                const int group = stage * DEPTH + first;
                const u32* of_post = post + (i64(group) * OH * OW + place) * O + o;
                const u32* of_x = x + ((i64(group) * H + r) * W + s) * C + c;
                const i64 next_post = i64(OH) * OW * O * HIGH, next_x = i64(H) * W * C * HIGH;
#pragma unroll
                for (int row = 0; row < DEPTH; row += HIGH, of_post += next_post, of_x += next_x) {
                    const int at = (first + row) * (TILE + 8) + m;
                    const bool of_a = group + row < G && o < O, of_b = group + row < G && c < C;
                    copy_words<WORDS>(a + at, of_a ? of_post : post, of_a);
                    copy_words<WORDS>(b + at, of_b ? of_x : x, of_b);
                }
            };
            Sums found = {};
            accumulate<P, 1, TILE + 8>(fetch, stages, idle, tiles, found);
#pragma unroll
            for (int i = 0; i < 2; ++i)
#pragma unroll
                for (int j = 0; j < 4; ++j)
#pragma unroll
                    for (int e = 0; e < 4; ++e) total[i][j][e] += found[i][j][e];
        }
#pragma unroll
        for (int i = 0; i < 2; ++i)
#pragma unroll
            for (int j = 0; j < 4; ++j)
#pragma unroll
                for (int e = 0; e < 4; ++e) {
                    const i64 own = o0 + row_of(i, e), of = c0 + column_of(j, e);
                    if (own < O && of < C)
                        shares[((i64(number) * taps + tap) * O + own) * C + of] = total[i][j][e];
                }
    }
}
