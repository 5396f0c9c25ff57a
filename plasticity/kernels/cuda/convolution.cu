// A 3x3 convolution, stride 1, padding 1, and its learning, but for the matrix products:
//
//     forward     M[p] = V[p] U[p]^T       then `activities`
//     correlate   Q[p] = S[p]^T V[p]       then `gradients`
//     back        M[p] = R[p] U'[p]        then `errors`
//
// for each product p of a tile: V, R `(products, tiles, channels)` from `inputs` and `post_inputs`,
// S from `posts`, U `(products, outputs, inputs)` from `weights`. Maps are channel-last.
//
// A thread has N neighbouring channels (T, of a tile A) and reads and writes them at once. Tiles and
// patches are fewer than 2**31, and so are the numbers of a patch's map.

struct Place {
    int patch, i, j;  // of the tile
};

template <typename A>
__device__ __forceinline__ Place place(int t, int H, int W, i64 by_each, i64 by_across) {
    const int across = (W + A::OUT - 1) / A::OUT, each = (H + A::OUT - 1) / A::OUT * across;
    const int patch = Reciprocal(by_each).of(t), within = t - patch * each;
    const int i = Reciprocal(by_across).of(within);
    return {patch, i, within - i * across};
}

// What lies at (r, s) of a patch, zero outside: an activity,
template <typename T, int N>
struct Map {
    static constexpr int POOL = 1;
    using Cell = Pack<T, N>;
    const T* x;  // of the patch, from the thread's channels on
    int H, W, C;

    __device__ __forceinline__ Cell cell(int r, int s) const {
        const T* from = after(x, u32(r) * u32(W * C) + u32(s) * u32(C));
        return u32(r) < u32(H) && u32(s) < u32(W) ? load<N>(from) : Cell(T(0));
    }
    static __device__ __forceinline__ Pack<T, N> pick(const Cell& cell, int) { return cell; }
};

// or the post factor: the drive, where the neuron is active (rho') and has won its pool of P x P
// (inhibition). The drive is shared by a patch, or each pooled neuron has its own.
template <typename T, int N, int P>
struct Post {
    static constexpr int POOL = P;
    struct Cell {  // of a pool
        Pack<u8, N> winner;
        Pack<T, N> drive;
    };
    const u8* winner;  // of the patch, from the thread's neurons on
    const T* drive;
    int PH, PW, O;
    bool shared;
    Pack<T, N> own;  // the drive that is shared

    __device__ __forceinline__ Post(const u8* winner, const T* drive, bool shared, int H, int W,
                                    int O, int patch, int o)
        : winner(winner + i64(patch) * (H / P * (W / P) * O) + o),
          drive(drive + i64(patch) * (shared ? O : H / P * (W / P) * O) + o),
          PH(H / P), PW(W / P), O(O), shared(shared), own(T(0)) {
        if (shared) own = load<N>(this->drive);
    }
    __device__ __forceinline__ Cell cell(int r, int s) const {
        Cell found{Pack<u8, N>(SILENT), own};
        if (u32(r) >= u32(PH) || u32(s) >= u32(PW)) return found;
        const u32 at = u32(r) * u32(PW * O) + u32(s) * u32(O);
        found.winner = load<N>(after(winner, at));
        bool active = false;
#pragma unroll
        for (int k = 0; k < N; ++k) active |= found.winner.at[k] != SILENT;
        if (!shared && active) found.drive = load<N>(after(drive, at));
        return found;
    }
    static __device__ __forceinline__ Pack<T, N> pick(const Cell& cell, int code) {
        Pack<T, N> p;
#pragma unroll
        for (int k = 0; k < N; ++k) p.at[k] = cell.winner.at[k] == code ? cell.drive.at[k] : T(0);
        return p;
    }
};

// What becomes of one dimension of a tile: of its inputs, by B^T d,
template <typename A>
struct Inputs {
    static constexpr int SIDE = A::IN, BORDER = A::BORDER;
    template <typename P>
    static __device__ __forceinline__ void along(const P (&d)[SIDE], P (&v)[A::MUL]) {
        A::input(d, v);
    }
};

// or of its neurons, by A p.
template <typename A>
struct Neurons {
    static constexpr int SIDE = A::OUT, BORDER = 0;
    template <typename P>
    static __device__ __forceinline__ void along(const P (&p)[SIDE], P (&s)[A::MUL]) {
        A::post(p, s);
    }
};

// Both dimensions of tile (i, j), written product after product, `step` apart. A pool is read once.
template <typename T, int N, typename A, typename Side, typename Source>
__device__ __forceinline__ void transform(const Source& source, int i, int j, i64 step,
                                          T* __restrict__ to) {
    constexpr int P = Source::POOL, BEFORE = (Side::BORDER + P - 1) / P;
    constexpr int CELLS = BEFORE + (Side::SIDE - Side::BORDER + P - 1) / P;
    const int top = i * (A::OUT / P) - BEFORE, left = j * (A::OUT / P) - BEFORE;
    Pack<T, N> columns[A::MUL][Side::SIDE];
#pragma unroll
    for (int q = 0; q < CELLS; ++q) {
        typename Source::Cell cells[CELLS];
#pragma unroll
        for (int p = 0; p < CELLS; ++p) cells[p] = source.cell(top + p, left + q);
#pragma unroll
        for (int e = 0; e < P; ++e) {
            const int b = (q - BEFORE) * P + e + Side::BORDER;
            if (b < 0 || b >= Side::SIDE) continue;
            Pack<T, N> d[Side::SIDE], v[A::MUL];
#pragma unroll
            for (int a = 0; a < Side::SIDE; ++a) {
                const int from = a - Side::BORDER + BEFORE * P;
                d[a] = Source::pick(cells[from / P], from % P * P + e);
            }
            Side::along(d, v);
#pragma unroll
            for (int a = 0; a < A::MUL; ++a) columns[a][b] = v[a];
        }
    }
#pragma unroll
    for (int a = 0; a < A::MUL; ++a) {
        Pack<T, N> v[A::MUL];
        Side::along(columns[a], v);
#pragma unroll
        for (int b = 0; b < A::MUL; ++b, to += step) store(to, v[b]);
    }
}

// B^T d B of every tile and channel, written to V (MUL * MUL, tiles, C).
template <typename T, typename A, int N>
KERNEL inputs(const T* __restrict__ x, int H, int W, int C, int tiles, i64 by_each, i64 by_across,
              T* __restrict__ V) {
    ALONG_X(column, C / N) {
        const int c = int(column) * N;
        ALONG_Y(t, tiles) {
            const Place at = place<A>(int(t), H, W, by_each, by_across);
            const Map<T, N> map{x + i64(at.patch) * (H * W * C) + c, H, W, C};
            transform<T, N, A, Inputs<A>>(map, at.i, at.j, i64(tiles) * C, V + t * C + c);
        }
    }
}

// The same of the post factor, R, as the way back needs it.
template <typename T, typename A, int N, int P>
KERNEL post_inputs(const u8* __restrict__ winner, const T* __restrict__ drive, bool shared, int H,
                   int W, int O, int tiles, i64 by_each, i64 by_across, T* __restrict__ R) {
    ALONG_X(column, O / N) {
        const int o = int(column) * N;
        ALONG_Y(t, tiles) {
            const Place at = place<A>(int(t), H, W, by_each, by_across);
            const Post<T, N, P> post(winner, drive, shared, H, W, O, at.patch, o);
            transform<T, N, A, Inputs<A>>(post, at.i, at.j, i64(tiles) * O, R + t * O + o);
        }
    }
}

// A post A^T of every tile and neuron, written to S (MUL * MUL, tiles, O).
template <typename T, typename A, int N, int P>
KERNEL posts(const u8* __restrict__ winner, const T* __restrict__ drive, bool shared, int H, int W,
             int O, int tiles, i64 by_each, i64 by_across, T* __restrict__ S) {
    ALONG_X(column, O / N) {
        const int o = int(column) * N;
        ALONG_Y(t, tiles) {
            const Place at = place<A>(int(t), H, W, by_each, by_across);
            const Post<T, N, P> post(winner, drive, shared, H, W, O, at.patch, o);
            transform<T, N, A, Neurons<A>>(post, at.i, at.j, i64(tiles) * O, S + t * O + o);
        }
    }
}

// G g G^T of w (O, C, 3, 3), written to U (MUL * MUL, O, C); g is read from its end where it is
// `flipped`, as the way back to the inputs needs it.
template <typename T, typename A>
KERNEL weights(const T* __restrict__ w, i64 O, i64 C, bool flipped, T* __restrict__ U) {
    ALONG_X(c, C) {
        ALONG_Y(o, O) {
            const T* from = w + (o * C + c) * 9;
            T columns[A::MUL][3];
#pragma unroll
            for (int b = 0; b < 3; ++b) {
                T g[3], u[A::MUL];
#pragma unroll
                for (int a = 0; a < 3; ++a) g[a] = from[flipped ? 8 - 3 * a - b : 3 * a + b];
                A::weight(g, u);
#pragma unroll
                for (int a = 0; a < A::MUL; ++a) columns[a][b] = u[a];
            }
            T* to = U + o * C + c;
#pragma unroll
            for (int a = 0; a < A::MUL; ++a) {
                T u[A::MUL];
                A::weight(columns[a], u);
#pragma unroll
                for (int b = 0; b < A::MUL; ++b, to += O * C) *to = u[b];
            }
        }
    }
}

// A^T M A of one tile; `from` is its first product, the next one `step` further.
template <typename T, int N, typename A>
__device__ __forceinline__ void outputs(const T* __restrict__ from, i64 step,
                                        Pack<T, N> (&y)[A::OUT][A::OUT]) {
    Pack<T, N> rows[A::OUT][A::MUL];
#pragma unroll
    for (int a = 0; a < A::MUL; ++a) {
        Pack<T, N> m[A::MUL], out[A::OUT];
#pragma unroll
        for (int b = 0; b < A::MUL; ++b, from += step) m[b] = load<N>(from);
        A::output(m, out);
#pragma unroll
        for (int b = 0; b < A::OUT; ++b) rows[b][a] = out[b];
    }
#pragma unroll
    for (int b = 0; b < A::OUT; ++b) {
        Pack<T, N> out[A::OUT];
        A::output(rows[b], out);
#pragma unroll
        for (int a = 0; a < A::OUT; ++a) y[a][b] = out[a];
    }
}

// Bias, ReLU, MaxPool of P x P with winners and the mean of a patch, in one pass over M. A thread
// has a patch, so it sums the mean in the order of tiles. `winner` is written if `keep`.
template <typename T, typename A, int N, int P>
KERNEL activities(const T* __restrict__ M, const T* __restrict__ bias, int H, int W, int patches,
                  int O, bool keep, T* __restrict__ y, u8* __restrict__ winner,
                  T* __restrict__ encoding) {
    constexpr int SIDE = A::OUT / P;  // of a tile, in pools
    const int down = (H + A::OUT - 1) / A::OUT, across = (W + A::OUT - 1) / A::OUT;
    const int PH = H / P, PW = W / P;
    const i64 step = i64(patches) * (down * across) * O;
    ALONG_X(column, O / N) {
        const int o = int(column) * N;
        const Pack<T, N> start = load<N>(bias + o);
        ALONG_Y(n, patches) {
            Pack<T, N> total(T(0));
            const T* from = M + n * (down * across) * O + o;
            const i64 map = n * (PH * PW * O) + o;
#pragma unroll 1
            for (int i = 0; i < down; ++i) {
#pragma unroll 1
                for (int j = 0; j < across; ++j, from += O) {
                    Pack<T, N> a[A::OUT][A::OUT];
                    outputs<T, N, A>(from, step, a);
#pragma unroll
                    for (int r = 0; r < SIDE; ++r) {
#pragma unroll
                        for (int s = 0; s < SIDE; ++s) {
                            const int pr = i * SIDE + r, ps = j * SIDE + s;
                            if (pr >= PH || ps >= PW) continue;
                            Pack<T, N> value = a[r * P][s * P] + start;
                            Pack<u8, N> code(0);
#pragma unroll
                            for (int e = 1; e < P * P; ++e) {
                                const Pack<T, N> other = a[r * P + e / P][s * P + e % P] + start;
#pragma unroll
                                for (int k = 0; k < N; ++k)
                                    if (other.at[k] > value.at[k]) {
                                        value.at[k] = other.at[k];
                                        code.at[k] = u8(e);
                                    }
                            }
#pragma unroll
                            for (int k = 0; k < N; ++k) {
                                const bool active = value.at[k] > T(0);
                                if (!active) value.at[k] = T(0);
                                if (!active) code.at[k] = SILENT;
                            }
                            const u32 at = u32(pr) * u32(PW * O) + u32(ps) * u32(O);
                            total = total + value;
                            store(after(y + map, at), value);
                            if (keep) store(after(winner + map, at), code);
                        }
                    }
                }
            }
#pragma unroll
            for (int k = 0; k < N; ++k) total.at[k] = total.at[k] / T(PH * PW);
            store(encoding + n * O + o, total);
        }
    }
}

// A^T M A as it is: the error at the inputs, (patches, H, W, C).
template <typename T, typename A, int N>
KERNEL errors(const T* __restrict__ M, int H, int W, int C, int tiles, i64 by_each, i64 by_across,
              T* __restrict__ out) {
    ALONG_X(column, C / N) {
        const int c = int(column) * N;
        ALONG_Y(t, tiles) {
            const Place at = place<A>(int(t), H, W, by_each, by_across);
            Pack<T, N> y[A::OUT][A::OUT];
            outputs<T, N, A>(M + t * C + c, i64(tiles) * C, y);
            T* to = out + i64(at.patch) * (H * W * C) + c;
#pragma unroll
            for (int a = 0; a < A::OUT; ++a) {
#pragma unroll
                for (int b = 0; b < A::OUT; ++b) {
                    const int r = at.i * A::OUT + a, s = at.j * A::OUT + b;
                    const u32 at = u32(r) * u32(W * C) + u32(s) * u32(C);
                    if (r < H && s < W) store(after(to, at), y[a][b]);
                }
            }
        }
    }
}

// dW (O, C, 3, 3) = G^T Q G of Q (MUL * MUL, O, C).
template <typename T, typename A>
KERNEL gradients(const T* __restrict__ Q, i64 O, i64 C, T* __restrict__ dW) {
    ALONG_X(c, C) {
        ALONG_Y(o, O) {
            const T* from = Q + o * C + c;
            T rows[3][A::MUL];
#pragma unroll
            for (int a = 0; a < A::MUL; ++a) {
                T q[A::MUL], g[3];
#pragma unroll
                for (int b = 0; b < A::MUL; ++b, from += O * C) q[b] = *from;
                A::gradient(q, g);
#pragma unroll
                for (int b = 0; b < 3; ++b) rows[b][a] = g[b];
            }
            T* to = dW + (o * C + c) * 9;
#pragma unroll
            for (int b = 0; b < 3; ++b) {
                T g[3];
                A::gradient(rows[b], g);
#pragma unroll
                for (int a = 0; a < 3; ++a) to[3 * a + b] = g[a];
            }
        }
    }
}
