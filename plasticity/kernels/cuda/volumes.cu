// Convolutions of up to three dimensions of any kernel, stride, padding and pool, but for the matrix
// products (see volumes.py):
//
//     forward     a = windows W^T           then `compete`
//     correlate   dW = posts^T windows
//     back        parts = posts W           then `errors`
//
// Maps are channel-last: x (N, T, H, W, C), a (N, t, h, w, O), pooled maps (N, p, q, r, O). Indices
// are 32 bits wide (I) where all arrays have fewer elements than that can count.

// The steps along one axis, from `first` to `last`, whose window of `size` holds place `at`.
template <typename I>
__device__ void holding(I at, I size, I stride, I count, I& first, I& last) {
    first = at < size ? 0 : (at - size) / stride + 1;
    last = at / stride < count ? at / stride : count - 1;
}

// The windows of x, zero beyond its ends: `met` (N t h w, kernel C).
template <typename T, typename I>
KERNEL windows(const T* __restrict__ x, I N, I T_, I H, I W, I C, I t, I h, I w, I kt, I kh, I kw,
               I st, I sh, I sw, I pt, I ph, I pw, T* __restrict__ met) {
    const I width = kt * kh * kw * C, rows = N * t * h * w;
    ALONG_X(column, width) {
        const I q = I(column), c = q % C, tap = q / C;
        const I dx = tap % kw - pw, dy = tap / kw % kh - ph, dt = tap / kw / kh - pt;
        ALONG_Y(number, rows) {
            const I row = I(number), line = row / w, frame = line / h, n = frame / t;
            const I at_x = (row - line * w) * sw + dx, at_y = (line - frame * h) * sh + dy;
            const I at_t = (frame - n * t) * st + dt;
            const bool inside = at_x >= 0 && at_x < W && at_y >= 0 && at_y < H && at_t >= 0 && at_t < T_;
            met[row * width + q] = inside ? x[(((n * T_ + at_t) * H + at_y) * W + at_x) * C + c] : T(0);
        }
    }
}

// Bias, and where neurons compete MaxPool and ReLU: y and, if `keep`, the winners, of pooled maps.
// A map that is neither pooled nor needed again may be y itself.
template <typename T, typename I>
KERNEL compete(const T* a, const T* __restrict__ bias, I N, I t, I h, I w, I O, I p, I q, I r, I wt,
               I wh, I ww, I st, I sh, I sw, bool rectified, bool keep, T* y,
               u8* __restrict__ winner) {
    ALONG_X(column, O) {
        ALONG_Y(number, N * p * q * r) {
            const I o = I(column), row = I(number), line = row / r, frame = line / q, n = frame / p;
            const I x0 = (row - line * r) * sw, y0 = (line - frame * q) * sh, t0 = (frame - n * p) * st;
            T largest = 0;
            u8 code = 0, place = 0;
            for (I dt = 0; dt < wt; ++dt)
                for (I dy = 0; dy < wh; ++dy)
                    for (I dx = 0; dx < ww; ++dx, ++place) {
                        const T v = a[(((n * t + t0 + dt) * h + y0 + dy) * w + x0 + dx) * O + o] + bias[o];
                        if (place && v > largest) code = place;
                        if (!place || v > largest || v != v) largest = v;  // no number stays none
                    }
            if (keep) winner[row * O + o] = rectified && !(largest > T(0)) ? SILENT : code;
            y[row * O + o] = rectified && largest <= T(0) ? T(0) : largest;
        }
    }
}

// The post factor (N, t, h, w, O): at a winner the drives of all windows that it has won. The drive
// is shared by the places of an input, or each pooled one has its own.
template <typename T, typename I>
KERNEL posts(const u8* __restrict__ winner, const T* __restrict__ drive, bool shared, I N, I t, I h,
             I w, I O, I p, I q, I r, I wt, I wh, I ww, I st, I sh, I sw, T* __restrict__ post) {
    ALONG_X(column, O) {
        ALONG_Y(number, N * t * h * w) {
            const I o = I(column), row = I(number), line = row / w, frame = line / h, n = frame / t;
            const I x = row - line * w, y = line - frame * h, z = frame - n * t;
            I x0, x1, y0, y1, z0, z1;
            holding(x, ww, sw, r, x0, x1);
            holding(y, wh, sh, q, y0, y1);
            holding(z, wt, st, p, z0, z1);
            T sum = 0;
            for (I k = z0; k <= z1; ++k)
                for (I j = y0; j <= y1; ++j)
                    for (I i = x0; i <= x1; ++i) {
                        const I at = (((n * p + k) * q + j) * r + i) * O + o;
                        const I code = ((z - k * st) * wh + y - j * sh) * ww + x - i * sw;
                        if (winner[at] == code) sum += drive[shared ? n * O + o : at];
                    }
            post[row * O + o] = sum;
        }
    }
}

// The error at the input: the sum of what the windows that hold a place have for it, in `parts`
// (N t h w, kernel C), in their order.
template <typename T, typename I>
KERNEL errors(const T* __restrict__ parts, I N, I T_, I H, I W, I C, I t, I h, I w, I kt, I kh, I kw,
              I st, I sh, I sw, I pt, I ph, I pw, T* __restrict__ error) {
    ALONG_X(column, C) {
        ALONG_Y(number, N * T_ * H * W) {
            const I c = I(column), row = I(number), line = row / W, frame = line / H, n = frame / T_;
            const I x = row - line * W + pw, y = line - frame * H + ph, z = frame - n * T_ + pt;
            I x0, x1, y0, y1, z0, z1;
            holding(x, kw, sw, w, x0, x1);
            holding(y, kh, sh, h, y0, y1);
            holding(z, kt, st, t, z0, z1);
            T sum = 0;
            for (I k = z0; k <= z1; ++k)
                for (I j = y0; j <= y1; ++j)
                    for (I i = x0; i <= x1; ++i) {
                        const I tap = ((z - k * st) * kh + y - j * sh) * kw + x - i * sw;
                        const I at = ((n * t + k) * h + j) * w + i;
                        sum += parts[(at * (kt * kh * kw) + tap) * C + c];
                    }
            error[row * C + c] = sum;
        }
    }
}
