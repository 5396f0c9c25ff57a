// A gated recurrent unit through time: see `gru`. A block takes a sequence, its threads the
// neurons, and all meet at a barrier before the next time.

template <typename T>
__device__ __forceinline__ T sigma(T a) {
    return T(1) / (T(1) + exp(-a));
}

// h (M, times, H) and gates (M, times, 4, H), r, z, n and s, of `drive` (M, times, 3H). `turned`
// is W_hh turned round, (H, 3H), so that neighbouring threads read neighbouring weights. Blocks
// along x.
template <typename T>
KERNEL gru_states(const T* __restrict__ drive, const T* __restrict__ turned,
                  const T* __restrict__ bias_ih, const T* __restrict__ bias_hh, i64 M, i64 times,
                  i64 H, T* h, T* __restrict__ gates) {
    for (i64 m = blockIdx.x; m < M; m += gridDim.x)
        for (i64 t = 0; t < times; ++t) {
            const i64 at = m * times + t;
            const T *x = drive + at * 3 * H, *p = h + (at - 1) * H;
            for (i64 j = threadIdx.x; j < H; j += blockDim.x) {
                T r = 0, z = 0, s = 0;
                if (t)
                    for (i64 k = 0; k < H; ++k) {
                        const T value = p[k], *w = turned + k * 3 * H + j;
                        r += value * w[0];
                        z += value * w[H];
                        s += value * w[2 * H];
                    }
                r = sigma(x[j] + bias_ih[j] + r + bias_hh[j]);
                z = sigma(x[H + j] + bias_ih[H + j] + z + bias_hh[H + j]);
                s += bias_hh[2 * H + j];
                const T n = tanh(x[2 * H + j] + bias_ih[2 * H + j] + r * s);
                T* own = gates + at * 4 * H + j;
                own[0] = r;
                own[H] = z;
                own[2 * H] = n;
                own[3 * H] = s;
                h[at * H + j] = (T(1) - z) * n + (t ? z * p[j] : T(0));
            }
            __syncthreads();
        }
}

// lambda `found` (M, times, H), and lambda times the post factors of the synapses from the input
// and of those from the state, (M, times, 3H) each. Blocks along x.
template <typename T>
KERNEL gru_posts(const T* __restrict__ error, const T* __restrict__ h, const T* __restrict__ gates,
                 const T* __restrict__ weight_hh, i64 M, i64 times, i64 H, bool leaky,
                 bool recurrent, T* __restrict__ by_input, T* by_state, T* __restrict__ found) {
    for (i64 m = blockIdx.x; m < M; m += gridDim.x)
        for (i64 t = times - 1; t >= 0; --t) {
            const i64 at = m * times + t;
            const T* later = by_state + (at + 1) * 3 * H;
            for (i64 j = threadIdx.x; j < H; j += blockDim.x) {
                T size = error[at * H + j];
                if (leaky && t + 1 < times)
                    size += gates[(at + 1) * 4 * H + H + j] * found[(at + 1) * H + j];
                if (recurrent && t + 1 < times) {
                    T sum = 0;
                    for (i64 k = 0; k < 3 * H; ++k) sum += later[k] * weight_hh[k * H + j];
                    size += sum;
                }
                const T* own = gates + at * 4 * H + j;
                const T r = own[0], z = own[H], n = own[2 * H], s = own[3 * H];
                const T p = t ? h[(at - 1) * H + j] : T(0);
                const T g_n = size * ((T(1) - z) * (T(1) - n * n));
                const T g_z = size * ((p - n) * z * (T(1) - z));
                const T g_r = g_n * s * r * (T(1) - r);
                T *to_input = by_input + at * 3 * H + j, *to_state = by_state + at * 3 * H + j;
                to_input[0] = to_state[0] = g_r;
                to_input[H] = to_state[H] = g_z;
                to_input[2 * H] = g_n;
                to_state[2 * H] = g_n * r;
                found[at * H + j] = size;
            }
            __syncthreads();
        }
}
