"""One check for every fast form of the convolution: the definition in float64, to rounding."""

import numpy as np

from plasticity import kernels
from plasticity.kernels import Geometry
from plasticity.kernels.definition import convolution
from tests.rounding import at_winners, close

# Convolutions in time: kernel, stride, padding, frames in, channels, neurons
IN_TIME = {
    "conv1 of the published network": (10, 5, 2, 61, 1, 6),
    "conv2": (8, 4, 2, 41, 6, 5),
    "conv3 and conv4": (4, 2, 2, 23, 5, 8),
    "conv5": (4, 2, 1, 17, 8, 3),
    "kernel shorter than its stride": (2, 5, 1, 24, 3, 4),
    "kernel as long as its stride": (3, 3, 0, 20, 2, 5),
    "kernel no multiple of its stride": (7, 3, 2, 30, 3, 4),
    "stride 1": (5, 1, 2, 13, 4, 3),
    "one tap": (1, 1, 0, 9, 3, 4),
    "padding longer than the kernel": (2, 2, 4, 5, 2, 3),
    "one frame out": (6, 4, 0, 8, 2, 3),
    "samples left over": (4, 4, 0, 19, 1, 2),
}


def agrees(x, weight, bias, geometry: Geometry, shared: bool):
    """Assert that activity, winners, mean, dW, db and the error below are the definition's.

    Args:
        shared: whether the drive is one for each patch, or one for each neuron of each position.
    """
    exact = [a.astype(float) for a in (x, weight, bias)]
    y, winner, z = kernels.forward(x, weight, bias, geometry)
    wanted_y, _, wanted_z = convolution.forward(*exact, geometry)
    size_y, _, size_z = convolution.forward(*map(np.abs, exact), geometry)
    products, positions = weight[0].size + 2, y[..., 0].size + 2
    close(y, wanted_y, size_y, products)
    close(z, wanted_z, size_z, products + positions)
    assert (winner is None) == (not geometry.rectified)
    if geometry.rectified:
        a = convolution.convolve(*exact, geometry).astype(np.float32)
        close(at_winners(winner, a, geometry), wanted_y, size_y, products)
    shape = (len(x), len(weight)) if shared else y.shape
    drive = np.random.default_rng(1).standard_normal(shape, np.float32)
    driven = drive.astype(float)
    dW, db = kernels.correlate(x, winner, drive, geometry)
    wanted_dW, wanted_db = convolution.correlate(exact[0], winner, driven, geometry)
    size_dW, size_db = convolution.correlate(np.abs(exact[0]), winner, np.abs(driven), geometry)
    close(dW, wanted_dW, size_dW, positions)
    close(db, wanted_db, size_db, positions)
    space = x.shape[1:-1]
    error = kernels.back(winner, drive, weight, space, geometry)
    wanted = convolution.back(winner, driven, exact[1], space, geometry)
    size = convolution.back(winner, np.abs(driven), np.abs(exact[1]), space, geometry)
    close(error, wanted, size, weight[:, 0].size + 2)
