// Operations on rows of encodings and on parameters: see `rows`.

// A warp for each event: u[e] = sum over j of a[in_a[e], j] * b[in_b[e], j]. Lane l sums its
// columns l, l + 32, ...; the lanes' sums are added as a tree. Blocks of whole warps, along x.
template <typename T>
KERNEL scores(const T* __restrict__ a, const T* __restrict__ b, const i64* __restrict__ in_a,
              const i64* __restrict__ in_b, i64 events, i64 D, T* __restrict__ out) {
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
// the events by row, and row r's are order[start[r]] to order[start[r + 1]].
template <typename T>
KERNEL add_rows(const i64* __restrict__ order, const i64* __restrict__ start,
                const T* __restrict__ factor, const T* __restrict__ values,
                const i64* __restrict__ source, i64 rows, i64 D, T* __restrict__ out) {
    ALONG_Y(r, rows) {
        const i64 first = start[r], last = start[r + 1];
        if (first == last) continue;
        ALONG_X(j, D) {
            T sum = out[r * D + j];
            for (i64 k = first; k < last; ++k) {
                const i64 e = order[k];
                const T f = factor[e];
                if (f != T(0)) sum += f * values[source[e] * D + j];  // a closed gate adds nothing
            }
            out[r * D + j] = sum;
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
