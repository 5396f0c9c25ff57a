// Convolutions of stride 1 by matrix units: products of tf32 or bfloat16, summed in float32.
//
//     forward     y[n, o] = sum over taps and channels of x w      then bias, ReLU, pool, mean
//     back        the same of the post factor, with the weights turned round, and nothing behind
//     correlate   dW[tap, o, c] = sum over places and inputs of post x
//
// No matrix of patches lies in memory: a block walks over the taps, and fetches of x what a tap
// meets. Forwards its 128 rows are 32 inputs at four places, the neurons of a pool or neighbours,
// which meet the same weights. A product has 16 inputs at one place, so that it is left out where
// its tap lies on the padding (of a 2x2 map five of nine), and the neurons of a pool are the same
// number of four products: a thread lets them compete in its registers.
//
// Operands come in words of 32 bits (`inputs`, `posts`): a number of tf32, or two of bfloat16,
// which are neighbours along what is summed over. A product of the units takes 8 words of each.

constexpr int INPUTS = 32, PLACES = 4;  // whose products are the rows of a block forwards
constexpr int HIGH = 128, WIDE = 64;    // tiles of neurons, and for dW of channels
constexpr int DEPTH = 16;               // words that a block fetches at a time
constexpr int THREADS = 256;            // of a block: eight warps

// A block that may be alone on a multiprocessor: 255 registers, for 64 sums of each thread.
#define ALONE_KERNEL __global__ void __launch_bounds__(256, 1)

template <int N>
struct Number {
    static constexpr int value = N;
};

// d += a b, of a (16 x 8 words) and b (8 words x 8), by a warp. Lane 4 g + t has of a the rows g
// and g + 8, of b the column g, and of both the words t and t + 4; of d the rows g and g + 8 and the
// columns 2 t and 2 t + 1 (PTX ISA, mma.m16n8k8 and m16n8k16). tests/kernels/emulation has the same.
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
// nothing is `there`, that goes on while others compute; `copied` waits until no more than so many
// groups of this thread are on their way.
template <int WORDS>
__device__ __forceinline__ void copy_words(u32* to, const u32* from, bool there) {
    const u32 at = u32(__cvta_generic_to_shared(to)), bytes = there ? 4 * WORDS : 0;
    if constexpr (WORDS == 4)
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(at), "l"(from),
                     "r"(bytes));
    else
        asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(at), "l"(from),
                     "r"(bytes));
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

// The numbers of N neighbouring words. A word has them of inputs that follow each other (BY_INPUT),
// `step` apart, or of neighbouring channels; those that are not `there`, beyond the last, are `none`.
template <typename P, int N, bool BY_INPUT, typename T>
__device__ __forceinline__ void gather(const T* from, i64 step, i64 there, T none,
                                       T (&number)[N][P::PACK]) {
#pragma unroll
    for (int part = 0; part < P::PACK; ++part) {
        Pack<T, N> numbers(none);
        if ((BY_INPUT ? part : part * N) < there)
            numbers = load<N>(from + (BY_INPUT ? part * step : part * N));
#pragma unroll
        for (int e = 0; e < N; ++e) {
            const int i = part * N + e;
            (BY_INPUT ? number[e][part] : number[i / P::PACK][i % P::PACK]) = numbers.at[e];
        }
    }
}

// Words (groups, wide) of x: of the channels of a row, `count` of them, which is a group, or of so
// many inputs, of which a group has as many as a word. Zero beyond the last.
template <typename P, int N, bool BY_INPUT>
KERNEL inputs(const float* __restrict__ x, i64 groups, i64 wide, i64 count,
              u32* __restrict__ words) {
    ALONG_X(column, wide / N) {
        ALONG_Y(group, groups) {
            const i64 w = column * N, first = (BY_INPUT ? group : w) * P::PACK;
            const float* from = x + (BY_INPUT ? first * wide + w : group * count + first);
            float number[N][P::PACK];
            gather<P, N, BY_INPUT>(from, wide, count - first, 0.f, number);
            Pack<u32, N> found;
#pragma unroll
            for (int e = 0; e < N; ++e) {
                u32 bits[P::PACK];
#pragma unroll
                for (int k = 0; k < P::PACK; ++k) bits[k] = P::rounded(number[e][k]);
                found.at[e] = P::word(bits);
            }
            store(words + group * wide + w, found);
        }
    }
}

// The same of the post factor (patches, H, W, O): the drive, where the neuron is active (rho') and
// has won its pool of QH x QW (inhibition), or everywhere in a layer that is not `rectified`. The
// drive is `shared` by the places of an input, or each winner has its own. A thread has a row of
// pools, of which a map has `lines`; the last one may be beyond those that are whole. Of inputs the
// sums over a word's and over a line's places are written too, (groups, lines, O).
template <typename P, int N, bool BY_INPUT>
KERNEL posts(const u8* __restrict__ winner, const float* __restrict__ drive, bool shared,
             bool rectified, i64 patches, int H, int W, int QH, int QW, i64 O, int lines,
             i64 by_lines, i64 groups, i64 wide, u32* __restrict__ words,
             float* __restrict__ sums) {
    const int PH = H / QH, PW = W / QW;
    ALONG_X(column, wide / N) {
        ALONG_Y(row, groups * lines) {
            const int group = Reciprocal(by_lines).of(int(row)), line = int(row) - group * lines;
            const i64 w = column * N, map = i64(PH) * PW * O;
            const i64 n = BY_INPUT ? i64(group) * P::PACK : group, o = BY_INPUT ? w : w * P::PACK;
            const i64 there = BY_INPUT ? patches - n : O - o, step = shared ? O : map;
            const i64 place = i64(line) * PW * O;
            const u8* won = winner + n * map + place + o;
            const float* driven = drive + n * step + (shared ? 0 : place) + o;
            u32* to = words + i64(group) * H * W * wide + w;
            Pack<float, N> total(0.f);
            for (int ps = 0; ps * QW < W; ++ps) {
                const bool whole = line < PH && ps < PW;
                u8 code[N][P::PACK];
                float number[N][P::PACK];
                u32 bits[N][P::PACK];
                gather<P, N, BY_INPUT>(won, map, whole && rectified ? there : 0, SILENT, code);
                gather<P, N, BY_INPUT>(driven, step, whole ? there : 0, 0.f, number);
#pragma unroll
                for (int e = 0; e < N; ++e)
#pragma unroll
                    for (int k = 0; k < P::PACK; ++k) bits[e][k] = P::rounded(number[e][k]);
                for (int dr = 0; dr < QH && line * QH + dr < H; ++dr)
                    for (int ds = 0; ds < QW && ps * QW + ds < W; ++ds) {
                        Pack<u32, N> found;
#pragma unroll
                        for (int e = 0; e < N; ++e) {
                            u32 own[P::PACK];
#pragma unroll
                            for (int k = 0; k < P::PACK; ++k) {
                                const bool wins = !rectified || code[e][k] == dr * QW + ds;
                                own[k] = wins ? bits[e][k] : 0u;
                                total.at[e] += __uint_as_float(own[k]);
                            }
                            found.at[e] = P::word(own);
                        }
                        const int r = line * QH + dr, s = ps * QW + ds;
                        store(after(to, u32(r * W + s) * u32(wide)), found);
                    }
                won += O;
                driven += shared ? 0 : O;
            }
            if (BY_INPUT) store(sums + row * O + w, total);
        }
    }
}

// sums += a b over a stage of `DEPTH` words, by a warp: M products of 16 rows, which lie `APART`
// rows apart and count where their bit is set in `mask`, with four of 8 columns. Word k of row (or
// column) m lies at m * SM + k * SK, so that the lanes meet all banks.
template <typename P, int M, int APART, int SM, int SK>
__device__ __forceinline__ void multiply(const u32* rows, const u32* columns, u32 mask,
                                         float (&sums)[M][4][4]) {
    const int lane = int(threadIdx.x) % 32, own = lane / 4 * SM + lane % 4 * SK;
#pragma unroll
    for (int k = 0; k < DEPTH; k += 8) {
        u32 b[4][2];
#pragma unroll
        for (int j = 0; j < 4; ++j)
#pragma unroll
            for (int e = 0; e < 2; ++e) b[j][e] = columns[own + j * 8 * SM + (k + e * 4) * SK];
#pragma unroll
        for (int i = 0; i < M; ++i) {
            if (!(mask >> i & 1u)) continue;
            u32 a[4];
#pragma unroll
            for (int e = 0; e < 4; ++e)
                a[e] = rows[own + (i * APART + e % 2 * 8) * SM + (k + e / 2 * 4) * SK];
#pragma unroll
            for (int j = 0; j < 4; ++j) P::multiply(sums[i][j], a, b[j]);
        }
    }
}

// sums += a b over all stages. `fetch` begins the copies of the next one and gives its mask, so
// that they are on their way while a stage is multiplied. Every thread of a block comes here, and
// those of warps that are `idle`, beyond the edge of the result, only fetch.
template <typename P, int M, int APART, int SM, int SK, int ROOM, typename Fetch>
__device__ __forceinline__ void accumulate(Fetch& fetch, int stages, bool idle, int row, int column,
                                           u32 (&a)[2][ROOM], u32 (&b)[2][ROOM],
                                           float (&sums)[M][4][4]) {
    u32 mask = fetch(a[0], b[0]), next = 0;
    close_group();
    for (int stage = 0; stage < stages; ++stage) {
        const int now = stage % 2;
        copied<0>();
        __syncthreads();  // all have this stage's words, and are done with those before
        if (stage + 1 < stages) next = fetch(a[1 - now], b[1 - now]);
        close_group();
        if (!idle)
            multiply<P, M, APART, SM, SK>(a[now] + row * SM, b[now] + column * SM, mask, sums);
        mask = next;
    }
    __syncthreads();
}

// y (N, PH, PW, O) of words x (N, H, W, C) and w (KH KW, O, C), `winner` if `keep`; the map is
// `pooled` by 2x2 or not at all. A block has 32 inputs, 128 neurons and a `span` of fours of places,
// of which there are `spans`, and sums y over them for the mean: `means` (N, spans, O).
template <typename P, int WORDS>
ALONE_KERNEL forward(const u32* __restrict__ x, const u32* __restrict__ w,
                     const float* __restrict__ bias, i64 N, int H, int W, int C, i64 O, int KH,
                     int KW, int up, int left, bool pooled, int span, int spans, bool rectified,
                     bool keep, float* __restrict__ y, u8* __restrict__ winner,
                     float* __restrict__ means) {
    constexpr int ROW = DEPTH + 4, ACROSS = DEPTH / WORDS, DOWN = THREADS / ACROSS;
    alignas(16) __shared__ u32 of_x[2][HIGH * ROW];
    alignas(16) __shared__ u32 of_w[2][HIGH * ROW];
    const int OH = H + 2 * up - KH + 1, OW = W + 2 * left - KW + 1;
    const int fours_h = pooled ? OH / 2 : (OH + 1) / 2, fours_w = pooled ? OW / 2 : (OW + 1) / 2;
    const i64 across = (O + HIGH - 1) / HIGH, tasks = (N + INPUTS - 1) / INPUTS * spans * across;
    const int warp = int(threadIdx.x) / 32, lane = int(threadIdx.x) % 32;
    const int row = warp / 4 * 16, column = warp % 4 * 32;  // of this warp
    const int k = int(threadIdx.x) % ACROSS * WORDS, first = int(threadIdx.x) / ACROSS;
    for (i64 task = blockIdx.x; task < tasks; task += gridDim.x) {
        const i64 o0 = task % across * HIGH, n0 = task / across / spans * INPUTS;
        const int number = int(task / across % spans);
        const bool idle = n0 + row >= N || o0 + column >= O;
        float mean[4][4] = {};
        for (int four = number * span; four < (number + 1) * span && four < fours_h * fours_w;
             ++four) {
            const int top = four / fours_w * 2 - up, start = four % fours_w * 2 - left;
            // Taps that meet the map from any of the places; the last ones may be beyond its end.
            const int dy0 = top + 1 < 0 ? -top - 1 : 0, dy1 = top + KH > H ? H - top : KH;
            const int dx0 = start + 1 < 0 ? -start - 1 : 0, dx1 = start + KW > W ? W - start : KW;
            int dy = dy0, dx = dx0, c = 0;
            auto fetch = [&](u32* a, u32* b) {
                u32 mask = 0;
#pragma unroll
                for (int i = 0; i < PLACES; ++i) {
                    const int r = top + i / 2 + dy, s = start + i % 2 + dx;
                    const bool there = top + i / 2 + up < OH && start + i % 2 + left < OW;
                    if (there && r >= 0 && r < H && s >= 0 && s < W) mask |= 1u << i;
                }
#pragma unroll 2
                for (int down = first; down < HIGH; down += DOWN) {
                    const int i = down / INPUTS;
                    const i64 n = n0 + down % INPUTS, o = o0 + down;
                    const int r = top + i / 2 + dy, s = start + i % 2 + dx, at = down * ROW + k;
                    const bool has_x = n < N && c + k < C, has_w = o < O && c + k < C;
                    if (mask >> i & 1u)
                        copy_words<WORDS>(
                            a + at, has_x ? x + ((n * H + r) * W + s) * C + c + k : x, has_x);
                    copy_words<WORDS>(
                        b + at, has_w ? w + ((dy * KW + dx) * O + o) * C + c + k : w, has_w);
                }
                if ((c += DEPTH) >= C) {
                    c = 0;
                    if (++dx == dx1) dx = dx0, ++dy;
                }
                return mask;
            };
            float sums[PLACES][4][4] = {};
            const int stages = (dy1 - dy0) * (dx1 - dx0) * ((C + DEPTH - 1) / DEPTH);
            accumulate<P, PLACES, INPUTS, ROW, 1>(fetch, stages, idle, row, column, of_x, of_w, sums);
#pragma unroll
            for (int j = 0; j < 4; ++j)
#pragma unroll
                for (int e = 0; e < 4; ++e) {
                    const i64 n = n0 + row + lane / 4 + e / 2 * 8;
                    const i64 o = o0 + column + j * 8 + lane % 4 * 2 + e % 2;
                    if (n >= N || o >= O) continue;
                    float a = 0;
                    u8 code = 0;
#pragma unroll
                    for (int i = 0; i < PLACES; ++i) {
                        const int r = top + i / 2 + up, s = start + i % 2 + left;
                        const float own = sums[i][j][e] + bias[o];
                        if (!pooled || i == 0 || own > a || own != own) {
                            a = own;
                            code = pooled ? u8(i) : u8(0);
                        }
                        if ((pooled && i < PLACES - 1) || r >= OH || s >= OW) continue;
                        const float value = rectified && a <= 0.f ? 0.f : a;
                        const i64 at = pooled ? (n * fours_h * fours_w + four) * O + o
                                              : ((n * OH + r) * OW + s) * O + o;
                        mean[j][e] += value;
                        y[at] = value;
                        if (keep) winner[at] = a > 0.f ? code : SILENT;
                    }
                }
        }
#pragma unroll
        for (int j = 0; j < 4; ++j)
#pragma unroll
            for (int e = 0; e < 4; ++e) {
                const i64 n = n0 + row + lane / 4 + e / 2 * 8;
                const i64 o = o0 + column + j * 8 + lane % 4 * 2 + e % 2;
                if (n < N && o < O) means[(n * spans + number) * O + o] = mean[j][e];
            }
    }
}

// Shares of dW (spans, KH KW, O, C), of words post (G, OH, OW, O) and x (G, H, W, C) by input. A
// block has one tap, 128 neurons, 64 channels and a `span` of places; the sum of each place is
// added to those before, so that no sum of the units is long.
template <typename P, int WORDS>
KERNEL correlate(const u32* __restrict__ post, const u32* __restrict__ x, int G, int H, int W, i64 C,
                 i64 O, int KH, int KW, int up, int left, int span, int spans,
                 float* __restrict__ shares) {
    constexpr int LINE = HIGH + 8;  // of either tile, so that both lie alike
    alignas(16) __shared__ u32 of_post[2][DEPTH * LINE];
    alignas(16) __shared__ u32 of_x[2][DEPTH * LINE];
    const int OH = H + 2 * up - KH + 1, OW = W + 2 * left - KW + 1, taps = KH * KW;
    const i64 across = (C + WIDE - 1) / WIDE, high = (O + HIGH - 1) / HIGH;
    const i64 tasks = i64(spans) * taps * high * across;
    const int warp = int(threadIdx.x) / 32, lane = int(threadIdx.x) % 32;
    const int row = warp / 2 * 32, column = warp % 2 * 32;  // of this warp
    for (i64 task = blockIdx.x; task < tasks; task += gridDim.x) {
        const i64 c0 = task % across * WIDE, o0 = task / across % high * HIGH;
        const int tap = int(task / across / high % taps);
        const int number = int(task / across / high / taps);
        const bool idle = o0 + row >= O || c0 + column >= C;
        float total[2][4][4] = {};
        for (int place = number * span; place < (number + 1) * span && place < OH * OW; ++place) {
            const int r = place / OW + tap / KW - up, s = place % OW + tap % KW - left;
            if (r < 0 || s < 0 || r >= H || s >= W) continue;
            int group = 0;
            // A tile's lines are words that are summed over, of `wide` numbers each.
            auto copy_tile = [&](u32* to, const u32* from, i64 line, i64 left_over, auto width) {
                constexpr int ACROSS = decltype(width)::value / WORDS, DOWN = THREADS / ACROSS;
                const int m = int(threadIdx.x) % ACROSS * WORDS;
#pragma unroll 2
                for (int down = int(threadIdx.x) / ACROSS; down < DEPTH; down += DOWN) {
                    const bool there = group + down < G && m < left_over;
                    copy_words<WORDS>(to + down * LINE + m,
                                      there ? from + (group + down) * line + m : from, there);
                }
            };
            auto fetch = [&](u32* a, u32* b) {
                copy_tile(a, post + i64(place) * O + o0, i64(OH) * OW * O, O - o0, Number<HIGH>());
                copy_tile(b, x + (i64(r) * W + s) * C + c0, i64(H) * W * C, C - c0, Number<WIDE>());
                group += DEPTH;
                return 3u;
            };
            float found[2][4][4] = {};
            const int stages = (G + DEPTH - 1) / DEPTH;
            accumulate<P, 2, 16, 1, LINE>(fetch, stages, idle, row, column, of_post, of_x, found);
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
                    const i64 o = o0 + row + i * 16 + lane / 4 + e / 2 * 8;
                    const i64 c = c0 + column + j * 8 + lane % 4 * 2 + e % 2;
                    if (o < O && c < C)
                        shares[((i64(number) * taps + tap) * O + o) * C + c] = total[i][j][e];
                }
    }
}
