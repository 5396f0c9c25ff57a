// Crop, flip, normalise, cut into patches that overlap by half: see `patches.extract`.

// pixels (B, h, w); out (rows * B * columns, patch, patch), rows first, then image, then column.
template <typename T>
KERNEL extract_patches(const u8* __restrict__ pixels, const i64* __restrict__ top,
                       const i64* __restrict__ left, const bool* __restrict__ flip, int images,
                       int h, int w, int crop, int patch, int along, i64 by_row, i64 by_along,
                       i64 by_patch, double mean, double std, T* __restrict__ out) {
    const int row = images * along, size = patch * patch;
    ALONG_Y(n, i64(along) * row) {
        const int t = Reciprocal(by_row).of(int(n)), beside = int(n) - t * row;
        const int image = Reciprocal(by_along).of(beside), s = beside - image * along;
        const i64 first = top[image] + t * (patch / 2), begin = left[image];
        const u8* from = pixels + (i64(image) * h + first) * w + begin;
        const bool turned = flip[image];
        ALONG_X(number, size) {
            const int k = int(number), i = Reciprocal(by_patch).of(k);
            const int j = s * (patch / 2) + k - i * patch;
            const u8 value = *after(from, u32(i) * u32(w) + u32(turned ? crop - 1 - j : j));
            // In double, as the definition: 256 values, rounded once.
            out[n * size + k] = T((value / 255.0 - mean) / std);
        }
    }
}
