"""The compiled CPU forms of `rows`, float32."""

import numpy as np
from numba import njit


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract", "nsz"})
def scores(a, b, in_a, in_b, out):
    for e in range(len(in_a)):
        left, right = a[in_a[e]], b[in_b[e]]
        total = np.float32(0)
        for j in range(len(left)):
            total += left[j] * right[j]
        out[e] = total


@njit(nogil=True, cache=True)
def add_rows(out, to, factor, values, source):
    for e in range(len(to)):
        if factor[e] != 0:  # a closed gate changes nothing
            row, value, f = out[to[e]], values[source[e]], factor[e]
            for j in range(len(row)):
                row[j] += f * value[j]


# Without NumPy's error model a check for division by zero would keep it from vector instructions.
@njit(nogil=True, cache=True, fastmath={"contract"}, error_model="numpy")
def adam(parameter, dW, m, v, rate, beta1, beta2, epsilon):
    one = np.float32(1)
    for i in range(len(parameter)):
        m[i] += (one - beta1) * (dW[i] - m[i])
        v[i] += (one - beta2) * (dW[i] * dW[i] - v[i])
        parameter[i] += rate * m[i] / (np.sqrt(v[i]) + epsilon)
