// Chosen synapses, one by one: see `pairs.coactivity`.

// out[n, s] = sum over positions of drive_j post_j pre_i of patch n, for synapse s of `synapses`
// (S, 4): j, i, and the row and column of the kernel; the drive is 1 unless the neurons are `driven`.
// A thread has a patch and a synapse and sums over the pools in their order; a pool has one neuron
// that is active at most.
template <typename T>
KERNEL coactivity(const T* __restrict__ x, const u8* __restrict__ winner,
                  const T* __restrict__ drive, bool driven, const i64* __restrict__ synapses,
                  i64 patches, i64 H, i64 W, i64 C, i64 PH,
                  i64 PW, i64 O, i64 count, i64 pool, i64 stride, i64 padding,
                  T* __restrict__ out) {
    const int side = int(pool);
    ALONG_X(s, count) {
        const i64 j = synapses[4 * s], i = synapses[4 * s + 1];
        const i64 down = synapses[4 * s + 2] - padding, right = synapses[4 * s + 3] - padding;
        ALONG_Y(n, patches) {
            T sum = 0;
            for (i64 pr = 0; pr < PH; ++pr)
                for (i64 ps = 0; ps < PW; ++ps) {
                    const i64 pooled = ((n * PH + pr) * PW + ps) * O + j;
                    const u8 code = winner[pooled];
                    if (code == SILENT) continue;
                    const i64 r = (pr * pool + code / side) * stride + down;
                    const i64 c = (ps * pool + code % side) * stride + right;
                    if (r < 0 || c < 0 || r >= H || c >= W) continue;
                    const T pre = x[((n * H + r) * W + c) * C + i];
                    sum += driven ? drive[pooled] * pre : pre;
                }
            out[n * count + s] = sum;
        }
    }
}
