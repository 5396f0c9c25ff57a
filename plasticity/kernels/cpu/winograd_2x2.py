"""A 3x3 convolution of a 2x2 map, padded by zeros, by 9 products instead of 36.

In one dimension the two outputs of a three-tap filter on two inputs between zeros are a Toeplitz
product, which Karatsuba's trick does with three products,

    y0 = g1 d0 + g2 d1 = g1 (d0 + d1) + (g2 - g1) d1
    y1 = g0 d0 + g1 d1 = g1 (d0 + d1) + (g0 - g1) d0

that is `y = A^T [(G g) * (B^T d)]` with the matrices below; rows and columns in two dimensions.
The functions are those of `winograd_4x4`, one tile for each patch.
"""

import numpy as np

from plasticity.kernels.cpu.compiled import njit
from plasticity.kernels.cpu.winograd_4x4 import COMPILE, F, _compete
from plasticity.kernels.geometry import SILENT

SIDE = 2
PRODUCTS = 9
LANES = 16  # output channels that the transforms of weights take at a time

B_T = np.array([[1, 1], [0, 1], [1, 0]])
G = np.array([[0, 1, 0], [0, -1, 1], [1, -1, 0]])
A_T = np.array([[1, 1, 0], [1, 0, 1]])


def tiles(side: int) -> int:
    """Tiles along a side of a map."""
    return 1


@njit(**COMPILE)
def inputs(x, which, V, t):
    """`V (9, tiles, C) = B^T d B` from tile `t` on, for the patches `which` of `x (N, 2, 2, C)`."""
    for p in which:
        d = x[p]
        for c in range(x.shape[3]):
            d00, d01, d10, d11 = d[0, 0, c], d[0, 1, c], d[1, 0, c], d[1, 1, c]
            V[0, t, c] = d00 + d01 + d10 + d11
            V[1, t, c] = d01 + d11
            V[2, t, c] = d00 + d10
            V[3, t, c] = d10 + d11
            V[4, t, c] = d11
            V[5, t, c] = d10
            V[6, t, c] = d00 + d01
            V[7, t, c] = d01
            V[8, t, c] = d00
        t += 1


@njit(**COMPILE)
def weights(w, first, last, U):
    """`U (9, C, O) = G g G^T` for the input channels from `first` to `last` of `w (O, C, 9)`."""
    O = w.shape[0]  # noqa: E741
    g, T = np.empty((9, LANES), np.float32), np.empty((3, 3, LANES), np.float32)
    for c in range(first, last):
        for o in range(0, O, LANES):
            m = min(LANES, O - o)
            for lane in range(m):
                for k in range(9):
                    g[k, lane] = w[o + lane, c, k]
            for b in range(3):
                for n in range(m):
                    T[0, b, n] = g[3 + b, n]
                    T[1, b, n] = g[6 + b, n] - g[3 + b, n]
                    T[2, b, n] = g[b, n] - g[3 + b, n]
            for a in range(3):
                for n in range(m):
                    U[3 * a, c, o + n] = T[a, 1, n]
                    U[3 * a + 1, c, o + n] = T[a, 2, n] - T[a, 1, n]
                    U[3 * a + 2, c, o + n] = T[a, 0, n] - T[a, 1, n]


@njit(**COMPILE)
def activities(M, bias, floor, H, W, pool, y, winner, encoding):
    """`a = A^T M A + bias` of each patch, then ReLU, MaxPool with winners, and the mean.

    Arguments as those of `winograd_4x4.activities`.
    """
    O = M.shape[2]  # noqa: E741
    T, Y = np.empty((2, 3, O), np.float32), np.empty((2, 2, O), np.float32)
    keep, averaged = winner.size > 0, encoding.shape[1] > 0
    for t in range(len(y)):
        total = encoding[t]
        total[:] = F(0)
        for b in range(3):
            for o in range(O):
                T[0, b, o] = M[b, t, o] + M[3 + b, t, o]
                T[1, b, o] = M[b, t, o] + M[6 + b, t, o]
        for a in range(2):
            for o in range(O):
                Y[a, 0, o] = T[a, 0, o] + T[a, 1, o] + bias[o]
                Y[a, 1, o] = T[a, 0, o] + T[a, 2, o] + bias[o]
        if pool == 2:
            code = winner[t, 0, 0] if keep else winner[0, 0, 0]
            _compete(Y[0, 0], Y[0, 1], Y[1, 0], Y[1, 1], y[t, 0, 0], code, total)
            continue
        for a in range(2):
            for b in range(2):
                out, value = y[t, a, b], Y[a, b]
                for o in range(O):
                    out[o] = max(value[o], floor)
                if averaged:
                    for o in range(O):
                        total[o] += out[o] * F(1 / 4)
                if keep:
                    code = winner[t, a, b]
                    for o in range(O):
                        code[o] = np.uint8(0) if value[o] > 0 else np.uint8(SILENT)


@njit(**COMPILE)
def posts(winner, drive, which, H, W, pool, S, t, db):
    """`S (9, tiles, O) = A post A^T` from tile `t` on, their sum added to `db (O,)`."""
    O = winner.shape[3]  # noqa: E741
    P = np.empty((2, 2, O), np.float32)
    shared = drive.shape[1] == 1 and drive.shape[2] == 1
    for p in which:
        for a in range(2):
            for b in range(2):
                won, out = winner[p, a // pool, b // pool], P[a, b]
                signal = drive[p, 0, 0] if shared else drive[p, a // pool, b // pool]
                code = np.uint8(pool * (a % pool) + b % pool)
                for o in range(O):
                    out[o] = signal[o] if won[o] == code else F(0)
                    db[o] += out[o]
        for o in range(O):
            p00, p01, p10, p11 = P[0, 0, o], P[0, 1, o], P[1, 0, o], P[1, 1, o]
            S[0, t, o] = p00 + p01 + p10 + p11
            S[1, t, o] = p00 + p10
            S[2, t, o] = p01 + p11
            S[3, t, o] = p00 + p01
            S[4, t, o] = p00
            S[5, t, o] = p01
            S[6, t, o] = p10 + p11
            S[7, t, o] = p10
            S[8, t, o] = p11
        t += 1


@njit(**COMPILE)
def gradients(Q, first, last, dW):
    """`dW (O, C, 9) = G^T Q G` for the input channels from `first` to `last` of `Q (9, C, O)`."""
    O = Q.shape[2]  # noqa: E741
    T, g = np.empty((3, 3, LANES), np.float32), np.empty((9, LANES), np.float32)
    for c in range(first, last):
        for o in range(0, O, LANES):
            m = min(LANES, O - o)
            for b in range(3):
                for n in range(m):
                    q0, q1, q2 = Q[b, c, o + n], Q[3 + b, c, o + n], Q[6 + b, c, o + n]
                    T[0, b, n] = q2
                    T[1, b, n] = q0 - q1 - q2
                    T[2, b, n] = q1
            for a in range(3):
                for n in range(m):
                    q0, q1, q2 = T[a, 0, n], T[a, 1, n], T[a, 2, n]
                    g[3 * a, n] = q2
                    g[3 * a + 1, n] = q0 - q1 - q2
                    g[3 * a + 2, n] = q1
            for lane in range(m):
                for k in range(9):
                    dW[o + lane, c, k] = g[k, lane]
