// Crop, flip, normalise, cut into patches that overlap by half: see `patches.extract`.

// pixels (B, h, w); out (rows * B * columns, patch, patch), rows first, then image, then column.
template <typename T>
KERNEL extract_patches(const u8* __restrict__ pixels, const i64* __restrict__ top,
                       const i64* __restrict__ left, const bool* __restrict__ flip, i64 images,
                       i64 h, i64 w, i64 crop, i64 patch, i64 along, double mean, double std,
                       T* __restrict__ out) {
    ALONG_Y(n, along * images * along) {
        const i64 t = n / (images * along), image = n / along % images, s = n % along;
        const i64 row = top[image] + t * (patch / 2), column = s * (patch / 2);
        const u8* from = pixels + image * h * w;
        ALONG_X(k, patch * patch) {
            const i64 i = k / patch, j = column + k % patch;
            const u8 value = from[(row + i) * w + left[image] + (flip[image] ? crop - 1 - j : j)];
            // In double, as the definition: 256 values, rounded once.
            out[n * patch * patch + k] = T((value / 255.0 - mean) / std);
        }
    }
}
