"""Winograd's F(4x4, 3x3): a 4x4 tile of a 3x3 convolution by 36 products instead of 144.

In one dimension four outputs of a three-tap filter g on six inputs d are

    y = A^T [(G g) * (B^T d)]

with the matrices below (Lavin & Gray, CVPR 2016; points 0, 1, -1, 2, -2 and infinity); in two
dimensions the transforms act on rows and columns. The same products serve learning: since y is
bilinear in g and d, dg = G^T [(A dy) * (B^T d)].

The functions are these transforms unrolled, float32, over channel-last maps, a tile a row of the
product matrices. What follows a convolution (bias, ReLU, MaxPool with winners, mean) and what
precedes its gradient (inhibition, rho') happens while a tile is at hand.
"""

import numpy as np

from plasticity.kernels.cpu.compiled import njit
from plasticity.kernels.geometry import SILENT

SIDE = 4  # of a tile
PRODUCTS = 36

B_T = np.array(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ]
)
G = np.array(
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ]
)
A_T = np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]])

F = np.float32
LINEAR = F(-3e38)
COMPILE = {"fastmath": True}


def tiles(side: int) -> int:
    """Tiles along a side of a map."""
    return -(-side // SIDE)


@njit(**COMPILE)
def inputs(x, which, V, t):
    """`V (36, tiles, C) = B^T d B` from tile `t` on: the patches `which` of `x (N, H, W, C)`."""
    H, W, C = x.shape[1:]
    th, tw = (H + 3) // 4, (W + 3) // 4
    pad = np.zeros((4 * th + 2, 4 * tw + 2, C), np.float32)
    T = np.empty((6, 6, C), np.float32)
    for p in which:
        for r in range(H):
            for s in range(W):
                for c in range(C):
                    pad[r + 1, s + 1, c] = x[p, r, s, c]
        for i in range(th):
            for j in range(tw):
                for a in range(6):
                    row, o = pad[4 * i + a, 4 * j : 4 * j + 6], T[a]
                    for c in range(C):
                        d0, d1, d2 = row[0, c], row[1, c], row[2, c]
                        d3, d4, d5 = row[3, c], row[4, c], row[5, c]
                        o[0, c] = F(4) * d0 - F(5) * d2 + d4
                        o[1, c] = d3 + d4 - F(4) * (d1 + d2)
                        o[2, c] = F(4) * (d1 - d2) - d3 + d4
                        o[3, c] = F(2) * (d3 - d1) + d4 - d2
                        o[4, c] = F(2) * (d1 - d3) + d4 - d2
                        o[5, c] = F(4) * d1 - F(5) * d3 + d5
                for b in range(6):
                    for c in range(C):
                        d0, d1, d2 = T[0, b, c], T[1, b, c], T[2, b, c]
                        d3, d4, d5 = T[3, b, c], T[4, b, c], T[5, b, c]
                        V[b, t, c] = F(4) * d0 - F(5) * d2 + d4
                        V[6 + b, t, c] = d3 + d4 - F(4) * (d1 + d2)
                        V[12 + b, t, c] = F(4) * (d1 - d2) - d3 + d4
                        V[18 + b, t, c] = F(2) * (d3 - d1) + d4 - d2
                        V[24 + b, t, c] = F(2) * (d1 - d3) + d4 - d2
                        V[30 + b, t, c] = F(4) * d1 - F(5) * d3 + d5
                t += 1


@njit(**COMPILE)
def weights(w, first, last, U):
    """`U (36, C, O) = G g G^T` for the input channels from `first` to `last` of `w (O, C, 9)`."""
    O = w.shape[0]  # noqa: E741
    g, T = np.empty((9, O), np.float32), np.empty((6, 3, O), np.float32)
    for c in range(first, last):
        for o in range(O):
            for k in range(9):
                g[k, o] = w[o, c, k]
        for b in range(3):
            for o in range(O):
                g0, g1, g2 = g[b, o], g[3 + b, o], g[6 + b, o]
                even, odd = -(g0 + g2) * F(1 / 6), g1 * F(1 / 6)
                far, step = g0 * F(1 / 24) + g2 * F(1 / 6), g1 * F(1 / 12)
                T[0, b, o] = g0 * F(1 / 4)
                T[1, b, o] = even - odd
                T[2, b, o] = even + odd
                T[3, b, o] = far + step
                T[4, b, o] = far - step
                T[5, b, o] = g2
        for a in range(6):
            for o in range(O):
                g0, g1, g2 = T[a, 0, o], T[a, 1, o], T[a, 2, o]
                even, odd = -(g0 + g2) * F(1 / 6), g1 * F(1 / 6)
                far, step = g0 * F(1 / 24) + g2 * F(1 / 6), g1 * F(1 / 12)
                U[6 * a, c, o] = g0 * F(1 / 4)
                U[6 * a + 1, c, o] = even - odd
                U[6 * a + 2, c, o] = even + odd
                U[6 * a + 3, c, o] = far + step
                U[6 * a + 4, c, o] = far - step
                U[6 * a + 5, c, o] = g2


@njit(**COMPILE)
def activities(M, bias, floor, H, W, pool, y, winner, encoding):
    """`a = A^T M A + bias` of each tile, then ReLU, MaxPool with winners, and the mean.

    `M (36, tiles, O)`; the ReLU cuts at `floor`, which is 0, or `LINEAR` for none (with pool 1).
    `y (n, H // pool, W // pool, O)`, `winner` of the same shape or empty, and `encoding (n, O)`
    are written; an encoding of no columns is not wanted (with pool 1).
    """
    O = M.shape[2]  # noqa: E741
    th, tw = (H + 3) // 4, (W + 3) // 4
    PH, PW = H // pool, W // pool
    T, Y = np.empty((4, 6, O), np.float32), np.empty((4, 4, O), np.float32)
    keep, averaged = winner.size > 0, encoding.shape[1] > 0
    t = 0
    for q in range(len(y)):
        total = encoding[q]
        total[:] = F(0)
        for i in range(th):
            for j in range(tw):
                for b in range(6):
                    for o in range(O):
                        m1, m2, m3, m4 = (
                            M[6 + b, t, o],
                            M[12 + b, t, o],
                            M[18 + b, t, o],
                            M[24 + b, t, o],
                        )
                        s, d, s2, d2 = m1 + m2, m1 - m2, m3 + m4, m3 - m4
                        T[0, b, o] = M[b, t, o] + s + s2
                        T[1, b, o] = d + F(2) * d2
                        T[2, b, o] = s + F(4) * s2
                        T[3, b, o] = d + F(8) * d2 + M[30 + b, t, o]
                for a in range(4):
                    for o in range(O):
                        m1, m2, m3, m4 = T[a, 1, o], T[a, 2, o], T[a, 3, o], T[a, 4, o]
                        s, d, s2, d2 = m1 + m2, m1 - m2, m3 + m4, m3 - m4
                        Y[a, 0, o] = T[a, 0, o] + s + s2 + bias[o]
                        Y[a, 1, o] = d + F(2) * d2 + bias[o]
                        Y[a, 2, o] = s + F(4) * s2 + bias[o]
                        Y[a, 3, o] = d + F(8) * d2 + T[a, 5, o] + bias[o]
                if pool == 1:
                    for a in range(min(4, H - 4 * i)):
                        for b in range(min(4, W - 4 * j)):
                            out, value = y[q, 4 * i + a, 4 * j + b], Y[a, b]
                            for o in range(O):
                                out[o] = max(value[o], floor)
                            if averaged:
                                for o in range(O):
                                    total[o] += out[o]
                            if keep:
                                code = winner[q, 4 * i + a, 4 * j + b]
                                for o in range(O):
                                    code[o] = np.uint8(0) if value[o] > 0 else np.uint8(SILENT)
                else:
                    for a in range(min(2, PH - 2 * i)):
                        for b in range(min(2, PW - 2 * j)):
                            out = y[q, 2 * i + a, 2 * j + b]
                            code = winner[q, 2 * i + a, 2 * j + b] if keep else winner[0, 0, 0]
                            up, low = Y[2 * a], Y[2 * a + 1]
                            c = 2 * b
                            _compete(up[c], up[c + 1], low[c], low[c + 1], out, code, total)
                t += 1
        for o in range(len(total)):
            total[o] /= F(PH * PW)


@njit(**COMPILE)
def _compete(n0, n1, n2, n3, out, code, total):
    """Of four neurons the largest is active; ties go to the first.

    They come as four rows: for a window cut from a tile the compiler takes no vector instructions.
    """
    for o in range(len(out)):
        largest = max(max(n0[o], n1[o]), max(n2[o], n3[o]))
        out[o] = max(largest, F(0))
        total[o] += out[o]
    if len(code) == len(out):
        for o in range(len(out)):
            active = out[o]
            k = np.uint8(3)
            k = np.uint8(2) if n2[o] == active else k
            k = np.uint8(1) if n1[o] == active else k
            k = np.uint8(0) if n0[o] == active else k
            code[o] = k if active > 0 else np.uint8(SILENT)


@njit(**COMPILE)
def posts(winner, drive, which, H, W, pool, S, t, db):
    """`S (36, tiles, O) = A post A^T` from tile `t` on, their sum added to `db (O,)`.

    The post factor of the patches `which` is the drive, `(N, h or 1, w or 1, O)`, at the winner of
    each pool.
    """
    PH, PW, O = winner.shape[1:]  # noqa: E741
    th, tw = (H + 3) // 4, (W + 3) // 4
    P, T = np.empty((4, 4, O), np.float32), np.empty((6, 4, O), np.float32)
    shared = drive.shape[1] == 1 and drive.shape[2] == 1
    for p in which:
        for i in range(th):
            for j in range(tw):
                for a in range(4):
                    for b in range(4):
                        r, s = (4 * i + a) // pool, (4 * j + b) // pool
                        out = P[a, b]
                        if r >= PH or s >= PW:
                            out[:] = F(0)
                            continue
                        won = winner[p, r, s]
                        signal = drive[p, 0, 0] if shared else drive[p, r, s]
                        code = np.uint8(pool * (a % pool) + b % pool)
                        for o in range(O):
                            out[o] = signal[o] if won[o] == code else F(0)
                            db[o] += out[o]
                for b in range(4):
                    for o in range(O):
                        p0, p1, p2, p3 = P[0, b, o], P[1, b, o], P[2, b, o], P[3, b, o]
                        even, odd, even4, odd8 = (
                            p0 + p2,
                            p1 + p3,
                            p0 + F(4) * p2,
                            F(2) * p1 + F(8) * p3,
                        )
                        T[0, b, o] = p0
                        T[1, b, o] = even + odd
                        T[2, b, o] = even - odd
                        T[3, b, o] = even4 + odd8
                        T[4, b, o] = even4 - odd8
                        T[5, b, o] = p3
                for a in range(6):
                    for o in range(O):
                        p0, p1, p2, p3 = T[a, 0, o], T[a, 1, o], T[a, 2, o], T[a, 3, o]
                        even, odd, even4, odd8 = (
                            p0 + p2,
                            p1 + p3,
                            p0 + F(4) * p2,
                            F(2) * p1 + F(8) * p3,
                        )
                        S[6 * a, t, o] = p0
                        S[6 * a + 1, t, o] = even + odd
                        S[6 * a + 2, t, o] = even - odd
                        S[6 * a + 3, t, o] = even4 + odd8
                        S[6 * a + 4, t, o] = even4 - odd8
                        S[6 * a + 5, t, o] = p3
                t += 1


@njit(**COMPILE)
def gradients(Q, first, last, dW):
    """`dW (O, C, 9) = G^T Q G` for the input channels from `first` to `last` of `Q (36, C, O)`."""
    O = Q.shape[2]  # noqa: E741
    T, g = np.empty((3, 6, O), np.float32), np.empty((9, O), np.float32)
    for c in range(first, last):
        for b in range(6):
            for o in range(O):
                q1, q2 = Q[6 + b, c, o], Q[12 + b, c, o]
                q3, q4 = Q[18 + b, c, o], Q[24 + b, c, o]
                s, d, s2, d2 = q1 + q2, q2 - q1, q3 + q4, q3 - q4
                T[0, b, o] = Q[b, c, o] * F(1 / 4) - s * F(1 / 6) + s2 * F(1 / 24)
                T[1, b, o] = d * F(1 / 6) + d2 * F(1 / 12)
                T[2, b, o] = (s2 - s) * F(1 / 6) + Q[30 + b, c, o]
        for a in range(3):
            for o in range(O):
                q1, q2, q3, q4 = T[a, 1, o], T[a, 2, o], T[a, 3, o], T[a, 4, o]
                s, d, s2, d2 = q1 + q2, q2 - q1, q3 + q4, q3 - q4
                g[3 * a, o] = T[a, 0, o] * F(1 / 4) - s * F(1 / 6) + s2 * F(1 / 24)
                g[3 * a + 1, o] = d * F(1 / 6) + d2 * F(1 / 12)
                g[3 * a + 2, o] = (s2 - s) * F(1 / 6) + T[a, 5, o]
        for o in range(O):
            for k in range(9):
                dW[o, c, k] = g[k, o]
