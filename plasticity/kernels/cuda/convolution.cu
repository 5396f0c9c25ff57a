// A 3x3 convolution, stride 1, padding 1, and its learning, but for the matrix products:
//
//     forward     M[p] = V[p] U[p]         then `activities`
//     correlate   Q[p] = V[p]^T S[p]       then `gradients`
//     back        M[p] = R[p] U'[p]        then `errors`
//
// for each product p of a tile: V, R `(products, tiles, channels)` from `inputs` and `post_inputs`,
// S from `posts`, U `(products, inputs, outputs)` from `weights`. Maps are channel-last.

struct Place {
    i64 patch;
    int i, j;  // of the tile
};

template <typename A>
__device__ __forceinline__ Place place(i64 t, int H, int W) {
    const int across = (W + A::OUT - 1) / A::OUT, each = (H + A::OUT - 1) / A::OUT * across;
    const int within = int(t % each);
    return {t / each, within / across, within % across};
}

// What lies at (r, s) of patch n, zero outside: an activity,
template <typename T>
struct Map {
    const T* x;
    int H, W;
    i64 C;
    __device__ __forceinline__ T at(i64 n, int r, int s, i64 c) const {
        return r >= 0 && s >= 0 && r < H && s < W ? x[((n * H + r) * W + s) * C + c] : T(0);
    }
};

// or the post factor: the drive, where the neuron is active (rho') and has won its pool
// (inhibition). The drive is shared by a patch, or each pooled neuron has its own.
template <typename T>
struct Post {
    const u8* winner;
    const T* drive;
    int H, W, pool;
    bool shared;
    i64 O;
    __device__ __forceinline__ T at(i64 n, int r, int s, i64 o) const {
        const int half = pool - 1, PH = H >> half, PW = W >> half;  // pool is 1 or 2
        const int pr = r >> half, ps = s >> half, code = 2 * (r & half) + (s & half);
        if (r < 0 || s < 0 || pr >= PH || ps >= PW) return T(0);
        const i64 pooled = ((n * PH + pr) * PW + ps) * O + o;
        if (winner[pooled] != code) return T(0);
        return shared ? drive[n * O + o] : drive[pooled];
    }
};

// B^T d B of every tile and channel, written to V (MUL * MUL, tiles, C), product after product.
template <typename T, typename A, typename Source>
__device__ __forceinline__ void transform_inputs(const Source& source, int H, int W, i64 tiles,
                                                 i64 C, T* __restrict__ V) {
    ALONG_X(c, C) {
        ALONG_Y(t, tiles) {
            const Place at = place<A>(t, H, W);
            T columns[A::MUL][A::IN];
#pragma unroll
            for (int b = 0; b < A::IN; ++b) {
                T d[A::IN], v[A::MUL];
#pragma unroll
                for (int a = 0; a < A::IN; ++a)
                    d[a] = source.at(at.patch, at.i * A::OUT + a - A::BORDER,
                                     at.j * A::OUT + b - A::BORDER, c);
                A::input(d, v);
#pragma unroll
                for (int a = 0; a < A::MUL; ++a) columns[a][b] = v[a];
            }
            T* to = V + t * C + c;
#pragma unroll
            for (int a = 0; a < A::MUL; ++a) {
                T v[A::MUL];
                A::input(columns[a], v);
#pragma unroll
                for (int b = 0; b < A::MUL; ++b, to += tiles * C) *to = v[b];
            }
        }
    }
}

template <typename T, typename A>
KERNEL inputs(const T* __restrict__ x, i64 H, i64 W, i64 C, i64 tiles, T* __restrict__ V) {
    transform_inputs<T, A>(Map<T>{x, int(H), int(W), C}, int(H), int(W), tiles, C, V);
}

template <typename T, typename A>
KERNEL post_inputs(const u8* __restrict__ winner, const T* __restrict__ drive, bool shared, i64 H,
                   i64 W, i64 pool, i64 O, i64 tiles, T* __restrict__ R) {
    const Post<T> post{winner, drive, int(H), int(W), int(pool), shared, O};
    transform_inputs<T, A>(post, int(H), int(W), tiles, O, R);
}

// G g G^T, written to U (MUL * MUL, I, J); g of (i, j) begins at w[i * step_i + j * step_j] and is
// read from its end where it is `flipped`, as the way back to the inputs needs it.
template <typename T, typename A>
KERNEL weights(const T* __restrict__ w, i64 I, i64 J, i64 step_i, i64 step_j, bool flipped,
               T* __restrict__ U) {
    ALONG_X(j, J) {
        ALONG_Y(i, I) {
            const T* from = w + i * step_i + j * step_j;
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
            T* to = U + i * J + j;
#pragma unroll
            for (int a = 0; a < A::MUL; ++a) {
                T u[A::MUL];
                A::weight(columns[a], u);
#pragma unroll
                for (int b = 0; b < A::MUL; ++b, to += I * J) *to = u[b];
            }
        }
    }
}

// A^T M A of one tile and channel; `from` is its first product, the next one `step` further.
template <typename T, typename A>
__device__ __forceinline__ void outputs(const T* __restrict__ from, i64 step,
                                        T (&y)[A::OUT][A::OUT]) {
    T rows[A::OUT][A::MUL];
#pragma unroll
    for (int a = 0; a < A::MUL; ++a) {
        T m[A::MUL], out[A::OUT];
#pragma unroll
        for (int b = 0; b < A::MUL; ++b, from += step) m[b] = *from;
        A::output(m, out);
#pragma unroll
        for (int b = 0; b < A::OUT; ++b) rows[b][a] = out[b];
    }
#pragma unroll
    for (int b = 0; b < A::OUT; ++b) {
        T out[A::OUT];
        A::output(rows[b], out);
#pragma unroll
        for (int a = 0; a < A::OUT; ++a) y[a][b] = out[a];
    }
}

// Bias, ReLU, MaxPool with winners and the mean of a patch, in one pass over M. A thread has a
// patch and a neuron, so it sums the mean in the order of tiles. `winner` is written if `keep`.
template <typename T, typename A>
KERNEL activities(const T* __restrict__ M, const T* __restrict__ bias, i64 H, i64 W, i64 pool,
                  i64 patches, i64 O, bool keep, T* __restrict__ y, u8* __restrict__ winner,
                  T* __restrict__ encoding) {
    const int down = int((H + A::OUT - 1) / A::OUT), across = int((W + A::OUT - 1) / A::OUT);
    const int PH = int(H / pool), PW = int(W / pool);
    const i64 tiles = patches * down * across;
    ALONG_X(o, O) {
        ALONG_Y(n, patches) {
            T total = 0;
            for (int tile = 0; tile < down * across; ++tile) {
                T a[A::OUT][A::OUT];
                outputs<T, A>(M + (n * down * across + tile) * O + o, tiles * O, a);
#pragma unroll
                for (int r = 0; r < A::OUT; ++r) {
#pragma unroll
                    for (int s = 0; s < A::OUT; ++s) a[r][s] += bias[o];
                }
                const int side = A::OUT / int(pool);
                const int top = tile / across * side, left = tile % across * side;
#pragma unroll
                for (int r = 0; r < A::OUT; ++r) {
#pragma unroll
                    for (int s = 0; s < A::OUT; ++s) {
                        if (pool == 2 && (r % 2 || s % 2)) continue;
                        const int pr = top + r / int(pool), ps = left + s / int(pool);
                        if (pr >= PH || ps >= PW) continue;
                        T largest = a[r][s];
                        u8 code = 0;
                        if (pool == 2) {
                            const T others[3] = {a[r][(s + 1) % A::OUT], a[(r + 1) % A::OUT][s],
                                                 a[(r + 1) % A::OUT][(s + 1) % A::OUT]};
#pragma unroll
                            for (int k = 0; k < 3; ++k)
                                if (others[k] > largest) {
                                    largest = others[k];
                                    code = u8(k + 1);
                                }
                        }
                        const bool active = largest > T(0);
                        const T value = active ? largest : T(0);
                        const i64 at = ((n * PH + pr) * PW + ps) * O + o;
                        total += value;
                        y[at] = value;
                        if (keep) winner[at] = active ? code : SILENT;
                    }
                }
            }
            encoding[n * O + o] = total / T(i64(PH) * PW);
        }
    }
}

// A^T M A as it is: the error at the inputs, (patches, H, W, C).
template <typename T, typename A>
KERNEL errors(const T* __restrict__ M, i64 H, i64 W, i64 C, i64 tiles, T* __restrict__ out) {
    ALONG_X(c, C) {
        ALONG_Y(t, tiles) {
            const Place at = place<A>(t, int(H), int(W));
            T y[A::OUT][A::OUT];
            outputs<T, A>(M + t * C + c, tiles * C, y);
#pragma unroll
            for (int a = 0; a < A::OUT; ++a) {
#pragma unroll
                for (int b = 0; b < A::OUT; ++b) {
                    const i64 r = i64(at.i) * A::OUT + a, s = i64(at.j) * A::OUT + b;
                    if (r < H && s < W) out[((at.patch * H + r) * W + s) * C + c] = y[a][b];
                }
            }
        }
    }
}

// A post A^T of every tile and neuron, written to S (MUL * MUL, tiles, O).
template <typename T, typename A>
KERNEL posts(const u8* __restrict__ winner, const T* __restrict__ drive, bool shared, i64 H, i64 W,
             i64 pool, i64 O, i64 tiles, T* __restrict__ S) {
    const Post<T> post{winner, drive, int(H), int(W), int(pool), shared, O};
    ALONG_X(o, O) {
        ALONG_Y(t, tiles) {
            const Place at = place<A>(t, int(H), int(W));
            T columns[A::MUL][A::OUT];
#pragma unroll
            for (int b = 0; b < A::OUT; ++b) {
                T p[A::OUT], s[A::MUL];
#pragma unroll
                for (int a = 0; a < A::OUT; ++a)
                    p[a] = post.at(at.patch, at.i * A::OUT + a, at.j * A::OUT + b, o);
                A::post(p, s);
#pragma unroll
                for (int a = 0; a < A::MUL; ++a) columns[a][b] = s[a];
            }
            T* to = S + t * O + o;
#pragma unroll
            for (int a = 0; a < A::MUL; ++a) {
                T s[A::MUL];
                A::post(columns[a], s);
#pragma unroll
                for (int b = 0; b < A::MUL; ++b, to += tiles * O) *to = s[b];
            }
        }
    }
}

// dW (O, C, 3, 3) = G^T Q G of Q (MUL * MUL, C, O).
template <typename T, typename A>
KERNEL gradients(const T* __restrict__ Q, i64 C, i64 O, T* __restrict__ dW) {
    ALONG_X(o, O) {
        ALONG_Y(c, C) {
            const T* from = Q + c * O + o;
            T rows[3][A::MUL];
#pragma unroll
            for (int a = 0; a < A::MUL; ++a) {
                T q[A::MUL], g[3];
#pragma unroll
                for (int b = 0; b < A::MUL; ++b, from += C * O) q[b] = *from;
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
