"""Float32 convolutions of films on the CPU, any kernel and stride: products over blocks of windows.

With channels last a window is a few runs of numbers, one for each frame and row of the kernel. Some
hundred windows are copied side by side into a matrix, so that a convolution, its dW and its
transpose are each one long product a block, whatever the kernel. Where frames fall between the
windows of a stride in time nothing is done about them; a kernel of one frame is a convolution of
images, more of them.
"""

import math

import numpy as np

from plasticity.kernels.cpu import memory, threads

BLOCK = 2**19  # numbers in a block of windows: two megabytes
FEWEST = 384  # windows in a block, below which BLAS packs the weights too often


def _padded(x, geometry):
    if not any(geometry.padding):
        return np.ascontiguousarray(x)
    inner = tuple(slice(p, p + n) for n, p in zip(x.shape[1:-1], geometry.padding, strict=True))
    sizes = (n + 2 * p for n, p in zip(x.shape[1:-1], geometry.padding, strict=True))
    padded = memory.empty((len(x), *sizes, x.shape[-1]), x.dtype)
    padded[...] = 0
    padded[:, *inner] = x
    return padded


def _windows(padded, geometry, space):
    """Every window, `(N, *space, *kernel without its last axis, run)`, without a copy."""
    C, steps = padded.shape[-1], padded.strides
    shape = (len(padded), *space, *geometry.kernel[:-1], geometry.kernel[-1] * C)
    moves = (n * s for n, s in zip(steps[1:-1], geometry.stride, strict=True))
    strides = (steps[0], *moves, *steps[1:-2], steps[-1])
    return np.lib.stride_tricks.as_strided(padded, shape, strides, writeable=False)


def _matrix(weight):
    """The weights `(kernel C, O)`, as they meet a window."""
    O, C, *kernel = weight.shape  # noqa: E741
    axes = (*range(2, 2 + len(kernel)), 1, 0)
    return np.ascontiguousarray(weight.transpose(axes)).reshape(math.prod(kernel) * C, O)


def _blocks(N, space, width):
    """Slices of `(N, *space)` with about as many windows each as a block has room for."""
    most, count = max(FEWEST, BLOCK // max(1, width)), math.prod(space)
    if count <= most:  # whole inputs
        return [(slice(*span),) for span in threads.spans(N, max(1, most // max(1, count)))]
    frame = math.prod(space[1:])
    if frame <= most:
        spans = threads.spans(space[0], max(1, most // frame))
        return [(slice(n, n + 1), slice(*span)) for n in range(N) for span in spans]
    spans = threads.spans(space[1], max(1, most // math.prod(space[2:])))
    return [
        (slice(n, n + 1), slice(t, t + 1), slice(*span))
        for n in range(N)
        for t in range(space[0])
        for span in spans
    ]


def _rows(part):
    return part.reshape(-1, part.shape[-1])


def _copied(met, at, width):
    """The windows of a block, one in each row, in memory of this thread's own."""
    part = met[at]
    dims = (met.ndim - 1) // 2
    room = memory.scratch("windows", math.prod(part.shape[: 1 + dims]), width)
    np.copyto(room.reshape(part.shape), part)
    return room


def forward(x, weight, bias, geometry, winners=True):
    """See `definition.convolution.forward`; of linear convolutions."""
    space, matrix = geometry.output(x.shape[1:-1]), _matrix(weight)
    a = memory.empty((len(x), *space, len(weight)))
    met = _windows(_padded(x, geometry), geometry, space)

    axes, blocks = tuple(range(1, a.ndim - 1)), _blocks(len(x), space, len(matrix))

    def block(at):
        out = _rows(a[at])
        np.matmul(_copied(met, at, len(matrix)), matrix, out=out)
        out += bias
        return a[at].sum(axis=axes)

    mean = np.zeros((len(x), len(weight)), np.float32)
    for at, sums in zip(blocks, threads.each(block, blocks), strict=True):
        mean[at[0]] += sums
    return a, None, mean / np.float32(max(1, math.prod(space)))


def correlate(x, winner, drive, geometry):
    """See `definition.convolution.correlate`; of linear convolutions."""
    C, O, kernel = x.shape[-1], drive.shape[-1], geometry.kernel  # noqa: E741
    space, width = geometry.output(x.shape[1:-1]), math.prod(kernel) * C
    if drive.ndim == 2:
        drive = drive.reshape(len(drive), *(1 for _ in space), O)
    drive = np.broadcast_to(drive, (len(x), *space, O))
    met, blocks = _windows(_padded(x, geometry), geometry, space), _blocks(len(x), space, width)

    def share(span):
        dW, db = np.zeros((O, width), np.float32), np.zeros(O, np.float32)
        more = np.empty_like(dW)
        for at in blocks[slice(*span)]:
            post = _rows(drive[at])
            dW += np.matmul(post.T, _copied(met, at, width), out=more)
            db += post.sum(axis=0)
        return dW, db

    # Summed in a fixed order, so that a run repeats bit for bit.
    dW, db = np.zeros((O, width), np.float32), np.zeros(O, np.float32)
    for found in threads.each(share, threads.shares(len(blocks))):
        dW += found[0]
        db += found[1]
    dims = range(1, 1 + len(kernel))
    dW = dW.reshape(O, *kernel, C).transpose(0, len(kernel) + 1, *dims)
    return np.ascontiguousarray(dW), db


def back(winner, drive, weight, space, geometry):
    """See `definition.convolution.back`; of linear convolutions."""
    N, (O, C) = len(drive), weight.shape[:2]  # noqa: E741
    out, padding = geometry.output(space), geometry.padding
    matrix = np.ascontiguousarray(_matrix(weight).T)
    if drive.ndim == 2:
        drive = drive.reshape(N, *(1 for _ in out), O)
    drive = np.broadcast_to(drive, (N, *out, O))
    error, kernel = memory.empty((N, *space, C)), geometry.kernel
    inner = tuple(slice(p, p + n) for n, p in zip(space, padding, strict=True))
    wide = tuple(n + 2 * p for n, p in zip(space, padding, strict=True))
    most = max(1, max(FEWEST, BLOCK // len(matrix[0])) // max(1, math.prod(out[1:])))

    def sample(n):
        padded = np.zeros((*wide, C), np.float32)
        for a, b in threads.spans(out[0], most):
            parts = (_rows(drive[n, a:b]) @ matrix).reshape(b - a, *out[1:], *kernel, C)
            for offset in np.ndindex(*kernel):
                starts = (offset[0] + a * geometry.stride[0], *offset[1:])
                spans = zip(starts, geometry.stride, (b - a, *out[1:]), strict=True)
                tap = (..., *offset, slice(None))
                padded[*(slice(o, o + s * m, s) for o, s, m in spans)] += parts[tap]
        error[n] = padded[*inner]

    threads.each(sample, range(N))
    return error
