// Tiles of a 3x3 convolution by fewer products, in one dimension y = A^T [(G g) * (B^T d)]; in two
// dimensions the transforms act on rows and columns. `tiles4.py` and `tiles2.py` have the matrices
// and their source. IN inputs make OUT outputs by MUL products; the tile's inputs begin BORDER
// before its outputs. ONES is the product whose row of A is all ones: A p sums p there.

struct Tile4 {  // F(4x4, 3x3), Lavin & Gray, CVPR 2016
    static constexpr int IN = 6, OUT = 4, MUL = 6, BORDER = 1, ONES = 1;

    template <typename T>
    static __device__ __forceinline__ void input(const T (&d)[6], T (&v)[6]) {
        v[0] = T(4) * d[0] - T(5) * d[2] + d[4];
        v[1] = d[3] + d[4] - T(4) * (d[1] + d[2]);
        v[2] = T(4) * (d[1] - d[2]) - d[3] + d[4];
        v[3] = T(2) * (d[3] - d[1]) + d[4] - d[2];
        v[4] = T(2) * (d[1] - d[3]) + d[4] - d[2];
        v[5] = T(4) * d[1] - T(5) * d[3] + d[5];
    }
    template <typename T>
    static __device__ __forceinline__ void weight(const T (&g)[3], T (&u)[6]) {
        const T even = -(g[0] + g[2]) * T(1. / 6), odd = g[1] * T(1. / 6);
        const T far = g[0] * T(1. / 24) + g[2] * T(1. / 6), step = g[1] * T(1. / 12);
        u[0] = g[0] * T(1. / 4);
        u[1] = even - odd;
        u[2] = even + odd;
        u[3] = far + step;
        u[4] = far - step;
        u[5] = g[2];
    }
    template <typename T>
    static __device__ __forceinline__ void output(const T (&m)[6], T (&y)[4]) {
        const T s = m[1] + m[2], d = m[1] - m[2], s2 = m[3] + m[4], d2 = m[3] - m[4];
        y[0] = m[0] + s + s2;
        y[1] = d + T(2) * d2;
        y[2] = s + T(4) * s2;
        y[3] = d + T(8) * d2 + m[5];
    }
    template <typename T>
    static __device__ __forceinline__ void post(const T (&p)[4], T (&s)[6]) {
        const T even = p[0] + p[2], odd = p[1] + p[3];
        const T even4 = p[0] + T(4) * p[2], odd8 = T(2) * p[1] + T(8) * p[3];
        s[0] = p[0];
        s[1] = even + odd;
        s[2] = even - odd;
        s[3] = even4 + odd8;
        s[4] = even4 - odd8;
        s[5] = p[3];
    }
    template <typename T>
    static __device__ __forceinline__ void gradient(const T (&q)[6], T (&g)[3]) {
        const T s = q[1] + q[2], d = q[2] - q[1], s2 = q[3] + q[4], d2 = q[3] - q[4];
        g[0] = q[0] * T(1. / 4) - s * T(1. / 6) + s2 * T(1. / 24);
        g[1] = d * T(1. / 6) + d2 * T(1. / 12);
        g[2] = (s2 - s) * T(1. / 6) + q[5];
    }
};

struct Tile2 {  // a whole 2x2 map between zeros, by Karatsuba's trick
    static constexpr int IN = 2, OUT = 2, MUL = 3, BORDER = 0, ONES = 0;

    template <typename T>
    static __device__ __forceinline__ void input(const T (&d)[2], T (&v)[3]) {
        v[0] = d[0] + d[1];
        v[1] = d[1];
        v[2] = d[0];
    }
    template <typename T>
    static __device__ __forceinline__ void weight(const T (&g)[3], T (&u)[3]) {
        u[0] = g[1];
        u[1] = g[2] - g[1];
        u[2] = g[0] - g[1];
    }
    template <typename T>
    static __device__ __forceinline__ void output(const T (&m)[3], T (&y)[2]) {
        y[0] = m[0] + m[1];
        y[1] = m[0] + m[2];
    }
    template <typename T>
    static __device__ __forceinline__ void post(const T (&p)[2], T (&s)[3]) {
        s[0] = p[0] + p[1];
        s[1] = p[0];
        s[2] = p[1];
    }
    template <typename T>
    static __device__ __forceinline__ void gradient(const T (&q)[3], T (&g)[3]) {
        g[0] = q[2];
        g[1] = q[0] - q[1] - q[2];
        g[2] = q[1];
    }
};
