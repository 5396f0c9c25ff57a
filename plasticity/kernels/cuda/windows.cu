// A convolution in time and its learning, but for the matrix products (see windows.py):
//
//     forward     y = windows W^T           then `activities`
//     correlate   dW = posts^T windows
//     back        parts = posts W           then `errors`
//
// Maps are channel-last, so that a window is one run of kernel x channels numbers: frame f of an
// input begins at sample f * stride - padding.

// The windows of x (N, samples, C), zero beyond its ends: `met` (N * frames, kernel * C).
template <typename T>
KERNEL windows(const T* __restrict__ x, i64 N, i64 samples, i64 C, i64 frames, i64 kernel,
               i64 stride, i64 padding, T* __restrict__ met) {
    const i64 width = kernel * C, size = samples * C;
    ALONG_X(q, width) {
        ALONG_Y(row, N * frames) {
            const i64 at = (row % frames * stride - padding) * C + q;
            met[row * width + q] = at >= 0 && at < size ? x[row / frames * size + at] : T(0);
        }
    }
}

// Bias and, where it is `rectified`, ReLU, in place over y (N, frames, O); `winner` is written if
// `keep`. A thread has a neuron and a span of frames, and sums them for the mean: `sums`
// (N, spans, O).
template <typename T>
KERNEL activities(const T* __restrict__ bias, i64 N, i64 frames, i64 O, i64 span, i64 spans,
                  bool rectified, bool keep, T* __restrict__ y, u8* __restrict__ winner,
                  T* __restrict__ sums) {
    ALONG_X(o, O) {
        ALONG_Y(s, N * spans) {
            const i64 first = s % spans * span, last = first + span < frames ? first + span : frames;
            T total = 0;
            for (i64 f = first; f < last; ++f) {
                const i64 at = (s / spans * frames + f) * O + o;
                const T a = y[at] + bias[o];
                const T value = rectified && a <= T(0) ? T(0) : a;
                total += value;
                y[at] = value;
                if (keep) winner[at] = a > T(0) ? 0 : SILENT;
            }
            sums[s * O + o] = total;
        }
    }
}

// The post factor (N * frames, O): the drive, where the neuron is active (rho') or the layer is
// linear. The drive is shared by the frames of an input, or each has its own.
template <typename T>
KERNEL posts(const u8* __restrict__ winner, const T* __restrict__ drive, bool rectified,
             bool shared, i64 N, i64 frames, i64 O, T* __restrict__ post) {
    ALONG_X(o, O) {
        ALONG_Y(row, N * frames) {
            const i64 at = row * O + o;
            const T passed = drive[shared ? row / frames * O + o : at];
            post[at] = rectified && winner[at] ? T(0) : passed;
        }
    }
}

// The error at the input (N, samples, C): the sum of what the windows that hold a sample have for
// it, in `parts` (N * frames, kernel * C), in the order of frames.
template <typename T>
KERNEL errors(const T* __restrict__ parts, i64 N, i64 samples, i64 C, i64 frames, i64 kernel,
              i64 stride, i64 padding, T* __restrict__ error) {
    ALONG_X(c, C) {
        ALONG_Y(row, N * samples) {
            const i64 at = row % samples + padding;  // of the padded input
            const i64 first = at < kernel ? 0 : (at - kernel) / stride + 1;
            const i64 last = at / stride < frames ? at / stride : frames - 1;
            T total = 0;
            for (i64 f = first; f <= last; ++f)
                total += parts[((row / samples * frames + f) * kernel + at - f * stride) * C + c];
            error[row * C + c] = total;
        }
    }
}
