// Batch normalisation with its ReLU and pool: see norm.py, and `definition.norm`. Maps are
// (N, t, h, w, O); the rows of one are its places, of all inputs.

// yh: what normalises a drive, where ReLU may come first.
template <typename T>
__device__ T normal(T a, bool relu_first, T mean, T var, T eps) {
    return ((relu_first && a <= T(0) ? T(0) : a) - mean) / sqrt(var + eps);
}

// Sums over spans of rows, in float64: of y - mean or of its square, `sums` (spans, O).
template <typename T, typename I>
KERNEL moments(const T* __restrict__ a, const double* __restrict__ mean, bool relu_first, bool squared,
               I rows, I O, I span, I spans, double* __restrict__ sums) {
    ALONG_X(column, O) {
        ALONG_Y(number, spans) {
            const I o = I(column), s = I(number), first = s * span;
            const I last = rows - first < span ? rows : first + span;
            double total = 0;
            for (I row = first; row < last; ++row) {
                const T v = a[row * O + o];
                const double away = double(relu_first && v <= T(0) ? T(0) : v) - mean[o];
                total += squared ? away * away : away;
            }
            sums[s * O + o] = total;
        }
    }
}

// The activity and the winners of pooled maps (N, p, q, r, O), of o = gain yh + shift.
template <typename T, typename I>
KERNEL normalised(const T* __restrict__ a, const T* __restrict__ gain, const T* __restrict__ shift,
                  const T* __restrict__ mean, const T* __restrict__ var, T eps, bool relu_first, I N,
                  I t, I h, I w, I O, I p, I q, I r, I wt, I wh, I ww, I st, I sh, I sw,
                  T* __restrict__ y, u8* __restrict__ winner) {
    ALONG_X(column, O) {
        ALONG_Y(row, N * p * q * r) {
            const I o = I(column), here = I(row) * O + o;
            const Place<I> at(row, p, q, r);
            const I first = ((at.n * t + at.t * st) * h + at.y * sh) * w + at.x * sw;
            auto value = [&](I dt, I dy, I dx) {
                const T met = a[(first + (dt * h + dy) * w + dx) * O + o];
                return gain[o] * normal(met, relu_first, mean[o], var[o], eps) + shift[o];
            };
            win(wt, wh, ww, !relu_first, true, value, y[here], winner + here);
        }
    }
}

// Sums over spans of rows, in float64: of the drives D, and of D yh; `sums` (2, spans, O).
template <typename T, typename I>
KERNEL driven(const T* __restrict__ a, const T* __restrict__ drive, const T* __restrict__ mean,
              const T* __restrict__ var, T eps, bool relu_first, I rows, I O, I span, I spans,
              double* __restrict__ sums) {
    ALONG_X(column, O) {
        ALONG_Y(number, spans) {
            const I o = I(column), s = I(number), first = s * span;
            const I last = rows - first < span ? rows : first + span;
            double one = 0, with_yh = 0;
            for (I row = first; row < last; ++row) {
                const T D = drive[row * O + o];
                one += D;
                with_yh += double(D) * normal(a[row * O + o], relu_first, mean[o], var[o], eps);
            }
            sums[s * O + o] = one;
            sums[(spans + s) * O + o] = with_yh;
        }
    }
}

// From the drives at o to those at a, in place: less what goes through the two means, `of_one` and
// `of_yh` (O,), which are 0 where the statistics are constants.
template <typename T, typename I>
KERNEL undone(const T* __restrict__ a, const T* __restrict__ gain, const T* __restrict__ mean,
              const T* __restrict__ var, const T* __restrict__ of_one, const T* __restrict__ of_yh,
              T eps, bool relu_first, I rows, I O, T* __restrict__ drive) {
    ALONG_X(column, O) {
        ALONG_Y(number, rows) {
            const I o = I(column), at = I(number) * O + o;
            const T yh = normal(a[at], relu_first, mean[o], var[o], eps);
            const T D = gain[o] / sqrt(var[o] + eps) * (drive[at] - of_one[o] - yh * of_yh[o]);
            drive[at] = relu_first && !(a[at] > T(0)) ? T(0) : D;
        }
    }
}
