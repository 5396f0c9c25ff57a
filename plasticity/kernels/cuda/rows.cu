// Operations on rows of encodings and on parameters: see `rows`.

// A warp for each event: u[e] = sum over j of a[in_a[e], j] * b[in_b[e], j]. Lane l sums its
// columns l, l + 32, ...; the lanes' sums are added as a tree. Blocks of whole warps, along x.
template <typename T, typename I = i64>
KERNEL scores(const T* __restrict__ a, const T* __restrict__ b, const I* __restrict__ in_a,
              const I* __restrict__ in_b, i64 events, i64 D, T* __restrict__ out) {
    const i64 warps = i64(gridDim.x) * (blockDim.x / 32);
    const unsigned lane = threadIdx.x % 32;
    for (i64 e = i64(blockIdx.x) * (blockDim.x / 32) + threadIdx.x / 32; e < events; e += warps) {
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

// Eq. (3): gamma[e] = y[e] weight[e] where 1 - y u > 0. A warp takes 256 events: its lanes sum
// those of their own and then as a tree, `sums` (chunks, 2), the loss max(0, 1 - y u) weight and
// the share of the open gates. Blocks of whole warps, along x.
template <typename T>
KERNEL hinge(const T* __restrict__ u, const T* __restrict__ y, const T* __restrict__ weight,
             const T* __restrict__ share, i64 events, T* __restrict__ gamma,
             T* __restrict__ sums) {
    const i64 warps = i64(gridDim.x) * (blockDim.x / 32), chunks = (events + 255) / 256;
    const unsigned lane = threadIdx.x % 32;
    for (i64 c = i64(blockIdx.x) * (blockDim.x / 32) + threadIdx.x / 32; c < chunks; c += warps) {
        const i64 last = c * 256 + 256 < events ? c * 256 + 256 : events;
        T loss = 0, opened = 0;
        for (i64 e = c * 256 + lane; e < last; e += 32) {
            const T left = T(1) - y[e] * u[e], g = left > T(0) ? y[e] * weight[e] : T(0);
            gamma[e] = g;
            loss += (left < T(0) ? T(0) : left) * weight[e];  // what is no number stays none
            if (g != T(0)) opened += share[e];
        }
        for (int step = 16; step; step /= 2) {
            loss += __shfl_down_sync(0xffffffffu, loss, step);
            opened += __shfl_down_sync(0xffffffffu, opened, step);
        }
        if (lane == 0) {
            sums[2 * c] = loss;
            sums[2 * c + 1] = opened;
        }
    }
}

// The moments and the parameter, each read and written once. `new1` and `new2` are 1 - beta1 and
// 1 - beta2.
template <typename T>
__device__ __forceinline__ void move(T* __restrict__ parameter, const T* __restrict__ dW,
                                     T* __restrict__ m, T* __restrict__ v, i64 size, T rate,
                                     T new1, T new2, T epsilon) {
    ALONG_X(i, size) {
        const T change = dW[i];
        const T first = m[i] + new1 * (change - m[i]);
        const T second = v[i] + new2 * (change * change - v[i]);
        m[i] = first;
        v[i] = second;
        parameter[i] += rate * first / (sqrt(second) + epsilon);
    }
}

// One step of Adam for the parameters of a layer, up to four of them; the rest have size 0.
template <typename T>
KERNEL adam(T* __restrict__ p0, const T* __restrict__ d0, T* __restrict__ m0, T* __restrict__ v0,
            T* __restrict__ p1, const T* __restrict__ d1, T* __restrict__ m1, T* __restrict__ v1,
            T* __restrict__ p2, const T* __restrict__ d2, T* __restrict__ m2, T* __restrict__ v2,
            T* __restrict__ p3, const T* __restrict__ d3, T* __restrict__ m3, T* __restrict__ v3,
            i64 size0, i64 size1, i64 size2, i64 size3, T rate, T new1, T new2, T epsilon) {
    move(p0, d0, m0, v0, size0, rate, new1, new2, epsilon);
    move(p1, d1, m1, v1, size1, rate, new1, new2, epsilon);
    move(p2, d2, m2, v2, size2, rate, new1, new2, epsilon);
    move(p3, d3, m3, v3, size3, rate, new1, new2, epsilon);
}
