// Maps of up to three dimensions, (N, T, H, W, C), and windows over them: of a kernel or a pool.
// Indices are 32 bits wide (I) where all arrays have fewer elements than that can count.

// Where a row of a map stands: its input, and its place along each axis.
template <typename I>
struct Place {
    I n, t, y, x;
    __device__ Place(i64 row, I T, I H, I W) {
        const I line = I(row) / W, frame = line / H;
        x = I(row) - line * W;
        y = line - frame * H;
        n = frame / T;
        t = frame - n * T;
    }
};

// The steps along one axis, from `first` to `last`, whose window of `size` holds place `at`.
template <typename I>
__device__ void holding(I at, I size, I stride, I count, I& first, I& last) {
    first = at < size ? 0 : (at - size) / stride + 1;
    last = at / stride < count ? at / stride : count - 1;
}

// `met(window, tap)` for each window of (T, H, W) that holds the place (t, y, x), in their order: its
// number, and which of its places that is.
template <typename I, typename Met>
__device__ void each_holding(I t, I y, I x, I T, I H, I W, I kt, I kh, I kw, I st, I sh, I sw,
                             Met met) {
    I t0, t1, y0, y1, x0, x1;
    holding(t, kt, st, T, t0, t1);
    holding(y, kh, sh, H, y0, y1);
    holding(x, kw, sw, W, x0, x1);
    for (I k = t0; k <= t1; ++k)
        for (I j = y0; j <= y1; ++j)
            for (I i = x0; i <= x1; ++i)
                met((k * H + j) * W + i, ((t - k * st) * kh + y - j * sh) * kw + x - i * sw);
}

// MaxPool and, where it is `rectified`, ReLU, over a pool whose places have `value(dt, dy, dx)`: the
// activity and, if `keep`, the winner's code, the first of ties. What is no number stays none.
template <typename T, typename I, typename Value>
__device__ void win(I wt, I wh, I ww, bool rectified, bool keep, Value value, T& y, u8* winner) {
    T largest = 0;
    u8 code = 0, place = 0;
    for (I dt = 0; dt < wt; ++dt)
        for (I dy = 0; dy < wh; ++dy)
            for (I dx = 0; dx < ww; ++dx, ++place) {
                const T v = value(dt, dy, dx);
                if (place && v > largest) code = place;
                if (!place || v > largest || v != v) largest = v;
            }
    if (keep) *winner = rectified && !(largest > T(0)) ? SILENT : code;
    y = rectified && largest <= T(0) ? T(0) : largest;
}
