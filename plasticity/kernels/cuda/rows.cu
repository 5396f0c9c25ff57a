// Operations on rows of encodings and on parameters: see `rows`.

// Work for whole warps, in blocks along x: all lanes of one have the same i.
#define ALONG_WARPS(i, n)                                                             \
    for (i64 i = i64(blockIdx.x) * (blockDim.x / 32) + threadIdx.x / 32; i < (n); \
         i += i64(gridDim.x) * (blockDim.x / 32))

// A warp for each event: u[e] = sum over j of a[in_a[e], j] * b[in_b[e], j]. Lane l sums its
// columns l, l + 32, ...; the lanes' sums are added as a tree.
template <typename T, typename I = i64>
KERNEL scores(const T* __restrict__ a, const T* __restrict__ b, const I* __restrict__ in_a,
              const I* __restrict__ in_b, i64 events, i64 D, T* __restrict__ out) {
    const unsigned lane = threadIdx.x % 32;
    ALONG_WARPS(e, events) {
        const T *left = a + in_a[e] * D, *right = b + in_b[e] * D;
        T sum = 0;
        for (i64 j = lane; j < D; j += 32) sum += left[j] * right[j];
        for (int step = 16; step; step /= 2) sum += __shfl_down_sync(0xffffffffu, sum, step);
        if (lane == 0) out[e] = sum;
    }
}

// out[r] += factor[e] * values[source[e]] for the events e of row r, in their order: `order` lists
// the events by segment and row, counted from `base`, and those of row r in segment s are
// order[start[s * rows + r]] to order[start[s * rows + r + 1]].
template <typename T, typename I = i64>
KERNEL add_rows(const I* __restrict__ order, const I* __restrict__ start, i64 segments, i64 base,
                const T* __restrict__ factor, const T* __restrict__ values,
                const I* __restrict__ source, i64 rows, i64 D, T* __restrict__ out) {
    ALONG_Y(r, rows) {
        ALONG_X(j, D) {
            T sum = out[r * D + j];
            bool changed = false;
            for (i64 s = 0; s < segments; ++s) {
                const i64 last = start[s * rows + r + 1];
                for (i64 k = start[s * rows + r]; k < last; ++k) {
                    const i64 e = order[k] - base;
                    const T f = factor[e];
                    if (f == T(0)) continue;  // a closed gate adds nothing
                    sum += f * values[source[e] * D + j];
                    changed = true;
                }
            }
            if (changed) out[r * D + j] = sum;
        }
    }
}

// out[i] += sum over k of parts[k, i], in the order of k.
template <typename T>
KERNEL add_stack(const T* __restrict__ parts, i64 count, i64 size, T* __restrict__ out) {
    ALONG_X(i, size) {
        T sum = 0;
        for (i64 k = 0; k < count; ++k) sum += parts[k * size + i];
        out[i] += sum;
    }
}

// Eq. (3): gamma = y weight where 1 - y u > 0. To the sums come the loss max(0, 1 - y u) weight
// and, where the gate is open, the event's share of them.
template <typename T>
__device__ __forceinline__ T hinged(T u, T y, T weight, T share, T& loss, T& opened) {
    const T left = T(1) - y * u, g = left > T(0) ? y * weight : T(0);
    loss += (left < T(0) ? T(0) : left) * weight;  // what is no number stays none
    if (g != T(0)) opened += share;
    return g;
}

// The two sums of all lanes of a warp, added as a tree.
template <typename T>
__device__ __forceinline__ void write_sums(T loss, T opened, T* __restrict__ sums) {
    for (int step = 16; step; step /= 2) {
        loss += __shfl_down_sync(0xffffffffu, loss, step);
        opened += __shfl_down_sync(0xffffffffu, opened, step);
    }
    if (threadIdx.x % 32 == 0) {
        sums[0] = loss;
        sums[1] = opened;
    }
}

// Eq. (3) of events. A warp takes 256 of them: its lanes sum those of their own, `sums`
// (chunks, 2).
template <typename T>
KERNEL hinge(const T* __restrict__ u, const T* __restrict__ y, const T* __restrict__ weight,
             const T* __restrict__ share, i64 events, T* __restrict__ gamma,
             T* __restrict__ sums) {
    ALONG_WARPS(c, (events + 255) / 256) {
        const i64 last = c * 256 + 256 < events ? c * 256 + 256 : events;
        T loss = 0, opened = 0;
        for (i64 e = c * 256 + threadIdx.x % 32; e < last; e += 32)
            gamma[e] = hinged(u[e], y[e], weight[e], share[e], loss, opened);
        write_sums(loss, opened, sums + 2 * c);
    }
}

// Eq. (3) of all pairs: the scores u (contexts, targets) of each context with every target, of
// which number[i] is its true one; weights are `truth` of that, `other` of the rest. A warp takes
// 256 targets of a context, `sums` (contexts * parts, 2). I is of 32 bits where they suffice.
template <typename T, typename I>
KERNEL hinge_pairs(const T* __restrict__ u, const I* __restrict__ number,
                   const T* __restrict__ truth, const T* __restrict__ other,
                   const T* __restrict__ share, i64 contexts, i64 targets, T* __restrict__ gamma,
                   T* __restrict__ sums) {
    const I n = I(targets), parts = I((targets + 255) / 256);
    ALONG_WARPS(c, contexts * parts) {
        const I i = I(c) / parts, begin = (I(c) - i * parts) * 256;
        const I last = n - begin < 256 ? n : begin + 256, row = i * n;
        T loss = 0, opened = 0;
        for (I j = begin + I(threadIdx.x % 32); j < last; j += 32) {
            const bool same = j == number[i];
            const T y = same ? T(1) : T(-1), weight = same ? truth[i] : other[i];
            gamma[row + j] = hinged(u[row + j], y, weight, share[i], loss, opened);
        }
        write_sums(loss, opened, sums + 2 * c);
    }
}

// InfoNCE, Eq. (9): gamma = ([target is the true one] - pi) weight, pi = softmax of the scores
// u (contexts, targets) of a context, which a warp takes; with an epsilon in the logarithm times
// pi_true / (pi_true + epsilon). `sums` (contexts, 2), the loss -log(pi_true + epsilon) weight and
// the share of all gamma that are not 0. I as of `hinge_pairs`.
template <typename T, typename I>
KERNEL infonce(const T* __restrict__ u, const I* __restrict__ number,
               const T* __restrict__ weight, const T* __restrict__ share, i64 contexts,
               i64 targets, T epsilon, T* __restrict__ gamma, T* __restrict__ sums) {
    const I n = I(targets), lane = I(threadIdx.x % 32);
    ALONG_WARPS(i, contexts) {
        const I row = I(i) * n, own = number[i];
        T top = u[row], total = 0, opened = 0;  // large scores do not overflow
        for (I j = lane; j < n; j += 32) top = u[row + j] > top ? u[row + j] : top;
        for (int with = 16; with; with /= 2) {
            const T its = __shfl_xor_sync(0xffffffffu, top, with);
            top = its > top ? its : top;
        }
        for (I j = lane; j < n; j += 32) total += exp(u[row + j] - top);
        for (int with = 16; with; with /= 2) total += __shfl_xor_sync(0xffffffffu, total, with);
        const T left = u[row + own] - top, truth = exp(left) / total;
        for (I j = lane; j < n; j += 32) {
            T g = (T(j == own) - exp(u[row + j] - top) / total) * weight[i];
            if (epsilon != T(0)) g = g * truth / (truth + epsilon);
            gamma[row + j] = g;
            if (g != T(0)) opened += share[i];
        }
        const T log_pi = epsilon != T(0) ? log(truth + epsilon) : left - log(total);
        write_sums(lane ? T(0) : -log_pi * weight[i], opened, sums + 2 * i);
    }
}

// The moments and the parameters from number i on, N of them, each read and written once. `new1` and
// `new2` are 1 - beta1 and 1 - beta2.
template <int N, typename T>
__device__ __forceinline__ void move(T* __restrict__ parameter, const T* __restrict__ dW,
                                     T* __restrict__ m, T* __restrict__ v, i64 i, T rate, T new1,
                                     T new2, T epsilon) {
    const Pack<T, N> change = load<N>(dW + i);
    Pack<T, N> first = load<N>(m + i), second = load<N>(v + i), moved = load<N>(parameter + i);
#pragma unroll
    for (int k = 0; k < N; ++k) {
        first.at[k] += new1 * (change.at[k] - first.at[k]);
        second.at[k] += new2 * (change.at[k] * change.at[k] - second.at[k]);
        moved.at[k] += rate * first.at[k] / (sqrt(second.at[k]) + epsilon);
    }
    store(m + i, first);
    store(v + i, second);
    store(parameter + i, moved);
}

// All of a parameter: N numbers of a thread, and the last ones, fewer than N, one by one.
template <int N, typename T>
__device__ __forceinline__ void move_all(T* __restrict__ parameter, const T* __restrict__ dW,
                                         T* __restrict__ m, T* __restrict__ v, i64 size, T rate,
                                         T new1, T new2, T epsilon) {
    ALONG_X(number, (size + N - 1) / N) {
        const i64 i = number * N;
        if (i + N <= size)
            move<N>(parameter, dW, m, v, i, rate, new1, new2, epsilon);
        else
#pragma unroll 1
            for (i64 one = i; one < size; ++one)
                move<1>(parameter, dW, m, v, one, rate, new1, new2, epsilon);
    }
}

// One step of Adam for the parameters of a layer, up to four of them; the rest have size 0. `pace` are
// the rate and epsilon.
template <typename T, int N>
KERNEL adam(T* __restrict__ p0, const T* __restrict__ d0, T* __restrict__ m0, T* __restrict__ v0,
            T* __restrict__ p1, const T* __restrict__ d1, T* __restrict__ m1, T* __restrict__ v1,
            T* __restrict__ p2, const T* __restrict__ d2, T* __restrict__ m2, T* __restrict__ v2,
            T* __restrict__ p3, const T* __restrict__ d3, T* __restrict__ m3, T* __restrict__ v3,
            i64 size0, i64 size1, i64 size2, i64 size3, const T* __restrict__ pace, T new1,
            T new2) {
    const T rate = pace[0], epsilon = pace[1];
    move_all<N>(p0, d0, m0, v0, size0, rate, new1, new2, epsilon);
    move_all<N>(p1, d1, m1, v1, size1, rate, new1, new2, epsilon);
    move_all<N>(p2, d2, m2, v2, size2, rate, new1, new2, epsilon);
    move_all<N>(p3, d3, m3, v3, size3, rate, new1, new2, epsilon);
}
