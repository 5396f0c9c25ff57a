// Convolutions of up to three dimensions of any kernel, stride, padding and pool, but for the matrix
// products (see volumes.py):
//
//     forward     a = windows W^T           then `compete`
//     correlate   dW = posts^T windows
//     back        parts = posts W           then `errors`
//
// Maps are channel-last: x (N, T, H, W, C), a (N, t, h, w, O), pooled maps (N, p, q, r, O).

// The windows of x, zero beyond its ends: `met` (N t h w, kernel C).
template <typename T, typename I>
KERNEL windows(const T* __restrict__ x, I N, I T_, I H, I W, I C, I t, I h, I w, I kt, I kh, I kw,
               I st, I sh, I sw, I pt, I ph, I pw, T* __restrict__ met) {
    const I width = kt * kh * kw * C, rows = N * t * h * w;
    ALONG_X(column, width) {
        const I q = I(column), c = q % C, tap = q / C;
        const I dx = tap % kw - pw, dy = tap / kw % kh - ph, dt = tap / kw / kh - pt;
        ALONG_Y(row, rows) {
            const Place<I> at(row, t, h, w);
            const I at_x = at.x * sw + dx, at_y = at.y * sh + dy, at_t = at.t * st + dt;
            const bool inside = at_x >= 0 && at_x < W && at_y >= 0 && at_y < H && at_t >= 0 && at_t < T_;
            met[I(row) * width + q] =
                inside ? x[(((at.n * T_ + at_t) * H + at_y) * W + at_x) * C + c] : T(0);
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
        ALONG_Y(row, N * p * q * r) {
            const I o = I(column), here = I(row) * O + o;
            const Place<I> at(row, p, q, r);
            const I first = ((at.n * t + at.t * st) * h + at.y * sh) * w + at.x * sw;
            auto value = [&](I dt, I dy, I dx) {
                return a[(first + (dt * h + dy) * w + dx) * O + o] + bias[o];
            };
            win(wt, wh, ww, rectified, keep, value, y[here], winner + here);
        }
    }
}

// The post factor (N, t, h, w, O): at a winner the drives of all windows that it has won. The drive
// is shared by the places of an input, or each pooled one has its own.
template <typename T, typename I>
KERNEL posts(const u8* __restrict__ winner, const T* __restrict__ drive, bool shared, I N, I t, I h,
             I w, I O, I p, I q, I r, I wt, I wh, I ww, I st, I sh, I sw, T* __restrict__ post) {
    ALONG_X(column, O) {
        ALONG_Y(row, N * t * h * w) {
            const I o = I(column);
            const Place<I> own(row, t, h, w);
            T sum = 0;
            auto met = [&](I window, I code) {
                const I at = (own.n * (p * q * r) + window) * O + o;
                if (winner[at] == code) sum += drive[shared ? own.n * O + o : at];
            };
            each_holding(own.t, own.y, own.x, p, q, r, wt, wh, ww, st, sh, sw, met);
            post[I(row) * O + o] = sum;
        }
    }
}

// The error at the input: the sum of what the windows that hold a place have for it, in `parts`
// (N t h w, kernel C), in their order.
template <typename T, typename I>
KERNEL errors(const T* __restrict__ parts, I N, I T_, I H, I W, I C, I t, I h, I w, I kt, I kh, I kw,
              I st, I sh, I sw, I pt, I ph, I pw, T* __restrict__ error) {
    ALONG_X(column, C) {
        ALONG_Y(row, N * T_ * H * W) {
            const I c = I(column);
            const Place<I> own(row, T_, H, W);
            T sum = 0;
            auto met = [&](I window, I tap) {
                sum += parts[((own.n * (t * h * w) + window) * (kt * kh * kw) + tap) * C + c];
            };
            each_holding(own.t + pt, own.y + ph, own.x + pw, t, h, w, kt, kh, kw, st, sh, sw, met);
            error[I(row) * C + c] = sum;
        }
    }
}
